"""Attention transfer: judging replies, arranging made-up runs, what random sets are, refusals."""

import itertools
import json

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from langheads.experiments.transfer.experiment import transfer
from langheads.experiments.transfer.plan import Plan, Setting, random_sets
from langheads.experiments.transfer.run import said
from langheads.experiments.transfer.summarise import (
    CHECKS,
    Run,
    _deviation,
    _resampled,
    summary,
)
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, InterventionError, ProvenanceError
from langheads.model import describe, gated
from langheads.model.attention_patterns import attention_to_spans
from langheads.stats import percentile_interval
from langheads.text.knowledge_conflict import knowledge_conflicts
from langheads.text.templates import read_templates

SHAPE = (2, 4)
OWN = {"en": HeadSet(["L0H1"], SHAPE), "zh": HeadSet(["L0H2"], SHAPE), "hi": HeadSet([], SHAPE)}
PAIRS = [("en", "zh"), ("zh", "en"), ("en", "hi")]
ORDERS = ["A first", "A last"]
SETTINGS = [Setting("enhance", 3.0), Setting("weaken", 0.0)]
MEASURES = ("answer_a", "answer_b", "first_token_a", "logprob_difference")


@pytest.mark.parametrize(
    ("reply", "answers", "expected"),
    [
        (" Doctor. He", (" baker", " doctor"), 1),
        ("a baker, not a doctor", (" doctor", " baker"), 1),
        ("écrivain", (" e\u0301crivain", " peintre"), 0),
        (" teach", (" teacher", " tailor"), 0),
        (" t", (" teacher", " tailor"), -1),
        (" cook", (" cook", " cookery teacher"), 0),
        (" cookery teacher", (" cook", " cookery teacher"), 1),
        (" pilot", (" cook", " baker"), -1),
        ("", (" cook", " baker"), -1),
        ("医生。", ("医生", "教师"), 0),
        # Whole words, wherever the reply says them.
        (" a cookbook", (" cook", " doctor"), -1),
        (" precook", (" cook", " doctor"), -1),
        (" cookbook, says the doctor", (" cook", " doctor"), 1),
        (" a cookbook, cook", (" cook", " doctor"), 0),
        (" 'cook'", (" cook", " doctor"), 0),
        (" रसोइया", (" रसोइ", " दर्जी"), -1),
        (" दर्जी है", (" रसोइया", " दर्जी"), 1),
        # But not where the script has none.
        ("是医生吗", (" 医生", " 教师"), 0),
        ("เป็นหมอครับ", ("หมอ", "ครู"), 0),
    ],
)
def test_which_answer_a_reply_gives(reply, answers, expected):
    assert said(reply, [(answer,) for answer in answers]) == expected


def forms(first, second, pair, person):
    """What counts for each fact where English asks: the English word and that of the fact."""
    templates = read_templates()
    made = (knowledge_conflicts(templates, first, second, "en", [pair], seed=n) for n in range(99))
    conflict = next(of for (of,) in made if f"\n{person}'s occupation is" in of.prompt)
    return list(zip(conflict.answers, conflict.native, strict=True))


# 0 doctor, 1 teacher, 2 engineer, 8 musician; Maria is a woman, David a man.
@pytest.mark.parametrize(
    ("languages", "pair", "person", "reply", "expected"),
    [
        (("zh", "hi"), (0, 1), "Maria", "医生。她", 0),
        (("zh", "hi"), (0, 1), "Maria", " doctor", 0),
        (("hi", "zh"), (1, 0), "Maria", "医生", 1),
        (("hi", "zh"), (1, 0), "Maria", "教师", -1),
        # Hindi and Spanish call women otherwise, and the word of the fact is what counts.
        (("hi", "zh"), (1, 0), "Maria", " अध्यापिका है", 0),
        (("hi", "zh"), (1, 0), "Maria", " अध्यापक है", -1),
        (("hi", "zh"), (1, 0), "David", " अध्यापक है", 0),
        (("zh", "es"), (2, 0), "Maria", " médica. Se", 1),
        (("zh", "es"), (2, 0), "Maria", " médico. Se", -1),
        (("zh", "es"), (2, 0), "David", " médico. Se", 1),
        # What the limit cut, in the fact's own language.
        (("es", "zh"), (2, 0), "Maria", " ingen", 0),
        (("es", "zh"), (2, 0), "Maria", " eng", 0),
        # The one that comes first, whatever its language.
        (("es", "zh"), (2, 0), "Maria", "医生 (ingeniera)", 1),
        (("es", "zh"), (2, 0), "Maria", " an engineer, 医生", 0),
        # A language that is in neither fact.
        (("es", "zh"), (2, 0), "Maria", " врач", -1),
    ],
)
def test_an_answer_in_the_language_of_its_fact_counts(languages, pair, person, reply, expected):
    assert said(reply, forms(*languages, pair, person)) == expected


