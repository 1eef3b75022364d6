"""The type checker that jaxtyping is given: beartype, asked once for each signature.

jaxtyping decorates a function inside another again each time it is made, such as a hook in every
forward, and writing beartype's check anew took half of the tests' time. It is written at the first
call, as most functions of the package are not called in a process. Nor is the stub that has the
signature written anew, or an annotation read.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from beartype import beartype
from jaxtyping import _decorator as decorator

_checked: dict[tuple[str, ...], Callable[..., Any]] = {}


def checked(stub):
    """A function with no body of its own but a signature, as jaxtyping makes them, checked."""
    signature = stub.__code__.co_varnames, len(stub.__defaults__ or ()), stub.__kwdefaults__
    key = (stub.__module__, stub.__qualname__, repr(signature), repr(stub.__annotations__))
    if key not in _checked:
        _checked[key] = _at_first_call(stub)
    return _checked[key]


def _at_first_call(stub):
    written = None

    def check(*args, **kwargs):
        nonlocal written
        written = written or beartype(stub)
        return written(*args, **kwargs)

    return check


_make_stub = decorator._make_fn_with_signature
_resolve = decorator._destring_annotation
_stubs = lru_cache(4096)(_make_stub)
_resolved: dict[tuple[str, int], Any] = {}


def _stub_once(name, qualname, module, signature, output):
    try:
        return _stubs(name, qualname, module, signature, output)
    except TypeError:
        # A default that has no hash.
        return _make_stub(name, qualname, module, signature, output)


def _resolve_once(annotation, namespace):
    if annotation is inspect.Signature.empty:
        return annotation
    if not isinstance(annotation, str):
        return _resolve(annotation, namespace)
    # A module's names are there as long as the process.
    key = annotation, id(namespace)
    if key not in _resolved:
        found = _resolve(annotation, namespace)
        if found is Any:
            # Of what was not defined yet, perhaps.
            return found
        _resolved[key] = found
    return _resolved[key]


decorator._make_fn_with_signature = _stub_once
decorator._destring_annotation = _resolve_once
