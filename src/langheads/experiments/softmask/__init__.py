"""Soft head masks: gates learned from answers, and what they are worth beside random heads."""
