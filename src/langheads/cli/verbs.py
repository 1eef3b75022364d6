"""The verbs: the function of each, what it writes, and how it runs."""

from __future__ import annotations

from langheads.cli.signatures import Function

MODEL = "TransformerBridge"
"""Type of a first argument that is loaded."""
VERBS = {
    "score": "score",
    "knockout": "knockout",
    "knockout-task": "knockout_task",
    "select": "select",
    "classify": "classify",
    "ablate": "ablate",
    "attribute": "attribute",
    "attention": "show_attention",
    "generate": "generate_replies",
    "transfer": "transfer",
    "adapt": "adapt",
    "evaluate-qa": "evaluate_qa",
    "prune": "prune",
    "compare": "compare",
    "report": "report",
    "cite": "cite",
    "run": "run",
    "demo": "pipeline.demo",
}
"""Verb -> the public function that it is."""
IN_PARTS = (
    *("score", "knockout", "knockout-task", "ablate", "generate", "transfer", "evaluate-qa", "run"),
)
"""Verbs whose work is kept in parts."""
WRITTEN = {
    "xr.Dataset": "Result, e.g. {verb}.nc.",
    "LanguageHeads": "Head set, e.g. heads.json.",
    "HeadClasses": "Classes, e.g. classes.json.",
    "HeadMask": "Learned gates, e.g. mask.json.",
    "Replies": "Replies, e.g. replies.jsonl; OUT.summary.json stands beside it.",
    "AttentionView": "For the report attention.json, or a page .html.",
}
"""Type of a result -> what --out is."""
SUFFIX = {
    "xr.Dataset": ".nc",
    **dict.fromkeys(("LanguageHeads", "HeadClasses", "HeadMask"), ".json"),
    "Replies": ".jsonl",
}
DEFAULT_OUT = {"compare": "comparison.nc", "report": "report.html", "cite": "references.bib"}
"""Where a verb writes by default, in the folder that it reads."""


def runs_a_model(function: Function) -> bool:
    """Whether it is given a loaded model, or loads one itself."""
    return MODEL in function.parameters[0].types or function.name == "pipeline.demo"
