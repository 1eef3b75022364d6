"""Texts of several languages, in an order fixed by seed and content, with a held-out end.

Documents of a language are sorted by SHA-256 of (seed, text), whatever the order of lines in the
file; texts that differ only in case, white space and Unicode's compatibility forms (NFKC) count
once. Aligned documents (translations of each other, with the same id or on the same line in
every language) are sorted by SHA-256 of (seed, id or line), so that all languages have one order.
Scores take documents from the `front` of that order and proofs from the `back`, so a proof never
uses scored text as long as the two do not meet, which `ablate` checks.
"""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from langheads.io.arguments import MAX_NAME, asked_languages, check_least, check_seed
from langheads.io.errors import InputError
from langheads.text.aligned import IN_PYTHON, has_words, in_one_place, seem_aligned
from langheads.text.readers import DataSet, Keyed, given_texts, languages_in, read_folder, read_hub

# Hexadecimal digits of a document's digest: between a thousand documents and a thousand others a
# chance match has a probability of 1e-6.
_MARK = 10


@dataclass(frozen=True)
class Corpus:
    """Documents a language, in the order that `seed` fixes.

    Attributes:
        texts: language -> documents in sampling order, without duplicates and empty documents.
        source: where they came from, for provenance.
        seed: the seed of the order.
        aligned: whether the n-th documents of all languages say the same; None where `read_texts`
            has not found out yet.
        given: the documents as they were read, for another order.
    """

    texts: dict[str, tuple[str, ...]]
    source: str
    seed: int
    aligned: bool | None = False
    given: Mapping[str, Sequence[str]] | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(texts)}" for name, texts in self.texts.items())
        return f"Corpus({counts} documents, {self.source!r:.80}, seed {self.seed})"

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order asked for."""
        return tuple(self.texts)

    @property
    def has_ids(self) -> bool:
        """Whether documents were read with an id of their own."""
        given = self.given or self.texts
        return any(isinstance(text, Keyed) for texts in given.values() for text in texts)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Language -> SHA-256 over all its documents, independent of order and seed."""
        return {
            language: hashlib.sha256("".join(sorted(map(_digest, texts))).encode()).hexdigest()
            for language, texts in self.texts.items()
        }

    def front(self, docs: int | None) -> dict[str, tuple[str, ...]]:
        """The first `docs` documents a language (None: all); what scores are made of.

        Raises:
            InputError: fewer than 1 asked for.
        """
        return self._cut(docs, slice(docs))

    def back(self, docs: int | None) -> dict[str, tuple[str, ...]]:
        """The last `docs` documents a language (None: all); what proofs are made of.

        Raises:
            InputError: fewer than 1 asked for.
        """
        return self._cut(docs, slice(-docs if docs else None, None))

    def _cut(self, docs: int | None, part: slice) -> dict[str, tuple[str, ...]]:
        check_least(1, docs, "documents")
        return {language: texts[part] for language, texts in self.texts.items()}

    def cutoffs(self, docs: int | None) -> dict[str, str]:
        """Language -> sort key of its last document in `front`; what `reaches_into` compares."""
        return {
            language: _key(texts[-1], self.seed) for language, texts in self.front(docs).items()
        }

    def marks(self, docs: int | None) -> dict[str, str]:
        """Language -> digests of the documents in `front`, by text and by key, one after the other.

        `seen_before` compares them: a document is recognised in other case or spelling, and in a
        corpus that has grown.
        """
        return {
            language: "".join(itertools.chain(*map(_marks, texts)))
            for language, texts in self.front(docs).items()
        }


def source_name(text: str | Path | Mapping[str, Any] | DataSet | Corpus) -> str:
    """`Corpus.source` of texts, before they are read."""
    if isinstance(text, Corpus):
        return text.source
    return str(text) if isinstance(text, str | Path) else IN_PYTHON


