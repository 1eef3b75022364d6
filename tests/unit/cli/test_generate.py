"""The verb generate: its records against the Python functions, and each error in one line."""

import json
import os
import re
import sys

import numpy as np
import pytest
import torch

import langheads
from langheads import cli
from langheads.experiments.replies.experiment import generate_replies
from langheads.experiments.replies.judge import reply_nll
from langheads.heads import HeadSet, LanguageHeads
from langheads.model import describe, gated, mean_z, steered
from langheads.text import detector, repetition_share, right_language

PROMPTS = [
    {"prompt": "the cat sleeps on", "language": "en", "id": "first"},
    {"prompt": "猫在暖和的", "language": "zh"},
    {"prompt": "बिल्ली", "language": "hi"},
    {"prompt": "no language is wanted here"},
]
SPECIFIC = {"en": ["L0H1", "L2H3"], "zh": ["L1H0"], "hi": ["L0H1", "L1H2"]}
NEW = ["--max-new-tokens", "8"]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in PROMPTS), "utf-8")
    return path


@pytest.fixture
def heads(tiny, tmp_path):
    shape = (3, 4)
    return LanguageHeads(
        {language: HeadSet(of, shape) for language, of in SPECIFIC.items()},
        HeadSet(["L2H0"], shape),
        "tiny",
        provenance=describe(tiny),
    ).save(tmp_path / "heads.json")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def verb(monkeypatch, capsys, tiny_folder, out):
    """Runs ``langheads generate`` in this process: exit code, stdout, stderr."""
    for name in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "1")

    def run(*arguments):
        given = ["langheads", "generate", tiny_folder, "--out", out / "r.jsonl", *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, given), "--device", "cpu"])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def read(out):
    return [json.loads(line) for line in (out / "r.jsonl").read_text("utf-8").splitlines()]


def told(error):
    """The summary on stderr."""
    (line,) = [line for line in error.splitlines() if line.startswith("replies=")]
    pairs = (part.split("=") for part in line.split())
    return {k: None if v == "none" else float(v) for k, v in pairs}


def test_untouched(verb, prompts, out, tiny):
    code, printed, error = verb("--prompts", prompts, *NEW)
    assert (code, printed) == (0, f"{out / 'r.jsonl'}\n")
    records = read(out)
    expected = langheads.generate(tiny, [p["prompt"] for p in PROMPTS], max_new_tokens=8)
    assert [r["reply"] for r in records] == [reply.text for reply in expected]
    assert [r["id"] for r in records] == ["first", "2", "3", "4"]
    assert [r["wanted"] for r in records] == ["en", "zh", "hi", None]
    detect = detector()
    for record, nats in zip(records, reply_nll(tiny, expected), strict=True):
        assert (record["language"], record["confidence"]) == detect(record["reply"])
        assert record["nll_per_token"] == pytest.approx(nats, rel=1e-5)
        assert record["gates"] == record["shift"] == {}
        assert "untouched" not in record
        right = record["wanted"] and right_language(record["reply"], record["wanted"], detect)
        assert record["right"] is right
    summary = told(error)
    assert summary["replies"] == 4
    assert "switch_rate" not in summary
    assert summary["nll_per_token"] == pytest.approx(
        sum(r["nll_per_token"] for r in records) / 4, abs=1e-4
    )


