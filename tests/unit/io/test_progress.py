"""Progress without a terminal: whole lines, one a minute, none for what is soon done."""

import io
from types import SimpleNamespace

import pytest

from langheads.io import progress
from langheads.io.progress import progress_bar


@pytest.fixture
def log(monkeypatch):
    """Standard error that is no terminal, and a clock that a test moves."""
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    log = io.StringIO()
    log.now = 0.0
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=log))
    monkeypatch.setattr(progress.time, "monotonic", lambda: log.now)
    return log


def lines(log, seconds, steps=10):
    with progress_bar(total=steps, unit="doc", desc="score") as bar:
        for step in range(steps):
            bar.set_postfix_str("en" if step < 5 else "zh")
            log.now += seconds
            bar.update()
    return log.getvalue().splitlines()


def test_a_line_a_minute(log, monkeypatch):
    # tqdm reads its variable when it is imported, which was long before.
    monkeypatch.setattr(progress._Lines, "__init__", enabled(progress._Lines.__init__))
    found = lines(log, 25)
    assert "\r" not in log.getvalue()
    assert [line.split(",")[0] for line in found] == [
        "score: 3 of 10 doc", "score: 6 of 10 doc", "score: 9 of 10 doc",
    ]  # fmt: skip
    assert found[0].endswith(" left, en")
    assert found[1].endswith(" left, zh")
    assert all(" gone, " in line for line in found)


def test_nothing_of_work_that_is_soon_done(log, monkeypatch):
    monkeypatch.setattr(progress._Lines, "__init__", enabled(progress._Lines.__init__))
    assert lines(log, 5.9) == []
    assert lines(log, 61, steps=1) == ["score: 1 of 1 doc, 00:00 gone, 00:00 left, en"]


def test_a_terminal_has_a_bar(log, monkeypatch):
    monkeypatch.setattr(log, "isatty", lambda: True)
    assert not isinstance(progress_bar(total=1, unit="doc", desc="score"), progress._Lines)


def enabled(init):
    return lambda bar, **settings: init(bar, **settings | {"disable": False})
