"""Heads removed for good, and what that costs."""
