"""Errors, files, results with their provenance: what everything else stands on."""
