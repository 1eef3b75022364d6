"""Scores held to exact knock-out, planted heads and deletion."""
