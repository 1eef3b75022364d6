"""Soft head mask, questions and pruning on the command line, and what is refused there."""

import json
import os

import numpy as np
import pytest
import torch
import transformers

import langheads
from langheads import cli


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
def records():
    return {
        language: [
            {
                "id": f"q{i}",
                "context": f"{i // 2} {language} tea",
                "question": f"{i % 2}?",
                "answers": [str(i)],
            }
            for i in range(10)
        ]
        for language in ("en", "hi")
    }


@pytest.fixture(scope="module")
def questions(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qa")
    for language, of_language in records.items():
        lines = [json.dumps(record) for record in of_language]
        (folder / f"{language}.jsonl").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def chosen(tiny):
    shape = (3, 4)
    return langheads.LanguageHeads(
        {
            "hi": langheads.HeadSet(["L1H2", "L0H3"], shape),
            "zh": langheads.HeadSet(["L2H0"], shape),
            "en": langheads.HeadSet([], shape),
        },
        langheads.HeadSet([], shape),
        "tiny",
        provenance=langheads.model.describe(tiny) | {"seed": 0, "docs": 2},
    )


@pytest.fixture
def heads(chosen, tmp_path):
    return chosen.save(tmp_path / "heads.json")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


TRAIN = ["--train", "4", "--epochs", "1", "--batch-size", "2", "--device", "cpu"]


def test_adapt_then_evaluate(verb, tiny_folder, tiny, records, questions, heads, out):
    code, printed, error = verb(
        "adapt", tiny_folder, "--heads", heads, "--questions", questions, "--language", "hi",
        "--out", out / "mask.json", *TRAIN, "--template", r"{question}\n{context} =",
    )  # fmt: skip
    assert (code, printed.strip()) == (0, str(out / "mask.json")), error
    mask = langheads.HeadMask.load(out / "mask.json")
    same = langheads.adapt(
        tiny, ["L1H2", "L0H3"], records, language="hi", train=4, epochs=1, batch_size=2,
        template="{question}\n{context} =",
    )  # fmt: skip
    assert mask.values == pytest.approx(same.values, abs=1e-5)
    assert mask.split == same.split
    assert [str(head) for head in mask.heads] == ["L1H2", "L0H3"]
    assert f"L1H2: {mask.values[0]:.4f}" in error.splitlines()
    assert error.count("nats per answer token") == 2 + len(mask.losses["validation"])

    # In another language, too, of which the questions seen in this one are left out.
    for language, further in (("hi", ["--n-controls", "0"]), ("en", ["--n-controls", "0"])):
        code, printed, error = verb(
            "evaluate-qa", tiny_folder, "--questions", questions, "--language", language,
            "--gates", out / "mask.json", "--out", out / f"{language}.nc", "--device", "cpu",
            "--max-new-tokens", "3", "--n-resamples", "20", *further,
        )  # fmt: skip
        assert (code, printed.strip()) == (0, str(out / f"{language}.nc")), error
        found = langheads.load_result(out / f"{language}.nc", "qa")
        by_function = langheads.evaluate_qa(
            tiny,
            records,
            language=language,
            gates=mask,
            n_controls=0,
            max_new_tokens=3,
            n_resamples=20,
        )
        assert set(found.example.values.tolist()).isdisjoint(mask.split["seen"])
        assert found.attrs["template"] == "{question}\n{context} ="
        np.testing.assert_allclose(
            found.example_answer_nll, by_function.example_answer_nll, rtol=1e-5
        )
        assert found.reply.values.tolist() == by_function.reply.values.tolist()
        nll = found.answer_nll.sel(condition="mask").item()
        assert f"answer_nll={nll:.4f}" in error.splitlines()[-2]


def test_evaluate_beside_random_heads(verb, tiny_folder, tiny, records, questions, out):
    arguments = {"train": 4, "epochs": 1, "batch_size": 2, "seed": 3}
    mask = langheads.adapt(tiny, ["L1H2", "L0H3"], records, language="hi", **arguments)
    mask.save(out / "mask.json")
    code, _, error = verb(
        "evaluate-qa", tiny_folder, "--questions", questions, "--language", "hi",
        "--n-controls", "1", "--gates", out / "mask.json", "--out", out / "q.nc", "--device", "cpu",
        "--max-new-tokens", "2", "--n-resamples", "20",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "q.nc", "qa")
    names = ["untouched", "language heads", "random heads 0", "all heads"]
    assert found.condition.values.tolist() == names
    np.testing.assert_allclose(found.gates.sel(condition=names[1]), mask.gates(), rtol=1e-6)
    # The random heads' mask is what adapt makes of these heads.
    drawn = found.trained.sel(condition=names[2]).values
    chosen = langheads.HeadSet(list(map(tuple, np.argwhere(drawn).tolist())), (3, 4))
    again = langheads.adapt(tiny, chosen, records, language="hi", **arguments)
    np.testing.assert_allclose(found.gates.sel(condition=names[2]), again.gates(), rtol=1e-5)
    nll = found.answer_nll
    versus = (nll.sel(condition=names[1]) - nll.sel(condition=names[2])).item()
    (told,) = [line for line in error.splitlines() if line.startswith("answer_nll, language")]
    n = found.sizes["example"]
    assert told.startswith(
        f"answer_nll, language heads over random heads, {n} questions: {versus:+.4f}"
    )


def test_random_heads_stand_beside_a_mask_unless_told_otherwise(
    verb, tiny_folder, tiny, records, questions, out
):
    arguments = {"train": 4, "epochs": 1, "batch_size": 2}
    mask = langheads.adapt(tiny, ["L1H2", "L0H3"], records, language="hi", **arguments)
    mask.save(out / "mask.json")
    code, _, error = verb(
        "evaluate-qa", tiny_folder, "--questions", questions, "--language", "hi", "--gates",
        out / "mask.json", "--out", out / "q.nc", "--device", "cpu", "--max-new-tokens", "2",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "q.nc", "qa")
    random = [f"random heads {k}" for k in range(3)]
    assert found.condition.values.tolist() == ["untouched", "language heads", *random, "all heads"]


def test_gates_are_a_file_or_names_of_heads_that_are_off(verb, tiny_folder, tiny, questions, out):
    code, _, error = verb(
        "evaluate-qa", tiny_folder, "--questions", questions, "--language", "hi", "--gates",
        "a=L1H2,b=L0H3,L1H2", "--out", out / "q.nc", "--device", "cpu", "--max-new-tokens", "1",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "q.nc", "qa")
    assert found.condition.values.tolist() == ["untouched", "a", "b"]
    off = found.gates.sel(condition=["a", "b"]).to_numpy() == 0
    assert np.argwhere(off).tolist() == [[0, 1, 2], [1, 0, 3], [1, 1, 2]]


@pytest.mark.parametrize(
    "further", [["--language", "en"], ["--language", "hi", "--max-tokens", "200"]]
)
def test_the_same_gates_stand_on_random_heads_where_none_can_be_trained(
    verb, tiny_folder, tiny, records, questions, out, further
):
    arguments = {"train": 4, "epochs": 1, "batch_size": 2, "learning_rate": 1.0}
    mask = langheads.adapt(tiny, ["L1H2", "L0H3"], records, language="hi", **arguments)
    mask.save(out / "mask.json")
    code, _, error = verb(
        "evaluate-qa", tiny_folder, "--questions", questions, *further,
        "--gates", out / "mask.json", "--out", out / "q.nc",
        "--device", "cpu", "--max-new-tokens", "2",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "q.nc", "qa")
    random = [f"random heads {k}" for k in range(3)]
    assert found.condition.values.tolist() == ["untouched", "language heads", *random]
    assert found.attrs["random_heads"] == "the same gates, not trained"
    chosen = {(1, 2): mask.gates()[1, 2].item(), (0, 3): mask.gates()[0, 3].item()}
    for name in random:
        gates = found.gates.sel(condition=name).values
        places = np.argwhere(gates != 1).tolist()
        assert [layer for layer, _ in places] == [0, 1]
        assert not {tuple(at) for at in places} & set(chosen)
        assert gates[tuple(places[0])] == pytest.approx(chosen[0, 3])
        assert gates[tuple(places[1])] == pytest.approx(chosen[1, 2])
        alone = langheads.evaluate_qa(
            tiny, records, language=found.attrs["language"], max_new_tokens=2,
            gates={"mask": mask, "moved": torch.from_numpy(gates).float()},
            **({"max_tokens": 200} if "200" in further else {}),
        )  # fmt: skip
        np.testing.assert_allclose(
            found.example_answer_nll.sel(condition=name),
            alone.example_answer_nll.sel(condition="moved"),
            rtol=1e-5,
        )
    nll = found.answer_nll
    versus = (nll.sel(condition="language heads") - nll.sel(condition=random).mean()).item()
    assert found.versus_random_answer_nll.sel(condition="language heads").item() == pytest.approx(
        versus
    )


def test_evaluate_without_a_mask(verb, tiny_folder, questions, out):
    code, _, error = verb(
        "evaluate-qa", tiny_folder, "--questions", questions, "--language", "hi",
        "--out", out / "q.nc", "--device", "cpu", "--docs", "3",
    )  # fmt: skip
    assert code == 0, error
    found = langheads.load_result(out / "q.nc", "qa")
    assert found.condition.values.tolist() == ["untouched"]
    assert found.sizes["example"] == 3


def test_prune(verb, tiny_folder, tiny, texts_folder, heads, out):
    code, printed, error = verb(
        "prune", tiny_folder, "--heads", heads, "--drop", "zh,hi", "--out", out / "pruned",
        "--text", texts_folder, "--languages", "zh,hi", "--docs", "2", "--n-controls", "3",
        "--device", "cpu",
    )  # fmt: skip
    assert (code, printed.strip()) == (0, str(out / "pruned")), error
    lines = error.splitlines()
    assert "cut: 0" in lines
    assert "zeroed: 3 L2H0 L1H2 L0H3" in lines
    assert "parameters zeroed: 768; saved: 0 parameters, 0 bytes" in lines
    assert "slices of W_O were zeroed only, so nothing is smaller or faster" in lines
    account = json.loads((out / "pruned" / "pruned.json").read_text("utf-8"))
    for language in ("zh", "hi"):
        loss = account["nats_per_byte"][language]
        told = f"{language}: {loss['before']:.4f} -> {loss['after']:.4f} nats per byte"
        told += f", {loss['rise']:+.4f} [{loss['rise_low']:+.4f}, {loss['rise_high']:+.4f}]"
        told += f"; random heads {loss['control_mean']:+.4f}, p {loss['control_p']:.3f}"
        assert told in lines
        assert loss["rise"] == pytest.approx(loss["after"] - loss["before"], abs=1e-6)
        assert loss["rise_low"] < loss["rise"] < loss["rise_high"]
        assert loss["before"] != loss["after"]
    network = transformers.AutoModelForCausalLM.from_pretrained(
        out / "pruned", attn_implementation="eager"
    )
    tokens = tiny.to_tokens("the cat")
    with torch.no_grad(), langheads.gated(tiny, ["L2H0", "L1H2", "L0H3"], 0.0):
        expected = tiny(tokens)
    torch.testing.assert_close(network.eval()(tokens).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heads-of", "fr"], "heads of fr asked for; the head set has hi, zh, en, general"),
        (["--language", "fr"], "no questions for language fr in"),
        (["--language", "en"], "the head set has no heads of en, so there is nothing to gate"),
        (["--language", "zh"], "no questions for language zh in"),
        (["--heads", "none.json"], "cannot read none.json"),
        (["--questions", "none"], "no folder none; questions are a folder of <language>.jsonl"),
        (["--train", "10"], "10 questions to train on and 1 to validate on asked for, of 10 on 5"),
        (["--train", "0"], "0 questions to train on"),
        (["--epochs", "0"], "0 epochs asked for; at least 1"),
        (["--learning-rate", "0"], "it is above 0 and at most 1"),
        (["--template", "Q"], "it needs the fields {context} and {question}"),
        (["--batch-tokens", "no"], "--batch-tokens 'no': allowed are auto or a number > 0"),
        (["--heads-of", "zh", "--train", "no"], "'--train'"),
    ],
)
def test_what_adapt_refuses(verb, tiny_folder, questions, heads, out, arguments, message):
    given = {
        "--heads": heads,
        "--questions": questions,
        "--language": "hi",
        "--out": out / "mask.json",
    }
    given |= dict(zip(TRAIN[::2], TRAIN[1::2], strict=True))
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    code, printed, error = verb("adapt", tiny_folder, *[x for pair in given.items() for x in pair])
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gates", "HEADS"], "heads.json is not a head mask of format 1"),
        (["--gates", "none.json"], "cannot read none.json"),
        (["--language", "zh"], "no questions for language zh in"),
        (["--docs", "0"], "0 questions asked for"),
        (["--max-new-tokens", "0"], "0 new tokens asked for; at least 1 is needed"),
        (
            ["--n-controls", "2"],
            "2 controls asked for; random heads stand beside a mask, so give one",
        ),
        (
            ["--n-controls", "-1", "--gates", "m.json"],
            "Invalid value for '--n-controls'",
        ),
    ],
)
def test_what_evaluate_refuses(verb, tiny_folder, questions, heads, out, arguments, message):
    given = {"--questions": questions, "--language": "hi", "--out": out / "q.nc", "--device": "cpu"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    flat = [heads if x == "HEADS" else x for pair in given.items() for x in pair]
    code, printed, error = verb("evaluate-qa", tiny_folder, *flat)
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ")
    assert message in error
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop", "fr"], "heads of fr asked for; the head set has hi, zh, en, general"),
        (["--drop", "zh,"], "heads of asked for; the head set has"),
        (["--drop", "general"], "the head set has no heads of general"),
        (["--heads", "none.json"], "cannot read none.json"),
        (["--text", "none"], "none"),
        (["--text", "TEXTS", "--docs", "0"], "0 documents asked for"),
        (["--n-controls", "1"], "1 controls asked for; 0 or at least 2 are needed"),
        (["--out", "FULL"], "it is a folder that is not empty; name a new folder"),
    ],
)
def test_what_prune_refuses(verb, tiny_folder, texts_folder, heads, out, arguments, message):
    names = {"TEXTS": texts_folder, "FULL": heads.parent}
    given = {"--heads": heads, "--drop": "zh", "--out": out / "pruned", "--device": "cpu"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    flat = [names.get(x, x) for pair in given.items() for x in pair]
    code, printed, error = verb("prune", tiny_folder, *flat)
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ")
    assert message in error
    assert os.listdir(out) == []


def test_heads_of_another_model_are_refused(verb, tiny_folder, chosen, questions, out, tmp_path):
    other = langheads.LanguageHeads(
        chosen.specific, chosen.general, "x", provenance={"weight_hash": "1234"}
    ).save(tmp_path / "other.json")
    for arguments in (
        ["adapt", tiny_folder, "--questions", questions, "--language", "hi", *TRAIN],
        ["prune", tiny_folder, "--drop", "hi", "--device", "cpu"],
    ):
        code, _, error = verb(*arguments, "--heads", other, "--out", out / "x")
        assert code == 2
        assert "the head set was made with weights 1234" in error
        assert os.listdir(out) == []
