"""Experiments that prove, or fail to prove, what selected heads do."""

from langheads.experiments.ablation import ablate
from langheads.experiments.comparison import compare
from langheads.experiments.curves import deletion
from langheads.experiments.generation import Reply, generate

__all__ = ["Reply", "ablate", "compare", "deletion", "generate"]
