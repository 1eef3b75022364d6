"""Folders that tests of several files read: the first worker that needs one makes it for all."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest


class MadeOnce:
    """`make(folder)` is called once in a run of all tests, whatever worker asks for the name.

    What it made is read-only; a test that writes beside it works on a `copy`. That nothing was
    changed all the same is checked at the end, by `close`, as a superuser may write everything.
    """

    def __init__(self, basetemp: Path):
        # A worker of pytest-xdist has a folder of its own in that of all.
        self._root = basetemp.parent if "PYTEST_XDIST_WORKER" in os.environ else basetemp
        self._read: dict[Path, dict[Path, tuple[int, int]]] = {}

    def __call__(self, name, make):
        folder = self._root / "made-once" / name
        folder.parent.mkdir(exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                new = folder.with_suffix(".new")
                # What an interrupted one has left.
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir()
                make(new)
                for path in new.rglob("*"):
                    path.chmod(0o755 if path.is_dir() else 0o444)
                new.rename(folder)
        self._read.setdefault(folder, _stamps(folder))
        return folder

    def copy(self, name, make, to):
        """A copy that may be written to."""
        shutil.copytree(self(name, make), to, copy_function=shutil.copyfile, dirs_exist_ok=True)
        return to

    def close(self):
        for folder, stamps in self._read.items():
            assert _stamps(folder) == stamps, f"a test wrote into {folder}, which others read"


def _stamps(folder):
    found = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (of.st_mtime_ns, of.st_size) for path, of in found}


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    made = MadeOnce(tmp_path_factory.getbasetemp())
    yield made
    made.close()
