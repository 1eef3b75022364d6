"""Replies under gates and steering: their language, and whether they stay sound."""

TWINS = {
    "random own off": "own off",
    "random off": "rivals off",
    "random general off": "rivals, general off",
    "random suspect off": "suspect off",
    "random shift": "shift",
}
"""Condition on random heads -> the one that it is the control of, with as many in each layer."""
