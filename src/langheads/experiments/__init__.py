"""Experiments that prove, or fail to prove, what selected heads do."""

from langheads.experiments.ablation import ablate
from langheads.experiments.comparison import compare
from langheads.experiments.curves import deletion
from langheads.experiments.generation import Reply, generate
from langheads.experiments.offtarget import off_target
from langheads.experiments.switching import switch_rates

__all__ = ["Reply", "ablate", "compare", "deletion", "generate", "off_target", "switch_rates"]
