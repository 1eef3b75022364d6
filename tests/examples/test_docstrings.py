"""The examples in docstrings give what they say, in every module."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import langheads

PACKAGE = Path(langheads.__file__).parent


def _module(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = sorted(
    _module(path) for path in PACKAGE.rglob("*.py") if ">>>" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("registries_kept", "in_example_folder", "untyped")
def test_examples_run(name, example_names):
    # Not what a module makes of the same name.
    globs = example_names | vars(import_module(name))
    done = doctest.testmod(import_module(name), globs=globs)
    assert done.attempted
    assert not done.failed


def test_no_example_is_left_out():
    assert not [name for name in MODULES if "+SKIP" in _source(name)]


def _source(name):
    return Path(import_module(name).__file__).read_text("utf-8")
