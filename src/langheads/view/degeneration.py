"""When checks say that texts fell apart, so that no other number means what it says."""

from collections.abc import Mapping

from langheads.io.measures import MEASURES

LIMITS_IN_WORDS = (
    "repetition or empty replies up by more than 0.1, or NLL by more than 1 nat per token"
)


def fallen(changes: Mapping[str, float]) -> str:
    """The checks that rose beyond their limit, in words; empty where none did.

    Args:
        changes: check -> change against nothing gated, in its unit.

    Example:
        >>> fallen({"repetition": 0.25, "empty": 0.0, "prompt_nll": 1.5})
        'repetition +0.25 of 4-grams, NLL of the prompt +1.50 nats per token'
    """
    return ", ".join(
        f"{measure.label} {changes[name]:+.2f} "
        + ("of all" if measure.units == "share" else measure.units.removeprefix("share "))
        for name, measure in MEASURES.items()
        if name in changes and measure.limit is not None and changes[name] > measure.limit
    )
