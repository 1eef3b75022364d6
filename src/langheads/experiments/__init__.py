"""Experiments that prove, or fail to prove, what selected heads do; a folder each."""