def test_a_word_that_is_a_form_of_both_answers_gives_neither():
    assert said(" gift", [(" poison", " gift"), (" gift", " present")]) == -1
    assert said(" gift, poison", [(" poison", " gift"), (" gift", " present")]) == -1
    assert said(" poison", [(" poison", " gift"), (" gift", " present")]) == 0


OCCUPATIONS = list(itertools.permutations(range(3), 2))


def made_up(seed=0, n=6, controls=4):
    """Runs of random numbers for every text that the pairs need."""
    rng = np.random.default_rng(seed)
    pools = random_sets(OWN, controls, rng)
    plan = Plan(PAIRS, ORDERS, SETTINGS, OWN, pools, OCCUPATIONS, seed=0)
    runs = {}
    assert set(plan.texts) == {*PAIRS, *(pair[::-1] for pair in PAIRS)}
    for text in dict.fromkeys([*PAIRS, *(pair[::-1] for pair in PAIRS)]):
        conditions, chosen = plan.conditions(text)
        runs[text] = Run(
            conditions,
            rng.normal(size=(len(conditions), n, 2, 2)),
            rng.integers(-1, 2, size=(len(conditions), n)),
            rng.random((len(conditions), n, len(CHECKS))),
            np.arange(n) == 2,
            {c: rng.random((*SHAPE, 2)) for c in chosen},
        )
    return pools, runs


def arranged(pools, runs, orders=ORDERS):
    attrs = {"format": 1, "kind": "transfer", "model": "made up", "query": "en", "prompts": 6}
    plan = Plan(PAIRS, orders, SETTINGS, OWN, pools, OCCUPATIONS, seed=0)
    return summary(plan, runs, attrs=attrs)


def by_hand(run, condition, fact):
    """``[prompt, measure]`` from A's side."""
    i = run.conditions.index(condition)
    first, whole = (run.logprob[i, :, fact] - run.logprob[i, :, 1 - fact]).T
    return np.stack(
        [
            run.said[i] == fact,
            run.said[i] == 1 - fact,
            np.where(run.shared, np.nan, first > 0),
            whole,
            *run.checks[i].T,
        ],
        axis=1,
    )


def every_draw(change):
    """Means under all 27 ways to draw 3 occupations of 3, those without any prompt left out."""
    means = []
    for drawn in itertools.product(range(3), repeat=3):
        prompts = [change[OCCUPATIONS.index((a, b))] for a in drawn for b in drawn if a != b]
        if np.isfinite(prompts).any():
            means.append(np.nanmean(prompts))
    return np.array(means)


def test_prompts_of_one_occupation_are_not_independent():
    """A change that only the first occupation decides: 10 numbers, however many prompts."""
    occupations = list(itertools.permutations(range(10), 2))
    rng = np.random.default_rng(3)
    of_job = rng.normal(size=10)
    changes = np.array([of_job[i] for i, _ in occupations])
    draws = _resampled(changes[None], occupations, seed=0)
    of_ten = of_job.std(ddof=1) / np.sqrt(10)
    as_if_independent = changes.std(ddof=1) / np.sqrt(len(occupations))
    assert _deviation(draws).item() == pytest.approx(of_ten, rel=0.15)
    assert _deviation(draws).item() > 2.5 * as_if_independent
    low, high = percentile_interval(draws)
    assert (high - low).item() == pytest.approx(2 * 1.96 * of_ten, rel=0.2)
    two = _resampled(np.ones((1, 2)), [(0, 1), (1, 0)], seed=0)
    assert np.isnan(_deviation(two)).all()
    assert np.isnan(percentile_interval(two)).all()


