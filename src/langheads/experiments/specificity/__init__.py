"""Proof by ablation: each language's heads off, each language's text, and random heads beside."""
