"""Reading texts: folders of jsonl, txt and parquet files, and data sets on the Hub."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langheads.io.errors import InputError
from langheads.io.files import TEXT_SUFFIXES, parse_json

# A corpus on the Hub can be far larger than any sample taken of it; this many documents a
# language are read, in the order of the data set, before sampling.
_HUB_DOCUMENTS = 20_000
# `datasets` no longer runs a data set's own script (as XL-Sum has one). Of such a data set the Hub
# keeps a parquet copy, CONFIG/SPLIT/0000.parquet, in this revision.
_PARQUET_COPY = "refs/convert/parquet"
_SCRIPT = "Dataset scripts are no longer supported"


def read_folder(folder: Path, wanted: tuple[str, ...] | None) -> dict[str, Sequence[str]]:
    """Language -> documents of ``<language>.jsonl``, ``.txt`` or ``.parquet`` in a folder.

    Raises:
        InputError: no folder, no such file, two files for one language, or a file that cannot be
            read, with the line.
    """
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}; texts are a folder of <language>.jsonl, .txt or .parquet, "
            "or hf:REPO"
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in TEXT_SUFFIXES and path.is_file() and path.stem.upper() != "README":
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


def _read_file(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        try:
            return [_text(value, path) for value in parquet.read_table(path)["text"].to_pylist()]
        except KeyError as error:
            raise InputError(f"{path} has no column text") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a parquet file ({error})") from error
    if path.suffix == ".txt":
        return [line for _, line in _lines(path)]
    texts = []
    for where, record in json_lines(path):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            found = json.dumps(record, ensure_ascii=False)
            raise InputError(f'{where}: expected {{"text": "..."}}, found {found:.60}')
        texts.append(_text(record["text"], where))
    return texts


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Place (file and line) and content of each line of JSON that is not blank.

    Raises:
        InputError: a file that cannot be read, or a line that is not UTF-8 or JSON.
    """
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        yield where, parse_json(line, where)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only newline ends a line: U+2028 is text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            where = f"{path}, line {number}, byte {error.start + 1}"
            raise InputError(f"{where}: not UTF-8") from error
        if text.strip():
            yield number, text


def _text(value: Any, where: object) -> str:
    if not isinstance(value, str):
        found = "nothing" if value is None else f"{value!r:.60}"
        raise InputError(f"{where}: a document's text is expected, found {found}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: a lone surrogate at character {error.start + 1}") from error
    return value


def read_hub(name: str, wanted: tuple[str, ...] | None) -> dict[str, Sequence[str]]:
    """Language -> documents of a Hugging Face data set ``REPO[:CONFIG]``, split ``train``.

    Raises:
        InputError: the data set cannot be read, or has no such configuration or column.
    """
    import datasets

    repo, _, config = name.partition(":")

    def stream(configuration: str | None) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {"split": "train", "streaming": True}
        try:
            data = datasets.load_dataset(repo, configuration, **asked)
        except RuntimeError as error:
            if _SCRIPT not in str(error):
                raise
            data = datasets.load_dataset(
                repo, data_dir=configuration, revision=_PARQUET_COPY, **asked
            )
        return list(itertools.islice(data, _HUB_DOCUMENTS))

    def column(rows: list[dict[str, Any]], key: str) -> list[str]:
        if rows and key not in rows[0]:
            raise InputError(f"hf:{name} has no column {key}; found {', '.join(rows[0])}")
        return [_text(row[key], f"hf:{name}") for row in rows]

    try:
        if "{language}" in config:
            if not wanted:
                raise InputError(f"hf:{name} needs --languages to fill in {{language}}")
            return {
                language: column(stream(config.replace("{language}", language)), "text")
                for language in wanted
            }
        if not config:
            try:
                configurations = datasets.get_dataset_config_names(repo)
            except RuntimeError as error:
                if _SCRIPT not in str(error):
                    raise
                raise InputError(
                    f"hf:{name} is made by a script, so its configurations cannot be listed; name "
                    f"one, hf:{repo}:CONFIG, or hf:{repo}:{{language}} with --languages"
                ) from error
            if configurations != ["default"]:
                chosen = [c for c in configurations if wanted is None or c in wanted]
                if not chosen:
                    raise InputError(
                        f"hf:{name} has no configuration {', '.join(wanted or ())}; "
                        f"found {', '.join(configurations)}"
                    )
                return {c: column(stream(c), "text") for c in chosen}
        rows = stream(config or None)
    except InputError:
        raise
    except Exception as error:
        # datasets raises many kinds (network, authorisation, format); all mean the same here.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read data set hf:{name}: {reason}") from error
    texts: dict[str, list[str]] = {}
    for language, text in zip(column(rows, "language"), column(rows, "text"), strict=True):
        texts.setdefault(language, []).append(text)
    return dict(texts)
