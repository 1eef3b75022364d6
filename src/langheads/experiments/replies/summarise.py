"""Many replies in few numbers: shares, pass rates, checks; what changed; and over random heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from langheads.experiments.replies.judge import Answered
from langheads.io.measures import TEXT_CHECKS
from langheads.text import Detector, Rules, language_confusion, mean_confusion, switch_rate


def reply_summary(
    made: Answered,
    wanted: Sequence[str | None],
    detect: Detector,
    rules: Rules,
    before: Answered | None = None,
) -> dict[str, Any]:
    """Means over replies, and rates averaged over languages; None where there is none.

    Args:
        made: the replies.
        wanted: the language of each.
        detect: for the pass rates.
        rules: of the pass rates.
        before: replies of the untouched model to the same prompts; adds ``right_before``,
            ``switch_rate`` and ``delta_nll_per_token``.
    """
    asked = [i for i, language in enumerate(wanted) if language is not None]
    texts: dict[str, list[str]] = {}
    for i in asked:
        texts.setdefault(str(wanted[i]), []).append(made.replies[i].text)
    rates = {name: language_confusion(of, name, detect, rules) for name, of in texts.items()}
    right = [bool(made.judged[i].right) for i in asked]
    summary = {
        "replies": len(made.replies),
        "right": _mean(right),
        **(asdict(mean_confusion(rates)) if rates else {}),
        **{name: _mean([getattr(one, name) for one in made.judged]) for name in TEXT_CHECKS},
        "nll_per_token": float(made.nll.mean()),
    }
    if before is None:
        return summary
    was = [bool(before.judged[i].right) for i in asked]
    return summary | {
        "right_before": _mean(was),
        "switch_rate": switch_rate(was, right) if asked else None,
        "delta_nll_per_token": float(made.nll.mean() - before.nll.mean()),
    }


def over_controls(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Mean, lowest and highest of each number over the controls that have it."""
    numbers: dict[str, dict[str, float] | None] = {}
    for name in [name for name in found[0] if name != "replies"]:
        values = [float(one[name]) for one in found if one[name] is not None]
        numbers[name] = (
            {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}
            if values
            else None
        )
    return numbers


def _mean(values: Sequence[float | bool]) -> float | None:
    return sum(values) / len(values) if values else None