def test_changes_errors_and_intervals_of_made_up_runs():
    pools, runs = made_up()
    found = arranged(pools, runs)
    nothing = runs["en", "zh"].conditions[0]
    for a, b in PAIRS[:2]:
        for s, owner in enumerate((a, b)):
            condition = OWN[owner], SETTINGS[s].gate
            sides = {"A first": (runs[a, b], 0), "A last": (runs[b, a], 1)}
            before = [by_hand(run, nothing, fact) for run, fact in sides.values()]
            after = [by_hand(run, condition, fact) for run, fact in sides.values()]
            controls = [
                [by_hand(run, (some, condition[1]), fact) for run, fact in sides.values()]
                for some in pools[owner]
            ]
            orders = {"A first": [0], "A last": [1], "both": [0, 1]}
            for order, of in orders.items():
                old, new = (np.mean([side[i] for i in of], axis=0) for side in (before, after))
                change = new - old
                at = found.sel(a=a, b=b, order=order, setting=str(SETTINGS[s]))
                for m, name in enumerate([*MEASURES, *CHECKS]):
                    own = change[np.isfinite(change[:, m]), m]
                    assert at[f"{name}_change"] == pytest.approx(own.mean())
                    draws = every_draw(change[:, m])
                    assert at[f"{name}_change_se"] == pytest.approx(draws.std(), rel=0.1)
                    ends = np.quantile(draws, [0.025, 0.975])
                    for end, expected in zip(("low", "high"), ends, strict=True):
                        assert at[f"{name}_change_{end}"] == pytest.approx(
                            expected, abs=0.5 * draws.std()
                        )
                    assert at[f"{name}_before"] == pytest.approx(np.nanmean(old[:, m]))
                    assert at[name] == pytest.approx(np.nanmean(new[:, m]))
                    assert OWN[owner] not in pools[owner]
                    sets = np.array(
                        [
                            np.nanmean(np.mean([c[i] for i in of], axis=0)[:, m] - old[:, m])
                            for c in controls
                        ]
                    )
                    np.testing.assert_allclose(at[f"{name}_control_change"], sets, atol=1e-12)
                    assert at[f"{name}_change_low"] <= at[f"{name}_change"]
                    assert at[f"{name}_change_high"] >= at[f"{name}_change"]
                    if name in CHECKS:
                        assert f"{name}_control_p" not in found
                        continue
                    sign = -1 if name == "answer_b" else 1
                    beyond = (sign * sets >= sign * own.mean() - 1e-12).sum()
                    assert at[f"{name}_control_p"] == pytest.approx(
                        (1 + beyond) / (1 + np.isfinite(sets).sum())
                    )


def test_overall_is_the_mean_over_pairs():
    found = arranged(*made_up())
    for name in MEASURES:
        for part, whole in (("change", "change"), ("control_change", "control_change")):
            mean = found[f"{name}_{part}"].mean(["a", "b"])
            np.testing.assert_allclose(
                mean.transpose("order", "setting", ...), found[f"{name}_overall_{whole}"]
            )
        assert (found[f"{name}_overall_low"] <= found[f"{name}_overall_change"]).all()
        assert (found[f"{name}_overall_high"] >= found[f"{name}_overall_change"]).all()


def test_what_was_not_run_is_empty():
    found = arranged(*made_up())
    assert found.logprob_difference.sel(a="hi").isnull().all()
    # hi has no heads to weaken, en has some to enhance.
    at = found.sel(a="en", b="hi")
    assert at.logprob_difference_change.sel(setting="weaken 0").isnull().all()
    assert at.logprob_difference_change.sel(setting="enhance 3").notnull().all()
    assert at.shared_first_token == 1
    assert found.shared_first_token.sel(a="hi", b="en").isnull()
    assert list(found.n_heads.values) == [1, 1, 0]
    alone = arranged(*made_up(), orders=["A last"])
    assert list(alone.order.values) == ["A last"]
    for name in MEASURES:
        np.testing.assert_array_equal(
            alone[f"{name}_change"].sel(order="A last"), found[f"{name}_change"].sel(order="A last")
        )


