"""Folders that tests share are made once, and none writes into them."""

import pytest

from tests.made_once import MadeOnce


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """With a folder of its own, also in one of several workers."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_a_folder_is_made_once_and_must_stay_as_it_was(tmp_path):
    made, others = MadeOnce(tmp_path), MadeOnce(tmp_path)
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("one")

    folder = made("of-a-test", make)
    assert others("of-a-test", make) == folder
    assert len(calls) == 1
    assert (folder / "inner" / "a").stat().st_mode & 0o222 == 0
    copy = made.copy("of-a-test", make, tmp_path / "copy")
    (copy / "inner" / "a").write_text("two")
    made.close()
    (folder / "inner" / "b").write_text("")
    with pytest.raises(AssertionError, match=r"a test wrote into .*of-a-test, which others read"):
        others.close()


def test_what_was_not_made_to_the_end_is_made_anew(tmp_path):
    def interrupted(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    made = MadeOnce(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made("x", interrupted)
    assert list(made("x", lambda folder: (folder / "whole").write_text("")).iterdir()) == [
        tmp_path / "made-once" / "x" / "whole"
    ]
