"""Pictures and the report: functions of saved results, but `show_attention`, which runs the model
for what it shows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langheads.view.answers import qa_changes
    from langheads.view.attention import AttentionView, show_attention
    from langheads.view.classes import head_classes
    from langheads.view.comparison import deletion_curves, score_against_knockout, score_benchmark
    from langheads.view.effects import effect_map
    from langheads.view.figures import head_map, layer_profile
    from langheads.view.lens import logit_lens
    from langheads.view.looks import transfer_attention
    from langheads.view.matrix import specificity_matrix
    from langheads.view.offtarget import off_target_bars
    from langheads.view.offtarget_marks import off_target_guards, off_target_rates
    from langheads.view.overlap import language_overlap
    from langheads.view.page import report
    from langheads.view.pruned import pruned_losses
    from langheads.view.softmask import mask_training
    from langheads.view.switching import switch_rate_bars
    from langheads.view.transfer import transfer_matrix, transfer_sweep

# Imported when first used: a picture of a mask brings torch along, and no other does.
_HOME = {
    "AttentionView": "attention",
    "deletion_curves": "comparison",
    "effect_map": "effects",
    "head_classes": "classes",
    "head_map": "figures",
    "language_overlap": "overlap",
    "layer_profile": "figures",
    "logit_lens": "lens",
    "mask_training": "softmask",
    "off_target_bars": "offtarget",
    "off_target_guards": "offtarget_marks",
    "off_target_rates": "offtarget_marks",
    "pruned_losses": "pruned",
    "qa_changes": "answers",
    "report": "page",
    "score_against_knockout": "comparison",
    "score_benchmark": "comparison",
    "show_attention": "attention",
    "specificity_matrix": "matrix",
    "switch_rate_bars": "switching",
    "transfer_attention": "looks",
    "transfer_matrix": "transfer",
    "transfer_sweep": "transfer",
}

__all__ = [
    "AttentionView",
    "deletion_curves",
    "effect_map",
    "head_classes",
    "head_map",
    "language_overlap",
    "layer_profile",
    "logit_lens",
    "mask_training",
    "off_target_bars",
    "off_target_guards",
    "off_target_rates",
    "pruned_losses",
    "qa_changes",
    "report",
    "score_against_knockout",
    "score_benchmark",
    "show_attention",
    "specificity_matrix",
    "switch_rate_bars",
    "transfer_attention",
    "transfer_matrix",
    "transfer_sweep",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"langheads.view.{_HOME[name]}"), name)
    raise AttributeError(f"module 'langheads.view' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
