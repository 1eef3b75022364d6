"""The one table of scores: name, label, units, cost, and where each is computed.

A score is made from passes. A pass goes over all documents of one language, and all scores that
name it share it: one pass of gate gradients gives `lahis`, `lahis-paper`, `taylor` and `grad_abs`.
What a pass costs is counted in forwards of every document, a backward as one: weights are frozen
(measured on two models, the forward with it: 1.8 and 1.9).

To add a score, write a module that computes it and a line in the table below; or, from outside,
call `register`. The command line, `compare`, `select` and the report's labels and order follow.

This module imports neither torch nor numpy, because ``langheads --help`` lists the scores: what
computes a score is named by its module and looked up on first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langheads.io.errors import InputError
from langheads.io.parts import Waiting

if TYPE_CHECKING:
    import numpy as np
    from transformer_lens.model_bridge import TransformerBridge

    from langheads.text import Documents

# What else a scores file has a name for, and the rows of `compare` that are no scores.
_TAKEN = re.compile(
    "language|layer|head|doc|gradient|docs|skipped|cut|tokens|bytes|nats-per-byte|rounding|grad-abs"
    r"|helpful|knockout|sample-\d+|top-\d+"
)


class Rows(dict[str, "np.ndarray"]):
    """What passes gave, by name.

    Attributes:
        awaited: a pass waits for other shards, so what is missing may be what it gives.
    """

    awaited = False

    def __missing__(self, name: str) -> Any:
        if self.awaited:
            raise Waiting(0)
        raise InputError(f"no pass before it gives {name}; there are {', '.join(self) or 'none'}")


@dataclass
class OfLanguage:
    """What passes and scores are given of one language."""

    model: TransformerBridge  # the model
    documents: Documents  # of the language
    seed: list[int]  # for draws; the numbers differ between languages
    settings: dict[str, Any]  # ``batch_tokens`` and ``progress``, as `map_documents` takes them
    # What the passes so far gave, arrays with a row a document.
    rows: dict[str, np.ndarray] = field(default_factory=Rows)


@dataclass(frozen=True)
class Pass:
    """A measurement over every document of a language."""

    name: str  # of the pass, under which its seconds are stored
    cost: int  # forwards of every document, a backward as one
    # ``OfLanguage -> {name: rows}``, or where it stands as ``module:function``.
    run: str | Callable[[OfLanguage], Mapping[str, np.ndarray]]
    repeats: int = 1  # how many times it goes over the documents, for the progress bar


@dataclass(frozen=True)
class Score:
    """A score of every head."""

    name: str  # as it is asked for, such as ``lahis-paper``; in files ``-`` is ``_``
    label: str  # as figures and tables call it
    units: str  # of its values
    passes: tuple[Pass, ...] = ()  # what it is made from, in this order
    # ``{language: OfLanguage} -> {language: values}``, or where it stands as ``module:function``;
    # values are ``[layer, head]``, or a pair of that and its standard error over documents. None is
    # the mean over documents of its last pass' rows.
    run: str | Callable[[Mapping[str, OfLanguage]], Mapping[str, Any]] | None = None
    min_languages: int = 1  # languages that it needs
    ordered: bool = False  # whether it depends on the order of the documents
    draws: bool = False  # whether it depends on the seed
    # Whether it predicts the change in NLL when the head is removed, so that its size can be right
    # or wrong and not only its ranking.
    estimates_knockout: bool = False
    sources: tuple[str, ...] = ()  # what to cite, keys of `view/references.bib`

    @property
    def variable(self) -> str:
        """Its name in a scores file."""
        return self.name.replace("-", "_")

    @property
    def cost(self) -> int:
        """Forwards of every document that it takes."""
        return sum(p.cost for p in self.passes)


SCORES: dict[str, Score] = {}
"""Name -> score, in the order of reports."""
LABELS: dict[str, str] = {}
"""Variable of a scores file -> label, in the order of reports."""


def register(score: Score) -> Score:
    """Add a score, which can then be asked for by its name.

    Raises:
        InputError: a name that is taken, or not made of lower-case words with hyphens.

    Example:
        >>> def spread(languages):
        ...     return {name: of.rows["gradient"].std(axis=0) for name, of in languages.items()}
        >>> score = Score("spread", "Spread", "nats per token", (GRADIENT,), spread)
        >>> register(score).variable
        'spread'
    """
    name = score.name
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or name.endswith("-se"):
        raise InputError(
            f"score {name!r} to be registered; a name is lower-case words with hyphens, and does "
            "not end in -se"
        )
    if name in SCORES or _TAKEN.fullmatch(name):
        raise InputError(f"score {name!r} to be registered; that name is taken")
    SCORES[name], LABELS[score.variable] = score, score.label
    return score


def names() -> tuple[str, ...]:
    """The names of all scores, in the order of reports."""
    return tuple(SCORES)


def found(run: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function that an entry of the table names, imported now."""
    if callable(run):
        return run
    module, _, name = run.partition(":")
    return getattr(import_module(module), name)


GRADIENT = Pass("gradient", 2, "langheads.scores.gradient:gradient_pass")
SEQUENTIAL = Pass("sequential", 2, "langheads.scores.gradient:sequential_pass")
QUADRATURE = Pass("quadrature", 6, "langheads.scores.quadrature:quadrature_pass", repeats=3)
GRAD_ACT = Pass("grad-act", 2, "langheads.scores.activation:grad_act_pass")
NORMS = Pass("norms", 1, "langheads.scores.activation:norms_pass")

_FORMULAS = "langheads.scores.formulas"
_NATS = "nats per token"
_FIRST = (GRADIENT,)
_LAHIS = ("liu2025lahis",)
_TABLE = (
    Score("lahis", "LAHIS score", _NATS, _FIRST, f"{_FORMULAS}:LAHIS", sources=_LAHIS),
    Score("lahis-paper", "LAHIS score, formula of the paper's text", _NATS, _FIRST,
          f"{_FORMULAS}:LAHIS_PAPER", sources=_LAHIS),
    Score("lahis-sequential", "LAHIS score, sequential as in the authors' script",
          "1e-3 nats per token", (SEQUENTIAL,), "langheads.scores.gradient:sequential_score",
          ordered=True, sources=_LAHIS),
    Score("taylor", "First-order estimate (Taylor)", _NATS, _FIRST, f"{_FORMULAS}:TAYLOR",
          estimates_knockout=True, sources=("michel2019sixteen",)),
    Score("quadrature", "Estimated knock-out (quadrature)", _NATS, (GRADIENT, QUADRATURE),
          estimates_knockout=True, draws=True, sources=("hildebrand1974numerical",)),
    Score("grad-act", "Gradient times activation, position by position", _NATS, (GRAD_ACT,)),
    Score("output-norm", "Norm of what the head writes", "norm of the residual stream", (NORMS,)),
    Score("entropy", "Share of the norm, by entropy over languages", "nats", (NORMS,),
          "langheads.scores.activation:entropy_score", min_languages=2,
          sources=("tang2024neurons",)),
    Score("random", "Random numbers", "none", (), f"{_FORMULAS}:random_score", draws=True),
)  # fmt: skip
for _score in _TABLE:
    register(_score)

GRAD_ABS = Score("grad_abs", "Size of the gradient", _NATS, _FIRST, f"{_FORMULAS}:GRAD_ABS")
HELPFUL = Score(
    "helpful", "Documents with a negative gradient", "share", _FIRST, f"{_FORMULAS}:HELPFUL"
)
BY_PRODUCTS = (GRAD_ABS, HELPFUL)
"""What every run stores beside the scores asked for, since it makes the gradient pass anyway."""
