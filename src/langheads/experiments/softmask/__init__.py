"""Soft head masks: gates learned from answers, compared with masks on random heads."""
