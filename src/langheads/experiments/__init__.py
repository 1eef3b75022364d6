"""Experiments that test what selected heads do; a folder each."""
