"""netCDF (HDF5) that is safe to open; what it means is checked elsewhere.

One byte that is wrong can make HDF5 loop for ever, and a file of 66 kB can hold 10^12 zeros or
name other files to be read. So each file is first read by a process of its own with limits, which
looks at sizes and kinds before values. What langheads writes ends in a checksum, after the end of
the HDF5 file where no reader of netCDF looks, so that damage is recognised.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np

from langheads.io.apart import apart
from langheads.io.errors import InputError

_MAGIC, _TAG = b"\x89HDF\r\n\x1a\n", b"\nlangheads sha256 "
_TAIL = len(_TAG) + 64
_MOST_VARIABLES, _MOST_TEXTS, _MOST_UNKNOWN = 1000, 10**6, 2**31
# Room for values beside twice the size of their file; langheads never compresses.
_ROOM = 2**28
# Filters built into HDF5; it would load others from the disk.
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_MEMORY = 3 * 2**30
_DIGEST, _NONE = hashlib.sha256().digest_size, "-"
# Values of one attribute that may each be as long as the file.
_FEW = 32
# SHA-256 of contents that were found to be safe in this process.
_SAFE: set[bytes] = set()


class _FoundOnce(h5py.File):
    """Variables are looked up once each: h5netcdf asks for them again at every touch."""

    def __init__(self, content: io.BytesIO, mode: str) -> None:
        # As h5netcdf makes files.
        super().__init__(content, mode, track_order=mode == "w")
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, h5py.Reference):
            return super().__getitem__(name)
        if name == "/":
            return self
        name = name.removeprefix("/")
        if name not in self._found:
            self._found[name] = super().__getitem__(name)
        return self._found[name]

    @property
    def attrs(self) -> h5py.AttributeManager:
        """In the order in which they were written, which those of the file's own handle lose."""
        return h5py.Group(h5py.h5g.open(self.id, b"/")).attrs

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._found.pop(name, None)


@contextlib.contextmanager
def opened(content: io.BytesIO, mode: str = "r") -> Iterator[h5netcdf.File]:
    """A netCDF file in memory, to be read, or written to with mode ``w``."""
    with (
        _FoundOnce(content, mode) as file,
        h5netcdf.File(file, mode, decode_vlen_strings=True) as netcdf,
    ):
        yield netcdf


def with_checksum(content: bytes) -> bytes:
    """The content of a netCDF file, with its checksum behind it."""
    return content + _TAG + hashlib.sha256(content).hexdigest().encode()


