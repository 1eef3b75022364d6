import json

import numpy as np
import pytest
import xarray as xr

import langheads
from langheads.demo import grammar
from langheads.heads import HeadSet
from langheads.heads.classes import HeadClasses
from langheads.io.errors import InputError
from langheads.model import DEMO
from langheads.selection.classify import classify
from tests.unit.view.made_up_run import PROVENANCE

SHAPE = (2, 4)
# What each head's examples change by on average, (en, hi), of noise with standard deviation 1.
MEANS = {
    (0, 0): (-2.0, 0.0),
    (0, 1): (0.0, -2.0),
    (0, 2): (-2.0, -3.0),
    (0, 3): (2.0, 2.0),
    (1, 0): (-3.0, 2.0),
    (1, 1): (0.0, 0.0),
}


def task(n=60, **attrs):
    """Two heads of A, one of B, one of both; one that helps when it is off, one that is silent,
    and two that were not knocked out."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(n, 2))
    values = np.full((1, 2, n, *SHAPE), np.nan)
    for head, means in MEANS.items():
        # The same noise in both languages, exactly centred, so that the silent head is silent.
        values[(0, slice(None), slice(None), *head)] = (noise - noise.mean(axis=0) + means).T
    whole = ("baseline", "language", "example", "layer", "head")
    return xr.Dataset(
        {"example_delta_answer_logprob": (whole, values, {"units": "nats"})},
        coords={"baseline": ["zero"], "language": ["en", "hi"]},
        attrs=PROVENANCE | {"kind": "knockout-task"} | attrs,
    )


def loss(counts=(50, 30)):
    """Rises of documents of different length, that have no ids in common."""
    rng = np.random.default_rng(4)
    sizes = np.zeros((2, max(counts)), dtype=int)
    rises = np.full((2, 2, max(counts), *SHAPE), np.nan)
    for j, n in enumerate(counts):
        sizes[j, :n] = rng.integers(10, 100, n)
        for head, means in MEANS.items():
            noise = rng.normal(size=n) * sizes[j, :n]
            noise -= sizes[j, :n] * noise.sum() / sizes[j].sum()
            rises[(0, j, slice(n), *head)] = -means[j] * sizes[j, :n] + noise
            rises[(1, j, slice(n), *head)] = 0
    whole = ("baseline", "language", "doc", "layer", "head")
    return xr.Dataset(
        {
            "rise": (whole, rises),
            "doc_bytes": (("language", "doc"), sizes),
            "doc_tokens": (("language", "doc"), sizes // 2),
        },
        coords={"baseline": ["zero", "mean"], "language": ["en", "hi"]},
        attrs=PROVENANCE | {"kind": "knockout"},
    )


def heads(*pairs):
    return HeadSet(pairs, SHAPE)


@pytest.mark.parametrize("made", [task, loss])
def test_heads_land_in_the_class_they_were_made_for(made):
    found = classify(made(), ("en", "hi"))
    # Largest effect first.
    assert list(found.specific["en"]) == [(1, 0), (0, 0)]
    assert found.specific["hi"] == heads((0, 1))
    assert found.agnostic == heads((0, 2))
    assert found.other == heads((0, 3), (1, 1))
    assert found.counts == {
        "en-specific": 2, "hi-specific": 1, "agnostic": 1, "undecided": 0, "other": 2,
        "not measured": 2,
    }  # fmt: skip
    assert classify(made(), ("hi", "en")).specific["en"] == found.specific["en"]
    assert found.expected_by_chance["en-specific"] == pytest.approx(6 * 0.025 * 0.975)
    assert found.expected_by_chance["agnostic"] == pytest.approx(6 * 0.025**2)
    for (layer, head), means in MEANS.items():
        for language, mean in zip(("en", "hi"), means, strict=True):
            delta, low, high = found.deltas[language][:, layer, head]
            assert delta == pytest.approx(found.harm * -mean, abs=1e-9)
            assert low < delta < high
        assert found.deltas["difference"][0, layer, head] == pytest.approx(
            found.harm * (means[1] - means[0]), abs=1e-9
        )
    assert np.isnan(found.deltas["en"][:, 1, 2:]).all()


def test_intervals_are_those_of_the_normal_and_pairing_shrinks_the_difference():
    """Of a mean of 60, the percentile interval is close to 1.96 standard errors either way."""
    data = task()
    values = data.example_delta_answer_logprob.values[0, :, :, 0, 2]
    found = classify(data, n_resamples=20_000)
    for language, of in zip(("en", "hi"), values, strict=True):
        error = of.std() / np.sqrt(60)
        _, low, high = found.deltas[language][:, 0, 2]
        assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.05)
    # Ids go together: with examples that agree between languages, the difference is certain.
    data.example_delta_answer_logprob[0, 1] = data.example_delta_answer_logprob[0, 0] - 1.0
    delta, low, high = classify(data).deltas["difference"][:, 0, 0]
    assert (delta, low, high) == pytest.approx((1, 1, 1))
    # Documents of a loss do not go together.
    unpaired = loss((50, 50))
    unpaired["rise"][:, 1] = unpaired.rise[:, 0]
    unpaired["doc_bytes"][1] = unpaired.doc_bytes[0]
    _, low, high = classify(unpaired).deltas["difference"][:, 0, 0]
    assert low < -0.01 < 0.01 < high
    assert not classify(unpaired).rule["aligned"]


def test_documents_that_are_translations_are_drawn_together():
    data = loss((50, 50)).assign(skipped=("language", [0, 0]))
    data["rise"][:, 1] = data.rise[:, 0] + data.doc_bytes[0]
    data["doc_bytes"][1] = data.doc_bytes[0]
    data.attrs["aligned"] = 1
    found = classify(data)
    # Every document loses one nat per byte more in hi, so that any draw of pairs does.
    assert found.deltas["difference"][:, 0, 0] == pytest.approx([-1, -1, -1])
    assert found.rule["aligned"]
    # With one left out as too short, the n-th documents are not a pair.
    data["skipped"][0] = 1
    _, low, high = classify(data).deltas["difference"][:, 0, 0]
    assert low < -1.01 < -0.99 < high
    assert not classify(data).rule["aligned"]


def test_questions_of_one_paragraph_are_drawn_together():
    """Every question four times, with its context: the interval of the questions once."""
    once = task(60)
    often = once.isel(example=np.repeat(np.arange(60), 4))
    often["context"] = "example", np.repeat([f"paragraph {i}" for i in range(60)], 4)
    expected, found = classify(once), classify(often)
    for name, deltas in expected.deltas.items():
        np.testing.assert_allclose(found.deltas[name], deltas)
    assert found.rule["examples"] == {"en": 240, "hi": 240}


def test_thresholds():
    assert classify(task(), min_drop=1.0).counts["agnostic"] == 1
    strict = classify(task(), min_drop=2.5)
    assert list(strict.specific["en"]) == [(1, 0)]
    assert strict.specific["hi"] == heads((0, 2))
    assert classify(task(), seed=1).deltas["en"][1, 0, 0] != strict.deltas["en"][1, 0, 0]
    np.testing.assert_array_equal(classify(task()).deltas["en"], strict.deltas["en"])
    wide, narrow = (classify(task(), alpha=alpha).deltas["en"][2, 0, 0] for alpha in (0.01, 0.5))
    assert wide > narrow
    # The other baseline changed nothing.
    assert classify(loss(), baseline="mean").counts["other"] == 6
    per_token = classify(loss(), measure="nats-per-token")
    assert per_token.deltas["en"][0, 0, 0] == pytest.approx(
        2 * loss().doc_bytes[0].sum().item() / loss().doc_tokens[0].sum().item()
    )
    assert per_token.units == "nats per token"


def test_a_head_whose_other_language_is_noisy_is_undecided_and_not_specific():
    """The same mean in both languages, but with noise that hides it in one."""
    found = classify(task())
    assert found.distinct == found.specific
    reverse = classify(task(), ("hi", "en"))
    assert reverse.distinct == reverse.specific
    assert classify(loss()).distinct == classify(loss()).specific
    data = task()
    noise = np.random.default_rng(5).normal(size=60)
    noise -= noise.mean()
    data.example_delta_answer_logprob[0, 0, :, 0, 0] = -0.5 + 0.1 * noise
    data.example_delta_answer_logprob[0, 1, :, 0, 0] = -0.5 + 10 * noise
    found = classify(data)
    assert found.specific["en"] == found.distinct["en"] == heads((1, 0))
    assert found.undecided == heads((0, 0))
    assert found.counts["undecided"] == 1


def many(harm, n=80, heads=600):
    """Heads of the same true harm in A and B, each with its own noise of standard deviation 1."""
    noise = np.random.default_rng(8).normal(size=(1, 2, n, 1, heads))
    values = noise - np.array(harm).reshape(1, 2, 1, 1, 1)
    whole = ("baseline", "language", "example", "layer", "head")
    return xr.Dataset(
        {"example_delta_f1": (whole, values, {"units": "share"})},
        coords={"baseline": ["zero"], "language": ["en", "hi"]},
        attrs=PROVENANCE | {"kind": "knockout-task"},
    )


@pytest.mark.parametrize(
    ("harm", "least", "most"),
    [
        # B needs just a third of what A does: at the margin, at most alpha / 2 are specific.
        ((0.6, 0.2), 0.0, 0.025),
        ((0.6, 0.6), 0.0, 0.025),
        ((0.0, 0.0), 0.0, 0.025),
        # B needs nothing: 40% of them are shown, by their z.
        ((0.6, 0.0), 0.3, 1.0),
    ],
)
def test_specific_is_claimed_wrongly_at_most_as_often_as_stated(harm, least, most):
    """Of 600 heads each; a rate of 2.5% has a standard error of 0.6%."""
    found = classify(many(harm), n_resamples=500)
    rate = len(found.specific["en"]) / 600
    print(harm, rate, found.counts)
    assert least <= rate <= most + 2 * np.sqrt(0.025 * 0.975 / 600)


@pytest.mark.parametrize("contexts", [2, 3, 6, 20])
def test_few_contexts_make_no_drops(contexts):
    """Of 600 heads that do nothing, 2.5% drop at most in each language, whatever the contexts."""
    data = many((0.0, 0.0), n=contexts)
    data = data.isel(example=np.repeat(np.arange(contexts), 5))
    data["context"] = "example", np.repeat([f"text {i}" for i in range(contexts)], 5)
    found = classify(data, n_resamples=500)
    dropped = np.mean([np.mean(found.deltas[x][2] < 0) for x in ("en", "hi")])
    print(contexts, dropped, found.counts)
    assert dropped <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 1200)
    assert found.rule["contexts"] == {"en": contexts, "hi": contexts}
    assert found.rule["examples"] == {"en": 5 * contexts, "hi": 5 * contexts}


@pytest.mark.parametrize("min_ratio", [0.5, float("nan"), float("inf")])
def test_a_ratio_below_one_is_refused(min_ratio):
    with pytest.raises(InputError) as error:
        classify(task(), min_ratio=min_ratio)
    assert str(error.value) == f"min_ratio {min_ratio} asked for; it is at least 1 and finite"


def test_silent_examples_are_no_drop():
    """A measure that no example changed has an interval of 0 to 0."""
    data = task()
    data.example_delta_answer_logprob[:] = 0.0
    assert classify(data).counts["other"] == 8


def test_round_trip(tmp_path):
    found = classify(task())
    again = HeadClasses.load(found.save(tmp_path / "classes.json"))
    assert (again.specific, again.agnostic, again.undecided, again.other) == (
        found.specific, found.agnostic, found.undecided, found.other
    )  # fmt: skip
    assert list(again.specific["en"]) == list(found.specific["en"])
    for name, values in found.deltas.items():
        np.testing.assert_array_equal(again.deltas[name], values)
    assert again.rule == found.rule
    assert again.provenance["text_hash"] == PROVENANCE["text_hash"]
    document = json.loads((tmp_path / "classes.json").read_text("utf-8"))
    assert document["counts"] == found.counts
    assert document["deltas"]["en"]["delta"][1][2:] == [None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"kind": "heads"},
        {"shape": [1, 1]},
        {"languages": ["en"]},
        {"deltas": {}},
        {"rule": {}},
    ],
)
def test_another_file_is_refused(tmp_path, changes):
    path = classify(task()).save(tmp_path / "classes.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    with pytest.raises(InputError, match="is not a file of head classes"):
        HeadClasses.load(path)


@pytest.mark.parametrize(
    ("at", "change", "why"),
    [
        # It was counted in both, and the heads that were not measured fell below 0.
        (["agnostic"], lambda heads: [*heads, [0, 0]], "L0H0 in more than one class"),
        (["rule", "level"], lambda _: 5, "rule.level is 5, expected a number between 0 and 1"),
        (
            ["rule", "level"],
            lambda _: -0.5,
            "rule.level is -0.5, expected a number between 0 and 1",
        ),
        (
            ["rule", "examples", "en"],
            lambda _: -5,
            "rule.examples.en is -5, expected a whole number from 1",
        ),
    ],
)
def test_classes_that_were_changed_by_hand_are_refused(tmp_path, at, change, why):
    path = classify(task()).save(tmp_path / "classes.json")
    document = json.loads(path.read_text("utf-8"))
    *outer, key = at
    inside = document
    for name in outer:
        inside = inside[name]
    inside[key] = change(inside[key])
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(InputError) as told:
        HeadClasses.load(path)
    assert str(told.value) == f"{path} is not a file of head classes: {why}"


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (task(), {"languages": ["en", "fr"]}, "languages en, fr asked for; give two of en, hi"),
        (task(), {"languages": ["en", "en"]}, "give two of en, hi"),
        (task(), {"languages": ["en"]}, "give two of en, hi"),
        (task(), {"measure": "f1"}, "measure 'f1' asked for; the file has answer-logprob"),
        (task(), {"baseline": "mean"}, "baseline 'mean' asked for; the file has zero"),
        (task(), {"alpha": 1.0}, "alpha 1.0, .* allowed are 0 < alpha < 1"),
        (task(), {"min_drop": -1.0}, "min_drop -1.0, .* min_drop >= 0"),
        (task(), {"n_resamples": 9}, "n_resamples 9 .* n_resamples >= 100"),
        (task(1), {}, "language en has 1 examples; an interval needs at least 2"),
        (task(kind="scores"), {}, "expected a result of knockout, found scores"),
        (loss(), {"measure": "f1"}, "the file has nats-per-byte, nats-per-token"),
        (loss().drop_vars("rise"), {}, "no delta NLL of each document; make it again"),
    ],
)
def test_what_cannot_be_classified(data, arguments, message):
    with pytest.raises(InputError, match=message):
        classify(data, **{"languages": ("en", "hi")} | arguments)


def test_the_planted_heads_of_two_languages_land_in_their_class():
    """By the loss, with harm below half a hundredth of a nat per byte not counted."""
    planted = json.loads((DEMO / "planted.json").read_text("utf-8"))["planted"]
    heads = {language: {tuple(head) for head in of} for language, of in planted.items()}
    # The shorter ones, for speed.
    texts = {x: sorted(grammar.documents(x, 60, seed=7), key=len)[:10] for x in ("de", "zh")}
    everyone = HeadSet([head for of in heads.values() for head in sorted(of)], (4, 12))
    effect = langheads.knockout(langheads.load("demo"), texts, heads=everyone)
    found = classify(effect, ("de", "zh"), min_drop=0.005)
    assert {x: set(of) for x, of in found.specific.items()} == {x: heads[x] for x in texts}
    assert found.counts["agnostic"] == 0
    assert found.counts["not measured"] == 48 - 14


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda d: d * np.nan, {}, "no head has a number for en or hi"),
        (lambda d: d.where(d.doc != 3), {}, "rise of language en is NaN or infinite for a head"),
        (lambda d: d, {"min_drop": float("inf")}, "min_drop inf.* min_drop >= 0 and finite"),
        (lambda d: d, {"n_resamples": 10**12}, "n_resamples 1000000000000 .* <= 1000000"),
    ],
)
def test_numbers_that_would_class_heads_wrongly(change, arguments, message):
    data = loss()
    data = data.assign(rise=change(data.rise.assign_coords(doc=np.arange(data.sizes["doc"]))))
    with pytest.raises(InputError, match=message):
        classify(data, **({"languages": ["en", "hi"]} | arguments))


def test_a_knockout_without_the_sizes_of_its_documents():
    with pytest.raises(InputError, match="has no delta NLL of each document; make it again"):
        classify(loss().drop_vars("doc_bytes"), ["en", "hi"])
