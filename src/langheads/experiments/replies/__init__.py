"""Replies under gates and steering: their language, and whether they stay sound."""
