"""How languages state a person's occupation: sentences, names and occupations, aligned.

One file a language, ``<language>.jsonl``, a line of JSON each:

    {"fact": "{name.gen} Beruf ist {job}.", "query": "{name.gen} Beruf ist", "answer": " {job}",
     "space": " "}                      once; the query ends right before the answer
    {"filler": "Der Markt schließt im Winter früh."}          between the facts, at least one
    {"name": "Anna", "gender": "f", "gen": "Annas"}    a person; more keys are forms of the name
    {"job": "Arzt", "f": "Ärztin"}           an occupation; `f` where women are called otherwise

The n-th name and the n-th occupation are the same person and occupation in every file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from langheads.io.arguments import asked_languages
from langheads.io.errors import InputError
from langheads.io.files import MAX_LINE, json_lines
from langheads.io.records import Text, parse
from langheads.text.readers import language_files, languages_in

BUILT_IN = Path(str(resources.files("langheads"))) / "data" / "transfer"
"""Templates that come with langheads."""
_SLOT = re.compile(r"\{(name(?:\.(\w+))?|job)\}")
# The slots of each sentence, and how many lines of each kind a file needs.
_SENTENCES = {"fact": {"name", "job"}, "query": {"name"}, "answer": {"job"}}
_NEEDED = {"fact": 1, "filler": 1, "name": 1, "job": 2}


@dataclass(frozen=True)
class Template:
    """One language's sentences and words."""

    language: str  # its name
    fact: str  # a sentence with ``{name}`` (or ``{name.FORM}``) and ``{job}``
    query: str  # the beginning of such a sentence, up to the answer
    answer: str  # the continuation of the query, ``" {job}"`` or ``"{job}"``
    space: str  # between two sentences
    filler: tuple[str, ...]  # unrelated sentences
    # A person each, form -> text; ``name`` is the plain form, ``gender`` m or f.
    names: tuple[dict[str, str], ...]
    occupations: tuple[dict[str, str], ...]  # ``job`` and where it differs ``f`` each

    def tell(self, sentence: str, person: int, occupation: int) -> str:
        """A sentence (`fact`, `query` or `answer`) about a person and an occupation.

        Example:
            >>> read_templates(languages=["de"])["de"].tell("fact", 0, 0)
            'Annas Beruf ist Ärztin.'
        """
        name, words = self.names[person], self.occupations[occupation]
        called = words.get("f", words["job"]) if name.get("gender") == "f" else words["job"]

        def show(slot: re.Match[str]) -> str:
            return called if slot[1] == "job" else name[slot[2] or "name"]

        return _SLOT.sub(show, getattr(self, sentence))

    def record(self) -> tuple[str, ...]:
        """Everything in it as lines of JSON, for a hash."""
        first = {key: getattr(self, key) for key in (*_SENTENCES, "space")}
        rest = ({"filler": line} for line in self.filler)
        lines = [first, *rest, *self.names, *self.occupations]
        return tuple(json.dumps(line, ensure_ascii=False, sort_keys=True) for line in lines)


def read_templates(
    source: str | Path | None = None, *, languages: Iterable[str] | None = None
) -> dict[str, Template]:
    """Read templates.

    Args:
        source: a folder of ``<language>.jsonl``, see the top of this file; None for those that
            come with langheads.
        languages: which; all by default.

    Raises:
        InputError: no such folder or language; a line that cannot be used, with file and line; a
            file without a sentence, a filler, a name or two occupations; files with different
            numbers of names or occupations.

    Example:
        >>> sorted(read_templates())
        ['ar', 'de', 'en', 'es', 'fr', 'hi', 'ru', 'zh']
    """
    folder = BUILT_IN if source is None else Path(source)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; templates are a folder of <language>.jsonl")
    files = {path.stem: path for path in language_files(folder, suffixes=(".jsonl",))}
    wanted = languages_in(folder, "template", files, asked_languages(languages))
    found = {language: _template(files[language], language) for language in wanted}
    first, *others = found.values()
    for other in others:
        for what in ("names", "occupations"):
            counts = len(getattr(first, what)), len(getattr(other, what))
            if counts[0] != counts[1]:
                raise InputError(
                    f"{files[first.language]} has {counts[0]} {what}, {files[other.language]} has "
                    f"{counts[1]}; the n-th must mean the same in every file"
                )
    return found


def _template(path: Path, language: str) -> Template:
    # With their places: which forms a name needs is known when the sentences are.
    lines: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in _NEEDED}
    for where, given in json_lines(path, MAX_LINE):
        record = _record(given, where)
        kind = next((kind for kind in _NEEDED if kind in record), None)
        if kind is None:
            found = ", ".join(record) or "nothing"
            raise InputError(f"{where}: expected fact, filler, name or job, found {found:.60}")
        if kind == "fact" and lines["fact"]:
            raise InputError(f"{where}: fact, query and answer a second time; give them once")
        if kind == "fact":
            _check_sentences(record, where)
        if kind == "name" and record.get("gender", "m") not in ("m", "f"):
            raise InputError(f"{where}: gender {record['gender']!r:.20}; allowed are m and f")
        lines[kind][where] = record
    for kind, least in _NEEDED.items():
        if len(lines[kind]) < least:
            raise InputError(
                f"{path}: {len(lines[kind])} lines with {kind}, at least {least} needed"
            )
    (sentences,) = lines["fact"].values()
    forms = {slot[2] or "name" for key in _SENTENCES for slot in _SLOT.finditer(sentences[key])}
    for where, record in lines["name"].items():
        if absent := sorted(forms - {"name"} - set(record)):
            raise InputError(
                f"{where}: name {record['name']} lacks the form {', '.join(absent)}, which the "
                "sentences use"
            )
    for kind in ("name", "job"):
        seen: set[str] = set()
        for where, record in lines[kind].items():
            if record[kind] in seen:
                raise InputError(f"{where}: {kind} {record[kind]:.60} a second time")
            seen.add(record[kind])
    return Template(
        language,
        **{key: sentences[key] for key in _SENTENCES},
        space=sentences.get("space", " "),
        filler=tuple(record["filler"] for record in lines["filler"].values()),
        names=tuple(lines["name"].values()),
        occupations=tuple(lines["job"].values()),
    )


def _record(given: Any, where: str) -> dict[str, str]:
    record: dict[str, str] = parse(dict[str, Text], given, where)
    for key, value in record.items():
        # Chinese puts nothing between two sentences.
        if not value.strip() and key != "space":
            raise InputError(f"{where}: {key} is {value!r}, expected a text, not empty")
    return record


def _check_sentences(record: dict[str, str], where: str) -> None:
    if missing := [key for key in _SENTENCES if key not in record]:
        raise InputError(f"{where}: {', '.join(missing)} missing")
    for key, slots in _SENTENCES.items():
        named = {"job" if slot[1] == "job" else "name" for slot in _SLOT.finditer(record[key])}
        left = _SLOT.sub("", record[key])
        if named != slots or "{" in left or "}" in left:
            wanted = " and ".join(f"{{{slot}}}" for slot in sorted(slots, reverse=True))
            raise InputError(
                f"{where}: {key} {record[key]!r:.60} must have {wanted} and no other braces"
            )
