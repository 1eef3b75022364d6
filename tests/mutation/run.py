"""Mutation testing: `make mutate`, or `python -m tests.mutation.run [MODULE ...] [--sample N]`.

cosmic-ray's operators change one place of a module at a time. Its tests are collected once, and
each change is tried in a fork in which the functions that it changes have its code (`swapped`), so
that a mutant costs its tests only. What no function holds, and what lived, is tried in a fork whose
import reads the changed text. No file is changed. Which tests a module's mutants must
fail is the table in `modules.py`; survivors that cannot be told from the original are in
SURVIVORS.md, line by line, and the others are gaps.
"""

import argparse
import ast
import gc
import importlib
import importlib.machinery
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import CodeType, FunctionType

from tests.mutation.modules import BY_HAND, TESTS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "langheads"
# Replacements that say nothing: `is` for `==`, which no value tells apart, or bits of a number.
_IDLE = re.compile(r"_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)$|_Is_Eq$|_IsNot_NotEq$")
_STAR = re.compile(r"(?<![\w)\]])\*+(?! )")  # of arguments, no product
_BITS = re.compile(r"_(Add|Sub|Mul|Div|Mod|Pow|FloorDiv)_(Bit.*|.Shift)$")


def mutants(text, of_a_place=2, seed=0):
    """(operator's name, occurrence, line) of the changes of a module, a few of each kind a place.

    Annotations, decorators, defaults and zip's `strict` are left alone: they compute nothing.
    """
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    left, lines = _left_alone(text), text.splitlines()
    nodes = list(ast_nodes(get_ast(text)))
    places = {}
    operators = OperatorProvider()
    for name in operators:
        if name.startswith("Variable") or _IDLE.search(name) or _BITS.search(name):
            continue
        found = (at for node in nodes for at in operators[name]().mutation_positions(node))
        for occurrence, (start, end) in enumerate(found):
            if _STAR.match(lines[start[0] - 1], start[1]):
                continue
            if not any(a <= start and end <= b for a, b in left):
                places.setdefault((start, name.split("_")[0]), []).append((name, occurrence))
    draw = random.Random(seed)
    return [
        (name, occurrence, start[0])
        for (start, _), found in sorted(places.items())
        for name, occurrence in draw.sample(found, min(of_a_place, len(found)))
    ]


def _left_alone(text):
    """Where these stand in a module: ((line, column), (line, column)) of each."""
    left = []
    for node in ast.walk(ast.parse(text)):
        left += [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.arguments):
            left += [*node.defaults, *node.kw_defaults]
        left += getattr(node, "decorator_list", [])
        if isinstance(node, ast.keyword) and node.arg == "strict":
            left.append(node.value)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in left
        if isinstance(node, ast.AST)
    ]


# What became of a mutant by the exit status of its tests; the last two killed nothing by a test.
ENDS = {0: "lived", 1: "failed a test"}
TOO_LONG, BROKEN = "took too long", "broke what the tests need"


def outcome(module, text, tests, limit):
    """What tests say of another text of a module, in a fork that has not imported it."""
    return _in_a_fork(lambda: _pytest(module, text, tests), limit)


def _in_a_fork(work, limit):
    """What became of a mutant, by the exit status that `work` gives."""
    child = os.fork()
    if not child:
        os.setsid()
        signal.alarm(limit)
        os._exit(work())
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return TOO_LONG if os.WTERMSIG(status) == signal.SIGALRM else BROKEN
    # 2 and above: the tests could not be collected, say.
    return ENDS.get(os.WEXITSTATUS(status), BROKEN)


