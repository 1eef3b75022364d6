"""Reading and writing files: errors of one line, and nothing half-written."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from langheads.io.errors import InputError, logger

TEXT_SUFFIXES = (".jsonl", ".txt", ".parquet")
"""Files of a folder of texts or questions."""
written_files: list[Path] = []
"""What this process has written, for the message after an interrupt."""
RUN_FILES = ("scores.nc", "heads.json", "ablation.nc", "attention.json", "report.html")
"""What `langheads.run` writes, in this order."""
MAX_LINE = 1_000_000
"""Most characters of a line that is not a document: a prompt, a question, a template."""


@contextmanager
def atomic_path(path: str | Path, *, sweep: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    A reader sees the old file or the whole new one, also after kill -9 or on a full disk. When the
    block raises, the temporary file is removed. Refuses a path that cannot be written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_what_is_no_file(path)
        prefix = temporary_prefix(path.parent, sweep=sweep)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes a private file; a result is as readable as the one before it, or as any
        # other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~umask)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        temporary = None
        written_files.append(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def temporary_prefix(folder: Path, *, sweep: bool = True) -> str:
    """How the names of this process's temporary files and folders begin; they end in ``.tmp``.

    Those that a killed process of this machine left in the folder are removed, but for no `sweep`,
    which lists the folder.
    """
    machine = f".langheads.{re.sub(r'[^a-zA-Z0-9-]', '-', platform.node())[:60]}."
    for left in folder.glob(f"{machine}*.tmp") if sweep else ():
        if _is_dead(left.name.removeprefix(machine).partition(".")[0]):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return f"{machine}{os.getpid()}."


def _is_dead(process: str) -> bool:
    # On Windows this signal would end the process.
    if not process.isdecimal() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _refuse_what_is_no_file(path: Path) -> None:
    """Refuse folders and devices: renaming onto /dev/null would put a file in its place."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it is a device or pipe; name a file")


def write_text_atomically(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, see `atomic_path`; returns the path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file; errors name the line, see `parse_json`."""
    try:
        text = _read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})") from error
    return parse_json(text, path, lines=True)


def json_lines(path: str | Path, most: int | None = None) -> Iterator[tuple[str, Any]]:
    """Place (file and line) and content of each line of JSON that is not blank; refuses lines that
    are not JSON, or have more than `most` characters."""
    for where, line in text_lines(path):
        if most is not None and len(line) > most:
            raise InputError(f"{where}: {len(line)} characters, at most {most} are read here")
        yield where, parse_json(line, where)


def text_lines(path: str | Path, *, blank: bool = False) -> Iterator[tuple[str, str]]:
    """Place and text of each line; blank ones only with `blank`.

    Only newline ends a line: U+2028 is text.
    """
    raw = _read(path).removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(raw.split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InputError(f"{where}, byte {error.start + 1}: not UTF-8") from error
        if blank or text.replace("\ufeff", "").strip():
            yield where, text


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def parse_json(text: str, where: object, *, lines: bool = False) -> Any:
    """The content of a piece of JSON; errors name `where` it is from, and with `lines` its line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if lines else ""
        raise InputError(f"{where}{line}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise InputError(f"{where}: JSON that is nested too deeply to be read") from error
    except ValueError as error:
        # Python limits whole numbers to some thousand digits.
        raise InputError(f"{where}: JSON with a number of too many digits") from error


_BEGINNINGS = {".nc": b"\x89HDF", ".json": b"{", ".jsonl": b"{", ".html": b"<"}
_OTHER_KINDS = {
    *_BEGINNINGS, *TEXT_SUFFIXES, ".csv", ".tsv", ".md", ".npy", ".npz", ".pdf", ".pkl", ".png",
    ".pt", ".py", ".safetensors", ".svg", ".xlsx", ".yaml", ".zip",
}  # fmt: skip


def check_suffix(path: str | Path, own: str) -> None:
    """Refuse a name with another kind's suffix; warn where a file of another kind will be replaced.

    `own` is the suffix of what will be written, ``.nc``, ``.json``, ``.jsonl`` or ``.html``.

    Example:
        >>> check_suffix("scores.csv", ".nc")
        Traceback (most recent call last):
        langheads.io.errors.InputError: cannot write scores.csv: what is written is .nc; name it so
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _OTHER_KINDS and suffix != own:
        raise InputError(f"cannot write {path}: what is written is {own}; name it so")
    with suppress(OSError), open(path, "rb") as file:
        before = file.read(64).lstrip()
        if before and not before.startswith(_BEGINNINGS[own]):
            logger.warning("%s is there already and is no %s file; it is replaced", path, own)


def check_writable(path: str | Path, *inputs: str | Path | None) -> None:
    """Refuse, before hours of work, a path that cannot be written or is an input.

    Inputs are files that are read; of a folder the texts in it; None is skipped.
    """
    path = Path(path)
    try:
        _refuse_what_is_no_file(path)
        # The folder itself is made when its first file is written.
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        for part in path.absolute().relative_to(folder).parts:
            # Fails where the name is too long for a file.
            with suppress(FileNotFoundError):
                os.lstat(folder / part)
        with tempfile.TemporaryFile(dir=folder):
            pass
        target = path.resolve()
        read = [Path(given).resolve() for given in inputs if given is not None]
        texts = [folder / target.name for folder in read if target.suffix in TEXT_SUFFIXES]
        if target.exists() and target in (*read, *texts):
            raise InputError(f"cannot write {path}: it is one of the inputs; name another file")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def check_run(out: str | Path) -> None:
    """Refuse a folder that `langheads.run` could not write to, see `check_writable`."""
    for name in RUN_FILES:
        check_writable(Path(out) / name)
