"""Many replies in few numbers: shares, pass rates, checks; what changed; and over random heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from langheads.experiments.replies.experiment import Reply
from langheads.experiments.replies.judge import Judgement, confusion_by_language
from langheads.text import Detector, Rules, mean_confusion, switch_rate


class Answered(NamedTuple):
    """Replies to some prompts.

    Attributes:
        replies: what was written.
        judged: language and degeneration checks of each.
        nll: of each by the untouched model, nats per token.
    """

    replies: Sequence[Reply]
    judged: Sequence[Judgement]
    nll: Float[np.ndarray, " reply"]


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
    by_language = confusion_by_language(made.replies, wanted, detect, rules)
    summary = {
        "replies": len(made.replies),
        "right": _mean([one.right for one in made.judged if one.right is not None]),
        **(asdict(mean_confusion(by_language)) if by_language else {}),
        "repetition": _mean([one.repetition for one in made.judged]),
        "prompt_copy": _mean([one.prompt_copy for one in made.judged]),
        "empty": _mean([one.empty for one in made.judged]),
        "nll_per_token": float(made.nll.mean()),
    }
    if before is None:
        return summary
    asked = [i for i, language in enumerate(wanted) if language is not None]
    was, is_now = ([bool(of.judged[i].right) for i in asked] for of in (before, made))
    return summary | {
        "right_before": _mean(was),
        "switch_rate": switch_rate(was, is_now) if asked else None,
        "delta_nll_per_token": float(made.nll.mean() - before.nll.mean()),
    }


def over_draws(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Mean, lowest and highest of each number over the draws that have it."""
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
