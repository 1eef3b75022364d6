"""Heads as users give them: by name, by language, or from a file of `select`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from numbers import Real

from langheads.heads.head_set import Head, HeadSet, as_head_set, require_shape
from langheads.heads.language_heads import GENERAL, LanguageHeads, heads_of
from langheads.io.errors import InputError

Named = HeadSet | Iterable[str | tuple[int, int]]
"""Heads: a set, or anything that makes one, such as ``"L3H7,L5H0"``."""
ByLanguage = LanguageHeads | Mapping[str, HeadSet | Iterable[str]] | Iterable[str]
"""Heads a language; heads without a language count as general ones."""


def as_language_heads(
    heads: ByLanguage, shape: tuple[int, int] | None = None, model: str = ""
) -> LanguageHeads:
    """Heads a language, from what `select` gave or from names; without languages they are general.

    Args:
        heads: see `ByLanguage`.
        shape: of the model; None is the smallest that fits, for checks before one is loaded.
        model: its name.

    Raises:
        InputError: not a head, or one that the model does not have; a head in place of a language.
        ProvenanceError: heads of a model of another shape.

    Example:
        >>> as_language_heads({"zh": "L0H1,L5H7"}, (6, 8)).specific
        {'zh': HeadSet([L0H1, L5H7], shape=(6, 8))}
    """
    if isinstance(heads, LanguageHeads):
        if shape is not None:
            require_shape("the head set", heads.shape, shape)
        return heads
    named = dict(heads) if isinstance(heads, Mapping) else {GENERAL: heads}
    # A value that is not a gate is the mistake, before one that could be.
    for name, of in sorted(named.items(), key=lambda item: isinstance(item[1], Real)):
        if re.fullmatch(r"L\d+H\d+|\(\d+, \d+\)", str(name).strip()):
            # Where gates are allowed, mappings to numbers do not come here.
            numbers = all(isinstance(of, Real) for of in named.values())
            gates = "" if numbers else 'a number for each head, like {"L3H7": 0.5}, or '
            raise InputError(
                f"{name} is a head and was given {of!r:.60}; write {gates}heads for each language, "
                'like {"zh": ["L3H7"]}'
            )
    if shape is None:
        # Any head will do: the model is not loaded yet.
        named = {name: list(HeadSet(of, (10**9, 10**9))) for name, of in named.items()}
        every = [Head(0, 0), *itertools.chain(*named.values())]
        shape = (max(h.layer for h in every) + 1, max(h.head for h in every) + 1)
    sets = {str(name): as_head_set(of, shape) for name, of in named.items()}
    general = sets.pop(GENERAL, HeadSet([], shape))
    return LanguageHeads(sets, general, model, {"name": "given by name"})


def one_head_set(
    heads: Named | ByLanguage, shape: tuple[int, int], *, language: str | None = None
) -> HeadSet:
    """One set of heads of a model, from heads in any form.

    Of heads a language, `language` (or ``general``) names whose; it is needed where more than one
    has heads. Raises as `as_language_heads`.
    """
    if not isinstance(heads, LanguageHeads | Mapping):
        if language is not None:
            raise InputError(
                f"heads of {language} asked for, but the heads were given without languages"
            )
        return as_head_set(heads, shape)
    of = as_language_heads(heads, shape)
    if language is None:
        known = [name for name, some in of.by_name.items() if some]
        if len(known) != 1:
            raise InputError(
                f"heads of {', '.join(known) or 'no language'} given; name one of them, "
                'like language="zh"'
            )
        language = known[0]
    return heads_of(of, language)


def every_head(heads: Named | ByLanguage, shape: tuple[int, int]) -> HeadSet:
    """All heads that are named, of all languages; arguments and errors as for `one_head_set`."""
    if not isinstance(heads, LanguageHeads | Mapping):
        return as_head_set(heads, shape)
    of = as_language_heads(heads, shape)
    return HeadSet(itertools.chain(*of.by_name.values()), shape)
