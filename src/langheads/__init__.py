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
    from langheads.classes import HeadClasses
    from langheads.classification import classify
    from langheads.errors import LangheadsError
    from langheads.experiments import (
        Reply,
        ablate,
        adapt,
        compare,
        compare_masks,
        deletion,
        evaluate_qa,
        generate,
        off_target,
        prune,
        switch_rates,
        transfer,
    )
    from langheads.heads import Head, HeadSet, LanguageHeads
    from langheads.masks import HeadMask
    from langheads.model import gated, load, mean_z, shifted
    from langheads.results import load_result, save
    from langheads.scores import attribute, knockout, knockout_task, score
    from langheads.selection import select
    from langheads.text import read_questions, read_texts
    from langheads.view import AttentionView, report, show_attention

__version__ = version("langheads")

# Importing langheads must not import torch and transformers, which take seconds: a name is
# imported when it is first used.
_HOME = {
    "AttentionView": "view",
    "Head": "heads",
    "HeadClasses": "classes",
    "HeadMask": "masks",
    "HeadSet": "heads",
    "LangheadsError": "errors",
    "LanguageHeads": "heads",
    "Reply": "experiments",
    "ablate": "experiments",
    "adapt": "experiments",
    "attribute": "scores",
    "classify": "classification",
    "compare": "experiments",
    "compare_masks": "experiments",
    "deletion": "experiments",
    "evaluate_qa": "experiments",
    "gated": "model",
    "generate": "experiments",
    "knockout": "scores",
    "knockout_task": "scores",
    "load": "model",
    "load_result": "results",
    "mean_z": "model",
    "off_target": "experiments",
    "prune": "experiments",
    "read_questions": "text",
    "read_texts": "text",
    "report": "view",
    "save": "results",
    "score": "scores",
    "select": "selection",
    "shifted": "model",
    "show_attention": "view",
    "switch_rates": "experiments",
    "transfer": "experiments",
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
