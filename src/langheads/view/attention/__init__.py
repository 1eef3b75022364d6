"""Attention in context: patterns as data, the choice of heads, the page, and the view."""
