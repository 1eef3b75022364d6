"""Soft head masks: what is split, what changes, what is refused, and the file."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

import langheads
from langheads.demo import grammar
from langheads.experiments.replies.generate import Reply
from langheads.experiments.softmask import summarise, training
from langheads.experiments.softmask.training import split_by_context
from langheads.io.errors import InputError, NonFiniteError, ProvenanceError
from langheads.text import Question, read_questions


def records(n=12, language="hi"):
    """Three questions on every context, with the answer in it."""
    return {
        language: [
            {
                "id": f"q{i}",
                "context": f"{i // 3} {language} tea",
                "question": f"{i % 3}?",
                "answers": [str(i)],
            }
            for i in range(n)
        ]
    }


SMALL = {"language": "hi", "train": 4, "batch_size": 2, "epochs": 1}


@pytest.fixture(scope="module")
def mask(tiny):
    return langheads.adapt(tiny, ["L1H2", "L0H3"], records(), **SMALL)


def test_only_the_chosen_gates_change(mask):
    gates = mask.gates()
    assert gates.dtype == torch.float32
    changed = {(int(layer), int(head)) for layer, head in (gates != 1).nonzero()}
    assert changed == {(1, 2), (0, 3)}
    assert gates[1, 2].item() == pytest.approx(mask.values[0])
    assert gates[0, 3].item() == pytest.approx(mask.values[1])


@pytest.mark.parametrize("grad", [True, False])
def test_the_model_is_as_before(zoo, grad):
    model = zoo.bridge("llama-gqa")
    before = {name: value.clone() for name, value in model.original_model.state_dict().items()}
    flags = [p.requires_grad for p in model.original_model.parameters()]
    with torch.set_grad_enabled(grad):
        trained = langheads.adapt(model, ["L1H2"], records(), bos=True, **SMALL)
    assert trained.values[0] != 1
    assert [p.requires_grad for p in model.original_model.parameters()] == flags
    assert all(p.grad is None for p in model.original_model.parameters())
    for name, value in model.original_model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(hook.fwd_hooks for hook in model.hook_dict.values())


def test_same_seed_same_gates(tiny, mask):
    again = langheads.adapt(tiny, ["L1H2", "L0H3"], records(), **SMALL)
    assert again.values == mask.values
    assert again.losses == mask.losses
    other = langheads.adapt(tiny, ["L1H2", "L0H3"], records(), seed=1, **SMALL)
    assert other.split["train"] != mask.split["train"]
    assert other.values != mask.values


def test_no_context_is_on_two_sides(mask):
    asked = read_questions(records()).examples["hi"]
    context = {question.id: question.context for question in asked}
    split = mask.split
    assert len(split["train"]) == mask.settings["train"] == 4
    assert len(split["validation"]) == mask.settings["validation"] == 1
    trained, watched = ({context[id] for id in split[side]} for side in ("train", "validation"))
    assert len(trained) == 2
    assert not trained & watched
    # Every question on these contexts is spoilt for testing, the rest is not.
    assert set(split["seen"]) == {q.id for q in asked if q.context in trained | watched}
    assert split["test"] == 12 - len(split["seen"]) == 3
    for question in asked:
        assert mask.has_seen(question.context_digest, question.id, "hi") == (
            question.id in split["seen"]
        )
    # In another language by id; in the same language by context alone.
    id = split["train"][0]
    elsewhere = Question(id=id, context="another text", question="?", answers=("a",))
    assert mask.has_seen(elsewhere.context_digest, id, "zh")
    assert not mask.has_seen(elsewhere.context_digest, id, "hi")


def test_losses_are_those_of_the_steps(tiny, mask):
    assert len(mask.losses["train"]) == mask.settings["steps"] == 2
    steps = [step for step, _ in mask.losses["validation"]]
    assert steps[0] == 0
    assert steps[-1] == 2
    # The validation loss at the end is the answer NLL under the gates that were learned.
    (id,) = mask.split["validation"]
    one = {"hi": [r for r in records()["hi"] if r["id"] == id]}
    found = langheads.evaluate_qa(
        tiny, one, language="hi", gates=mask, n_controls=0, allow_overlap=True
    )
    per_token = found.example_answer_nll / found.answer_tokens
    assert per_token.sel(condition="mask").item() == pytest.approx(
        mask.losses["validation"][-1][1], rel=1e-5
    )
    assert per_token.sel(condition="untouched").item() == pytest.approx(
        mask.losses["validation"][0][1], rel=1e-5
    )


def test_the_training_loss_falls_on_the_demo():
    model = langheads.load("demo", device="cpu")
    asked = {"en": grammar.question_answering("en", 24)}
    everything = [f"L{layer}H{head}" for layer in range(4) for head in range(12)]
    mask = langheads.adapt(
        model, everything, asked, language="en", train=8, batch_size=8, epochs=12,
        learning_rate=0.05, validation=0.0,
    )  # fmt: skip
    # A step holds all questions, so its losses can be compared.
    assert mask.losses["train"][-1] < 0.7 * mask.losses["train"][0]
    trained = {"en": [r for r in asked["en"] if r["id"] in mask.split["train"]]}
    found = langheads.evaluate_qa(
        model,
        trained,
        language="en",
        gates=mask,
        n_controls=0,
        allow_overlap=True,
        max_new_tokens=4,
    )
    sizes = found.answer_tokens.sum().item()
    said = [loss for _, loss in mask.losses["train_set"]]
    assert said == pytest.approx(found.example_answer_nll.sum("example").values / sizes, rel=1e-4)
    before, after = found.example_answer_nll.sum("example").values / sizes
    assert before == pytest.approx(mask.losses["train"][0], rel=1e-4)
    assert after < 0.7 * before


def test_the_file(tmp_path, mask):
    again = langheads.HeadMask.load(mask.save(tmp_path / "mask.json"))
    assert again == mask
    assert torch.equal(again.gates(), mask.gates())
    document = json.loads((tmp_path / "mask.json").read_text("utf-8"))
    assert (document["format"], document["shape"]) == (1, [3, 4])
    assert document["gates"][0] == {"head": "L1H2", "gate": mask.values[0]}
    assert os.listdir(tmp_path) == ["mask.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is not a head mask of format 1"),
        ({"kind": "pruned"}, "is not a head mask of format 1"),
        ({"gates": []}, "is not a head mask: gates must be one finite number"),
        ({"gates": [{"head": "L9H0", "gate": 1.0}]}, "head L9H0 asked for, but the model has 3"),
        ({"gates": [{"head": "L0H0", "gate": float("nan")}]}, "one finite number a head"),
        ({"gates": [{"head": "L0H0", "gate": 1}] * 2}, "one finite number a head"),
        ({"split": {}}, "is not a head mask: split.train, .*, split.test missing; found nothing"),
        ({"gates": [{"head": "L0H0", "gate": 1e300}]}, r"the gate of L0H0 is 1e\+300; it must be"),
        ({"gates": [{"head": 3, "gate": 1.0}]}, r"gates\[0\].head is 3, expected a text"),
        ({"gates": [{"head": "L0H0", "gate": "1"}]}, r"gates\[0\].gate is '1', expected a number"),
        (
            {"gates": [{"head": "L0H0", "gate": True}]},
            r"gates\[0\].gate is True, expected a num",
        ),
        ({"gates": ["L0H0"]}, r"gates\[0\] is 'L0H0', expected keys and values"),
        ({"gates": 3}, "mask: gates is 3, expected a list"),
        ({"shape": [3, "4"]}, r"shape is \[3, '4'\], expected two whole numbers from 1"),
        ({"shape": [-3, 4]}, r"shape is \[-3, 4\], expected two whole numbers from 1"),
        ({"language": 3}, "language is 3, expected a text"),
        ({"settings": []}, r"settings is \[\], expected keys and values"),
    ],
)
def test_a_file_that_is_no_mask(tmp_path, mask, change, message):
    path = mask.save(tmp_path / "mask.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InputError, match=message):
        langheads.HeadMask.load(path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("settings.template", 5, "a text"),
        ("settings.seed", "x", "a whole number from 0 to 4294967295"),
        ("settings.seed", -1, "a whole number from 0 to 4294967295"),
        ("settings.max_tokens", "a", "a whole number from 1"),
        ("settings.train", 0, "a whole number from 1"),
        ("settings.train", 1.5, "a whole number from 1"),
        ("settings.epochs", True, "a whole number from 1"),
        ("settings.bos", "no", "true or false"),
        ("settings.learning_rate", "fast", "a finite number"),
        ("settings.baseline", None, "a text"),
        ("losses.train", [1, "x"], "a list of finite numbers"),
        ("losses.train_set", [1, 2], "two pairs of steps and a finite number"),
        ("losses.train_set", [[0, 1.0]], "two pairs of steps and a finite number"),
        ("losses.validation", [[0]], "a list of pairs of steps and a finite number"),
        ("losses.validation", [[0, float("nan")]], "a list of pairs of steps and a finite number"),
        ("split.contexts", None, "a list of texts"),
        ("split.train", [7], "a list of texts"),
        ("split.test", "4", "a whole number from 0"),
    ],
)
def test_a_mask_with_another_kind_of_value(tmp_path, mask, key, value, expected):
    path = mask.save(tmp_path / "mask.json")
    document = json.loads(path.read_text("utf-8"))
    outer, inner = key.split(".")
    document[outer][inner] = value
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(InputError) as told:
        langheads.HeadMask.load(path)
    assert str(told.value) == f"{path} is not a head mask: {key} is {value!r}, expected {expected}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": 12}, "12 questions to train on and 2 to validate on asked for, of 12 on 4 con"),
        ({"train": 10, "validation": 0.0}, "no context may be on two sides and some must be left"),
        ({"train": 0}, "0 questions to train on and a validation share of 0.1 asked for"),
        ({"validation": 2.0}, "a share from 0 to 1"),
        ({"epochs": 0}, "0 epochs asked for; at least 1 is needed"),
        ({"batch_size": 0}, "0 questions a step asked for; at least 1 is needed"),
        ({"learning_rate": 0.0}, "learning rate 0.0 and weight decay 0.01 asked for; a step moves"),
        ({"learning_rate": 1.5}, "above 0 and at most 1"),
        ({"learning_rate": float("nan")}, "learning rate nan and"),
        ({"weight_decay": -1.0}, "the weight decay is from 0 to 1"),
        ({"template": "Q"}, "it needs the fields"),
        ({"language": "zh"}, "no questions for language zh"),
        ({"max_tokens": 4}, "all 12 questions are too long"),
        ({"batch_tokens": 0}, "batch_tokens 0 asked for"),
    ],
)
def test_adapt_refuses(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        langheads.adapt(tiny, ["L0H0"], records(), **(SMALL | changes))


def test_adapt_refuses_heads(tiny):
    with pytest.raises(InputError, match="no heads"):
        langheads.adapt(tiny, [], records(), **SMALL)
    with pytest.raises(InputError, match="head L3H0 asked for, but the model has 3 layers"):
        langheads.adapt(tiny, ["L3H0"], records(), **SMALL)


def test_nan_is_told_with_its_step(zoo, monkeypatch):
    model = zoo.fresh("llama-gqa")
    next(model.original_model.parameters()).data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="loss or gradient of document 0 of language hi is"):
        langheads.adapt(model, ["L0H0"], records(), bos=True, **SMALL)

    original, steps = training.document_nll, []

    def document_nll(*arguments):
        # Only steps ask for gradients; a batch holds all of a step's questions here.
        steps.append(torch.is_grad_enabled())
        return original(*arguments) * (float("nan") if sum(steps) == 2 else 1)

    monkeypatch.setattr(training, "document_nll", document_nll)
    with pytest.raises(NonFiniteError, match="step 2 of 2: loss or gradient of document 0 of"):
        langheads.adapt(zoo.bridge("llama-gqa"), ["L0H0"], records(), bos=True, **SMALL)


def test_a_mask_belongs_to_its_model_baseline_and_questions(tiny, zoo, mask):
    common = {"language": "hi", "gates": mask, "n_controls": 0}
    found = langheads.evaluate_qa(tiny, records(), **common)
    assert set(found.example.values.tolist()).isdisjoint(mask.split["seen"])
    assert (found.sizes["example"], found.attrs["seen_left_out"]) == (3, 9)
    assert found.attrs["docs"] == 3
    two = langheads.evaluate_qa(tiny, records(), docs=2, **common)
    assert two.example.values.tolist() == found.example.values.tolist()[-2:]
    everything = langheads.evaluate_qa(tiny, records(), allow_overlap=True, **common)
    assert everything.sizes["example"] == 12
    assert everything.attrs["overlap"] == 9
    seen = {"hi": [r for r in records()["hi"] if r["id"] in mask.split["seen"]]}
    # Of the questions that were asked, not of all that there are.
    few = langheads.evaluate_qa(tiny, records(), docs=2, allow_overlap=True, **common)
    asked = set(few.example.values.tolist())
    assert few.attrs["overlap"] == len(asked & set(mask.split["seen"])) < 9
    with pytest.raises(InputError, match="all 9 questions have contexts that the mask was trained"):
        langheads.evaluate_qa(tiny, seen, **common)
    with pytest.raises(ProvenanceError, match="the head mask mask was made with weights"):
        langheads.evaluate_qa(changed(zoo), records(), **common)
    with pytest.raises(ProvenanceError, match="3 layers x 4 heads, but this one has 2 x 4"):
        langheads.evaluate_qa(zoo.bridge("llama-mha"), records(), **common)
    with pytest.raises(
        InputError, match=r"was learned with baseline zero, and baseline [0-9a-f]{16}"
    ):
        langheads.evaluate_qa(tiny, records(), baseline=torch.zeros(3, 4, 8), **common)


def changed(zoo):
    model = zoo.fresh("llama-gqa")
    next(model.original_model.parameters()).data.mul_(2)
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gates": torch.ones(2, 4)}, r"gates mask of shape \[2, 4\], expected \[3, 4\]"),
        ({"gates": {"untouched": torch.ones(3, 4)}}, "gates named untouched given"),
        ({"docs": 0}, "0 questions asked for"),
        ({"max_new_tokens": 0}, "0 new tokens asked for; at least 1 is needed"),
        ({"n_resamples": 10**12}, "1000000000000 resamples asked for; allowed are 1 to 1000000"),
        ({"template": "{context}"}, "it needs the fields"),
    ],
)
def test_evaluate_refuses(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        langheads.evaluate_qa(tiny, records(), language="hi", **changes)


def test_gates_are_given_as_gated_takes_them(tiny):
    off = torch.ones(3, 4)
    off[0, 1] = 0.0
    alike = {"tensor": off, "numpy": off.double().numpy(), "names": "L0H1", "list": ["L0H1"]}
    alike |= {"pairs": [(0, 1)], "values": {"L0H1": 0.0}, "by language": {"hi": ["L0H1"]}}
    how = {"language": "hi", "docs": 1, "max_new_tokens": 1}
    found = langheads.evaluate_qa(tiny, records(), gates=alike, **how)
    (nll,) = found.answer_nll.sel(condition=list(alike)).to_numpy().reshape(1, -1)
    assert (nll == nll[0]).all()
    assert nll[0] != found.answer_nll.sel(condition="untouched")
    for one in ({"L0H1": 0.0}, "L0H1"):
        found = langheads.evaluate_qa(tiny, records(), gates=one, **how)
        assert found.answer_nll.sel(condition="mask") == nll[0]
    with pytest.raises(InputError) as told:
        langheads.evaluate_qa(tiny, records(), gates={"L0H1": float("nan")}, **how)
    assert str(told.value) == (
        "the gate of L0H1 is nan; it must be a finite number that float32 holds, at most 3.4e38"
    )


def test_evaluation_judges_replies_and_pairs_questions(tiny, monkeypatch):
    """Replies by hand: measures, means, paired differences and intervals by another route."""
    from langheads.experiments.softmask import evaluation

    said = {
        False: [" tea\nQ: 3", " no", " green tea", "", " it is 4"],
        True: [" tea", " 1!\n2", " tea\n", "\n3", " no"],
    }

    def replies(model, prompts, *, gates, **_):
        return [Reply("", text, (7,), (1, 5), "eos") for text in said[gates is not None]]

    monkeypatch.setattr(evaluation, "generate", replies)
    right = [["tea", "x"], ["1"], ["tea"], ["3"], ["4"]]
    asked = {
        "hi": [
            {"id": f"q{i}", "context": f"c{i}", "question": "?", "answers": answers}
            for i, answers in enumerate(right)
        ]
    }
    # In the seeded order, as the function will ask them.
    order = [int(id[1:]) for id in read_questions(asked).ids]
    for key in said:
        said[key] = [said[key][i] for i in order]
    found = langheads.evaluate_qa(
        tiny, asked, language="hi", gates={"some": torch.ones(3, 4)}, n_resamples=200
    )
    found = found.sortby("example")
    assert found.example_accuracy.values.tolist() == [[1, 0, 1, 0, 1], [1, 1, 1, 1, 0]]
    assert found.example_exact_match.values.tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0]]
    np.testing.assert_allclose(found.example_f1, [[1, 0, 2 / 3, 0, 1 / 2], [1, 1, 1, 1, 0]])
    assert found.accuracy.values.tolist() == [0.6, 0.8]
    assert found.delta_accuracy.values.tolist() == pytest.approx([0, 0.2])
    # Gates of 1 change no probability.
    np.testing.assert_allclose(found.delta_answer_nll, 0, atol=1e-6)
    # Differences are 0, 1, 0, 1, -1 a question: all resamples by their number of each.
    rng = np.random.default_rng(5)
    means = rng.choice([0, 1, 0, 1, -1], size=(20000, 5)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    # Of so few, the t interval is wider: t(4) = 2.776; to more than 1 no share can rise.
    reach = 2.776 * np.sqrt(5 / 4) * means.std()
    low, high = min(low, 0.2 - reach), min(1, max(high, 0.2 + reach))
    some = found.sel(condition="some")
    assert some.delta_accuracy_low.item() == pytest.approx(low, abs=0.21)
    assert some.delta_accuracy_high.item() == pytest.approx(high, abs=0.21)


def test_a_difference_of_shares_is_not_said_to_be_more_than_1():
    """Of five, t reaches to 0.8 + 2.776 * 0.447 / 2."""
    row, contexts = np.array([1.0, 1, 1, 1, 0]), list("abcde")
    for name, end in (("accuracy", 1), ("answer_nll", pytest.approx(1.355, abs=0.05))):
        found = summarise._differences(name, "delta", [row], contexts, 2000, seed=0)
        assert found[f"delta_{name}_high"][1][0] == end


def test_questions_on_one_context_are_drawn_together():
    """Every question four times: the interval of them once; none where contexts are few."""
    differences = np.random.default_rng(0).normal(size=12)
    names = [f"text {i}" for i in range(12)]
    once, often, few = (
        summarise._differences("f1", "delta", [row], contexts, 200, seed=0)
        for row, contexts in (
            (differences, names),
            (np.repeat(differences, 4), np.repeat(names, 4).tolist()),
            (differences, ["text 0"] * 6 + ["text 1"] * 6),
        )
    )
    for end in ("", "_low", "_high"):
        np.testing.assert_allclose(often[f"delta_f1{end}"][1], once[f"delta_f1{end}"][1])
    assert once["delta_f1_low"][1] < differences.mean() < once["delta_f1_high"][1]
    np.testing.assert_allclose(few["delta_f1"][1], differences.mean())
    assert np.isnan([few["delta_f1_low"][1], few["delta_f1_high"][1]]).all()


def test_settings_are_those_of_the_mask(tiny, mask):
    """BOS and length, as the template, are what the gates were learned with."""
    assert (mask.settings["bos"], mask.settings["max_tokens"]) == (True, 2048)

    bare = replace(mask, settings=mask.settings | {"bos": False, "max_tokens": 60})
    common = {"language": "hi", "max_new_tokens": 1, "n_controls": 0}
    found = langheads.evaluate_qa(tiny, records(), gates=bare, **common)
    assert (found.attrs["bos"], found.attrs["max_tokens"]) == (0, 60)
    given = langheads.evaluate_qa(tiny, records(), gates=mask, bos=False, **common)
    np.testing.assert_allclose(found.example_answer_nll, given.example_answer_nll)
    with_bos = langheads.evaluate_qa(tiny, records(), gates=bare, bos=True, **common)
    assert abs(with_bos.answer_nll - found.answer_nll).max() > 0.01
    for key, other in (("bos", False), ("max_tokens", 60), ("template", "{context}{question}")):
        differs = replace(mask, settings=mask.settings | {key: other})
        with pytest.raises(InputError, match=f"masks learned with different {key} were given"):
            langheads.evaluate_qa(tiny, records(), gates={"a": mask, "b": differs}, **common)
    short = replace(mask, settings=mask.settings | {"max_tokens": 4})
    with pytest.raises(InputError, match="questions are too long"):
        langheads.evaluate_qa(tiny, records(), gates=short, **common)


def test_replies_that_fell_apart_are_told(tiny, monkeypatch):
    """Degeneration checks by hand, and how likely the untouched model finds them."""
    from langheads.experiments.softmask import evaluation

    prompt = (1, 70, 71, 72, 73, 74)
    said = {
        False: [(80, 81, 82, 83, 84), (90, 91, 92, 93, 2)],
        # Of two 4-grams the second is the first; the prompt's; white space and the end.
        True: [(75, 75, 75, 75, 75), (70, 71, 72, 73, 2)],
    }
    texts = {False: ["one", "two"], True: [" three", "\n"]}

    def replies(model, prompts, *, gates, **_):
        key = gates is not None
        return [
            Reply("", text, tokens, prompt, "eos")
            for text, tokens in zip(texts[key], said[key], strict=True)
        ]

    monkeypatch.setattr(evaluation, "generate", replies)
    found = langheads.evaluate_qa(
        tiny, records(2), language="hi", gates=torch.zeros(3, 4), n_resamples=20
    )
    assert found.example_repetition.values.tolist() == [[0, 0], [0.5, 0]]
    assert found.example_prompt_copy.values.tolist() == [[0, 0], [0, 1]]
    assert found.example_empty.values.tolist() == [[0, 0], [0, 1]]
    assert found.delta_empty.sel(condition="mask").item() == 0.5
    # Two questions say too little of others for an interval.
    assert np.isnan([found.delta_empty_low, found.delta_empty_high]).all()
    for key, row in ((False, 0), (True, 1)):
        for i, tokens in enumerate(said[key]):
            whole = torch.tensor([[*prompt, *tokens]])
            with torch.no_grad():
                log_probs = tiny(whole)[0, :-1].log_softmax(dim=-1)
            nll = -log_probs.gather(-1, whole[0, 1:, None])[len(prompt) - 1 :].mean().item()
            assert found.example_reply_nll.values[row, i] == pytest.approx(nll, rel=1e-4)


def test_masks_beside_random_and_all_heads(tiny):
    found = langheads.compare_masks(
        tiny, ["L1H2", "L0H3"], records(30), language="hi", n_controls=2, train=3, epochs=1,
        batch_size=2, validation=0.3, n_resamples=50, max_new_tokens=2,
    )  # fmt: skip
    names = ["language heads", "random heads 0", "random heads 1", "all heads"]
    assert found.condition.values.tolist() == ["untouched", *names]
    counts = found.trained.sum("head").sel(condition=names).values
    assert counts.tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 0], [4, 4, 4]]
    own = found.trained.sel(condition="language heads")
    assert [own.values[1, 2], own.values[0, 3]] == [1, 1]
    for name in names[1:3]:
        assert (own * found.trained.sel(condition=name)).sum() == 0
    # What was not trained is 1, what was is not; all alike before the first step.
    assert ((found.gates != 1) == (found.trained == 1)).all()
    np.testing.assert_allclose(found.train_loss.sel(condition=names)[:, 0].std(), 0, atol=1e-6)
    np.testing.assert_allclose(
        found.train_set_loss.sel(condition=names, when="before").std(), 0, atol=1e-6
    )
    assert (found.train_set_loss.sel(condition=names).diff("when") < 0).all()
    alone = langheads.adapt(
        tiny, ["L1H2", "L0H3"], records(30), language="hi", train=3, epochs=1, batch_size=2,
        validation=0.3,
    )  # fmt: skip
    np.testing.assert_allclose(found.gates.sel(condition="language heads"), alone.gates())
    nll = found.example_answer_nll
    expected = nll.sel(condition="language heads") - nll.sel(condition=names[1:3]).mean("condition")
    versus = found.sel(condition="language heads")
    assert versus.versus_random_answer_nll.item() == pytest.approx(expected.mean().item())
    assert (
        versus.versus_random_answer_nll_low
        <= versus.versus_random_answer_nll
        <= versus.versus_random_answer_nll_high
    )
    assert np.isnan(found.versus_random_answer_nll.sel(condition="random heads 0"))
    # A mask already learned stands where it would have been learned; the others are the same.
    beside = langheads.compare_masks(
        tiny, alone, records(30), language="hi", n_controls=2, n_resamples=50, max_new_tokens=2
    )
    np.testing.assert_allclose(beside.gates, found.gates)
    np.testing.assert_allclose(beside.train_loss, found.train_loss)
    np.testing.assert_allclose(beside.versus_random_answer_nll, found.versus_random_answer_nll)
    with pytest.raises(InputError, match="seed -1 asked for; allowed are whole numbers from 0"):
        langheads.compare_masks(tiny, ["L1H2"], records(), language="hi", seed=-1)
    with pytest.raises(InputError, match="0 controls asked for"):
        langheads.compare_masks(tiny, ["L1H2"], records(), language="hi", n_controls=0)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"language": "zh"}, "questions of language zh given; the mask was learned on hi"),
        ({}, {"epochs": 2}, "epochs given with a mask; the others are trained with its settings"),
        ({"split": {}}, {}, "the mask was learned on other questions than these"),
        ({"settings": {"train": 4}}, {}, "the mask does not say its epochs, learning_rate"),
    ],
)
def test_a_mask_that_others_cannot_stand_beside(tiny, mask, change, arguments, message):
    given = replace(mask, **change)
    with pytest.raises(InputError, match=message):
        langheads.compare_masks(
            tiny, given, records(), **({"language": "hi", "n_controls": 1} | arguments)
        )


def test_split_counts_are_exact_where_a_share_is_no_float():
    asked = [Question(id=str(i), context=f"c{i}", question="?", answers=("a",)) for i in range(60)]
    found = split_by_context(asked, train=30, validation=0.1)
    assert [len(x) for x in (found.train, found.validation, found.spare, found.test)] == [
        30, 3, 0, 27,
    ]  # fmt: skip
