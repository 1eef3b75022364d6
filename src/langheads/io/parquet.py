"""The columns ``text`` and ``id`` of a parquet file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langheads.io.apart import apart
from langheads.io.errors import InputError

APART = ("pyarrow.parquet",)
# Bytes that texts may take beside so many times the size of their file.
_ROOM, _UNPACKED = 2**28, 30
_JSON = (str, int, float, list, dict, type(None))
_TOO_MUCH = b'"holds far more text than a file of its size should"'


def text_and_id(path: Path) -> tuple[list[Any], list[Any]]:
    """Their values, of any type; ids None where there is no such column. Refuses a file that is not
    parquet, has no column ``text``, or holds far more text than a file of its size should."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    memory = 3 * 2**30 + 4 * _UNPACKED * size
    read = apart(f"{__name__}:read", path, seconds=10 + size // 2**22, memory=memory)
    if read is None:
        raise InputError(
            f"{path} is not a parquet file (it cannot be read with what time and memory texts take)"
        )
    found = json.loads(read)
    if isinstance(found, str):
        raise InputError(f"{path} {found}")
    return found[0], found[1]


def read(path: Path) -> bytes:
    """Two lists, or what is wrong, as JSON; runs in a process of its own."""
    import pyarrow.parquet as parquet

    found: list[Any] = []
    ids: list[Any] = []
    room = _ROOM + _UNPACKED * path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                return b'"has no column text"'
            columns = ["text", *({"id"} & set(names))]
            # Some rows at a time: many rows can share one text in the file.
            for batch in file.iter_batches(64, columns=columns):
                values = batch.column("text").to_pylist()
                room -= batch.nbytes + sum(len(text) for text in values if isinstance(text, str))
                if room < 0:
                    return _TOO_MUCH
                if not all(isinstance(text, _JSON) for text in values):
                    # Else their Python form would pass for text, such as b'the cat'.
                    kind = file.schema_arrow.field("text").type
                    return json.dumps(f"has a column text of {kind}, expected texts").encode()
                found += values
                ids += batch.column("id").to_pylist() if "id" in columns else [None] * len(values)
        return json.dumps([found, ids], default=str).encode()
    except MemoryError:
        return _TOO_MUCH
    except Exception as error:
        # A file that was changed makes pyarrow and Python raise many kinds of error.
        return json.dumps(f"is not a parquet file ({str(error)[:200]})").encode()
