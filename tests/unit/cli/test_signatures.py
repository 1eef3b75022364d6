"""Every verb is one Python function: its keywords, its defaults, its docstring."""

import inspect
import json
from importlib import import_module

import pytest
import typer

import langheads
from langheads import cli
from langheads.cli.parts import PARTS_OPTIONS
from langheads.cli.signatures import plain, read_function
from langheads.cli.values import _TYPES, _texts, type_of
from langheads.cli.verbs import IN_PARTS
from langheads.scores import registry


@pytest.fixture(scope="module")
def commands():
    return typer.main.get_command(cli.make_app()).commands


def imported(name):
    module, _, local = f"langheads.{name}".rpartition(".")
    return getattr(import_module(module), local)


@pytest.mark.parametrize("name", [*cli.VERBS.values(), "load"])
def test_what_is_read_is_what_python_imports(name):
    read, signature = read_function(name), inspect.signature(imported(name))
    assert [p.name for p in read.parameters] == list(signature.parameters)
    for found, expected in zip(read.parameters, signature.parameters.values(), strict=True):
        assert found.required is (expected.default is inspect.Parameter.empty)
        if not found.required and found.default is not None:
            assert found.default == expected.default
        assert found.help, f"{name} says nothing of {found.name}"
    # A default that cannot be read from the source is left to the function, and not shown.
    unread = {
        p.name
        for p, of in zip(read.parameters, signature.parameters.values(), strict=True)
        if p.default is None and of.default not in (None, inspect.Parameter.empty)
    }
    assert unread <= {"measure"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_options_of_a_verb_are_keywords(commands, verb):
    read = read_function(cli.VERBS[verb])
    options = {p.name for p in commands[verb].params} - {"help"}
    takes_model = any("TransformerBridge" in p.types for p in read.parameters)
    loading = {p.name for p in read_function("load").parameters} if takes_model else set()
    own = {p.name for p in read.parameters if type_of(p) is not None}
    parts = {"dry_run"} if takes_model or verb == "demo" else set()
    parts |= {option.name for option in PARTS_OPTIONS} if verb in IN_PARTS else set()
    assert not parts & own
    assert options == own | loading | parts | {"out", "csv"}
    # A type is known by the name that the table of types has for it, whatever module is before it.
    assert {of.rpartition(".")[2] for p in read.parameters for of in p.types} & {*_TYPES} <= {
        of for p in read.parameters for of in p.types
    }
    # What a command line cannot give must be optional.
    assert all(type_of(p) or not p.required or p.name == "model" for p in read.parameters)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_that_is_asked_for_is_made_alone_as_among_all(commands, verb):
    alone = typer.main.get_command(cli.make_app(verb)).commands
    assert alone.keys() == {verb, "merge"}
    told, expected = (
        of[verb].get_help(typer.Context(of[verb], info_name=verb)) for of in (alone, commands)
    )
    assert told == expected
    assert typer.main.get_command(cli.make_app("scroe")).commands.keys() == commands.keys()


def test_help_tells_what_the_docstring_says(commands):
    doc = inspect.getdoc(langheads.ablate)
    assert commands["ablate"].help.startswith(plain(doc).split(" Args:")[0][:60])
    (option,) = [p for p in commands["ablate"].params if p.name == "allow_overlap"]
    assert option.help == "Prove on scored documents all the same; recorded in the result."


def test_help_names_every_score_also_one_from_outside(monkeypatch):
    monkeypatch.setattr(registry, "SCORES", dict(registry.SCORES))
    monkeypatch.setattr(registry, "LABELS", dict(registry.LABELS))
    registry.register(registry.Score("spread", "Spread", "none", (), lambda languages: {}))
    for verb in ("score", "run"):
        command = typer.main.get_command(cli.make_app()).commands[verb]
        (option,) = [p for p in command.params if p.name == "method"]
        for name in registry.names():
            assert name in option.help
    assert "spread" in registry.names()


@pytest.mark.parametrize(
    ("types", "option", "text", "value"),
    [
        (("int", "str"), "auto", "auto", "auto"),
        (("int", "str"), "auto", "64", 64),
        (("str", "Iterable[str]"), (), "zh, en", ["zh", "en"]),
        (("Sequence[float]",), (), "1.5,3", [1.5, 3.0]),
        (("Sequence[float]",), (), "", []),
        (("Iterable[Pair]", "None"), None, "hi:zh,zh:hi", [("hi", "zh"), ("zh", "hi")]),
        (("tuple[int, int]", "None"), None, "3:9", (3, 9)),
        (("Mapping[str, float]", "None"), None, ["zh=0", "a-b=1.5"], {"zh": 0.0, "a-b": 1.5}),
        (("int", "None"), 100, "none", None),
        (("int", "None"), 100, "7", 7),
    ],
)
def test_values_by_type(types, option, text, value):
    from langheads.cli.signatures import Parameter

    kind = type_of(Parameter("x", types, False, option, ""))
    assert kind.parse("--x", text) == value


def test_a_tensor_is_no_option():
    baseline = next(p for p in read_function("adapt").parameters if p.name == "baseline")
    assert type_of(baseline) is None


def test_ids_are_seen_in_a_proofs_texts_when_it_is_known_that_the_scores_had_others(
    tmp_path, caplog
):
    for language in ("en", "zh"):
        lines = (json.dumps({"id": n, "text": f"{language} {n}"}) for n in range(4))
        (tmp_path / f"{language}.jsonl").write_text("\n".join(lines))
    given = _texts(str(tmp_path), {"aligned": None, "allow_overlap": False})
    assert "ids" not in caplog.text
    assert langheads.read_texts(given, aligned=False).aligned is False
    assert langheads.read_texts(given).aligned is True
    assert "has the same ids in every language" in caplog.text