def test_gates_by_language(verb, prompts, heads, out, tiny):
    arguments = ["--gate", "zh=0", "--gate", "en=3", "--gate", "general=0.5"]
    code, _, error = verb("--prompts", prompts, "--heads", heads, *arguments, *NEW)
    assert code == 0, error
    gates = torch.ones(3, 4)
    gates[1, 0], gates[0, 1], gates[2, 3], gates[2, 0] = 0.0, 3.0, 3.0, 0.5
    texts = [p["prompt"] for p in PROMPTS]
    expected = langheads.generate(tiny, texts, gates=gates, max_new_tokens=8)
    before = langheads.generate(tiny, texts, max_new_tokens=8)
    records = read(out)
    assert [r["reply"] for r in records] == [reply.text for reply in expected]
    assert [r["untouched"]["reply"] for r in records] == [reply.text for reply in before]
    assert [r.text for r in before] != [r.text for r in expected]
    assert records[0]["gates"] == {"zh": 0.0, "en": 3.0, "general": 0.5}
    # The summary is in a file, too, with what it was made from.
    document = json.loads((out / "r.summary.json").read_text("utf-8"))
    shown = {k: v for k, v in document["summary"].items() if k != "random_heads"}
    assert told(error) == {k: None if v is None else round(v, 4) for k, v in shown.items()}
    made = document["provenance"]
    assert {key: made[key] for key in describe(tiny)} == describe(tiny)
    assert made["heads"] == {"zh": "L1H0", "en": "L0H1 L2H3", "general": "L2H0"}
    assert made["gates"] == {"zh": 0.0, "en": 3.0, "general": 0.5}
    assert made["text"] == str(prompts)
    assert json.loads(made["text_hash"]).keys() == {"en", "zh", "hi", "none wanted"}
    known = ("seed", "temperature", "max_new_tokens", "min_words", "sure", "baseline")
    assert [made[key] for key in known] == [0, 0.0, 8, 5, 0.3, "zero"]
    assert made["langheads"] == langheads.__version__
    change = reply_nll(tiny, expected).mean() - reply_nll(tiny, before).mean()
    assert told(error)["delta_nll_per_token"] == pytest.approx(change, abs=1e-4)
    alone = verb("--prompts", prompts, "--heads", heads, *arguments, *NEW, "--no-compare")
    assert "delta_nll_per_token" not in told(alone[2])
    assert [r["reply"] for r in read(out)] == [reply.text for reply in expected]


def test_random_heads_under_the_same_gates(verb, prompts, heads, out, tiny):
    """Each draw is a run of its own, with the same gates on the heads that it names."""
    gates = {"L1H0": 0.0, "L0H1": 3.0, "L2H3": 3.0}
    given = ["--prompts", prompts, "--heads", heads, "--gate", "zh=0", "--gate", "en=3", *NEW]
    code, _, error = verb(*given, "--n-controls", "4")
    assert code == 0, error
    random = json.loads((out / "r.summary.json").read_text("utf-8"))["summary"]["random_heads"]
    assert len(set(random["draws"])) > 1
    texts = [p["prompt"] for p in PROMPTS]
    before = langheads.generate(tiny, texts, max_new_tokens=8)
    costs, repetition = [], []
    for draw in random["draws"]:
        places = draw.split()
        # In the order of the layers, as the chosen ones are; none of these is taken.
        assert [place[:2] for place in places] == ["L0", "L1", "L2"]
        assert not set(places) & set(gates)
        moved = torch.ones(3, 4)
        for place, value in zip(places, (3.0, 0.0, 3.0), strict=True):
            layer, head = map(int, place[1:].split("H"))
            moved[layer, head] = value
        replies = langheads.generate(tiny, texts, gates=moved, max_new_tokens=8)
        costs.append(reply_nll(tiny, replies).mean() - reply_nll(tiny, before).mean())
        repetition.append(np.mean([repetition_share(r.tokens) for r in replies]))
    found = random["delta_nll_per_token"]
    assert found["mean"] == pytest.approx(np.mean(costs), abs=1e-5)
    assert (found["low"], found["high"]) == pytest.approx((min(costs), max(costs)), abs=1e-5)
    assert random["repetition"]["mean"] == pytest.approx(np.mean(repetition))
    # What the run took comes last.
    told, took = error.splitlines()[-2:]
    assert took.startswith("took ")
    assert f"delta_nll_per_token={np.mean(costs):.4f}"[:24] in told
    assert told.startswith("random heads, mean of 4: right=")
    verb(*given, "--n-controls", "0")
    alone = json.loads((out / "r.summary.json").read_text("utf-8"))["summary"]
    assert "random_heads" not in alone


