"""Experiments that prove, or fail to prove, what selected heads do."""

from langheads.experiments.ablation import ablate
from langheads.experiments.attention_transfer import transfer
from langheads.experiments.comparison import compare
from langheads.experiments.controls import compare_masks
from langheads.experiments.curves import deletion
from langheads.experiments.evaluation import evaluate_qa
from langheads.experiments.generation import Reply, generate
from langheads.experiments.offtarget import off_target
from langheads.experiments.pruning import prune
from langheads.experiments.softmask import adapt
from langheads.experiments.switching import switch_rates

__all__ = [
    "Reply",
    "ablate",
    "adapt",
    "compare",
    "compare_masks",
    "deletion",
    "evaluate_qa",
    "generate",
    "off_target",
    "prune",
    "switch_rates",
    "transfer",
]
