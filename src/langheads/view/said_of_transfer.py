"""What attention transfer and the logit lens say, in tables and in sentences for the report."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.view.cells import between, decimal, mean
from langheads.view.collapse import fallen
from langheads.view.contents import RunFolder
from langheads.view.figures.style import names
from langheads.view.words import Table, isolated

_GUARDS = {
    "repetition": "repetition",
    "prompt_copy": "copied prompt",
    "empty": "empty answers",
    "prompt_nll": "NLL of the prompt",
}
_MEASURES = ("answer_a", "answer_b", "first_token_a", "logprob_difference")
_INTERVAL = ("change", "low", "high")


def transfer_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Changes over all pairs of languages, with what random heads do."""
    rows = []
    for name in _MEASURES:
        for order in names(result, "order"):
            for setting in names(result, "setting"):
                at = result.sel(order=order, setting=setting)
                low, high = (float(at[f"{name}_overall_{end}"]) for end in ("low", "high"))
                change = float(at[f"{name}_overall_change"])
                if not np.isfinite(change):
                    continue
                rows.append(
                    [
                        f"{name.replace('_', ' ')} ({result[name].attrs.get('units', '?')})",
                        order,
                        setting,
                        between(change, low, high),
                        decimal(mean(at[f"{name}_overall_control_change"].values)),
                        decimal(float(at[f"{name}_overall_control_p"])),
                    ]
                )
    header = ["measure", "order", "heads and gate", "change", "random heads", "p"]
    caption = "Changes against nothing gated, mean over pairs of languages, with 95% intervals."
    return [Table(caption, header, rows, folded=len(rows) > 12), *_guards_table(result)]


def _guards_table(result: xr.Dataset) -> list[Table]:
    """What the gates do to what is written and to the prompt itself, beside random heads."""
    at = result.sel(order=_order(result))
    rows = []
    for name in _guards(result):
        unit = result[name].attrs.get("units", "?")
        for setting in names(result, "setting"):
            one = at.sel(setting=setting)
            change = one[f"{name}_change"].transpose("a", "b")
            if not np.isfinite(change.values).any():
                continue
            moved, low, high = (float(one[f"{name}_overall_{x}"]) for x in _INTERVAL)
            random = one[f"{name}_overall_control_change"].values
            a, b = np.unravel_index(np.nanargmax(change.values), change.shape)
            pair = f"{isolated(names(result, 'a')[a])}, {isolated(names(result, 'b')[b])}"
            rows.append(
                [
                    f"{_GUARDS[name]} ({unit})",
                    setting,
                    decimal(mean(one[f"{name}_before"].where(change.notnull()).values)),
                    decimal(mean(one[name].values)),
                    between(moved, low, high),
                    between(mean(random), *_ends(random)),
                    f"{decimal(float(change[a, b]))} ({pair})",
                ]
            )
    if not rows:
        return []
    header = ["guard", "heads and gate", "nothing gated", "under the gate", "change (95% interval)"]
    header += ["random heads (lowest to highest)", "largest of a pair (A, B)"]
    caption = (
        f"Guards, order {_order(result)}: does the text fall apart under the gate? Means over "
        "pairs of languages."
    )
    return [Table(caption, header, rows)]


def transfer_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """Whether answers move to A's fact, and more than with random heads."""
    order = _order(result)
    found, fell = [], []
    for setting in names(result, "setting"):
        at = result.sel(order=order, setting=setting)
        changes = {name: float(at[f"{name}_overall_change"]) for name in _guards(result)}
        if how := fallen(changes):
            fell.append(f"{setting} ({how})")
        change, low, high = (
            float(at[f"logprob_difference_overall_{part}"]) for part in ("change", "low", "high")
        )
        if np.isfinite(change):
            p = decimal(float(at["logprob_difference_overall_control_p"]))
            found.append(f"{setting}: {between(change, low, high)} nats, p = {p}")
    if not found:
        return ["Attention transfer: no pair of languages has a change, so no figure is drawn."]
    words = [
        f"Attention transfer, answers towards A's fact, order {order}: {'; '.join(found)}. Above 0 "
        "is towards A; p is that of random heads at the same gate."
    ]
    if fell:
        words.append(
            f"The text itself falls apart under {'; '.join(fell)}: there the transfer must not be "
            "read as a change of belief."
        )
    return words


def _ends(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)


def _order(result: xr.Dataset) -> str:
    orders = names(result, "order")
    return "both" if "both" in orders else orders[0]


def _guards(result: xr.Dataset) -> list[str]:
    """The guards that a file has; old ones have none."""
    return [name for name in _GUARDS if f"{name}_overall_change" in result]


def lens_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Logits of the answers at the end of the residual stream, and how far the first is ahead."""
    answers = names(result, "answer")
    end = result["logit"].isel(depth=-1)
    rows = []
    for condition in names(result, "condition"):
        values = [float(end.sel(condition=condition, answer=answer)) for answer in answers]
        ahead = [decimal(values[0] - values[1])] if len(values) == 2 else []
        rows.append([condition, *map(decimal, values), *ahead])
    header = ["condition", *answers, *(["first − second"] if len(answers) == 2 else [])]
    return [Table("Logits at the end of the residual stream, of one prompt.", header, rows)]
