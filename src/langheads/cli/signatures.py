"""Public functions as read from their source: their arguments, and what each one means.

Read, not imported: importing one imports torch, which takes seconds, and ``--help`` has a tenth of
one. The standard library's parser is enough for signatures that are plain names
and for docstrings of one style.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Parameter:
    """An argument of a function."""

    name: str  # its keyword
    types: tuple[str, ...]  # the members of its annotation, ``("int", "None")`` of ``int | None``
    required: bool  # whether it has no default
    default: object  # its default where that is a constant, else None
    help: str  # what the docstring says of it


@dataclass(frozen=True)
class Function:
    """A public function: name in `langheads`, its text before "Args:", arguments, what it gives."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]
    returns: str


@functools.cache
def read_function(name: str) -> Function:
    """A function of langheads, by its public name or by module and name (``pipeline.demo``)."""
    module, _, local = (name if "." in name else _homes()[name]).rpartition(".")
    tree = _parse(module)
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == local)
    text, _, args = (ast.get_docstring(node) or "").partition("\nArgs:\n")
    # Four spaces and a name, then lines of eight.
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", args.split("\n\n")[0], re.MULTILINE)
    described = {argument: _sentence(of) for argument, of in found}
    given = node.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + given.defaults + given.kw_defaults
    return Function(
        name,
        text,
        tuple(
            Parameter(
                argument.arg,
                tuple(_members(argument.annotation, tree)),
                default is None,
                _constant(default, tree),
                described.get(argument.arg, ""),
            )
            for argument, default in zip(given.args + given.kwonlyargs, defaults, strict=True)
        ),
        "" if node.returns is None else ast.unparse(node.returns),
    )


def plain(text: str) -> str:
    """Docstring text without marks and line ends."""
    return " ".join(re.sub(r"`+([^`]*)`+", r"\1", text).split())


def _sentence(text: str) -> str:
    """Plain text that begins as a sentence does, unless with a name in marks."""
    return plain(text if text.startswith("`") else text[:1].upper() + text[1:])


@functools.cache
def _homes() -> dict[str, str]:
    """Public name -> its module and name."""
    stub = ast.parse((_PACKAGE / "__init__.pyi").read_text("utf-8"))
    return {
        alias.name: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@functools.cache
def _parse(module: str) -> ast.Module:
    path = _PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def _assigned(name: str, tree: ast.Module) -> ast.expr | None:
    """What a name stands for in its module, or in the one that it is imported from."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            package, _, module = str(node.module).partition(".")
            return _assigned(name, _parse(module)) if package == _PACKAGE.name else None
    return None


def _members(annotation: ast.expr | None, tree: ast.Module) -> list[str]:
    if isinstance(annotation, ast.BinOp):
        return [*_members(annotation.left, tree), *_members(annotation.right, tree)]
    if isinstance(annotation, ast.Name) and (alias := _assigned(annotation.id, tree)) is not None:
        return _members(alias, tree)
    return [] if annotation is None else [ast.unparse(annotation)]


def _constant(default: ast.expr | None, tree: ast.Module) -> object:
    if isinstance(default, ast.Name):
        default = _assigned(default.id, tree)
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:
        return None  # the function knows
