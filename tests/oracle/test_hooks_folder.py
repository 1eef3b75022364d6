"""What makes `hooks/` an oracle: short files that share no code with the library."""

import ast
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "hooks"
FILES = sorted(path for path in HOOKS.glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_hook_is_short_alone_and_in_the_table(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    tree = ast.parse(source)
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"torch"}
    assert "Hook point: blocks.{layer}.attn." in ast.get_docstring(tree)
    table = (HOOKS / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if f"`{path.name}`" in line and "|" in line]
    for test in row.split("|")[-2].split(","):
        assert (HOOKS.parent / test.strip().strip("`")).is_file()
