"""Experiments that prove, or fail to prove, what selected heads do."""

from langheads.experiments.ablation import ablate

__all__ = ["ablate"]
