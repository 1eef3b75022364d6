"""`langheads attribute`: a file comes out, or one line of error and nothing."""

import functools
import json
import os
import re
import sys

import pytest
import tqdm.std

from langheads import cli, load_result

GOOD = {"prompt": "The cat is", "answer": " big", "wrong": " old", "language": "en"}


@pytest.fixture
def verb(monkeypatch, capsys, tmp_path, tiny_folder):
    """Runs the verb on prompts: exit code, standard output, standard error, files left."""
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")
    # tqdm reads its variable when it is imported, which was long before.
    quiet = functools.partialmethod(tqdm.std.tqdm.__init__, disable=True)
    monkeypatch.setattr(tqdm.std.tqdm, "__init__", quiet)

    def run(*lines, arguments=(), out="out/found.nc"):
        (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
        (tmp_path / "out").mkdir(exist_ok=True)
        command = ["attribute", tiny_folder, "--prompts", tmp_path / "prompts.jsonl",
                   "--out", tmp_path / out, "--device", "cpu", *arguments]  # fmt: skip
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


def test_writes_a_result_and_prints_its_path(verb, tmp_path):
    code, printed, error, files = verb(
        json.dumps(GOOD | {"corrupt": "Le chat est"}),
        json.dumps(GOOD | {"language": "xx"}),
        arguments=["--heads", "L0H1,L2H3"],
    )
    assert (code, files) == (0, ["found.nc"])
    assert re.fullmatch(r"took \d+ s; memory \d+\.\d\d GiB at most\n", error)
    assert printed == f"{tmp_path / 'out/found.nc'}\n"
    found = load_result(tmp_path / "out/found.nc", "attribution")
    assert list(found.language.values) == ["en", "xx"]
    assert found.direct.notnull().all()
    assert int(found.patching.notnull().sum()) == 2
    assert found.attrs["prompts"] == 2
    assert list(found.answer_token.values) == ["b", "b"]


@pytest.mark.parametrize(
    ("line", "arguments", "message"),
    [
        ("{", [], "prompts.jsonl, line 2: not JSON"),
        (json.dumps({"prompt": "a"}), [], "line 2: answer, wrong missing"),
        (json.dumps(GOOD | {"wrong": " bigger"}), [], "line 2: .* no token in which they differ"),
        (json.dumps(GOOD), ["--measures", "dla"], "measure dla asked for; allowed are direct"),
        (json.dumps(GOOD), ["--measures", "patching"], "no prompt has a corrupt"),
        (json.dumps(GOOD), ["--heads", "L0H9"], "head L0H9 asked for, but the model has 3 layers"),
        (json.dumps(GOOD), ["--batch-tokens", "many"], "--batch-tokens 'many'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(verb, line, arguments, message):
    code, printed, error, files = verb(json.dumps(GOOD), line, arguments=arguments)
    assert (code, printed, files) == (2, "", [])
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_what_cannot_be_written_is_told_first(verb):
    code, _, error, files = verb("{", out="out")
    assert (code, files) == (2, [])
    assert "it is a folder; name a file" in error