def quick_outcomes(module, texts, tests, limit):
    """What tests say of other texts of a module that differ within its functions; a fork a text.

    Returns:
        Of each text the end; None where the change is outside of functions.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            _pytest(module, None, tests, [_Collected(module, texts, limit, writing)])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        ends = [line.strip() or None for line in told]
    os.waitpid(child, 0)
    return ends + [None] * (len(texts) - len(ends))


class _Collected:
    """A plugin of pytest: instead of running the tests once, runs them for each text."""

    def __init__(self, module, texts, limit, writing):
        self.path, self.texts, self.limit, self.writing = (
            str(SOURCE / module), texts, limit, writing
        )  # fmt: skip

    def pytest_runtestloop(self, session):
        here = {}
        # What tests/conftest.py has frozen is not told of.
        gc.unfreeze()
        for function in gc.get_objects():
            if type(function) is FunctionType and function.__code__.co_filename == self.path:
                here.setdefault(_place(function.__code__), []).append(function)
        before = compile(Path(self.path).read_text(), self.path, "exec")
        # A test that found one finds others, too.
        items, first = list(session.items), None
        for text in self.texts:
            end, codes = None, swapped(before, compile(text, self.path, "exec"))
            if codes and all(place in here for place in codes):
                items.sort(key=lambda item: item is not first)
                found, end = _until_one_fails(session, items, here, codes, self.limit)
                first = found or first
            os.write(self.writing, f"{end or ''}\n".encode())
        os._exit(0)


def swapped(before, after):
    """Codes of the functions that differ, by their places; None where anything else does."""
    codes = {}

    def differ(one, other):
        inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (one, other)]
        if len(inner[0]) != len(inner[1]) or _own(one) != _own(other):
            return True
        for old, new in zip(*inner, strict=True):
            if old == new and old.co_consts == new.co_consts:
                continue
            is_class = "__qualname__" in old.co_names and "__module__" in old.co_names
            if not is_class:
                codes[_place(old)] = new
            elif differ(old, new):
                return True
        return False

    return None if differ(before, after) else codes


def _place(code):
    return code.co_qualname, code.co_firstlineno


def _own(code):
    """What a module or a class does by itself."""
    constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code, code.co_names, [*map(repr, constants)]


def _until_one_fails(session, items, here, codes, limit):
    """The test that failed, if one did, and what became of the mutant."""
    reading, writing = os.pipe()

    def work():
        for place, code in codes.items():
            for function in here[place]:
                function.__code__ = code
        for item, following in zip(items, [*items[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os.write(writing, str(items.index(item)).encode())
                return 1
        return 0

    end = _in_a_fork(work, limit)
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.read()
    return items[int(number)] if number else None, end


def _pytest(module, text, tests, plugins=()):
    loader = importlib.machinery.SourceFileLoader
    data, stats, path = loader.get_data, loader.path_stats, str(SOURCE / module)

    def get_data(self, name):
        return text.encode() if text and str(name) == path else data(self, name)

    def path_stats(self, name):
        if text and str(name) == path:
            raise OSError("no bytecode of the original")
        return stats(self, name)

    loader.get_data, loader.path_stats = get_data, path_stats
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={BASETEMP}"]
    options += ["-p", "jaxtyping", "-p", "hypothesispytest"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with open(LOG, "w") as log, redirect_stdout(log), redirect_stderr(log):
        return int(pytest.main([*options, *tests], plugins=[*plugins]))


# A fork loads the plugins that tests need, and no others.
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
_SLOW = ("hypothesis", "h5netcdf", "pyarrow", "scipy.stats", "transformers", "xarray")
_SLOW += ("transformer_lens.model_bridge", "cosmic_ray.operators.provider", "pydantic.main")
_SLOW += ("pydantic.fields", "pydantic.type_adapter", "pdb", "transformers.models.llama")
BASETEMP = ROOT / ".pytest_tmp" / "mutation"
LOG = ROOT / ".pytest_tmp" / "mutation.log"


def _preload():
    """What takes seconds to import and is never changed; the environment of the tests first."""
    for name in ("tests.conftest", *_SLOW):
        importlib.import_module(name)


def main():
    """Try the mutants of the modules named, or of all, and list the survivors."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("modules", nargs="*", help="such as scores/formulas.py; all by default")
    parser.add_argument("--by-hand", action="store_true", help="only the mutations made by hand")
    parser.add_argument("--sample", type=int, default=0, help="at most so many a module, drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    given = parser.parse_args()
    BASETEMP.parent.mkdir(exist_ok=True)
    _preload()
    for mutation in [] if given.modules else BY_HAND:
        _try_by_hand(*mutation)
    for module in [] if given.by_hand else given.modules or TESTS:
        _try(module, given.sample, given.seed)


def _try_by_hand(module, old, new, test):
    text = (SOURCE / module).read_text()
    if text.count(old) != 1:
        sys.exit(f"{module} does not have once: {old}")
    print(f"{outcome(module, text.replace(old, new), [test], 600)}: {module}: {new}", flush=True)


def _try(module, sample, seed):
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    text = (SOURCE / module).read_text()
    began = time.monotonic()
    if outcome(module, text, TESTS[module], 600) != "lived":
        sys.exit(f"{module}: its tests fail as it is:\n{LOG.read_text()[-3000:]}")
    took = time.monotonic() - began
    found = mutants(text)
    tried = random.Random(seed).sample(found, min(sample or len(found), len(found)))
    tried.sort(key=lambda mutant: mutant[2])
    ends, limit = Counter(), int(10 + 3 * took)
    print(f"{module}: {len(tried)} of {len(found)} mutants, {took:.1f} s a run", flush=True)
    texts = [mutate_code(text, OperatorProvider()[name](), number) for name, number, _ in tried]
    quick = quick_outcomes(module, texts, TESTS[module], limit)
    for (name, _, line), changed, end in zip(tried, texts, quick, strict=True):
        # What is computed as a module is imported was not changed.
        if end in (None, "lived"):
            end = outcome(module, changed, TESTS[module], limit)
        ends[end] += 1
        if end != "failed a test":
            print(f"  {module}:{line} {name} {end}\n{_lines(text, changed)}", flush=True)
    spent = time.monotonic() - began
    told = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    print(f"{module}: of {len(tried)} {told}; {spent:.0f} s", flush=True)


def _lines(text, changed):
    """The lines that a change changed, as they were and as they are."""
    import difflib

    diff = list(difflib.unified_diff(text.splitlines(), changed.splitlines(), n=0, lineterm=""))
    return "\n".join("    " + line for line in diff[3:])


if __name__ == "__main__":
    main()
