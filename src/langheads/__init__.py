"""langheads: the attention heads that carry a language, found, proven and shown.

Example:
    >>> import langheads
    >>> model = langheads.load("demo")
    >>> scores = langheads.score(model, "texts/", docs=200)          # doctest: +SKIP
    >>> heads = langheads.select(scores)                             # doctest: +SKIP
    >>> proof = langheads.ablate(model, heads, "texts/")             # doctest: +SKIP
    >>> langheads.view.specificity_matrix(proof, "zero").show()      # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langheads import view
    from langheads.experiments.benchmark.compare import compare
    from langheads.experiments.benchmark.deletion import deletion
    from langheads.experiments.pruning.experiment import prune
    from langheads.experiments.replies.experiment import Reply, generate
    from langheads.experiments.replies.off_target import off_target
    from langheads.experiments.replies.switching import switch_rates
    from langheads.experiments.softmask.controls import compare_masks
    from langheads.experiments.softmask.evaluation import evaluate_qa
    from langheads.experiments.softmask.experiment import adapt
    from langheads.experiments.specificity.experiment import ablate
    from langheads.experiments.transfer.experiment import transfer
    from langheads.heads import Head, HeadSet, LanguageHeads
    from langheads.heads.classes import HeadClasses
    from langheads.heads.mask import HeadMask
    from langheads.io.errors import LangheadsError
    from langheads.io.results import load_result, save
    from langheads.model import gated, load, mean_z, shifted
    from langheads.scores.attribution import attribute
    from langheads.scores.exact_knockout import knockout
    from langheads.scores.score import score
    from langheads.scores.task_knockout import knockout_task
    from langheads.selection.classify import classify
    from langheads.selection.count import select
    from langheads.text import read_questions, read_texts
    from langheads.view import AttentionView, report, show_attention

__version__ = version("langheads")

# Importing langheads must not import torch and transformers, which take seconds: a name is
# imported when it is first used.
_HOME = {
    "AttentionView": "view",
    "Head": "heads",
    "HeadClasses": "heads.classes",
    "HeadMask": "heads.mask",
    "HeadSet": "heads",
    "LangheadsError": "io.errors",
    "LanguageHeads": "heads",
    "Reply": "experiments.replies.experiment",
    "ablate": "experiments.specificity.experiment",
    "adapt": "experiments.softmask.experiment",
    "attribute": "scores.attribution",
    "classify": "selection.classify",
    "compare": "experiments.benchmark.compare",
    "compare_masks": "experiments.softmask.controls",
    "deletion": "experiments.benchmark.deletion",
    "evaluate_qa": "experiments.softmask.evaluation",
    "gated": "model",
    "generate": "experiments.replies.experiment",
    "knockout": "scores.exact_knockout",
    "knockout_task": "scores.task_knockout",
    "load": "model",
    "load_result": "io.results",
    "mean_z": "model",
    "off_target": "experiments.replies.off_target",
    "prune": "experiments.pruning.experiment",
    "read_questions": "text",
    "read_texts": "text",
    "report": "view",
    "save": "io.results",
    "score": "scores.score",
    "select": "selection.count",
    "shifted": "model",
    "show_attention": "view",
    "switch_rates": "experiments.replies.switching",
    "transfer": "experiments.transfer.experiment",
}

__all__ = [
    "AttentionView",
    "Head",
    "HeadClasses",
    "HeadMask",
    "HeadSet",
    "LangheadsError",
    "LanguageHeads",
    "Reply",
    "ablate",
    "adapt",
    "attribute",
    "classify",
    "compare",
    "compare_masks",
    "deletion",
    "evaluate_qa",
    "gated",
    "generate",
    "knockout",
    "knockout_task",
    "load",
    "load_result",
    "mean_z",
    "off_target",
    "prune",
    "read_questions",
    "read_texts",
    "report",
    "save",
    "score",
    "select",
    "shifted",
    "show_attention",
    "switch_rates",
    "transfer",
    "view",
]


def __getattr__(name: str) -> Any:
    if name == "view":
        return import_module("langheads.view")
    if name in _HOME:
        return getattr(import_module(f"langheads.{_HOME[name]}"), name)
    raise AttributeError(f"module 'langheads' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
