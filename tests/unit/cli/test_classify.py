"""Questions on the command line: the task scan, classes, and what is refused."""

import json
import os
import re

import numpy as np
import pytest

import langheads
from langheads import cli
from langheads.demo import grammar


@pytest.fixture
def verb(monkeypatch, capsys):
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["langheads", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        found = capsys.readouterr()
        return code, found.out, found.err

    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        # The command line sets these, and must not set them for other tests.
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")
    return run


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qa")
    for language in ("en", "hi"):
        records = [
            {"id": n, "context": f"{n} tea", "question": "?", "answers": [f"{n}"]} for n in range(4)
        ]
        lines = [json.dumps(record) for record in records]
        (folder / f"{language}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_scan_then_classes(verb, tiny_folder, tiny, questions, out):
    code, printed, error = verb(
        "knockout-task", tiny_folder, "--questions", questions, "--out", out / "k.nc",
        "--device", "cpu",
        "--measure", "answer-logprob,substring", "--max-new-tokens", "3", "--heads", "L0H1,L2H3",
        "--docs", "3", "--template", r"{question} {context}\n",
    )  # fmt: skip
    assert (code, printed.strip()) == (0, str(out / "k.nc")), error
    found = langheads.load_result(out / "k.nc", "knockout-task")
    asked = langheads.read_questions(questions).front(3)
    same = langheads.knockout_task(
        tiny, asked, measure=("answer-logprob", "substring"), max_new_tokens=3,
        heads=["L0H1", "L2H3"], template="{question} {context}\n",
    )  # fmt: skip
    assert set(found.data_vars) == set(same.data_vars)
    assert found.context.values.tolist() == same.context.values.tolist()
    for name in set(found.data_vars) - {"context"}:
        np.testing.assert_allclose(found[name], same[name], atol=1e-5)
    assert found.example.values.tolist() == list(asked.ids)
    assert found.attrs["max_new_tokens"] == 3

    code, printed, error = verb(
        "classify", out / "k.nc", "--languages", "en,hi", "--out", out / "c.json",
        "--measure", "answer-logprob", "--n-resamples", "200",
    )  # fmt: skip
    assert (code, printed.strip()) == (0, str(out / "c.json")), error
    classes = langheads.HeadClasses.load(out / "c.json")
    assert classes.deltas["en"][0, 0, 1] == pytest.approx(
        same.delta_answer_logprob.sel(language="en", layer=0, head=1).item(), rel=1e-5
    )
    lines = dict(line.split(": ", 1) for line in error.splitlines())
    assert int(lines["not measured"]) == classes.counts["not measured"] == 10
    for name, heads in (*classes.specific.items(), ("agnostic", classes.agnostic)):
        key = name if name == "agnostic" else f"{name}-specific"
        assert lines[key].startswith(f"{len(heads)} (by chance ")
        assert lines[key].endswith(f") {heads}".rstrip())
    for language, heads in classes.distinct.items():
        said = f"{len(heads)} of its {len(classes.specific[language])} {heads}".rstrip()
        assert lines[f"shown to matter more to {language}"] == said


def test_top_on_the_command_line(verb, tiny_folder, texts_folder, out):
    code, printed, error = verb(
        "knockout", tiny_folder, "--text", texts_folder, "--out", out / "k.nc", "--device", "cpu",
        "--languages", "en", "--top", "2", "--confidence", "0.9",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "k.nc", "knockout")
    assert ((found.top == 1).sum(), found.attrs["confidence"]) == (2, 0.9)
    assert re.search(
        r"^en: L\dH\d L\dH\d lose most \(zero, confidence 0.9\)$", printed + error, re.M
    )


@pytest.mark.parametrize(("sample", "run"), [("11", 11), ("0.9", 11)])
def test_sample_on_the_command_line(verb, tiny_folder, texts_folder, out, sample, run):
    code, _, error = verb(
        "knockout", tiny_folder, "--text", texts_folder, "--out", out / "k.nc", "--device", "cpu",
        "--languages", "en", "--heads", "L0H1", "--sample", sample,
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "k.nc", "knockout")
    assert (found.sampled > 0).sum() == run
    assert found.attrs["sample"] == float(sample)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("knockout", [], "Missing option '--text'"),
        ("knockout-task", [], "Missing option '--questions'"),
        ("knockout", ["--text", "t", "--questions", "q"], "No such option: --questions"),
        ("knockout", ["--text", "t", "--measure", "f1"], "No such option: --measure"),
        ("knockout", ["--text", "t", "--template", "x"], "No such option: --template"),
        ("knockout", ["--text", "t", "--max-new-tokens", "3"], "No such option: --max-new-tokens"),
        ("knockout-task", ["--questions", "q", "--top", "3"], "No such option: --top"),
        ("knockout", ["--text", "TEXT", "--top", "99"],
         "top 99 of 12 heads asked for; at least 1, and fewer than all"),
        ("knockout", ["--text", "TEXT", "--sample", "x"],
         "--sample 'x': write a share like 0.1, or a number"),
        ("knockout", ["--text", "TEXT", "--sample", "4"],
         "sample 4 asked for, which draws 4 of the 12 documents of language en; at least 8 are "
         "needed"),
        *(("knockout-task", ["--questions", *given], message) for given, message in (
            (["no"], "no folder no; questions are a folder of <language>.jsonl"),
            (["QA", "--languages", "fr"], "no questions for language fr in"),
            (["QA", "--measure", "bleu"], "measure bleu asked for; allowed are answer-logprob,"),
            (["QA", "--docs", "0"], "0 questions asked for; at least 1 is needed"),
            (["QA", "--max-new-tokens", "0"], "0 new tokens asked for; at least 1 is needed"),
            (["QA", "--template", "Q"], "it needs the fields {context} and {question}"),
            (["QA", "--max-tokens", "4"], "all 4 questions are too long: more than 4 tokens"),
            (["QA", "--heads", "L9H0"], "head L9H0 asked for, but the model has 3 layers"),
            (["QA", "--baseline", "median"], "baseline median asked for; allowed are zero"),
            (["QA", "--batch-tokens", "x"], "--batch-tokens 'x': allowed are auto"),
        )),
    ],
)  # fmt: skip
def test_what_knockout_refuses(
    verb, tiny_folder, questions, texts_folder, out, name, arguments, message
):
    places = {"QA": questions, "TEXT": texts_folder}
    code, printed, error = verb(
        name, tiny_folder, "--out", out / "k.nc", "--device", "cpu",
        *(places.get(argument, argument) for argument in arguments),
    )  # fmt: skip
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["KNOCKOUT", "--languages", "en,fr"], "languages en, fr asked for; give two of en, zh"),
        (["KNOCKOUT", "--languages", "en"], "languages en asked for; give two of en, zh"),
        (["KNOCKOUT", "--languages", "en,zh", "--measure", "f1"], "measure 'f1' asked for"),
        (["KNOCKOUT", "--languages", "en,zh", "--alpha", "2"], "alpha 2.0"),
        (["KNOCKOUT", "--languages", "en,zh", "--baseline", "mean"], "the file has zero"),
        (["no.nc", "--languages", "en,zh"], "no file no.nc"),
        (["KNOCKOUT"], "languages en, hi asked for; give two of en, zh"),
    ],
)
def test_what_classify_refuses(verb, tiny, out, tmp_path, arguments, message):
    made = langheads.knockout(
        tiny, {x: grammar.documents(x, 2) for x in ("en", "zh")}, heads=["L0H0"], max_tokens=9
    )
    path = langheads.save(made, tmp_path / "k.nc")
    code, printed, error = verb(
        "classify", *(path if a == "KNOCKOUT" else a for a in arguments), "--out", out / "c.json"
    )
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert os.listdir(out) == []
