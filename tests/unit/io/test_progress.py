"""Progress without a terminal: whole lines, one a minute, none for what is soon done."""

import io
from types import SimpleNamespace

import pytest

import langheads
from langheads.io import progress
from langheads.io.parts import Waiting, kept_in_parts
from langheads.io.progress import count_part, progress_bar
from langheads.model import kept


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


def test_halves_are_not_told(log, monkeypatch):
    """Transfer counts two texts a prompt: it told of 11843.5 prompts."""
    monkeypatch.setattr(progress._Lines, "__init__", enabled(progress._Lines.__init__))
    with progress_bar(total=9, unit="prompt", desc="transfer") as bar:
        log.now = 61
        bar.update(3.5)
    assert log.getvalue().startswith("transfer: 3 of 9 prompt, ")


def parts_of(log, *, read, made, others, shards):
    """The line after so many parts of 10 documents of 100, 7 s for each that is made."""
    with progress_bar(total=100, unit="doc", desc="score") as bar:
        bar._time, bar.start_t = (lambda: log.now), 0.0
        for number in range(read + made + others):
            done = number < read + made
            own = number % shards == 0
            count_part(bar, 10, shards, own=own, done=done, made=read <= number < read + made)
            if done:
                log.now += 7 * (number >= read)
                bar.update(10)
        bar.set_postfix_str("zh")
        return bar.format_meter(**bar.format_dict)


def test_time_left_is_by_parts_that_were_made_here(log, monkeypatch):
    monkeypatch.setattr(progress._Lines, "__init__", enabled(progress._Lines.__init__))
    # 4 of 10 in 4 x 7 s, 6 to come.
    found = parts_of(log, read=0, made=4, others=0, shards=1)
    assert found == "score: 40 of 100 doc, parts 4 of about 10, 00:28 gone, 00:42 left, zh"
    # Parts that were there took no time: by them alone, 5 to come would take none, or 4 s each.
    log.now = 0.0
    found = parts_of(log, read=3, made=2, others=0, shards=1)
    assert found == "score: 50 of 100 doc, parts 5 of about 10, 00:14 gone, 00:35 left, zh"
    assert " ? left" in parts_of(log, read=3, made=0, others=0, shards=1)
    # Of 10 parts 6 are seen, 4 to come are shared by two.
    log.now = 0.0
    found = parts_of(log, read=1, made=2, others=3, shards=2)
    assert found == (
        "score: 30 of 100 doc, parts 3 of about 10 (own 2 of about 5), 00:14 gone, 00:14 left, zh"
    )


def test_a_terminal_is_told_the_same(log, monkeypatch):
    monkeypatch.setattr(log, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress._Bar, "__init__", enabled(progress._Bar.__init__))
    found = parts_of(log, read=0, made=4, others=0, shards=1)
    assert found.startswith("score:  40%|")
    assert found.endswith("| 40/100 doc, parts 4 of about 10 [00:28<00:42, zh]")


def test_work_in_parts_counts_them(tiny, texts, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(kept, "count_part", lambda bar, *given, **how: told.append((given, how)))

    def work():
        langheads.score(tiny, texts, docs=4, batch_tokens=150, method="lahis")

    with kept_in_parts(tmp_path, shard=(1, 2)) as parts, pytest.raises(Waiting):
        work()
    assert sum(how["made"] for _, how in told) == parts.made > 0
    assert [how["done"] for _, how in told] == [how["own"] for _, how in told]
    assert {shards for (_, shards), _ in told} == {2}
    documents = sum(units for (units, _), _ in told)
    assert documents == 4 * len(texts)


def test_a_terminal_has_a_bar(log, monkeypatch):
    monkeypatch.setattr(log, "isatty", lambda: True)
    assert not isinstance(progress_bar(total=1, unit="doc", desc="score"), progress._Lines)


def enabled(init):
    return lambda bar, **settings: init(bar, **settings | {"disable": False})
