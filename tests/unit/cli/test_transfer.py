"""`langheads transfer`: a file that Python gives too, or one line of error and nothing."""

import functools
import json
import os
import re
import sys

import numpy as np
import pytest
import tqdm.std

import langheads
from langheads import cli
from langheads.heads import HeadSet, LanguageHeads
from langheads.model import describe

TEMPLATE = [
    {"fact": "{name} is {job}.", "query": "{name} is", "answer": " {job}"},
    {"filler": "It rains."},
    {"name": "Ann"},
    {"job": "cook"},
    {"job": "pilot"},
    {"job": "baker"},
]
SHAPE = (3, 4)


@pytest.fixture
def given(tmp_path, tiny):
    """Templates and a head set as files."""
    folder = tmp_path / "templates"
    folder.mkdir()
    for language in ("en", "zh"):
        lines = "\n".join(map(json.dumps, TEMPLATE))
        (folder / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    heads = LanguageHeads(
        {"en": HeadSet(["L0H1"], SHAPE), "zh": HeadSet(["L2H2", "L1H0"], SHAPE)},
        HeadSet([], SHAPE),
        "tiny",
        provenance=describe(tiny),
    )
    return folder, heads.save(tmp_path / "heads.json")


@pytest.fixture
def verb(monkeypatch, capsys, tmp_path, tiny_folder, given):
    """Runs the verb: exit code, standard output, standard error, files left."""
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")
    # tqdm reads its variable when it is imported, which was long before.
    quiet = functools.partialmethod(tqdm.std.tqdm.__init__, disable=True)
    monkeypatch.setattr(tqdm.std.tqdm, "__init__", quiet)
    (tmp_path / "out").mkdir()
    folder, heads = given

    def run(*arguments):
        command = ["transfer", tiny_folder, "--heads", heads, "--templates", folder, "--out",
                   tmp_path / "out/found.nc", "--device", "cpu", "--n-occupations", "3",
                   "--n-controls", "2", "--max-new-tokens", "2", *arguments]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["langheads", *map(str, command)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        found = capsys.readouterr()
        return code, found.out, found.err, os.listdir(tmp_path / "out")

    return run


def test_writes_what_python_gives(verb, given, tmp_path, tiny):
    code, printed, error, files = verb(
        "--gates-enhance", "2,3", "--gates-weaken", "", "--pairs", "zh:en",
        "--orders", "A first", "--limit", "4", "--query", "zh", "--no-attention", "--seed", "3",
    )  # fmt: skip
    assert (code, files) == (0, ["found.nc"])
    assert re.fullmatch(r"took \d+ s; memory \d+\.\d\d GiB at most\n", error)
    assert printed == f"{tmp_path / 'out/found.nc'}\n"
    found = langheads.load_result(tmp_path / "out/found.nc", "transfer")
    folder, heads = given
    expected = langheads.transfer(
        tiny,
        LanguageHeads.load(heads),
        pairs=[("zh", "en")],
        query="zh",
        gates_enhance=(2.0, 3.0),
        gates_weaken=(),
        orders=["A first"],
        n_controls=2,
        templates=folder,
        n_occupations=3,
        limit=4,
        max_new_tokens=2,
        attention=False,
        seed=3,
    )
    assert set(found.data_vars) == set(expected.data_vars)
    assert list(found.setting.values) == ["enhance 2", "enhance 3"]
    for name in expected.data_vars:
        if expected[name].dtype.kind == "f":
            np.testing.assert_array_equal(found[name], expected[name])
    assert found.logprob_difference_change.sel(a="zh", b="en").notnull().all()
    assert (found.attrs["prompts"], found.attrs["query"], found.attrs["seed"]) == (4, "zh", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gates-enhance", "x"], "--gates-enhance 'x': write numbers like 1.5,3"),
        (["--gates-weaken", "2"], "and 2 to weaken asked for"),
        (["--pairs", "zh-en"], "--pairs 'zh-en': write two languages, A and B, like hi:zh"),
        (["--pairs", "zh:fr"], "no template for language fr"),
        (["--languages", "en,fr"], "no template for language fr"),
        (["--orders", "A middle"], "order A middle asked for; allowed are A first, A last"),
        (["--query", "fr"], "no template for language fr"),
        (["--n-controls", "1"], "1 controls"),
        (["--n-occupations", "9"], "9 occupations asked for, but the templates have 3"),
        (["--batch-tokens", "x"], "--batch-tokens 'x'"),
        (["--templates", "nowhere"], "no folder nowhere; templates are a folder of <language>"),
        (["--heads", "nowhere.json"], "cannot read nowhere.json"),
        (["--limit", "x"], "Invalid value for '--limit'"),
    ],
)
def test_errors(verb, arguments, message):
    code, printed, error, files = verb(*arguments)
    assert (code, printed, files) == (2, "", [])
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(re.escape(message), error), error


def test_a_broken_template_is_named_with_its_line(verb, given):
    folder, _ = given
    with (folder / "zh.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"job": 3}')
    code, printed, error, files = verb()
    assert (code, printed, files) == (2, "", [])
    assert f"{folder / 'zh.jsonl'}, line 7: job is 3, expected a text" in error


def test_heads_of_another_model(verb, given):
    _, heads = given
    content = json.loads(heads.read_text())
    content["provenance"]["weight_hash"] = "0" * 64
    heads.write_text(json.dumps(content))
    code, _, error, files = verb()
    assert (code, files) == (2, [])
    assert "the head set was made with weights 000000000000" in error