def test_attention_is_from_as_side():
    pools, runs = made_up()
    found = arranged(pools, runs)
    condition = OWN["en"], 3.0
    at = found.attention_after.sel(a="en", b="zh", setting="enhance 3")
    first = runs["en", "zh"].attention[condition]
    last = runs["zh", "en"].attention[condition][..., ::-1]
    np.testing.assert_array_equal(at.sel(order="A first"), first)
    np.testing.assert_array_equal(at.sel(order="A last"), last)
    np.testing.assert_allclose(at.sel(order="both"), (first + last) / 2)


def test_random_sets_do_not_cancel():
    """Languages with as many heads a layer have the same sets, but not in the same order."""
    sets = random_sets(OWN, 20, np.random.default_rng(0))
    assert sorted(map(str, sets["en"])) == ["L0H0", "L0H2", "L0H3"]
    assert sorted(map(str, sets["zh"])) == ["L0H0", "L0H1", "L0H3"]
    assert sets["hi"] == []
    swapped = [{"L0H2": "L0H1"}.get(str(some), str(some)) for some in sets["en"]]
    assert swapped != list(map(str, sets["zh"]))
    assert all(some.per_layer() == (1, 0) for some in sets["en"])


def test_languages_with_the_same_heads_have_the_same_random_ones():
    """The k-th sets were two different ones: controls that do not cancel beside heads that do."""
    own = {"en": HeadSet(["L0H1"], SHAPE), "zh": HeadSet(["L0H1"], SHAPE)}
    rng = np.random.default_rng(0)
    pools = random_sets(own, 20, rng)
    assert pools["en"] == pools["zh"]
    plan = Plan(PAIRS[:2], ORDERS, SETTINGS, own, pools, OCCUPATIONS, seed=0)
    found = summary(plan, runs_of(plan, rng.normal(size=(*SHAPE, 3)), rng), attrs={})
    assert (found.logprob_difference_change.sel(a="en", b="zh", order="both") != 0).all()
    at = found.sel(order="both")
    assert float(abs(at.logprob_difference_overall_change).max()) < 1e-12
    controls = at.logprob_difference_overall_control_change
    assert controls.shape == (2, 3)
    assert float(abs(controls).max()) < 1e-12
    # One choice for both: the three other heads of the layer, not 15 pairs of heads.
    assert found.null_draws.values.tolist() == [3, 3]
    np.testing.assert_array_equal(at.logprob_difference_overall_control_p, 1.0)


TEMPLATE = [
    {"fact": "{name} is {job}.", "query": "{name} is", "answer": " {job}"},
    {"filler": "It rains."},
    {"name": "Ann"},
    {"job": "cook"},
    {"job": "pilot"},
]