def read_texts(
    source: str | Path | Mapping[str, Sequence[str] | DataSet] | DataSet | Corpus,
    *,
    languages: str | Iterable[str] | None = None,
    seed: int = 0,
    aligned: bool | None = None,
) -> Corpus:
    """Read documents a language.

    Args:
        source: a folder of ``<language>.jsonl`` ({"text": ...} a line), ``<language>.txt`` (a
            document a line) or ``<language>.parquet`` (column ``text``); ``hf:REPO[:CONFIG]``
            (a data set on the Hugging Face Hub: without CONFIG the languages are its
            configurations; ``{language}`` in CONFIG stands for the language; otherwise the data
            set needs a column ``language``); a mapping language -> documents; a `Dataset` or
            `DatasetDict`, see `given_texts`; or a `Corpus`.
        languages: which languages, in which order; all by default (``hf:`` with ``{language}``
            needs them).
        seed: fixes the order of documents.
        aligned: documents with the same ``"id"`` (the same line, where none has one) are
            translations of each other and have the same place in every language; those that a
            language lacks are left out. By default where all have ids, the same in all languages.

    Raises:
        InputError: no such folder, a language without a file, a file that is not UTF-8 or not
            JSON (with file and line), a language without documents, a seed out of range, or
            aligned documents of which some have no id, one has it twice, or languages differ in
            their number of lines.

    Example:
        >>> corpus = read_texts({"en": ["one", "two", "two"]}, seed=0)
        >>> sorted(corpus.texts["en"])
        ['one', 'two']
    """
    seed = check_seed(seed)
    wanted = asked_languages(languages)
    name = source_name(source)
    found: Mapping[str, Sequence[str]]
    if isinstance(source, Corpus):
        found = source.given or source.texts
    elif not isinstance(source, str | Path):
        found = given_texts(source)
    elif not name:
        raise InputError("no texts given; texts are a folder of <language>.jsonl, or hf:REPO")
    elif name.startswith("hf:"):
        found = read_hub(name[3:], wanted)
    else:
        found = read_folder(Path(source), wanted)
    found = {language: found[language] for language in languages_in(name, "texts", found, wanted)}
    if aligned is None:
        aligned = source.aligned if isinstance(source, Corpus) else None
    if aligned is None:
        aligned = seem_aligned(found, name)
    for language, documents in found.items():
        if len(language) > MAX_NAME:
            raise InputError(
                f"language {language:.40}... in {name} has a name of {len(language)} characters; "
                f"at most {MAX_NAME}"
            )
        if not any(map(has_words, documents)):
            raise InputError(f"language {language} in {name} has no documents that are not empty")
    if aligned:
        texts = _in_one_order(in_one_place(found, name), seed)
    else:
        texts = {language: _ordered(of, seed) for language, of in found.items()}
    return Corpus(texts, name, seed, aligned, found)


def _in_one_order(places: Mapping[str, Mapping[str, str]], seed: int) -> dict[str, tuple[str, ...]]:
    """Documents by place, in one order for all languages; a repeated text counts once."""
    seen: set[tuple[str, str]] = set()
    kept = []
    first = next(iter(places.values()))
    for key in sorted(first, key=lambda key: _key(key, seed)):
        same = {(language, normalised(of[key])) for language, of in places.items()}
        if seen.isdisjoint(same):
            kept.append(key)
        seen |= same
    return {language: tuple(of[key] for key in kept) for language, of in places.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def seen_before(texts: Iterable[str], marks: str, keys: str = "") -> int:
    """How many of these documents of a language are in its `Corpus.marks`, or share a key with
    those of any language (`keys`), where a key means a translation."""
    known, elsewhere = _split(marks), _split(keys)
    return sum(
        not (known.isdisjoint(of := _marks(text)) and elsewhere.isdisjoint(of[1:]))
        for text in texts
    )


def _split(marks: str) -> set[str]:
    return {marks[i : i + _MARK] for i in range(0, len(marks), _MARK)}


def _marks(text: str) -> list[str]:
    """Marks of the text, and of its key where it has one."""
    key = getattr(text, "key", None)
    of_key = [] if key is None else [_digest(f"key\0{key}")[:_MARK]]
    return [_digest(normalised(text))[:_MARK], *of_key]


def normalised(text: str) -> str:
    """The text without differences that do not count: case, white space, compatibility forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def reaches_into(texts: Iterable[str], seed: int, cutoff: str) -> int:
    """How many of these documents come before the cutoff of another sample of that seed.

    A document of that sample always does, whatever was added to or removed from its corpus since;
    a document that was never in the corpus may do so by chance.
    """
    return sum(_key(text, seed) <= cutoff for text in texts)


def _key(text: str, seed: int) -> str:
    return _digest(f"{seed}\0{text}")


def _ordered(texts: Iterable[str], seed: int) -> tuple[str, ...]:
    unique = dict.fromkeys(text for text in texts if has_words(text))
    ordered = sorted(unique, key=lambda text: _key(text, seed))
    first: dict[str, str] = {}
    for text in ordered:
        first.setdefault(normalised(text), text)
    return tuple(first.values())
