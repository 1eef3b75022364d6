"""Reading texts: folders of jsonl, txt and parquet files, and data sets on the Hub."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langheads.io.errors import InputError, logger
from langheads.io.files import MAX_LINE, TEXT_SUFFIXES, json_lines, text_lines
from langheads.io.hub import why_silent
from langheads.io.parquet import text_and_id
from langheads.io.records import Id, Record, Text, parse

# A corpus on the Hub can be far larger than any sample of it; so many documents a language are
# read, in the order of the data set, before sampling.
_HUB_DOCUMENTS = 20_000
# `datasets` no longer runs a data set's own script (such as XL-Sum's). Of such a data set the Hub
# keeps a parquet copy, CONFIG/SPLIT/0000.parquet, in this revision.
_PARQUET_COPY = "refs/convert/parquet"
# Names of files that lie beside texts.
_PAPERS = {
    *("README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "NOTES", "AUTHORS", "CHANGELOG"),
    *("CHANGES", "CITATION", "CONTRIBUTORS", "CREDITS", "METADATA", "SOURCE", "SOURCES", "TODO"),
}
_SCRIPT = "Dataset scripts are no longer supported"


def read_folder(folder: Path, wanted: tuple[str, ...] | None) -> dict[str, Sequence[str]]:
    """Language -> documents of ``<language>.jsonl``, ``.txt`` or ``.parquet`` in a folder; refuses
    two files for one language, none, or one that cannot be read, with the line."""
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}; texts are a folder of <language>.jsonl, .txt or .parquet, "
            "or hf:REPO"
        )
    files: dict[str, Path] = {}
    for path in language_files(folder, wanted):
        if path.stem in files:
            raise InputError(
                f"two files for language {path.stem} in {folder}: {files[path.stem].name} and "
                f"{path.name}; keep one"
            )
        files[path.stem] = path
    if not files:
        raise InputError(f"no <language>.jsonl, .txt or .parquet in {folder}")
    for language in wanted or ():
        if language not in files:
            found = ", ".join(files)
            raise InputError(f"no file for language {language} in {folder}; found {found}")
    return {language: _read_file(files[language]) for language in wanted or files}


def languages_in(
    where: object, what: str, there: Iterable[str], wanted: Iterable[str] | None
) -> list[str]:
    """The languages that are wanted, all by default; refuses none, and one that is not there."""
    there, wanted = list(there), list(wanted or there)
    missing = [language for language in wanted if language not in there]
    if missing or not wanted:
        raise InputError(
            f"no {what} for language {', '.join(missing) or 'any'} in {where}; found "
            f"{', '.join(there) or 'no <language>.jsonl'}"
        )
    return wanted


def language_files(
    folder: Path, wanted: Iterable[str] | None = None, suffixes: Sequence[str] = TEXT_SUFFIXES
) -> list[Path]:
    """Files of a folder that hold one language each.

    Not hidden files, nor, with a warning, files with names like LICENSE and notes, unless they are
    wanted.
    """
    files = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes]
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    papers = [
        path for path in files if path.stem.upper() in _PAPERS - {*map(str.upper, wanted or ())}
    ]
    if names := [path.name for path in papers if path.stem.upper() != "README"]:
        logger.warning("not taken for texts of a language in %s: %s", folder, ", ".join(names))
    return [path for path in files if path not in papers]


@runtime_checkable
class DataSet(Protocol):
    """A `Dataset` or `DatasetDict` of the library datasets, or an object like one."""

    @property
    def column_names(self) -> Any:
        """Names of its columns; of a `DatasetDict`, those of each part."""

    def __getitem__(self, key: Any) -> Any: ...


_SPLITS = {"train", "validation", "valid", "dev", "test"}


def given_texts(source: Any) -> dict[str, Sequence[str]]:
    """Language -> documents, from a mapping or a data set of `datasets`.

    Args:
        source: language -> documents, one string being one document; a `Dataset` with columns
            ``text`` and ``language``, and ``id`` where documents have keys; a `DatasetDict` whose
            keys are languages, or splits of such data sets.

    Raises:
        InputError: anything else.
    """
    if isinstance(source, DataSet) and not isinstance(source, Mapping):
        found: dict[str, list[str]] = {}
        of = _texts_in(source, "the data set", "language")
        for language, text in zip(of, _texts_in(source, "the data set"), strict=True):
            found.setdefault(language, []).append(text)
        return dict(found)
    if not isinstance(source, Mapping):
        raise InputError(
            f"texts of type {type(source).__name__} given; give a folder, hf:REPO, a mapping "
            "language -> documents, or a data set with columns text and language"
        )
    if isinstance(source, DataSet) and source and set(source) <= _SPLITS:
        splits = [given_texts(split) for split in source.values()]
        names = dict.fromkeys(itertools.chain(*splits))
        return {x: [text for split in splits for text in split.get(x, ())] for x in names}
    return {str(x): _texts_in(of, f"language {x}") for x, of in source.items()}


def _texts_in(documents: Any, where: str, column: str = "text") -> list[str]:
    ids = None
    if columns := getattr(documents, "column_names", None):
        if column not in columns:
            raise InputError(f"{where} has no column {column}; found {', '.join(columns)}")
        ids = documents["id"] if column == "text" and "id" in columns else None
        documents = documents[column]
    if isinstance(documents, str):
        return [documents]
    if not isinstance(documents, Iterable) or isinstance(documents, Mapping):
        raise InputError(f"{where}: {documents!r:.60} is no list of documents")
    found: list[str] = parse(list[Text], list(documents), where)
    return found if ids is None else _keyed(found, list(ids))


class _Document(Record):
    null_is_absent = True

    text: Text
    id: Id | None = None


class Keyed(str):
    """A document with a key, which identifies it even if its text changes."""

    key: str

    def __new__(cls, text: str, key: str) -> Keyed:
        """The text, with its key."""
        keyed = super().__new__(cls, text)
        keyed.key = key
        return keyed


def _read_file(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        column, ids = text_and_id(path)
        texts: list[str] = parse(list[Text], column, f"{path}, column text")
        return _keyed(texts, ids)
    if path.suffix == ".txt":
        # A blank line is kept: it is the place of a document that the other languages may have.
        return [line for _, line in text_lines(path, blank=True)]
    found: list[str] = []
    for where, of in _Document.lines(path):
        found += [""] * (int(where.rpartition(" ")[2]) - 1 - len(found))
        found += _keyed([of.text], [of.id])
    return found


def _keyed(texts: Sequence[str], ids: Sequence[Any]) -> list[str]:
    """The texts, each with its id where that is a text or a whole number."""
    return [
        Keyed(text, str(key)) if isinstance(key, str | int) else text
        for text, key in zip(texts, ids, strict=True)
    ]


def records(source: str | Path | Sequence[Any]) -> list[tuple[str, Any]]:
    """Place and content of prompts, from a file with a line of JSON each or a list; not empty."""
    if not isinstance(source, str | Path):
        name, found = "the list", [(f"prompt {n}", of) for n, of in enumerate(source, start=1)]
    elif Path(source).is_file():
        name, found = str(source), list(json_lines(source, MAX_LINE))
    else:
        raise InputError(f'no file {source}; prompts are a line of {{"prompt": ...}} each')
    if not found:
        raise InputError(f"no prompts in {name}")
    return found


def read_hub(name: str, wanted: tuple[str, ...] | None) -> dict[str, Sequence[str]]:
    """Language -> documents of a Hugging Face data set ``REPO[:CONFIG]``, split ``train``; refuses
    one that cannot be read, or has no such configuration or column."""
    repo, _, config = name.partition(":")
    if why := why_silent():
        raise InputError(f"cannot read data set hf:{name}: {why}")
    try:
        if "{language}" in config:
            if not wanted:
                raise InputError(f"hf:{name} needs --languages to fill in {{language}}")
            named = {language: config.replace("{language}", language) for language in wanted}
        else:
            named = {} if config else _configurations(name, wanted)
        if named:
            return {language: _column(name, _stream(repo, c)) for language, c in named.items()}
        rows = _stream(repo, config or None)
    except InputError:
        raise
    except Exception as error:
        # datasets raises many kinds of error (network, authorisation, format); all mean the same.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read data set hf:{name}: {reason}") from error
    texts: dict[str, list[str]] = {}
    for language, text in zip(_column(name, rows, "language"), _column(name, rows), strict=True):
        texts.setdefault(language, []).append(text)
    return dict(texts)


def _configurations(name: str, wanted: tuple[str, ...] | None) -> dict[str, str]:
    """The configurations to read, which are languages; empty where there is only the default."""
    import datasets

    try:
        found = datasets.get_dataset_config_names(name)
    except RuntimeError as error:
        if _SCRIPT not in str(error):
            raise
        raise InputError(
            f"hf:{name} is made by a script, so its configurations cannot be listed; name "
            f"one, hf:{name}:CONFIG, or hf:{name}:{{language}} with --languages"
        ) from error
    chosen = [] if found == ["default"] else [c for c in found if wanted is None or c in wanted]
    if not chosen and found != ["default"]:
        raise InputError(
            f"hf:{name} has no configuration {', '.join(wanted or ())}; found {', '.join(found)}"
        )
    return dict(zip(chosen, chosen, strict=True))


def _stream(repo: str, configuration: str | None) -> list[dict[str, Any]]:
    import datasets

    asked: dict[str, Any] = {"split": "train", "streaming": True}
    try:
        data = datasets.load_dataset(repo, configuration, **asked)
    except RuntimeError as error:
        if _SCRIPT not in str(error):
            raise
        data = datasets.load_dataset(repo, data_dir=configuration, revision=_PARQUET_COPY, **asked)
    return list(itertools.islice(data, _HUB_DOCUMENTS))


def _column(name: str, rows: list[dict[str, Any]], key: str = "text") -> list[str]:
    if rows and key not in rows[0]:
        raise InputError(f"hf:{name} has no column {key}; found {', '.join(rows[0])}")
    found: list[str] = parse(list[Text], [row[key] for row in rows], f"hf:{name}, column {key}")
    return _keyed(found, [row.get("id") for row in rows]) if key == "text" else found