def runs_of(plan, single, rng):
    """Of made-up heads: each moves the answers by the languages and the order of the facts.

    ``single[head]`` is a language's pull and, last, that of the first fact, in nats at gate 0.
    """
    languages, n, runs = list(plan.own), len(plan.occupations), {}
    untouched = rng.normal(size=(n, 2, 2))
    for text in plan.texts:
        conditions, _ = plan.conditions(text)
        first, second = (languages.index(of) for of in text)
        pull = single[..., first] - single[..., second] + single[..., -1]
        ahead = [(gate - 1) * sum(pull[head] for head in heads) for heads, gate in conditions]
        logprob = np.repeat(untouched[None], len(conditions), axis=0)
        logprob[:, :, 0] += np.reshape(ahead, (-1, 1, 1))
        checks = np.zeros((len(conditions), n, len(CHECKS)))
        said = logprob[..., 1].argmax(axis=-1)
        runs[text] = Run(conditions, logprob, said, checks, np.zeros(n, bool), {})
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("n_heads", [8, 12])
@pytest.mark.parametrize("per_row", [1, 2])
@pytest.mark.parametrize("asked", [20, 100])
def test_heads_chosen_at_random_move_answers_at_most_as_often_as_stated(
    n_heads, per_row, asked, monkeypatch
):
    """Error rates at a nominal 5%, 400 choices: at most 5% and 2 standard errors, 1.1% each."""
    # Intervals, which p has nothing to do with.
    monkeypatch.setattr("langheads.experiments.transfer.summarise._RESAMPLES", 2)
    choices, shape, names = 400, (4, n_heads), ("en", "zh", "hi")
    pairs = list(itertools.permutations(names, 2))
    rng, found = np.random.default_rng(0), {}
    for seed in range(choices):
        single = rng.standard_t(3, size=(*shape, len(names) + 1)) * rng.gamma(0.5, size=(*shape, 1))
        layers = [rng.choice(4, size=per_row, replace=False) for _ in names]
        own = {
            name: HeadSet([(int(layer), int(rng.integers(n_heads))) for layer in of], shape)
            for name, of in zip(names, layers, strict=True)
        }
        pools = random_sets(own, asked, rng)
        plan = Plan(pairs, ORDERS, SETTINGS, own, pools, OCCUPATIONS, seed)
        result = summary(plan, runs_of(plan, single, rng), attrs={}).sel(order="both")
        for measure in ("answer_a", "logprob_difference"):
            one = result[f"{measure}_control_p"].sel(a="en", b="zh")
            over = result[f"{measure}_overall_control_p"]
            for setting in result.setting.values:
                for name, p in (("cell", one), ("overall", over)):
                    at = (measure, str(setting), name)
                    found.setdefault(at, []).append(float(p.sel(setting=setting)))
    rates = {at: float(np.mean(np.array(p) < 0.05)) for at, p in found.items()}
    print(n_heads, per_row, asked, rates)
    if per_row == 1:
        # No p is below one in as many heads as a layer has.
        assert max(rate for (*_, name), rate in rates.items() if name == "cell") == 0
    assert max(rates.values()) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / choices)


