"""Which documents of several languages are translations of each other, by id or by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from langheads.io.errors import InputError, logger
from langheads.text.readers import Keyed

IN_PYTHON = "texts given in Python"
"""The name of a source without a name."""


def has_words(text: str) -> bool:
    """Whether a text is a document: not blank, nor only a byte order mark."""
    return bool(text.replace("\ufeff", "").strip())


def seem_aligned(found: Mapping[str, Sequence[str]], name: str) -> bool:
    """Whether all documents have ids, the same in all languages; warns where they may be."""
    kept = [[text for text in texts if has_words(text)] for texts in found.values()]
    if len(kept) < 2:
        return False
    ids = [[text.key for text in texts if isinstance(text, Keyed)] for texts in kept]
    whole = all(len(of) == len(set(of)) == len(texts) for of, texts in zip(ids, kept, strict=True))
    if whole and all(set(of) == set(ids[0]) for of in ids):
        logger.warning(
            "%s has the same ids in every language: documents of one id are taken for translations "
            "of each other (aligned); --no-aligned says that they are none",
            name,
        )
        return True
    if len(set(map(len, kept))) == 1 and name != IN_PYTHON:
        logger.warning(
            "%s has %d documents in every language: if document n says the same in each, aligned "
            "(--aligned) keeps translations together in scores and proof; --no-aligned says that "
            "they are none",
            *(name, len(kept[0])),
        )
    return False


def in_one_place(found: Mapping[str, Sequence[str]], name: str) -> dict[str, dict[str, str]]:
    """Language -> id or line -> document, of those that all languages have.

    Blank documents are missing translations. Refuses documents of which some have an id and others
    none, an id twice in a language, languages that differ in their number of lines, or have nothing
    in common.
    """
    kept = [text for texts in found.values() for text in texts if has_words(text)]
    keyed = sum(isinstance(text, Keyed) for text in kept)
    if 0 < keyed < len(kept):
        raise InputError(
            f"{len(kept) - keyed} of the {len(kept)} documents of {name} have no id; aligned texts "
            "need one for each, or none at all"
        )
    places = {
        language: _by_id(language, texts, name) if keyed else _by_line(texts, name)
        for language, texts in found.items()
    }
    lines = {language: _lines(texts) for language, texts in found.items()}
    # The last line may be missing, too: then it counts as blank.
    if not keyed and len(set(lines.values())) > 1 < len(set(map(len, found.values()))):
        counted = ", ".join(f"{language} {n}" for language, n in lines.items())
        raise InputError(
            f"{name} has unequal numbers of lines ({counted}); texts that are aligned by line need "
            "a blank one where a translation is missing"
        )
    common = set.intersection(*(set(of) for of in places.values()))
    if not common:
        raise InputError(f"no document of {name} is in all of {', '.join(found)}")
    if left := len(set().union(*places.values())) - len(common):
        logger.warning("%d documents are not in every language and are left out", left)
    return {
        language: {key: of[key] for key in of if key in common} for language, of in places.items()
    }


def _by_id(language: str, texts: Sequence[str], name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        if isinstance(text, Keyed) and has_words(text):
            if text.key in found:
                raise InputError(f"{name}: language {language} has the id {text.key!r:.60} twice")
            found[text.key] = text
    return found


def _lines(texts: Sequence[str]) -> int:
    """How many lines there are up to the last that is not blank."""
    return max(line for line, text in enumerate(texts, start=1) if has_words(text))


def _by_line(texts: Sequence[str], name: str) -> dict[str, str]:
    """Number of the line -> document, with the line as its key where the source has a name."""
    place = str(Path(name).resolve()) if Path(name).is_dir() else name
    return {
        str(line): text if name == IN_PYTHON else Keyed(text, f"{place}, line {line}")
        for line, text in enumerate(texts, start=1)
        if has_words(text)
    }
