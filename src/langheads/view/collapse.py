"""When guards say that replies or texts fell apart, so that no other number means what it says."""

from __future__ import annotations

from collections.abc import Mapping

# A rise beyond these is no side effect any more.
_LIMITS = {
    "repetition": (0.1, "repetition", "of 4-grams"),
    "empty": (0.1, "empty replies", "of all"),
    "reply_nll": (1.0, "NLL of the reply", "nats per token"),
    "prompt_nll": (1.0, "NLL of the prompt", "nats per token"),
}

LIMITS_IN_WORDS = (
    "repetition or empty replies up by more than 0.1, or NLL by more than 1 nat per token"
)


def fallen(changes: Mapping[str, float]) -> str:
    """The guards that rose beyond their limit, in words; empty where none did.

    Args:
        changes: guard -> change against nothing gated, in its unit.

    Example:
        >>> fallen({"repetition": 0.25, "empty": 0.0, "prompt_nll": 1.5})
        'repetition +0.25 of 4-grams, NLL of the prompt +1.50 nats per token'
    """
    return ", ".join(
        f"{label} {changes[name]:+.2f} {unit}"
        for name, (limit, label, unit) in _LIMITS.items()
        if changes.get(name, 0.0) > limit
    )