@pytest.fixture
def templates(tmp_path):
    lines = "\n".join(map(json.dumps, TEMPLATE))
    for language in ("en", "zh", "fr"):
        (tmp_path / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


@pytest.fixture
def tiny_heads(tiny):
    shape = (3, 4)
    return LanguageHeads(
        {"en": HeadSet(["L0H1"], shape), "zh": HeadSet(["L2H2"], shape), "hi": HeadSet([], shape)},
        HeadSet([], shape),
        "tiny",
        provenance=describe(tiny),
    )


SMALL = {"n_occupations": 2, "n_controls": 2, "max_new_tokens": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gates_enhance": (0.5,)}, "gates 0.5 to enhance and 0 to weaken asked for; allowed are"),
        ({"gates_weaken": (float("nan"),)}, "nan to weaken asked for"),
        ({"gates_enhance": (1e300,)}, r"a gate to enhance is 1e\+300; it must be a finite number"),
        ({"gates_weaken": (-1e39,)}, r"a gate to weaken is -1e\+39; it must"),
        (
            {"gates_enhance": (3.0, 3.0000000001)},
            "gates 3.0 and 3.0000000001 asked for; both are called enhance 3; give",
        ),
        ({"seed": -1}, "seed -1 asked for; allowed are whole numbers from 0"),
        ({"gates_weaken": (2.0,)}, "and 2 to weaken asked for"),
        ({"gates_enhance": (), "gates_weaken": ()}, "no gates to enhance and none to weaken"),
        ({"n_controls": 1}, "1 controls asked for; at least 2 are needed"),
        ({"n_occupations": 1}, "1 occupations"),
        ({"limit": 1}, "1 prompts asked for; at least 2 are needed"),
        ({"max_new_tokens": 0}, "0 new tokens asked for; at least 1 is needed"),
        ({"orders": ["A"]}, "order A asked for; allowed are A first, A last"),
        ({"orders": []}, "order none asked for"),
        ({"n_occupations": 3}, "3 occupations asked for, but the templates have 2"),
        ({"languages": ["en", "ru"]}, "no template for language ru; there are en, fr, zh"),
        ({"languages": ["en", "fr"]}, "language 'fr' asked for; the head set has en, zh, hi"),
        ({"pairs": [("en", "fr")], "query": "fr"}, "language 'fr' asked for; the head set has"),
        ({"languages": ["en"]}, "each needs two different ones"),
        ({"pairs": [("en", "en")]}, "pairs of languages en:en: each needs two different ones"),
        ({"pairs": []}, "pairs of languages none: each needs two"),
        ({"query": "ru"}, "no template for language ru"),
        ({"max_new_tokens": 300}, "300 new ones more than the model's context of 256; shorten it"),
    ],
)
def test_refusals(tiny, tiny_heads, templates, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        transfer(tiny, tiny_heads, templates=templates, **(SMALL | settings))
    assert "\n" not in str(caught.value)


def test_other_refusals(zoo, tiny, tiny_heads, templates):
    with pytest.raises(ProvenanceError, match="2 layers x 4 heads, but this one has 3 x 4"):
        transfer(tiny, LanguageHeads(OWN, HeadSet([], SHAPE), "other"), templates=templates)
    empty = HeadSet([], (3, 4))
    none = LanguageHeads({"en": empty, "zh": empty}, empty, "tiny")
    with pytest.raises(InputError, match="none of en, zh has specific heads"):
        transfer(tiny, none, templates=templates, **SMALL)
    fresh = zoo.fresh("llama-gqa")
    heads = LanguageHeads(tiny_heads.specific, empty, "tiny")

    class Slow(PreTrainedTokenizerFast):
        is_fast = False

    fresh.tokenizer = Slow(tokenizer_object=tiny.tokenizer.backend_tokenizer)
    with pytest.raises(InputError, match="needs a fast tokenizer"):
        transfer(fresh, heads, templates=templates, **SMALL)


def test_a_language_without_a_template_is_left_out_and_told(tiny, tiny_heads, templates, caplog):
    found = transfer(tiny, tiny_heads, templates=templates, **SMALL)
    assert "no template for language hi: left out" in caplog.text
    assert list(found.a.values) == ["en", "zh"]
    assert found.attrs["kind"] == "transfer"
    assert found.attrs["prompts"] == 2
    assert json.loads(found.attrs["text_hash"]).keys() == {"en", "zh"}
    # Each draws the same again.
    again = transfer(tiny, tiny_heads, templates=templates, attention=False, **SMALL)
    np.testing.assert_array_equal(again.logprob_difference, found.logprob_difference)
    np.testing.assert_array_equal(
        again.logprob_difference_control_change, found.logprob_difference_control_change
    )
    assert "attention_before" in found
    assert "attention_before" not in again


def test_it_does_not_depend_on_the_batch(tiny, tiny_heads, templates):
    one, many = (
        transfer(tiny, tiny_heads, templates=templates, batch_tokens=n, **SMALL) for n in (1, 4096)
    )
    for name in (*MEASURES, "attention_before", "attention_after"):
        np.testing.assert_allclose(one[name], many[name], rtol=1e-4, atol=1e-5)


def test_hooks_and_attention_are_as_before_after_a_failure(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, lengths = torch.ones(2, 5, dtype=torch.long), torch.tensor([5, 3])
    spans = torch.tensor([[[0, 2], [2, 3]]] * 2)
    with (
        pytest.raises(InterventionError, match="gates expect"),
        gated(model, torch.zeros(3, 3, 4)),
    ):
        attention_to_spans(model, tokens, lengths, spans, [1])
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert model.original_model.config._attn_implementation == "eager"
    found = attention_to_spans(model, tokens, lengths, spans, [2, 0])
    assert found.shape == (2, 2, 4, 2)
    # A row of a batch is that row alone.
    alone = attention_to_spans(model, tokens[:1, :3], lengths[1:], spans[:1], [0])
    torch.testing.assert_close(found[1:, 1:], alone)
