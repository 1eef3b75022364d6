"""What a run will take, told before it by verbs that keep no parts."""

import json
import os
import re

import pytest

import langheads
from langheads.cli.carry_out import carry_out
from langheads.io.estimate import estimated
from langheads.io.shards import in_parts
from langheads.model import describe

HEADS = "zh=L2H0,L1H2,hi=L0H3"
QUESTIONS = {
    "hi": [
        {"id": f"q{i}", "context": f"{i // 2} tea", "question": f"{i % 2}?", "answers": [str(i)]}
        for i in range(10)
    ]
}
PROMPTS = [
    {"prompt": f"{i} cats are", "answer": " big", "wrong": " old", "language": "en"}
    | ({"corrupt": f"{i} chats sont"} if i else {})
    for i in range(4)
]
SMALL = {"languages": "en,zh", "docs": 3, "n_controls": 2, "batch_tokens": "90"}


@pytest.fixture
def estimate(tiny, tmp_path, capsys):
    """Runs a verb dry and then really: what the first told, and the note of the second."""

    def run(verb, name, **given):
        given |= {"model": "tiny", "out": str(tmp_path / name)}
        before = describe(tiny)
        carry_out(verb, given | {"dry_run": True}, load=lambda **_: tiny)
        told = capsys.readouterr().out
        # Nothing else is left, neither beside the result nor in the model.
        assert os.listdir(tmp_path) == [f"{name}.parts"]
        assert os.listdir(tmp_path / f"{name}.parts") == ["estimate.json"]
        assert describe(tiny) == before
        *batches, total = told.splitlines()
        took = re.fullmatch(r"about (.+) in all; memory (.+) GiB at most", total)
        carry_out(verb, given, load=lambda **_: tiny)
        note = capsys.readouterr().err.splitlines()
        end = f" GiB at most; estimated were {took[1]} and {took[2]} GiB"
        assert sum(line.endswith(end) for line in note) == 1, (note, end)
        assert os.listdir(tmp_path) == [name]
        found = [re.fullmatch(r"(.+): (\d+) batches, .+", line) for line in batches]
        return {of[1]: int(of[2]) for of in found if of}, batches

    return run


def test_of_attribute_every_prompt_is_counted(estimate, tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, PROMPTS)))
    # A batch each.
    how = {"heads": "L2H1", "batch_tokens": "1"}
    batches, _ = estimate("attribute", "a.nc", prompts=str(path), **how)
    assert batches == {"direct": 4, "gradient": 4, "patching": 3}


def test_of_attention_all_is_run(estimate):
    _, told = estimate("attention", "a.json", text="the cat", heads="L0H2", gates="L0H2")
    assert told == ["no batches: all of it was run, and no result written"]


def test_of_adapt_steps_and_checks_are_counted(estimate, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    (folder / "hi.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS["hi"])))
    how = {"language": "hi", "train": 5, "epochs": 1, "batch_size": 2}
    batches, _ = estimate("adapt", "m.json", heads=HEADS, questions=str(folder), **how)
    losses = langheads.adapt(tiny, ["L0H3"], QUESTIONS, **how).losses
    checks = len(losses["train_set"]) + len(losses["validation"])
    assert batches == {"training steps": len(losses["train"]), "answer losses": checks}


def test_of_questions_masks_that_are_trained_beside_one_are_counted(tiny):
    how = {"language": "hi", "train": 2, "epochs": 1, "batch_size": 1, "validation": 0.0}
    mask = langheads.adapt(tiny, ["L0H3"], QUESTIONS, **how)
    # On random heads and on all heads.
    how = {"language": "hi", "n_controls": 1, "max_new_tokens": 1, "n_resamples": 1}
    with estimated() as of:
        langheads.evaluate_qa(tiny, QUESTIONS, gates=mask, **how)
    assert of.batches["training steps"] == 2 * 2


def test_of_prune_batches_are_as_many_as_parts_of_the_run(
    estimate, tiny, texts_folder, tmp_path_factory, caplog
):
    given = SMALL | {"text": str(texts_folder)}
    batches, _ = estimate("prune", "p", heads=HEADS, drop="zh", **given)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("writing the weights and reading them back is not in the estimate") == 1
    folder = tmp_path_factory.mktemp("run")
    heads = {"zh": ["L2H0", "L1H2"], "hi": ["L0H3"]}
    how = SMALL | {"languages": ["en", "zh"], "batch_tokens": 90, "text": texts_folder}
    parts = folder / "parts"
    in_parts(
        lambda: langheads.prune(tiny, heads, drop="zh", out=folder / "p", **how), parts, keep=True
    )
    assert batches == {"heads off": len(list(parts.glob("*.part")))}
    assert batches["heads off"] > 4


@pytest.mark.slow
def test_of_the_demo_no_page_is_written(tmp_path, capsys):
    given = {"out": str(tmp_path / "page"), "docs": 12, "n_controls": 3, "dry_run": True}
    carry_out("demo", given)
    batches = re.findall(r"^(.+): (\d+) batches, ", capsys.readouterr().out, re.MULTILINE)
    assert [what for what, _ in batches] == ["gate gradients", "mean z", "heads off"]
    assert os.listdir(tmp_path) == ["page.parts"]
