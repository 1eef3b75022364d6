"""Attention transfer: whether the answer moves to the fact in A, beside random heads."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.io.measures import labels
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style
from langheads.view.figures.style import COLOURWAY, literal, names
from langheads.view.figures.transfer import MEASURES, transfer_matrix, transfer_sweep
from langheads.view.language_verdict import same_heads
from langheads.view.table import LONG, Table, between, decimal, fallen, isolated, mean, p_words

_CHECKS = labels(("repetition", "prompt_copy", "empty", "prompt_nll"))


def transfer_attention(
    transfer: xr.Dataset,
    pair: tuple[str, str],
    setting: str | None = None,
    order: str | None = None,
) -> go.Figure:
    """Attention from the last position of the prompt to both facts, head by head.

    Open marks: nothing gated. Filled: under the gate. A head's own pattern is computed before its
    gate, so only heads in later layers than a gated one can change.

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
    """
    at = _selected(transfer, pair, setting, order)
    heads = [str(transfer["heads"].sel(a=language).values).split() for language in pair]
    titles = [f"heads of {literal(name)} ({side})" for name, side in zip(pair, "AB", strict=True)]
    if others := _moved_most(at, {name for of in heads for name in of}):
        heads.append(others)
        titles.append("others that move most")
    shown = [at[f"attention_{when}"].values[Head.parse(h)] for when in ("before", "after")
             for of in heads for h in of]  # fmt: skip
    end = style.reach(np.array(shown))
    figure, places = canvas.side_by_side(titles, 0.1, shared_xaxes="all")
    for place, own in zip(places, heads, strict=True):
        _add_heads(figure, place, at, own)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title_text="share of attention", range=[-0.03 * end, 1.05 * end])
    height = 24 + 26 * max(map(len, heads))
    said, of_order = str(at["setting"].values), str(at["order"].values)
    order_words = {"both": "both orders of the facts"}.get(of_order, of_order)
    return canvas.finish(
        figure,
        f"Attention from the answer's position to the two facts, {style.model_of(transfer)}",
        f"A {literal(pair[0])}, B {literal(pair[1])}, {said}, {order_words}; mean over prompts",
        panels=(760 if len(heads) == 2 else 960, height),
        margins=(124, 24, 52, 76),
        legend=canvas.legend_above(height) | {"yref": "paper"},
    )


def _selected(
    transfer: xr.Dataset, pair: tuple[str, str], setting: str | None, order: str | None
) -> xr.Dataset:
    """The results of a pair, under one setting and in one order."""
    style.check_kind(transfer, "transfer", ["attention_before", "attention_after", "heads"])
    where = {
        "a": pair[0],
        "b": pair[1],
        "setting": names(transfer, "setting")[0] if setting is None else setting,
        "order": names(transfer, "order")[-1] if order is None else order,
    }
    for dimension, label in where.items():
        style.check_label(transfer, dimension, label)
    at = transfer.sel(where)
    if not np.isfinite(at["attention_after"].values).any():
        raise InputError(
            f"pair {', '.join(pair)}, {where['setting']} asked for, but it was not run or has no "
            "heads"
        )
    return at


def _add_heads(figure: go.Figure, place: canvas.Place, at: xr.Dataset, heads: list[str]) -> None:
    """One panel: attention of every head, before and under the gate."""
    cells = [Head.parse(name) for name in heads]
    for fact, colour in zip("AB", COLOURWAY, strict=False):
        # A head without a change is a dot in its ring.
        for when, said, symbol, size in (
            ("before", "nothing gated", "circle-open", 14),
            ("after", "under the gate", "circle", 7),
        ):
            values = at[f"attention_{when}"].sel(fact=fact).values
            line = {"color": colour, "width": 2}
            figure.add_scatter(
                x=[float(values[cell]) for cell in cells],
                y=heads,
                mode="markers",
                marker={"symbol": symbol, "size": size, "color": colour, "line": line},
                name=f"fact {fact}, {said}",
                legendgroup=f"{fact}{said}",
                showlegend=place["col"] == 1,
                hovertemplate=f"%{{y}}: %{{x:.3f}}<extra>to fact {fact}, {said}</extra>",
                **place,
            )


def _moved_most(at: xr.Dataset, chosen: set[str]) -> list[str]:
    """Heads that were not chosen, the largest change of attention to a fact first."""
    change = np.abs((at["attention_after"] - at["attention_before"]).values).max(axis=-1)
    ranked = HeadSet.ranked(np.nan_to_num(change, nan=-1.0))
    return [str(head) for head in ranked if change[head] > 0 and str(head) not in chosen][:6]


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    order = names(result, "order")[-1]
    # No picture if no pair was measured; the summary says so.
    if not np.isfinite(result["logprob_difference_overall_change"].sel(order=order)).any():
        return
    yield Picture(
        transfer_matrix(result),
        "How to read it: A is the language of the fact that the answer should move to, B that "
        "of the other; above the chosen heads, below random ones.",
    )
    yield Picture(
        transfer_sweep(result),
        "How to read it: at gate 1 nothing is changed; where the line leaves the grey band, "
        "the chosen heads do something that random ones do not.",
    )
    for setting in _strongest_settings(result) if "attention_before" in result else ():
        if pair := _furthest_pair(result, setting):
            yield Picture(
                transfer_attention(result, pair, setting),
                "How to read it: blue is attention to A's fact, orange to B's, open with nothing "
                "gated, filled under the gate. A head's own pattern is made before its gate, so "
                "only heads in later layers can move; the last panel has those that move most. Of "
                "all pairs this is the one whose answer moves furthest: an illustration, not a "
                "mean.",
            )


def _strongest_settings(transfer: xr.Dataset) -> list[str]:
    """One setting a condition, the gate furthest from 1."""
    apart = np.abs(transfer["gate"].values - 1)
    conditions = transfer["condition"].values
    settings = names(transfer, "setting")
    return [
        settings[int(np.where(conditions == condition, apart, -np.inf).argmax())]
        for condition in dict.fromkeys(conditions)
    ]


def _furthest_pair(transfer: xr.Dataset, setting: str) -> tuple[str, str] | None:
    """(A, B) whose answers move furthest, either way; None where no pair was run."""
    at = transfer.sel(setting=setting, order=names(transfer, "order")[-1])
    looked = at["attention_after"].notnull().any(["layer", "head", "fact"])
    moved = abs(at["logprob_difference_change"]).where(looked)
    return _largest(moved) if np.isfinite(moved).any() else None


def _largest(values: xr.DataArray) -> tuple[str, str]:
    """(A, B) of the largest value."""
    at = values.stack(pair=("a", "b")).idxmax("pair").item()
    return str(at[0]), str(at[1])


def _overall(at: xr.Dataset, name: str) -> tuple[float, float, float]:
    """Change over all pairs, and the ends of its interval."""
    change, low, high = (float(at[f"{name}_overall_{x}"]) for x in ("change", "low", "high"))
    return change, low, high


def _overall_p(at: xr.Dataset, name: str) -> str:
    """p over all pairs; older files have only the number of random sets for its draws."""
    sets = np.isfinite(at[f"{name}_overall_control_change"].values).sum()
    draws = float(at.get("null_draws", sets))
    return p_words(float(at[f"{name}_overall_control_p"]), draws)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    rows, settings = [], names(result, "setting")
    for (name, label), order, setting in product(
        MEASURES.items(), names(result, "order"), settings
    ):
        at = result.sel(order=order, setting=setting)
        change = _overall(at, name)
        if np.isfinite(change[0]):
            measure = f"{label} ({result[name].attrs.get('units', '?')})"
            random = mean(at[f"{name}_overall_control_change"].values)
            row = [measure, order, setting, between(*change), decimal(random)]
            rows.append([*row, _overall_p(at, name)])
    header = ["measure", "order", "heads and gate", "change", "random heads", "p"]
    caption = "Changes against nothing gated, mean over pairs of languages, with 95% intervals."
    yield Table(caption, header, rows, folded=len(rows) > LONG)
    rows = [
        _check_row(result, name, setting)
        for name, setting in product(_checks(result), settings)
        if np.isfinite(_at(result, setting)[f"{name}_change"]).any()
    ]
    if rows:
        header = ["degeneration check", "heads and gate", "nothing gated", "under the gate"]
        header += ["change (95% interval)", "random heads (lowest to highest)"]
        caption = (
            f"Degeneration checks, order {_order(result)}: does the text fall apart under the "
            "gate? Means over pairs of languages."
        )
        yield Table(caption, [*header, "largest of a pair (A, B)"], rows)


def _check_row(result: xr.Dataset, name: str, setting: str) -> list[str]:
    """A gate's effect on the reply or on the prompt's NLL, beside random heads."""
    at = _at(result, setting)
    change = at[f"{name}_change"]
    random = at[f"{name}_overall_control_change"].values
    finite = random[np.isfinite(random)]
    ends = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    pair = ", ".join(map(isolated, _largest(change)))
    return [
        f"{_CHECKS[name]} ({result[name].attrs.get('units', '?')})",
        setting,
        decimal(mean(at[f"{name}_before"].where(change.notnull()).values)),
        decimal(mean(at[name].values)),
        between(*_overall(at, name)),
        between(mean(random), *ends),
        f"{decimal(float(change.max()))} ({pair})",
    ]


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    found, apart = [], []
    for setting in names(result, "setting"):
        at = _at(result, setting)
        if how := fallen({name: _overall(at, name)[0] for name in _checks(result)}):
            apart.append(f"{setting} ({how})")
        change = _overall(at, "logprob_difference")
        if np.isfinite(change[0]):
            p = _overall_p(at, "logprob_difference")
            found.append(f"{setting}: {between(*change)} nats, p = {p}")
    if not found:
        yield "Attention transfer: no pair of languages has a change, so no figure is drawn."
        return
    yield (
        f"Attention transfer, answers towards A's fact, order {_order(result)}: "
        f"{'; '.join(found)}. Above 0 is towards A; p is that of random heads at the same gate."
    )
    for sentence in same_heads(result, "a"):
        yield (
            f"{sentence} Over a pair and its reverse, changes of log-probability cancel whatever "
            "they do."
        )
    if apart:
        yield (
            f"The text itself falls apart under {'; '.join(apart)}: there the transfer must not "
            "be read as a change of belief."
        )


def _order(result: xr.Dataset) -> str:
    orders = names(result, "order")
    return "both" if "both" in orders else orders[0]


def _at(result: xr.Dataset, setting: str) -> xr.Dataset:
    return result.sel(order=_order(result), setting=setting)


def _checks(result: xr.Dataset) -> list[str]:
    """The degeneration checks that a file has; old ones have none."""
    return [name for name in _CHECKS if f"{name}_overall_change" in result]


_SHOWS = (
    "Shows: whether the answer moves to the fact in A when A's heads are strengthened "
    "or B's weakened, beside random heads at the same gate.",
    "Does not show: that the heads carry the language. They may carry the place of a fact "
    "in the prompt, which is why both orders are run.",
)
KIND = Kind("transfer", "Attention transfer", _SHOWS, _pictures, _tables, _summary)
