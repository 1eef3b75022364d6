"""Where the chosen heads look when the question is answered: at A's fact or at B's."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.view.figures.canvas import finish, legend_above
from langheads.view.figures.style import (
    COLOURWAY,
    check_kind,
    check_label,
    literal,
    model_of,
    names,
    reach,
)


def transfer_attention(
    transfer: xr.Dataset,
    pair: tuple[str, str],
    setting: str | None = None,
    order: str | None = None,
) -> go.Figure:
    """Attention from the last position of the prompt to both facts, head by head.

    Open marks: nothing gated. Filled: under the gate. A head's own pattern is made before its
    gate, so only heads in later layers than a gated one can move.

    Args:
        transfer: dataset of kind ``transfer`` with attention.
        pair: (A, B).
        setting: a label of its ``setting`` dimension; the first by default.
        order: a label of its ``order`` dimension; by default both orders where it has them.

    Returns:
        A plotly figure of fixed size in pixels: a panel a language's heads and one of the other
        heads that move most, a row a head, the share of attention across, the mean over prompts.

    Raises:
        InputError: another kind of dataset, one without attention, or a pair, setting or order
            that it does not have.

    Example:
        >>> found = xr.load_dataset("transfer.nc")                     # doctest: +SKIP
        >>> transfer_attention(found, ("hi", "zh"), "enhance 3").show()  # doctest: +SKIP
    """
    at = _selected(transfer, pair, setting, order)
    heads, titles = _panels(at, transfer, pair)
    shown = [at[f"attention_{when}"].values[Head.parse(h)] for when in ("before", "after")
             for of in heads for h in of]  # fmt: skip
    end = reach(np.array(shown))
    figure = make_subplots(
        1, len(heads), subplot_titles=titles, shared_xaxes="all", horizontal_spacing=0.1
    )
    for column, own in enumerate(heads, start=1):
        _add_heads(figure, column, at, own)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title_text="share of attention", range=[-0.03 * end, 1.05 * end])
    height = 24 + 26 * max(map(len, heads))
    said, of_order = str(at["setting"].values), str(at["order"].values)
    order_words = {"both": "both orders of the facts"}.get(of_order, of_order)
    return finish(
        figure,
        f"Attention from the answer's position to the two facts, {model_of(transfer)}",
        f"A {literal(pair[0])}, B {literal(pair[1])}, {said}, {order_words}; mean over prompts",
        panels=(760 if len(heads) == 2 else 960, height),
        margins=(124, 24, 52, 76),
        legend=legend_above(height) | {"yref": "paper"},
    )


def _selected(
    transfer: xr.Dataset, pair: tuple[str, str], setting: str | None, order: str | None
) -> xr.Dataset:
    """What was measured of a pair, under the setting and in the order that are asked for."""
    check_kind(transfer, "transfer", ["attention_before", "attention_after", "heads"])
    where = {
        "a": pair[0],
        "b": pair[1],
        "setting": names(transfer, "setting")[0] if setting is None else setting,
        "order": names(transfer, "order")[-1] if order is None else order,
    }
    for dimension, label in where.items():
        check_label(transfer, dimension, label)
    at = transfer.sel(where)
    if not np.isfinite(at["attention_after"].values).any():
        raise InputError(
            f"pair {', '.join(pair)}, {where['setting']} asked for, but it was not run or has no "
            "heads"
        )
    return at


def _panels(
    at: xr.Dataset, transfer: xr.Dataset, pair: tuple[str, str]
) -> tuple[list[list[str]], list[str]]:
    """The heads of each panel, and its title."""
    heads = [str(transfer["heads"].sel(a=language).values).split() for language in pair]
    titles = [f"heads of {literal(name)} ({side})" for name, side in zip(pair, "AB", strict=True)]
    if others := _moved_most(at, {name for of in heads for name in of}):
        heads.append(others)
        titles.append("others that move most")
    return heads, titles


def _add_heads(figure: go.Figure, column: int, at: xr.Dataset, heads: list[str]) -> None:
    """One panel: what every head looks at, before and under the gate."""
    cells = [Head.parse(name) for name in heads]
    for fact, colour in zip("AB", COLOURWAY, strict=False):
        # A head that does not move is a dot in its ring.
        for when, said, symbol, size in (
            ("before", "nothing gated", "circle-open", 14),
            ("after", "under the gate", "circle", 7),
        ):
            values = at[f"attention_{when}"].sel(fact=fact).values
            line = {"color": colour, "width": 2}
            figure.add_trace(
                go.Scatter(
                    x=[float(values[cell]) for cell in cells],
                    y=heads,
                    mode="markers",
                    marker={"symbol": symbol, "size": size, "color": colour, "line": line},
                    name=f"fact {fact}, {said}",
                    legendgroup=f"{fact}{said}",
                    showlegend=column == 1,
                    hovertemplate=f"%{{y}}: %{{x:.3f}}<extra>to fact {fact}, {said}</extra>",
                ),
                row=1,
                col=column,
            )


def _moved_most(at: xr.Dataset, chosen: set[str], count: int = 6) -> list[str]:
    """Heads that were not chosen, those first whose attention to a fact changes most."""
    change = np.abs((at["attention_after"] - at["attention_before"]).values).max(axis=-1)
    order = np.argsort(-np.nan_to_num(change, nan=-1.0), axis=None, kind="stable")
    ranked = [Head(*map(int, np.unravel_index(i, change.shape))) for i in order]
    return [str(head) for head in ranked if change[head] > 0 and str(head) not in chosen][:count]