def test_a_learned_mask(verb, prompts, heads, out, tiny, tmp_path):
    def mask(baseline, provenance):
        settings = {"baseline": baseline}
        losses = {"train": [1.5], "train_set": [[0, 1.5], [1, 1.25]], "validation": []}
        split = {key: [] for key in ("train", "validation", "seen", "contexts")} | {"test": 0}
        return langheads.HeadMask(
            HeadSet(["L0H1", "L2H3"], (3, 4)),
            (2.5, 0.25),
            "en",
            "tiny",
            settings,
            losses,
            split,
            provenance,
        ).save(tmp_path / "mask.json")

    path = mask("zero", describe(tiny))
    code, _, error = verb("--prompts", prompts, "--mask", path, *NEW)
    assert code == 0, error
    gates = torch.ones(3, 4)
    gates[0, 1], gates[2, 3] = 2.5, 0.25
    texts = [p["prompt"] for p in PROMPTS]
    expected = langheads.generate(tiny, texts, gates=gates, max_new_tokens=8)
    before = langheads.generate(tiny, texts, max_new_tokens=8)
    assert [r["reply"] for r in read(out)] == [reply.text for reply in expected]
    assert [r.text for r in expected] != [r.text for r in before]
    assert read(out)[0]["mask"] == {"L0H1": 2.5, "L2H3": 0.25}
    assert told(error)["switch_rate"] is not None
    made = json.loads((out / "r.summary.json").read_text("utf-8"))["provenance"]
    assert made["mask"] == {"L0H1": 2.5, "L2H3": 0.25}
    (out / "r.jsonl").unlink()
    (out / "r.summary.json").unlink()
    both = verb("--prompts", prompts, "--mask", path, "--heads", heads, "--gate", "zh=0", *NEW)
    assert both[0] == 2
    assert "gates and a mask were both given; give one" in both[2]
    other = verb("--prompts", prompts, "--mask", path, "--baseline", "mean", *NEW)
    assert other[0] == 2
    assert "a mask keeps the baseline that it was learned with" in other[2]
    path = mask("mean of other texts", describe(tiny))
    code, _, error = verb("--prompts", prompts, "--mask", path, *NEW)
    assert code == 2
    assert "learned with baseline mean of other texts" in error
    path = mask("zero", describe(tiny) | {"weight_hash": "0" * 64})
    code, _, error = verb("--prompts", prompts, "--mask", path, *NEW)
    assert code == 2
    assert "weights 000000000000" in error
    assert os.listdir(out) == []


def test_shift_and_mean_baseline(verb, prompts, heads, out, tiny, texts, texts_folder):
    arguments = ["--text", texts_folder, "--docs", "5", "--steer", "zh-en=2.5", "--gate", "hi=0"]
    code, _, error = verb(
        "--prompts", prompts, "--heads", heads, *arguments, "--baseline", "mean", *NEW
    )
    assert code == 0, error
    front = langheads.read_texts(texts).front(5)
    means = {
        language: mean_z(tiny, [tiny.to_tokens(t, prepend_bos=True)[0] for t in of])
        for language, of in front.items()
    }
    heads_of_both = ["L1H0", "L0H1", "L2H3"]
    pooled = sum(means.values()) / 3
    with steered(tiny, heads_of_both, means["zh"] - means["en"], 2.5):
        expected = langheads.generate(
            tiny,
            [p["prompt"] for p in PROMPTS],
            gates=["L0H1", "L1H2"],
            baseline=pooled,
            max_new_tokens=8,
        )
    assert [r["reply"] for r in read(out)] == [reply.text for reply in expected]
    assert read(out)[0]["shift"] == {"zh-en": 2.5}
    made = json.loads((out / "r.summary.json").read_text("utf-8"))["provenance"]
    assert made["shift"] == {"zh-en": 2.5}
    assert made["heads"] == {"hi": "L0H1 L1H2", "zh": "L1H0", "en": "L0H1 L2H3"}
    assert made["means"]["text_hash"] == langheads.read_texts(texts).hashes


def test_too_few_candidates_are_told(tiny, caplog):
    prompts = [{"prompt": "the cat", "language": "en"}]
    for languages in (["en", "zh", "hi"], ["en", "zh", "hi", "de"]):
        caplog.clear()
        generate_replies(tiny, prompts, candidates=languages, max_new_tokens=2)
        assert ("always surer than 0.3" in caplog.text) is (len(languages) == 3)