def safe_content(path: Path) -> io.BytesIO:
    """The content of a netCDF file, once it is known to be safe; refuses a file that was damaged,
    is not netCDF, or holds what no result of langheads holds."""
    refused = f"{path} is not a netCDF result of langheads"
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_MAGIC))
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            checked = tail.startswith(_TAG)
            if begins != _MAGIC or (size > _MOST_UNKNOWN and not checked):
                raise InputError(refused)
            file.seek(0)
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if checked:
        content = content[:-_TAIL]
        if with_checksum(content)[-_TAIL:] != tail:
            raise InputError(f"{path} was damaged (its checksum does not fit); make it again")
    digest = hashlib.sha256(content).digest()
    if digest in _SAFE:
        return io.BytesIO(content)
    limits = {"seconds": 2 + size // 2**24, "memory": _MEMORY + 4 * size}
    said = apart(f"{__name__}:digest_and_harm", path, **limits)
    if said is None:
        raise InputError(f"{refused}: it cannot be read with what time and memory a result takes")
    if (harm := said[_DIGEST:].decode()) != _NONE:
        raise InputError(f"{refused}{harm and f': {harm}'}")
    if said[:_DIGEST] != digest:
        raise InputError(f"{path} changed while it was read; try again")
    _SAFE.add(digest)
    return io.BytesIO(content)


def digest_and_harm(path: Path) -> bytes:
    """What the process that reads the file first answers `safe_content`.

    SHA-256 of the content without its checksum, then `_NONE` or the harm.
    """
    content = path.read_bytes()
    if content[-_TAIL:].startswith(_TAG):
        content = content[:-_TAIL]
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            why = _harm_in(file, len(content))
        if why is None:
            _read_all(content)
    except Exception:
        # A file that was changed makes h5py raise many kinds of error.
        why = ""
    return hashlib.sha256(content).digest() + (_NONE if why is None else why).encode()


def _read_all(content: bytes) -> None:
    """Everything that xarray reads."""
    with opened(io.BytesIO(content)) as file:
        for of in (file, *file.variables.values()):
            dict(of.attrs)
        for of in file.variables.values():
            of.dimensions, of.chunks, of.filters(), of[...]


def _harm_in(file: Any, size: int) -> str | None:
    """Why a file must not be read; None where it can be."""
    if len(file) > _MOST_VARIABLES or len(file.attrs) > _MOST_VARIABLES:
        return f"{max(len(file), len(file.attrs))} variables or attributes"
    room, texts = _ROOM + 2 * size, []
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            return f"{name!r:.60} is a link to somewhere else"
        if not isinstance(of := file[name], h5py.Dataset):
            return f"{name!r:.60} is no variable"
        plan = of.id.get_create_plist()
        if of.is_virtual or of.external or len(of.attrs) > _MOST_VARIABLES:
            return f"{name!r:.60} is kept in another file, or has too many attributes"
        if not {plan.get_filter(i)[0] for i in range(plan.get_nfilters())} <= _FILTERS:
            return f"{name!r:.60} is packed in an unknown way"
        if of.dtype.kind not in "fiubSO":
            return f"{name!r:.60} is of {of.dtype!s:.60}, neither numbers nor texts"
        if of.shape is None:
            return f"{name!r:.60} is empty"
        values = math.prod(of.shape)
        if of.dtype.kind == "O":
            texts.append(of)
        room -= values * of.dtype.itemsize
        if room < 0 or (of.dtype.kind == "O" and values > _MOST_TEXTS):
            return f"{name!r:.60} {list(of.shape)} is far larger than the file"
    for of in (file, *file.values()):
        for name in of.attrs:
            room -= _attribute(of.attrs, name, most=max(_FEW, room // size))
            if room < 0:
                return f"the attribute {name!r:.60} is far larger than the file"
    for of in texts:
        # Many values can share one text in the file.
        for part in _parts(of, max(1, 2**26 // size)):
            room -= sum(map(len, part))
            if room < 0:
                return f"{of.name[1:]!r:.60} is far larger than the file"
    return None


def _attribute(attrs: Any, name: str, most: int) -> int:
    """Bytes that the value of an attribute takes; far too many where it must not be read.

    An attribute is read whole or not at all, and many values can share one text in the file.
    """
    found = attrs.get_id(name)
    values = math.prod(found.shape or ())
    fields = [of for of, *_ in (found.dtype.fields or {"": (found.dtype,)}).values()]
    if all(map(_in_place, fields)):
        return values * found.dtype.itemsize
    inner = np.dtype(h5py.check_vlen_dtype(found.dtype))
    if found.dtype.kind != "O" or values > most or not _in_place(inner):
        return sys.maxsize
    return sum(sys.getsizeof(value) for value in np.ravel(np.asarray(attrs[name], object)))


def _in_place(dtype: np.dtype) -> bool:
    """Whether values lie in the variable itself; texts of any length lie elsewhere in the file."""
    return not dtype.hasobject or h5py.check_ref_dtype(dtype) is not None


def _parts(of: Any, most: int) -> Iterator[Any]:
    """A variable's values, some at a time."""
    if not of.shape:
        yield [of[()]]
        return
    for at in np.ndindex(of.shape[:-1]):
        for start in range(0, of.shape[-1], most):
            yield of[(*at, slice(start, start + most))]
