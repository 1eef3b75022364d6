"""Errors, files, results with their provenance: what all other rooms use."""