def test_reply_nll_by_hand(tiny):
    """Against log softmax of the model's own logits, one reply at a time; under gates, too."""
    made = langheads.generate(tiny, ["ab", "", "a longer prompt"], max_new_tokens=5, bos=True)
    assert len(made[1].prompt_tokens) == 1
    for gates in (torch.ones(3, 4), langheads.HeadSet(["L1H1"], (3, 4))):
        with torch.no_grad(), gated(tiny, gates, 0.0):
            found = reply_nll(tiny, made)
            for reply, nats in zip(made, found, strict=True):
                row = torch.tensor([reply.prompt_tokens + reply.tokens])
                log_probs = tiny(row)[0, :-1].log_softmax(dim=-1)
                picked = log_probs.gather(1, row[0, 1:, None])[-len(reply.tokens) :]
                assert nats == pytest.approx(-float(picked.mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gate", "zh"], "--gate 'zh': write name and number like zh=0"),
        (["--gate", "zh=off"], "--gate 'zh=off': write name"),
        (["--gate", "zh=nan"], "--gate 'zh=nan': write name"),
        (["--gate", "zh=1e300", "--heads", "HEADS"],
         r"the gate of zh is 1e\+300; it must be a finite number that float32 holds"),
        (["--steer", "zh-en=-1e39", "--heads", "HEADS", "--text", "TEXTS"],
         r"the steering zh-en is -1e\+39; it must be"),
        (["--gate", "zh=0", "--gate", "zh=1"], "--gate zh was given twice"),
        (["--gate", "zh=0"], "needs a head set"),
        (["--gate", "fr=0", "--heads", "HEADS"], "heads of fr asked for; .* en, zh, hi, general"),
        (["--gate", "en=0", "--gate", "hi=3", "--heads", "HEADS"],
         "head L0H1 serves en and hi, but their gates differ, 0 and 3"),
        (["--steer", "zh=1", "--heads", "HEADS"], "--steer zh: write two languages"),
        (["--steer", "zh-en=1"], "none, since --heads was not given"),
        (["--steer", "zh-en=1", "--heads", "HEADS"], "need texts for the mean of z"),
        (["--gate", "zh=0", "--heads", "HEADS", "--baseline", "median"], "allowed are zero, mean"),
        (["--gate", "zh=0", "--heads", "HEADS", "--baseline", "mean"], "need texts"),
        (["--baseline", "mean"], "baseline mean asked for without gates by language"),
        (["--mask", "none.json", "--baseline", "mean"], "cannot read none.json"),
        (["--candidates", "en,zh"], "language hi is wanted, but the detector answers with en, zh"),
        (["--candidates", "en,klingon"], "py3langid does not know language klingon"),
        (["--detector", "langdetect"], "detector 'langdetect' asked for"),
        (["--chat"], "no chat template"),
        (["--n-controls", "-1"], "Invalid value for '--n-controls'"),
        (["--docs", "0"], "0 documents asked for; at least 1 is needed"),
        (["--steer", "zh-en=1", "--heads", "HEADS", "--text", "TEXTS", "--docs", "0"],
         "0 documents asked for; at least 1 is needed"),
        (["--max-new-tokens", "400"], "prompt 1 has 18 tokens, with 400 new ones"),
        (["--heads", "none.json", "--gate", "zh=0"], "cannot read none.json"),
    ],
)  # fmt: skip
def test_refused_in_one_line(verb, prompts, heads, texts_folder, out, arguments, message):
    given = [{"HEADS": heads, "TEXTS": texts_folder}.get(a, a) for a in arguments]
    code, printed, error = verb("--prompts", prompts, *given)
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no prompts in"),
        ('{"prompt": ""}\n', "line 1: prompt is '', expected a text, not empty"),
        ('{"prompt": "a"}\n["b"]\n', 'line 2: expected {"prompt"}, found'),
        ('{"prompt": "a"}\n{"prompt"\n', "line 2: not JSON"),
        ('{"prompt": "a", "language": 3}\n', "line 1: language is 3, expected a text, not empty"),
        (
            '{"prompt": "a", "id": 2}\n{"prompt": "b"}\n',
            "line 2: id 2 a second time; ids must differ",
        ),
        ('{"prompt": "\\ud800"}\n', "line 1: prompt has a lone surrogate"),
        ('{"prompt": "a", "language": "\\ud800"}\n', "line 1: language has a lone surrogate"),
        ('{"prompt": "a", "id": "\\ud800"}\n', "line 1: id has a lone surrogate"),
        ('{"prompt": "a", "id": NaN}\n', "line 1: id is nan, expected a text or a whole number"),
        ('{"prompt": "a", "id": [1]}\n', r"line 1: id is \[1\], expected a text or a"),
        ('{"prompt": "a", "id": true}\n', "line 1: id is True, expected a text or a"),
    ],
)
def test_prompts_that_cannot_be_used(verb, tmp_path, out, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(content, "utf-8")
    code, _, error = verb("--prompts", path)
    assert code == 2
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert os.listdir(out) == []


def test_heads_of_another_model(verb, prompts, heads, out):
    document = json.loads(heads.read_text("utf-8"))
    document["provenance"]["weight_hash"] = "0" * 64
    heads.write_text(json.dumps(document), "utf-8")
    code, _, error = verb("--prompts", prompts, "--heads", heads, "--gate", "zh=0")
    assert code == 2
    assert "was made with weights 000000000000" in error
    assert os.listdir(out) == []
