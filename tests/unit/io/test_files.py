"""Writing all or nothing, and reading JSON with the line of a mistake."""

import logging
import os
import stat
import subprocess
import sys

import pytest
import xarray as xr

from langheads.io.errors import InputError
from langheads.io.files import (
    atomic_path,
    check_writable,
    json_lines,
    read_json,
    write_text_atomically,
)
from langheads.io.results import save
from langheads.text import read_questions, read_texts
from langheads.text.prompts import read_prompts, read_requests
from langheads.text.templates import read_templates


def test_a_file_is_written_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    assert write_text_atomically(str(path), "नमस्ते\n") == path
    assert path.read_bytes() == "नमस्ते\n".encode()
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    old = os.umask(0o027)
    try:
        path = write_text_atomically(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path, full_disk):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with full_disk(1000), pytest.raises(InputError, match=f"cannot write {path}: "):
        write_text_atomically(path, "x" * 5000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with full_disk(1000):
        write_text_atomically(path, "x" * 900)
    assert path.read_text() == "x" * 900


def test_a_disk_that_is_full_only_at_fsync_is_told(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left on device"):
        write_text_atomically(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_not_a_file(tmp_path):
    for refused in (check_writable, lambda path: write_text_atomically(path, "x")):
        with pytest.raises(InputError, match="it is a folder; name a file"):
            refused(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    """As a device would be: root that writes to /dev/null must find it there afterwards."""
    os.mkfifo(tmp_path / "pipe")
    for refused in (check_writable, lambda path: write_text_atomically(path, "x")):
        with pytest.raises(InputError, match="it is a device or pipe; name a file"):
            refused(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("below", ["a.nc", "deep/er/a.nc"])
def test_a_path_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / below
    for refused in (check_writable, lambda path: write_text_atomically(path, "x")):
        with pytest.raises(InputError, match=f"cannot write {path}: (Not a dir|File exists)"):
            refused(path)


def test_an_input_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.nc"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.nc").symlink_to("b.nc")
    (tmp_path / "sub").mkdir()
    for path in ("a.jsonl", "./sub/../a.jsonl", tmp_path / "a.jsonl"):
        for read in ("a.jsonl", tmp_path / "sub" / ".." / "a.jsonl", "."):
            with pytest.raises(InputError, match="it is one of the inputs; name another file"):
                check_writable(path, None, "hf:some/texts", read)
    with pytest.raises(InputError, match="one of the inputs"):
        check_writable("link.nc", "b.nc")
    with pytest.raises(InputError, match="one of the inputs"):
        check_writable("b.nc", "link.nc")
    # A folder of texts may hold a result beside them.
    check_writable("b.nc", ".", "a.jsonl")
    check_writable("new.jsonl", ".", "a.jsonl")


def test_checking_writes_nothing(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "a.nc")
    check_writable("a-name-without-folder.nc")
    assert os.listdir(tmp_path) == []
    assert not os.path.exists("a-name-without-folder.nc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n\n "b": }', "line 3: not JSON"),
        (b'{"a": "\xff"}', r"not UTF-8 \(byte 7\)"),
        (b"", "line 1: not JSON"),
    ],
)
def test_a_mistake_in_json_is_told_with_its_place(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_json(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(error.value)


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ["ж", 1.5]}', "utf-8")
    assert read_json(tmp_path / "a.json") == {"a": ["ж", 1.5]}


def test_a_missing_json_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.json: No such file"):
        read_json(tmp_path / "none.json")


DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [(DEEP, "JSON that is nested too deeply"), (DIGITS, "JSON with a number of too many digits")],
    ids=["deep", "digits"],
)
def test_json_that_python_cannot_read(tmp_path, text, message):
    path = tmp_path / "en.jsonl"
    path.write_text("{}\n" + text + "\n")
    with pytest.raises(InputError, match=rf"en\.jsonl, line 2: {message}"):
        list(json_lines(path))
    path.write_text(text)
    line = rf"en\.jsonl, line 1: {message}"
    for read in (read_texts, read_questions, read_templates):
        with pytest.raises(InputError, match=line):
            read(tmp_path)
    for read in (read_requests, read_prompts):
        with pytest.raises(InputError, match=line):
            read(path)
    with pytest.raises(InputError, match=rf"en\.jsonl: {message}"):
        read_json(path)


@pytest.mark.parametrize("name", ["scores.csv", "scores.json", "scores.TXT", "scores.parquet"])
def test_a_suffix_that_lies_is_refused_and_nothing_is_written(tmp_path, name):
    """`--out scores.csv` got netCDF."""
    with pytest.raises(InputError, match=r"what is written is \.nc"):
        save(xr.Dataset({"a": 1}), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_not_replaced_without_a_word(tmp_path, caplog):
    path = tmp_path / "scores.nc"
    save(xr.Dataset({"a": 1}), path)
    save(xr.Dataset({"a": 2}), path)
    assert caplog.text == ""
    path.write_text("my notes")
    save(xr.Dataset({"a": 2}), path)
    assert "is there already and is no .nc file; it is replaced" in caplog.text


def test_a_file_that_is_written_again_keeps_its_permissions(tmp_path):
    path = write_text_atomically(tmp_path / "a.json", "{}")
    for mode in (0o600, 0o664):
        path.chmod(mode)
        write_text_atomically(path, "{ }")
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path):
    """A process writes a file, and a folder of weights as `prune` does, and is killed."""
    code = """
import pathlib, sys, tempfile, time
from langheads.io.files import atomic_path, temporary_prefix
folder = pathlib.Path(sys.argv[1])
with atomic_path(folder / "a.nc") as file:
    weights = tempfile.mkdtemp(dir=folder, prefix=temporary_prefix(folder), suffix=".tmp")
    (pathlib.Path(weights) / "model.safetensors").write_text("half")
    file.write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "there\n"
        write_text_atomically(tmp_path / "other.json", "{}")
        left = sorted(os.listdir(tmp_path))
        assert [name[:11] for name in left] == [".langheads.", ".langheads.", "other.json"]
        writer.kill()
    (tmp_path / ".langheads.mine.tmp").write_text("of nobody that is known")
    write_text_atomically(tmp_path / "other.json", "{}")
    assert sorted(os.listdir(tmp_path)) == [".langheads.mine.tmp", "other.json"]


@pytest.mark.parametrize("below", ["", "new/"])
def test_a_name_that_is_too_long_is_found_before_the_work(tmp_path, below):
    path = tmp_path / f"{below}{'n' * 253}.nc"
    with pytest.raises(InputError, match=r"cannot write .*: File name too long$"):
        check_writable(path)
    assert os.listdir(tmp_path) == []


def test_the_longest_name_is_written(tmp_path):
    path = tmp_path / f"{'n' * 252}.nc"
    check_writable(path)
    write_text_atomically(path, "x")
    assert os.listdir(tmp_path) == [path.name]


def test_what_steers_a_terminal_is_not_printed(caplog):
    hostile = "a\x1b[2J\x07\r\n\x9b1m\u202eb\tc"
    shown = "a\u241b[2J\u2407\u240d \ufffd1m\ufffdb\tc"
    assert str(InputError(hostile)) == shown
    logging.getLogger("langheads").warning("language %s", hostile)
    assert caplog.messages == [f"language {shown}"]
