"""Proof by ablation: whose loss rises when whose heads are off, beside random heads."""
