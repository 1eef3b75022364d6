"""The figures of the report for results about replies and answers, with the words below them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.experiments.pruning.account import Pruning
from langheads.view.contents import RunFolder
from langheads.view.drawn import effects
from langheads.view.figures.answers import masks, qa_changes
from langheads.view.figures.lens import logit_lens
from langheads.view.figures.off_target import off_target_bars
from langheads.view.figures.off_target_marks import off_target_guards, off_target_rates, rates_of
from langheads.view.figures.pruning import pruned_losses
from langheads.view.figures.style import names
from langheads.view.figures.switching import switch_rate_bars
from langheads.view.figures.transfer import transfer_matrix, transfer_sweep
from langheads.view.figures.transfer_attention import transfer_attention
from langheads.view.sections import Picture


def offtarget(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """Replies in the wanted language, the guards, and the pass rates where there are any."""
    pictures = [
        Picture(
            off_target_bars(result),
            "How to read it: longer bars are more replies in the wanted language; compare with "
            "none (grey) and with random heads (pale, below the heads that they stand for). "
            "Lines are 95% intervals.",
        ),
        Picture(
            off_target_guards(result),
            "How to read it: each mark is a language; a condition whose marks lie far right of "
            "those in the row none has damaged the replies.",
        ),
    ]
    if rates_of(result):
        caption = (
            "How to read it: each mark is a language, further right is better. LPR: replies of "
            "which every line is in the wanted language; WPR: of these, those without a stray "
            "English word; LCPR: their harmonic mean."
        )
        pictures.append(Picture(off_target_rates(result), caption))
    return pictures


def switching(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """The highest rates, and the map of all."""
    caption = (
        "How to read it: the heads without which most replies leave the language, longest first; "
        "full bars are sound. Lines are 95% intervals of a single rate, not of the highest of many."
    )
    return [Picture(switch_rate_bars(result), caption), *effects(result, run)]


def transfer(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """Pair by pair, gate by gate, and where heads look, if the file has it.

    Nothing where no pair was measured; the summary says so.
    """
    order = names(result, "order")[-1]
    if not np.isfinite(result["logprob_difference_overall_change"].sel(order=order)).any():
        return []
    pictures = [
        Picture(
            transfer_matrix(result),
            "How to read it: A is the language of the fact that the answer should move to, B that "
            "of the other; above the chosen heads, below random ones.",
        ),
        Picture(
            transfer_sweep(result),
            "How to read it: at gate 1 nothing is changed; where the line leaves the grey band, "
            "the chosen heads do something that random ones do not.",
        ),
    ]
    if "attention_before" not in result:
        return pictures
    caption = (
        "How to read it: blue is attention to A's fact, orange to B's, open with nothing gated, "
        "filled under the gate. A head's own pattern is made before its gate, so only heads in "
        "later layers can move; right those that move most. Of all pairs this is the one whose "
        "answer moves furthest: an illustration, not a mean."
    )
    for setting in _strongest_settings(result):
        pair = _furthest_pair(result, setting)
        if pair is not None:
            pictures.append(Picture(transfer_attention(result, pair, setting), caption))
    return pictures


def _strongest_settings(transfer: xr.Dataset) -> list[str]:
    """One setting a condition, the gate furthest from 1."""
    apart = np.abs(transfer["gate"].values - 1)
    conditions = transfer["condition"].values
    found = []
    for condition in dict.fromkeys(conditions):
        best = np.where(conditions == condition, apart, -np.inf).argmax()
        found.append(names(transfer, "setting")[best])
    return found


def _furthest_pair(transfer: xr.Dataset, setting: str) -> tuple[str, str] | None:
    """(A, B) whose answers move furthest, either way; None where no pair was run."""
    order = names(transfer, "order")[-1]
    at = transfer.sel(setting=setting, order=order)
    looked = at["attention_after"].notnull().any(["layer", "head", "fact"])
    moved = abs(at["logprob_difference_change"]).where(looked).transpose("a", "b").values
    if not np.isfinite(moved).any():
        return None
    a, b = np.unravel_index(np.nanargmax(moved), moved.shape)
    return names(transfer, "a")[a], names(transfer, "b")[b]


def lens(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """The logit of each answer at every depth."""
    caption = (
        "How to read it: a colour is an answer, a line style what was gated; where two lines of a "
        "style cross, the model turns from one answer to the other."
    )
    return [Picture(logit_lens(result), caption)]


def answers(result: xr.Dataset, run: RunFolder) -> list[Picture]:
    """What each mask changes, where there is one."""
    if not masks(result):
        return []
    caption = (
        "How to read it: right of the dotted line is more than untouched, which is better in the "
        "upper row but for NLL, and worse in the lower row. Filled dots are masks on chosen heads, "
        "open grey ones on random heads, squares on all heads; lines are 95% intervals."
    )
    return [Picture(qa_changes(result), caption)]


def pruned(pruning: Pruning, run: RunFolder) -> list[Picture]:
    """The rise of every language's loss, where it was measured."""
    if not pruning.losses:
        return []
    caption = (
        "How to read it: filled dots right of 0 are losses that rose. Heads that carry a language "
        "raise its own loss beyond the grey bar of random heads, and leave the others' at 0."
    )
    return [Picture(pruned_losses(pruning), caption)]
