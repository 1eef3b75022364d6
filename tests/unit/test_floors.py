"""The house as CONTRIBUTING draws it: floors, no circle, rooms that can be read at a sitting."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "langheads"


def name_of(path):
    """As it is imported; a package as its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(text, name, is_package, modules):
    """What a module imports of its own package, also inside functions, and for types only."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (of.name for of in node.names if of.name in modules)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names = [f"{base}.{of.name}" for of in node.names]
            yield from (of if of in modules else base for of in names if base in modules)


@cache
def house():
    """Module -> those that it imports. Names that a stub lists are the package's."""
    paths = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]
    arrows = {name_of(path): set() for path in paths}
    for path in paths:
        name, package = name_of(path), path.stem == "__init__"
        arrows[name] |= {*imported(path.read_text(), name, package, arrows)} - {name}
    return arrows


def floors():
    """Room -> its floor, the lowest is 0."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (`.+?`) \|", page.partition("## Floors")[2].partition("## ")[0], re.M)
    found = [re.findall(r"`(\w+)(?:\.py)?`", row) for row in rows]
    return {room: number for number, rooms in enumerate(found) for room in rooms}


def rises(arrows, floor):
    # The package hands on names of all rooms but the command line's, which stands on it.
    of = {"langheads": floor["cli"] - 0.5, "langheads.__main__": len(floor)}
    of |= {name: floor[name.split(".")[1]] for name in arrows if name not in of}
    return [(a, b) for a in arrows for b in arrows[a] if of[b] > of[a]]


def test_no_import_goes_up():
    assert rises(house(), floors()) == []


def test_there_is_no_circle():
    list(TopologicalSorter(house()).static_order())


def test_what_goes_up_or_round_is_found():
    modules = {*house()}
    text = "def f():\n    from langheads.cli import app\nif 0:\n    from . import cost"
    found = {*imported(text, "langheads.io.files", False, modules)}
    assert found == {"langheads.cli.app", "langheads.io.cost"}
    stub = "from .text.corpus import read_texts"
    assert [*imported(stub, "langheads", True, modules)] == ["langheads.text.corpus"]
    arrows = house() | {"langheads.io.files": found}
    assert rises(arrows, floors()) == [("langheads.io.files", "langheads.cli.app")]
    with pytest.raises(ValueError, match="cycle"):
        list(TopologicalSorter(arrows).static_order())


def test_bare_hooks_and_the_package_know_nothing_of_each_other():
    for folder, other in ((PACKAGE, "hooks"), (ROOT / "hooks", "langheads")):
        for path in folder.rglob("*.py"):
            assert not re.search(rf"^\s*(from|import) {other}\b", path.read_text(), re.M), path


def test_rooms_and_functions_are_short():
    lengths, modules = [], {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    for text in modules.values():
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
        lengths += [node.end_lineno - node.lineno + 1 for node in functions]
    assert [str(path) for path, text in modules.items() if text.count("\n") > 300] == []
    assert sum(length > 60 for length in lengths) <= 0.02 * len(lengths)
