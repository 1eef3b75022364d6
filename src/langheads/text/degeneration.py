"""Degeneration checks: is a reply still a reply? Collapse is not a change of language.

    repetition  = 1 - distinct n-grams / n-grams of the reply's tokens      (seq-rep-n)
    prompt copy = share of the reply's n-grams that are in the prompt
    empty       = nothing but white space

n = 4 tokens; a shorter reply repeats nothing, and is a copy if the prompt contains it as a
whole. Repetition as in Welleck et al., arXiv 1908.04319, section 6. Labels and units are in
`langheads.io.measures`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any


def degeneration_checks(
    text: str, tokens: Iterable[int], prompt: Sequence[int], ends: Collection[int] = ()
) -> dict[str, Any]:
    """``repetition``, ``prompt_copy`` and ``empty`` of one reply; `ends`, tokens that end a
    sequence, do not count.

    Example:
        >>> degeneration_checks("a b", [1, 2, 0], prompt=[1, 2], ends=[0])
        {'repetition': 0.0, 'prompt_copy': 1.0, 'empty': False}
    """
    tokens = [token for token in tokens if token not in ends]
    return {
        "repetition": repetition_share(tokens),
        "prompt_copy": prompt_copy_share(tokens, prompt),
        "empty": not text.strip(),
    }


def repetition_share(tokens: Sequence[int], n: int = 4) -> float:
    """Share of n-grams that occurred earlier in the reply, 0 to 1.

    Example:
        >>> repetition_share([1, 2, 3, 1, 2], n=2)
        0.25
    """
    grams = _grams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def prompt_copy_share(tokens: Sequence[int], prompt: Sequence[int], n: int = 4) -> float:
    """Share of the reply's n-grams that the prompt has too, 0 to 1; 0 for an empty reply.

    Example:
        >>> prompt_copy_share([7, 1, 2, 3, 4], prompt=[1, 2, 3, 4, 5], n=4)
        0.5
    """
    if not tokens:
        return 0.0
    n = min(n, len(tokens))
    there = set(_grams(prompt, n))
    grams = _grams(tokens, n)
    return sum(gram in there for gram in grams) / len(grams)


def _grams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
