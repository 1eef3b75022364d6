"""Where the chosen heads look when the question is answered: at A's fact or at B's."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.view.figures.style import CLEAR, COLOURWAY, LIGHT, check_kind, literal, names, reach


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
    check_kind(transfer, "transfer", ["attention_before", "attention_after", "heads"])
    where = {
        "a": pair[0],
        "b": pair[1],
        "setting": names(transfer, "setting")[0] if setting is None else setting,
        "order": names(transfer, "order")[-1] if order is None else order,
    }
    for dimension, label in where.items():
        if label not in names(transfer, dimension):
            raise InputError(
                f"{dimension} {label!r} asked for; this dataset has "
                f"{', '.join(names(transfer, dimension))}"
            )
    at = transfer.sel(where)
    if not np.isfinite(at["attention_after"].values).any():
        raise InputError(
            f"pair {', '.join(pair)}, {where['setting']} asked for, but it was not run or has no "
            "heads"
        )
    heads = [str(transfer["heads"].sel(a=language).values).split() for language in pair]
    titles = [f"heads of {literal(name)} ({side})" for name, side in zip(pair, "AB", strict=True)]
    if others := _moved_most(at, {name for of in heads for name in of}):
        heads.append(others)
        titles.append("others that move most")
    shown = [at[f"attention_{when}"].values[Head.parse(h)] for when in ("before", "after")
             for of in heads for h in of]  # fmt: skip
    end = reach(np.array(shown))
    figure = make_subplots(
        1, len(heads), subplot_titles=titles, shared_xaxes="all", horizontal_spacing=0.1
    )
    for column, own in enumerate(heads, start=1):
        cells = [Head.parse(name) for name in own]
        for fact, colour in zip("AB", COLOURWAY, strict=False):
            before, after = (
                [float(at[f"attention_{when}"].sel(fact=fact).values[cell]) for cell in cells]
                for when in ("before", "after")
            )
            # A head that does not move is a dot in its ring.
            for when, values, symbol, size in (
                ("nothing gated", before, "circle-open", 14),
                ("under the gate", after, "circle", 7),
            ):
                figure.add_trace(
                    go.Scatter(
                        x=values,
                        y=own,
                        mode="markers",
                        marker={
                            "symbol": symbol,
                            "size": size,
                            "color": colour,
                            "line": {"color": colour, "width": 2},
                        },
                        name=f"fact {fact}, {when}",
                        legendgroup=f"{fact}{when}",
                        showlegend=column == 1,
                        hovertemplate=f"%{{y}}: %{{x:.3f}}<extra>to fact {fact}, {when}</extra>",
                    ),
                    row=1,
                    col=column,
                )
        axis: dict[str, Any] = {"row": 1, "col": column}
        figure.update_yaxes(autorange="reversed", type="category", **axis)
        figure.update_xaxes(
            title_text="share of attention", range=[-0.03 * end, 1.05 * end], **axis
        )
    order_words = {"both": "both orders of the facts"}.get(where["order"], where["order"])
    figure.update_layout(
        template=LIGHT,
        plot_bgcolor=CLEAR,
        title={
            "text": "Attention from the answer's position to the two facts, "
            f"{literal(transfer.attrs.get('model', 'model unknown'))}",
            "subtitle": {
                "text": f"A {literal(pair[0])}, B {literal(pair[1])}, {where['setting']}, "
                f"{order_words}; mean over prompts"
            },
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "yref": "paper"},
        width=860 if len(heads) == 2 else 1060,
        height=200 + 26 * max(map(len, heads)),
        margin={"t": 124, "b": 52, "l": 76, "r": 24},
    )
    # Between legend and panels.
    figure.update_layout(legend_y=1 + 30 / (24 + 26 * max(map(len, heads))))
    return figure


def _moved_most(at: xr.Dataset, chosen: set[str], count: int = 6) -> list[str]:
    """Heads that were not chosen, those first whose attention to a fact changes most."""
    change = np.abs((at["attention_after"] - at["attention_before"]).values).max(axis=-1)
    order = np.argsort(-np.nan_to_num(change, nan=-1.0), axis=None, kind="stable")
    ranked = [Head(*map(int, np.unravel_index(i, change.shape))) for i in order]
    return [str(head) for head in ranked if change[head] > 0 and str(head) not in chosen][:count]
