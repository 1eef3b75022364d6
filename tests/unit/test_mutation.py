"""Mutants made by hand change what is still there."""

from pathlib import Path

import pytest

from tests.mutation.modules import BY_HAND, TESTS

SOURCE = Path(__file__).parents[2] / "src" / "langheads"


@pytest.mark.parametrize(("module", "text", "becomes", "test"), BY_HAND)
def test_its_text_is_there_once_and_its_test_too(module, text, becomes, test):
    source = (SOURCE / module).read_text("utf-8")
    assert (source.count(text), text == becomes) == (1, False)
    path, _, name = test.partition("::")
    assert f"def {name}(" in (SOURCE.parents[1] / path).read_text("utf-8")


def test_modules_that_are_mutated_are_there():
    assert [name for name in TESTS if not (SOURCE / name).is_file()] == []
