"""The type checker that jaxtyping is given: beartype, asked once for each signature.

jaxtyping decorates a function inside another again each time it is made, such as a hook in every
forward, and writing beartype's check anew took half of the tests' time. It is written at the first
call, as most functions of the package are not called in a process.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from beartype import beartype

_checked: dict[tuple[str, ...], Callable[..., Any]] = {}


def checked(stub):
    """A function with no body of its own but a signature, as jaxtyping makes them, checked."""
    signature = stub.__code__.co_varnames, len(stub.__defaults__ or ()), stub.__kwdefaults__
    key = (stub.__module__, stub.__qualname__, repr(signature), repr(stub.__annotations__))
    if key not in _checked:
        _checked[key] = _at_first_call(stub)
    return _checked[key]


def _at_first_call(stub):
    written = cache(lambda: beartype(stub))
    return lambda *args, **kwargs: written()(*args, **kwargs)
