"""What attention transfer and the logit lens say, in tables and in sentences for the report."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.view.cells import decimal, mean
from langheads.view.contents import RunFolder
from langheads.view.style import names
from langheads.view.words import Table

_MEASURES = ("answer_a", "answer_b", "first_token_a", "logprob_difference")


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
                        f"{decimal(change)} ({decimal(low)} to {decimal(high)})",
                        decimal(mean(at[f"{name}_overall_control_change"].values)),
                        decimal(float(at[f"{name}_overall_control_p"])),
                    ]
                )
    header = ["measure", "order", "heads and gate", "change", "random heads", "p"]
    caption = "Changes against nothing gated, mean over pairs of languages, with 95% intervals."
    return [Table(caption, header, rows, folded=len(rows) > 12)]


def transfer_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """Whether answers move to A's fact, and more than with random heads."""
    orders = names(result, "order")
    order = "both" if "both" in orders else orders[0]
    found = []
    for setting in names(result, "setting"):
        at = result.sel(order=order, setting=setting)
        change, low, high = (
            float(at[f"logprob_difference_overall_{part}"]) for part in ("change", "low", "high")
        )
        if np.isfinite(change):
            p = decimal(float(at["logprob_difference_overall_control_p"]))
            found.append(
                f"{setting} {decimal(change)} ({decimal(low)} to {decimal(high)}) nats, p = {p}"
            )
    if not found:
        return []
    return [
        f"Attention transfer, answers towards A's fact, order {order}: {'; '.join(found)}. Above 0 "
        "is towards A; p is that of random heads at the same gate."
    ]


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
