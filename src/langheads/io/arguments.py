"""Checks of arguments that many public functions share."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from langheads.io.errors import InputError

MAX_SEED = 2**32 - 1
"""The largest seed: numpy takes no negative one, torch none beyond 64 bits, and netCDF keeps it."""
MAX_RESAMPLES = 1_000_000
"""The largest number of resamples: ten times as many are no better, and fill the memory."""
MAX_CONTROLS = 100_000
"""The largest number of random head sets; all are held in memory before the first is run."""
MAX_NAME = 200
"""Most characters in the name of a language, which a page repeats at every mark."""
MAX_MODEL = 10_000
"""Most characters in the name of a model, which can be a path; a page shows it a few times."""
BASELINES = ("zero", "mean")
"""What can stand in for a head that is off."""
_MAX_FLOAT32 = (2 - 2.0**-23) * 2.0**127


def check_seed(seed: Any) -> int:
    """The seed, if it is one that every generator of random numbers takes, 0 to `MAX_SEED`."""
    try:
        found = operator.index(seed)
    except TypeError:
        found = -1
    if not 0 <= found <= MAX_SEED:
        raise InputError(
            f"seed {seed!r:.40} asked for; allowed are whole numbers from 0 to {MAX_SEED}"
        )
    return found


def check_least(least: int, number: int | None, what: str) -> None:
    """Refuse (`InputError`) fewer of something; None stands for all."""
    if number is not None and number < least:
        are = "is" if least == 1 else "are"
        raise InputError(f"{number} {what} asked for; at least {least} {are} needed")


def check_gate(value: Any, what: str = "the gate") -> float:
    """The number, if gates, which are float32, can hold it; `what` is its name in the message."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} is {value!r:.60}; it must be a number") from None
    if not abs(number) <= _MAX_FLOAT32:
        raise InputError(
            f"{what} is {number:g}; it must be a finite number that float32 holds, at most 3.4e38"
        )
    return number


def asked_languages(languages: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The languages asked for, each once; None for all. ``"en,zh"`` is two, not five letters."""
    if languages is None:
        return None
    if isinstance(languages, str):
        languages = [part.strip() for part in languages.split(",")]
    try:
        asked: tuple[Any, ...] = tuple(dict.fromkeys(languages))
    except TypeError:
        asked = (None,)
    if not all(isinstance(language, str) for language in asked):
        raise InputError(f'languages {languages!r:.60} asked for; write ["en", "zh"]')
    if not all(asked):
        raise InputError("an empty language name was asked for; write --languages en,zh")
    return asked


def asked_name(what: str, asked: Any, allowed: Iterable[Any], have: str = "allowed are") -> str:
    """The name; refuses (`InputError`) anything but one of those allowed."""
    if asked not in (known := [str(name) for name in allowed]):
        raise InputError(f"{what} {asked!r:.80} asked for; {have} {', '.join(known) or 'none'}")
    return str(asked)


def asked_names(
    what: str, asked: str | Iterable[str], allowed: Iterable[str], have: str = "allowed are"
) -> list[str]:
    """The names asked for, each once; refuses an empty list, and names that are not allowed.

    Example:
        >>> asked_names("baseline", "mean", ("zero", "mean"))
        ['mean']
    """
    names = [asked] if isinstance(asked, str) else list(dict.fromkeys(asked))
    allowed = list(allowed)
    if (unknown := [name for name in names if name not in allowed]) or not names:
        raise InputError(
            f"{what} {', '.join(unknown) or 'none'} asked for; {have} {', '.join(allowed)}"
        )
    return names
