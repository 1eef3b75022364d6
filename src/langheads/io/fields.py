"""What the keys of a JSON file must hold, checked when it is read and not where it is used."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from langheads.io.arguments import MAX_SEED
from langheads.io.errors import InputError


class Kind(NamedTuple):
    """A kind of value, and how a message calls it."""

    words: str
    fits: Callable[[Any], bool]


def _whole(least: int, most: float | int = math.inf) -> Callable[[Any], bool]:
    # JSON's true is a number for Python.
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _number(v: Any) -> bool:
    # Compared, since a whole number of 400 digits is no float.
    return isinstance(v, float | int) and not isinstance(v, bool) and abs(v) <= sys.float_info.max


def _list(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, list) and all(map(fits, v))


def _pair(v: Any) -> bool:
    return isinstance(v, list) and len(v) == 2 and _whole(0)(v[0]) and _number(v[1])


TEXT = Kind("a text", lambda v: isinstance(v, str))
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NUMBER = Kind("a finite number", _number)
FLOAT = Kind("a number", lambda v: isinstance(v, float) or _number(v))
FROM_0 = Kind("a whole number from 0", _whole(0))
FROM_1 = Kind("a whole number from 1", _whole(1))
SEED = Kind(f"a whole number from 0 to {MAX_SEED}", _whole(0, MAX_SEED))
OBJECT = Kind("keys and values", lambda v: isinstance(v, Mapping))
OBJECTS = Kind("a list of keys and values", _list(OBJECT.fits))
TEXTS = Kind("a list of texts", _list(TEXT.fits))
NUMBERS = Kind("a list of finite numbers", _list(_number))
PAIRS = Kind("a list of pairs of steps and a finite number", _list(_pair))
TWO_PAIRS = Kind("two pairs of steps and a finite number", lambda v: PAIRS.fits(v) and len(v) == 2)
SHAPE = Kind("two whole numbers from 1", lambda v: _list(_whole(1))(v) and len(v) == 2)


def check_fields(
    document: Mapping[str, Any],
    fields: Mapping[str, Kind],
    *,
    within: str = "",
    optional: bool = False,
) -> None:
    """Refuse a value of another kind than its key must hold.

    Args:
        document: what was read.
        fields: key -> kind.
        within: the key that holds `document`, for the message.
        optional: whether a key may be absent.

    Raises:
        InputError: the key, what was found and what is expected.
        KeyError: a key is absent that must not be.

    Example:
        >>> check_fields({"seed": 3}, {"seed": SEED, "bos": FLAG}, optional=True)
    """
    for key, kind in fields.items():
        if optional and key not in document:
            continue
        if not kind.fits(found := document[key]):
            name = f"{within}.{key}" if within else key
            raise InputError(f"{name} is {found!r:.60}, expected {kind.words}")
