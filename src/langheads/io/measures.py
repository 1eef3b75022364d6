"""Measures of replies and answers: one table of names, labels, units and signs.

A name is that of a variable in a netCDF result or of a number in a JSON summary. Degeneration
checks separate a reply that changed from one that fell apart: it repeats itself, copies its prompt,
is empty, or costs the untouched model more nats than it should.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One measure."""

    label: str  # its name for people
    units: str  # of its values; a bare ``share`` is of prompts, replies or questions, see `units`
    # 1 where higher is better (or is more of what was asked for), -1 where lower is, 0 where
    # neither.
    better: int = 1
    # What a change away from 0 means, as results store it.
    sign: str = "positive: answers are better"
    # Of a check, the increase over the untouched model beyond which replies fell apart; None where
    # an increase alone does not say so.
    limit: float | None = None


def _check(label: str, units: str, sign: str = "", limit: float | None = None) -> Measure:
    return Measure(label, units, -1, f"positive: {sign}" if sign else "", limit)


_NATS, _GRAMS = "nats per token", "share of 4-grams"
_REPLY_NLL = _check(
    "NLL of the reply", _NATS, "replies are less likely to the untouched model", limit=1.0
)
_DELTA_NLL = _check("change of NLL", _NATS)

MEASURES: dict[str, Measure] = {
    # Language of replies
    "right": Measure("in the wanted language", "share"),
    "suspect": Measure("in the suspect's language", "share", better=-1),
    "switch_rate": Measure("switch rate", "share", better=0),
    "gain_rate": Measure("gain rate", "share", better=0),
    "lpr": Measure("LPR", "share"),
    "wpr": Measure("WPR", "share"),
    "lcpr": Measure("LCPR", "share"),
    "line_accuracy": Measure("right lines", "share"),
    "counted": Measure("replies with a line to judge", "number", better=0),
    "skipped": Measure("replies without one", "number", better=0),
    # Answers to questions
    "accuracy": Measure("accuracy", "share"),
    "exact_match": Measure("exact match", "share"),
    "f1": Measure("F1", "share"),
    "substring": Measure("answers found", "share"),
    "answer_logprob": Measure("log-probability of the right answer", "nats"),
    "answer_nll": Measure(
        "NLL of the right answer", "nats", -1, "negative: right answers are likelier"
    ),
    # Answers moved towards the fact in language A
    "answer_a": Measure("answers that give A's fact", "share"),
    "answer_b": Measure("answers that give B's fact", "share", better=-1),
    "first_token_a": Measure("prompts that rank A's first token higher", "share"),
    "logprob_difference": Measure("log p(A's answer) − log p(B's answer)", "nats"),
    # Degeneration checks
    "repetition": _check("repetition", _GRAMS, "replies repeat themselves more", limit=0.1),
    "prompt_copy": _check("copied prompt", _GRAMS, "replies copy more of the prompt"),
    "empty": _check("empty replies", "share", "more replies are empty", limit=0.1),
    "reply_nll": _REPLY_NLL,
    "nll_per_token": _REPLY_NLL,
    "nll": _REPLY_NLL,
    "delta_nll": _DELTA_NLL,
    "delta_nll_per_token": _DELTA_NLL,
    "prompt_nll": _check("NLL of the prompt", _NATS, limit=1.0),
    "cost": _check("cost", _NATS, limit=1.0),
}
"""Every measure, in the order in which tables show them."""

UNTOUCHED = "untouched"
"""The condition of a model that is left alone."""
TWINS = {
    "random own off": "own off",
    "random off": "rivals off",
    "random general off": "rivals, general off",
    "random suspect off": "suspect off",
    "random shift": "shift",
}
"""Condition on random heads -> the one that it is the control of, with as many in each layer."""
TEXT_CHECKS = ("repetition", "prompt_copy", "empty")
"""Degeneration checks of the text alone, see `langheads.text.degeneration`."""


def units(names: Iterable[str], *, of: str = "") -> dict[str, str]:
    """Units of measures; `of` is what shares are of.

    Example:
        >>> units(["empty", "repetition", "nll"], of="prompts")
        {'empty': 'share of prompts', 'repetition': 'share of 4-grams', 'nll': 'nats per token'}
    """
    return {
        name: f"share of {of}" if of and MEASURES[name].units == "share" else MEASURES[name].units
        for name in names
    }


def labels(names: Iterable[str]) -> dict[str, str]:
    """Names for people.

    Example:
        >>> labels(["prompt_copy", "f1"])
        {'prompt_copy': 'copied prompt', 'f1': 'F1'}
    """
    return {name: MEASURES[name].label for name in names}
