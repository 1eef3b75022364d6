"""The verb `attention`: the same view as in Python, and one line for every mistake."""

import sys

import numpy as np
import pytest

import langheads
from langheads import cli
from langheads.heads import HeadSet, LanguageHeads
from langheads.view.attention.patterns import AttentionData


@pytest.fixture
def verb(monkeypatch, capsys):
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        # The command line sets these, and must not set them for other tests.
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["langheads", "attention", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def chosen(tmp_path):
    heads = {"zh": HeadSet(["L1H3"], (3, 4)), "en": HeadSet(["L0H2", "L2H0"], (3, 4))}
    return LanguageHeads(heads, HeadSet([], (3, 4)), "tiny").save(tmp_path / "heads.json")


def test_it_writes_what_python_shows(verb, tiny, tiny_folder, chosen, texts, tmp_path):
    out = tmp_path / "run" / "attention.json"
    scores = langheads.score(tiny, texts, method="lahis", docs=3)
    langheads.save(scores, tmp_path / "scores.nc")
    code, printed, error = verb(
        tiny_folder, "--device", "cpu", "--text", "猫在 cat", "--beside", "cat", "--labels",
        "zh,en", "--heads", chosen, "--language", "en", "--scores", tmp_path / "scores.nc",
        "--spans", "animal=cat", "--window", "1:3", "--out", out,
    )  # fmt: skip
    assert (code, printed.strip()) == (0, str(out)), error
    view = langheads.show_attention(tiny, "猫在 cat", ["L0H2", "L2H0"], beside="cat", window=(1, 3))
    read = AttentionData.load(out)
    for found, expected in zip(read.contexts, view.data.contexts, strict=True):
        assert found.tokens == expected.tokens
        np.testing.assert_allclose(found.patterns, expected.patterns, rtol=0, atol=0.004)
    of_en = scores.lahis.sel(language="en").values
    assert [(h.name, h.score) for h in read.heads] == [
        ("L0H2", of_en[0, 2]),
        ("L2H0", of_en[2, 0]),
    ]
    assert read.provenance["weight_hash"] == scores.attrs["weight_hash"]
    assert [c.label for c in read.contexts] == ["zh", "en"]
    # The folder can be reported as it is, and a page be written at once.
    assert "Attention in context" in langheads.report(out.parent).read_text("utf-8")
    code, _, error = verb(
        tiny_folder, "--device", "cpu", "--text", "cat", "--heads", "L0H2", "--gates", "L0H2",
        "--gate", "3", "--out", tmp_path / "page.html",
    )  # fmt: skip
    assert code == 0, error
    assert "gate 3 on L0H2" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.png"], "cannot save attention as a.png; allowed are .html and .json"),
        (["--text", "."], ". is a file or folder; give the text itself, in quotes"),
        (["--spans", "cat"], "--spans 'cat': write name=part, such as answer=baker"),
        (["--spans", "x=dog"], "span 'x' is not in the text"),
        (["--window", "3-4"], "--window '3-4': write first and last + 1, like 100:200"),
        (["--heads", "H3"], "'H3' is not a head; write layer and head like L3H7"),
        (["--heads", "no.json"], "cannot read no.json"),
        (["--heads", "no.nc"], "no file no.nc"),
        (["--heads", "L7H0"], "head L7H0 asked for, but the model has 3 layers of 4 heads"),
        (["--beside", "b", "--gates", "L0H0"], "beside and gates were both given; give one"),
    ],
)
def test_a_mistake_is_one_line(verb, tiny_folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = ["--text", "cat", "--heads", "L0H2", "--out", "a.json", "--device", "cpu"]
    code, printed, error = verb(tiny_folder, *given, *arguments)
    assert code == 2
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []
