"""The process that is kept to read files apart outlives a bad file, and answers nothing late."""

import os
import signal
import time
from threading import Timer

import pytest

from langheads.io import apart as module
from langheads.io.apart import apart


def told(path):
    """The process that is kept; its fork does what the file's name says."""
    if path.name == "sleeps":
        path.write_text(str(os.getpid()))
        time.sleep(60)
    if path.name == "ends":
        os.abort()
    return str(os.getppid()).encode()


def of(path):
    return apart(f"{__name__}:told", path, seconds=5, memory=2**33)


def gone(process):
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_one_process_is_kept_and_another_takes_the_place_of_one_that_ended(tmp_path):
    kept = int(of(tmp_path))
    assert int(of(tmp_path)) == kept != os.getpid()
    assert of(tmp_path / "ends") is None
    another = int(of(tmp_path))
    assert another != kept
    assert gone(kept)
    os.kill(another, signal.SIGKILL)
    module._KEPT[os.getpid(), f"{__name__}:told"].wait()
    assert int(of(tmp_path)) not in (kept, another)


def test_the_process_can_be_there_before_a_file_is(tmp_path):
    module.ready(f"{__name__}:told")
    early = module._KEPT[os.getpid(), f"{__name__}:told"].pid
    assert int(of(tmp_path)) == early


def test_what_takes_too_long_by_the_clock_is_ended_with_its_fork(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Timer", lambda seconds, *given: Timer(seconds / 80, *given))
    of(tmp_path)
    assert of(tmp_path / "sleeps") is None
    assert gone(int((tmp_path / "sleeps").read_text()))


def test_the_next_answer_after_an_interrupt_is_not_the_last_ones(tmp_path):
    kept = int(of(tmp_path))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            of(tmp_path / "sleeps")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert gone(kept)
    assert int(of(tmp_path)) != kept


def test_a_fork_has_a_process_of_its_own(tmp_path):
    kept = int(of(tmp_path))
    child = os.fork()
    if not child:
        own = int(of(tmp_path))
        module._end_all()
        os._exit(0 if own != kept else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert int(of(tmp_path)) == kept
