"""The off-target table against replies made one condition at a time."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from langheads.experiments.published import PUBLISHED
from langheads.experiments.replies.generate import generate
from langheads.experiments.replies.judge import reply_nll
from langheads.experiments.replies.off_target import CONDITIONS, _sets, off_target
from langheads.experiments.replies.off_target_summary import (
    RATES,
    Outcome,
    rates_with_intervals,
    summary,
)
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ProvenanceError
from langheads.io.results import load_result, save
from langheads.model import mean_z, steered
from langheads.text import Rules, language_confusion
from langheads.text.confusion import Judged, pass_rates

SHAPE = (3, 4)
PROMPTS = {"zh": ["猫在", "石头", "a"], "hi": ["बिल्ली", "b"], "en": ["the", "cat", "sleeps", "on"]}
OWN = {"en": ["L0H1", "L2H3"], "zh": ["L1H0", "L0H1"], "hi": ["L1H2"]}
GENERAL = ["L2H0"]


class ByCodePoint:
    """A language by the last code point of the text, more or less sure of it."""

    name = "by code point"
    languages = ("en", "zh", "hi")

    def __call__(self, text):
        last = ord(text[-1]) if text else 0
        return self.languages[last % 3], 0.25 + 0.1 * (last % 5)


@pytest.fixture(scope="module")
def heads():
    specific = {language: HeadSet(of, SHAPE) for language, of in OWN.items()}
    return LanguageHeads(specific, HeadSet(GENERAL, SHAPE), "tiny")


@pytest.fixture(scope="module")
def rules():
    return Rules(min_words=1, lines="none", empty="wrong")


@pytest.fixture(scope="module")
def found(tiny, heads, texts, rules):
    return off_target(
        tiny,
        heads,
        PROMPTS,
        ByCodePoint(),
        texts=texts,
        amount=2.0,
        n_controls=3,
        max_new_tokens=5,
        rules=rules,
        n_resamples=200,
    )


OFF = {
    ("zh", "none"): [],
    ("zh", "own off"): OWN["zh"],
    # L0H1 is zh's, too, so it stays on.
    ("zh", "rivals off"): ["L2H3", "L1H2"],
    ("zh", "rivals, general off"): ["L2H3", "L1H2", "L2H0"],
    ("zh", "suspect off"): ["L2H3"],
    ("hi", "rivals off"): ["L0H1", "L2H3", "L1H0"],
    ("hi", "suspect off"): ["L0H1", "L2H3"],
    ("en", "rivals off"): ["L1H0", "L1H2"],
}


@pytest.mark.parametrize("place", OFF, ids=str)
def test_one_condition(tiny, found, rules, place):
    language, condition = place
    detect = ByCodePoint()
    off = OFF[place]
    replies = generate(tiny, PROMPTS[language], gates=off or None, max_new_tokens=5)
    here = found.sel(language=language, condition=condition)
    seen = [detect(reply.text) for reply in replies]
    right = [found == language and share > 0.3 for found, share in seen]
    n = len(replies)
    np.testing.assert_array_equal(here.right_each[:n], right)
    assert bool(here.right_each[n:].isnull().all())
    assert here.right.item() == pytest.approx(np.mean(right))
    strayed = [found == "en" and share > 0.3 for found, share in seen]
    assert here.suspect.item() == pytest.approx(np.mean(strayed))
    assert here.nll.item() == pytest.approx(reply_nll(tiny, replies).mean(), rel=1e-5)
    rates = language_confusion([r.text for r in replies], language, detect, rules)
    for name in ("lpr", "wpr", "lcpr"):
        expected = getattr(rates, name)
        assert here[name].item() == pytest.approx(
            np.nan if expected is None else expected, nan_ok=True
        )
    assert int(here.n_heads) == len(off)


def test_steering_goes_from_the_suspect_to_the_wanted(tiny, found, texts):
    means = {
        language: mean_z(tiny, [tiny.to_tokens(t, prepend_bos=True)[0] for t in texts[language]])
        for language in ("en", "hi")
    }
    with steered(tiny, [*OWN["en"], *OWN["hi"]], means["hi"] - means["en"], 2.0):
        replies = generate(tiny, PROMPTS["hi"], max_new_tokens=5)
    nll = reply_nll(tiny, replies)
    here = found.sel(language="hi", condition="shift")
    np.testing.assert_allclose(here.nll_each[: len(nll)], nll, rtol=1e-5)
    assert not np.allclose(nll, found.nll_each.sel(language="hi", condition="none")[: len(nll)])


def test_what_there_is_no_condition_for(found):
    """English cannot be brought back from English."""
    english = found.sel(language="en")
    without = [c for c in CONDITIONS if bool(english.right.sel(condition=c).isnull())]
    assert without == ["suspect off", "random suspect off", "shift", "random shift"]
    assert not bool(found.right.sel(language=["zh", "hi"]).isnull().any())


def test_random_heads_are_neither_the_languages_own_nor_those_they_stand_for(heads):
    """zh has L0H1 and L1H0: its random heads are others, as many a layer as what they stand for."""
    for condition, off in {
        "random own off": ["L0H1", "L1H0"],
        "random off": ["L1H2", "L2H3"],
        "random general off": ["L1H2", "L2H3", "L2H0"],
        "random suspect off": ["L2H3"],
    }.items():
        treated = HeadSet(off, SHAPE)
        twin = {"random off": "rivals off", "random general off": "rivals, general off"}
        stands_for = twin.get(condition, condition.removeprefix("random "))
        assert _sets(stands_for, heads, "zh", "en", 1, np.random.default_rng(0)) == [treated]
        sets = _sets(condition, heads, "zh", "en", 40, np.random.default_rng(0))
        assert {some.per_layer() for some in sets} == {treated.per_layer()}
        # Every other head of a layer that counts has its turn.
        turns = {head for some in sets for head in some}
        allowed = {
            head
            for head in HeadSet([(n, h) for n in range(3) for h in range(4)], SHAPE)
            if treated.per_layer()[head.layer]
            and head not in heads.specific["zh"]
            and head not in treated
        }
        assert turns == allowed
    # Where a layer has too few others, those they stand for, and its own last.
    most = LanguageHeads(
        {"zh": HeadSet(["L0H0", "L0H1"], SHAPE), "en": HeadSet(["L0H2"], SHAPE)},
        HeadSet([], SHAPE),
        "tiny",
    )
    for some in _sets("random own off", most, "zh", "en", 5, np.random.default_rng(0)):
        assert some.per_layer() == (2, 0, 0)
        assert {*map(str, some)} == {"L0H2", "L0H3"}
    (only,) = _sets("random suspect off", most, "zh", "en", 5, np.random.default_rng(0))
    assert str(only) == "L0H3"


def test_random_heads_that_are_steered_are_neither_languages(tiny, heads, found, texts):
    """zh and en have L0H1, L1H0 and L2H3; each random head goes by its own means."""
    sets = _sets("random shift", heads, "zh", "en", 30, np.random.default_rng(0))
    assert {some.per_layer() for some in sets} == {(1, 1, 1)}
    assert not any(some & (heads.specific["zh"] | heads.specific["en"]) for some in sets)
    place = CONDITIONS.index("random shift")
    means = {
        language: mean_z(tiny, [tiny.to_tokens(t, prepend_bos=True)[0] for t in texts[language]])
        for language in ("en", "zh")
    }
    nll = []
    for some in _sets("random shift", heads, "zh", "en", 3, np.random.default_rng([0, 0, place])):
        with steered(tiny, some, means["zh"] - means["en"], 2.0):
            replies = generate(tiny, PROMPTS["zh"], max_new_tokens=5)
        nll.append(reply_nll(tiny, replies))
    here = found.sel(language="zh", condition="random shift")
    np.testing.assert_allclose(here.nll_each[: len(nll[0])], np.mean(nll, axis=0), rtol=1e-5)
    assert int(here.n_heads) == 3


def test_random_heads_are_the_same_whichever_conditions_are_asked_for(tiny, heads, found, rules):
    alone = off_target(
        tiny,
        heads,
        PROMPTS,
        ByCodePoint(),
        amount=2.0,
        conditions=["random suspect off"],
        n_controls=3,
        max_new_tokens=5,
        rules=rules,
    )
    for name in ("nll_each", "right_each"):
        np.testing.assert_allclose(
            alone[name].sel(condition="random suspect off"),
            found[name].sel(condition="random suspect off"),
            rtol=1e-5,
        )


RIGHT, WRONG, ENGLISH, SILENT = (
    Judged(1, 0, False),
    Judged(2, 1, False),
    Judged(1, 0, True),
    Judged(0, 0, False),
)


def test_a_draw_without_a_rate_is_left_out():
    runs = [[SILENT] * 4, [RIGHT, WRONG, WRONG, WRONG], [RIGHT, ENGLISH, RIGHT, WRONG]]
    lpr, wpr, lcpr = rates_with_intervals(runs, "zh", Rules())[:, 0]
    assert (lpr, wpr) == (pytest.approx((0.25 + 0.75) / 2), pytest.approx((1 + 2 / 3) / 2))
    # Harmonic means of 1/4 and 1, and of 3/4 and 2/3.
    assert lcpr == pytest.approx((0.4 + 12 / 17) / 2)
    assert np.isnan(rates_with_intervals(runs, "de", Rules())[1:]).all()
    # A draw that fails altogether has an LCPR of 0, and so have resamples of wrong replies only.
    runs = [[RIGHT], [WRONG], [WRONG]]
    assert rates_with_intervals(runs, "zh", Rules())[:, 0].tolist() == pytest.approx(
        [1 / 3, 1, 1 / 3]
    )
    one = rates_with_intervals([[RIGHT, *[WRONG] * 9]], "zh", Rules())
    assert one[:, 0].tolist() == pytest.approx([0.1, 1, 2 / 11])
    assert one[2, 1] == 0
    assert np.isnan(rates_with_intervals([[SILENT] * 4], "zh", Rules())).all()
    # Silence is wrong where the rules say so.
    strict = rates_with_intervals(runs, "zh", Rules(empty="wrong"))[0, 0]
    assert strict == pytest.approx((0 + 0.25 + 0.75) / 3)


def test_intervals_of_rates_are_those_of_resampled_replies():
    """Replies drawn one by one and judged by `pass_rates`, beside the weights of the module."""
    rng = np.random.default_rng(1)
    pool = [RIGHT, RIGHT, WRONG, ENGLISH, SILENT]
    runs = [[pool[i] for i in rng.integers(5, size=12)] for _ in range(2)]
    found = rates_with_intervals(runs, "zh", Rules(), n_resamples=8000)
    drawn = []
    for _ in range(8000):
        rows = rng.integers(12, size=12)
        rates = [pass_rates([run[i] for i in rows], "zh", Rules()) for run in runs]
        values = [[getattr(rate, name) for rate in rates] for name in RATES]
        drawn.append(np.nanmean(np.array(values, dtype=float), axis=1))
    expected = np.quantile(drawn, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(found[:, 1:], expected, atol=0.02)
    # All alike: there is nothing to vary.
    assert rates_with_intervals([[RIGHT] * 5], "zh", Rules()).tolist() == [[1.0] * 3] * 3
    assert np.isnan(rates_with_intervals([[RIGHT]], "zh", Rules())[:, 1:]).all()


def test_random_sets_are_averaged(tiny, heads, found):
    rng = np.random.default_rng([0, 0, CONDITIONS.index("random off")])
    sets = _sets("random off", heads, "zh", "en", 3, rng)
    assert len(sets) == 3
    replies = [generate(tiny, PROMPTS["zh"], gates=some, max_new_tokens=5) for some in sets]
    here = found.sel(language="zh", condition="random off")
    nll = np.mean([reply_nll(tiny, of) for of in replies], axis=0)
    np.testing.assert_allclose(here.nll_each[: len(nll)], nll, rtol=1e-5)
    detect = ByCodePoint()
    right = [[detect(r.text)[0] == "zh" and detect(r.text)[1] > 0.3 for r in of] for of in replies]
    assert here.right.item() == pytest.approx(np.mean(right))


def test_a_whole_layer_has_no_random_twin(tiny, rules, caplog):
    full = HeadSet([(1, h) for h in range(4)], SHAPE)
    specific = {"zh": HeadSet(["L0H0"], SHAPE), "en": full}
    every = LanguageHeads(specific, HeadSet([], SHAPE), "tiny")
    found = off_target(
        tiny,
        every,
        {"zh": PROMPTS["zh"]},
        ByCodePoint(),
        conditions=["suspect off", "random suspect off", "rivals, general off"],
        n_controls=2,
        max_new_tokens=5,
        rules=rules,
    ).sel(language="zh")
    assert found.condition.values.tolist()[0] == "none"
    assert bool(found.right.sel(condition="suspect off").notnull())
    assert bool(found.right.sel(condition="random suspect off").isnull())
    assert "only 0 differ from L1H0 L1H1 L1H2 L1H3" in caplog.text
    # No general heads, so nothing to add.
    assert bool(found.right.sel(condition="rivals, general off").isnull())


def test_intervals(found):
    for name in ("right", "nll", "delta_right", "delta_nll", "lpr", "wpr", "lcpr"):
        there = found[name].notnull()
        assert bool((found[f"{name}_low"] <= found[name] + 1e-12).where(there, True).all())
        assert bool((found[f"{name}_high"] >= found[name] - 1e-12).where(there, True).all())
    none = found.sel(condition="none")
    np.testing.assert_array_equal(none.delta_right, 0)
    np.testing.assert_array_equal(none.delta_right_high, 0)
    np.testing.assert_allclose(found.delta_right, found.right - none.right, atol=1e-12)
    np.testing.assert_allclose(found.delta_nll, found.nll - none.nll, atol=1e-12)
    # By hand: the two prompts of hi, drawn with replacement, give four means, of a standard
    # deviation of sqrt(1/8) of their distance; t(1) = 12.71 of sqrt(2) of these lie further out.
    each = found.nll_each.sel(language="hi", condition="none")[:2].values
    here = found.sel(language="hi", condition="none")
    reach = 12.71 * np.sqrt(2 / 8) * np.ptp(each)
    ends = each.mean() - reach, each.mean() + reach
    assert (here.nll_low.item(), here.nll_high.item()) == pytest.approx(ends, abs=0.1 * reach)


def test_no_interval_ends_beyond_what_it_is_of():
    """Of two prompts t reaches mean -+ 12.71 sqrt(2) sd, sd over resamples."""
    how = {"repetition": [0.4, 0.6], "prompt_copy": [0, 0], "empty": [0, 1], "nll": [1, 9]}
    runs = {
        ("zh", name): [
            Outcome(1, {x: np.array(of, float) for x, of in values.items()}, [RIGHT] * 2)
        ]
        for name, values in (
            ("none", {"right": [0, 1], "suspect": [1, 0]} | how),
            ("own off", {"right": [1, 0], "suspect": [0, 0]} | how),
        )
    }
    found = summary(runs, {"zh": "ab"}, ["none", "own off"], Rules(), 200, {"seed": 0})
    of = found.sel(language="zh", condition="own off")

    def ends(name):
        return of[f"{name}_low"].item(), of[f"{name}_high"].item()

    for name in ("right", "repetition", "empty"):
        assert ends(name) == (0, 1)
    assert ends("suspect") == ends("prompt_copy") == (0, 0)
    assert ends("delta_right") == (-1, 1)
    assert ends("nll") == (0, pytest.approx(5 + 12.71 * np.sqrt(2 * 8), rel=0.1))


def test_saved_and_read(found, tmp_path):
    assert load_result(save(found, tmp_path / "o.nc"), "offtarget").identical(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": ["rival off"]}, "condition rival off asked for; allowed are none; own"),
        ({"prompts": {}}, "no prompts"),
        ({"n_controls": 0}, "fewer than 1 control"),
        ({"n_resamples": 0}, "0 resamples asked for; at least 1 is needed"),
        ({"prompts": {"fr": ["a"]}}, "language fr is wanted"),
        ({"texts": None}, "steering needs texts of zh, hi, en .* found none"),
        ({"suspect": "de"}, "language de is wanted"),
        ({"seed": -1}, "seed -1 asked for; allowed are whole numbers from 0"),
    ],
)
def test_refused(tiny, heads, texts, changes, message):
    arguments = {"prompts": PROMPTS, "texts": texts} | changes
    prompts = arguments.pop("prompts")
    with pytest.raises(InputError, match=message):
        off_target(tiny, heads, prompts, ByCodePoint(), **arguments)


def test_heads_that_do_not_belong(tiny, heads):
    only = LanguageHeads({"zh": heads.specific["zh"]}, heads.general, "tiny")
    with pytest.raises(InputError, match="heads of en, hi are needed; the head set has zh"):
        off_target(tiny, only, {"zh": ["a"], "hi": ["b"]}, ByCodePoint(), conditions=[])
    other = LanguageHeads({}, HeadSet([], (9, 9)), "other")
    with pytest.raises(ProvenanceError, match="a model of 9 layers x 9 heads"):
        off_target(tiny, other, PROMPTS, ByCodePoint(), conditions=[])


def test_a_request_that_no_context_holds():
    """The article of the analysis is cut until it fits; a request alone that does not is told."""
    script = Path(__file__).parents[3] / "analyses" / "offtarget.py"
    prompt = runpy.run_path(str(script))["_prompt"]

    def words(text):
        return {"input_ids": text.split()}

    # "Summary of the article in one sentence:" has 7 words, and 20 are to be said.
    model = SimpleNamespace(tokenizer=words, cfg=SimpleNamespace(n_ctx=29))
    assert len(prompt(model, "a " * 400, "en").split()) == 8
    model.cfg.n_ctx = None
    assert len(prompt(model, "a " * 400, "en").split()) == 407
    model.cfg.n_ctx = 27
    with pytest.raises(InputError, match=r"in en and 20 new tokens do not fit .* of 27; take"):
        prompt(model, "a " * 400, "en")


def test_as_published_has_the_heads_of_the_text_and_those_of_the_code(tiny, heads, monkeypatch):
    """English heads off, and the prompt's own; the detector's first guess, however unsure."""
    few = PUBLISHED["off_target"] | {"max_new_tokens": 5}
    monkeypatch.setitem(PUBLISHED, "off_target", few)
    found = off_target(tiny, heads, PROMPTS, ByCodePoint(), n_controls=1, as_published=True)
    assert list(found.condition.values) == [
        "none", "own off", "random own off", "suspect off", "random suspect off",
    ]  # fmt: skip
    for condition, off in (("own off", OWN["zh"]), ("suspect off", ["L2H3"])):
        replies = generate(tiny, PROMPTS["zh"], gates=off, max_new_tokens=5)
        guesses = [ByCodePoint()(reply.text)[0] for reply in replies]
        here = found.sel(language="zh", condition=condition)
        assert here.right.item() == pytest.approx(np.mean([guess == "zh" for guess in guesses]))
        np.testing.assert_allclose(here.nll_each[:3], reply_nll(tiny, replies), rtol=1e-5)
    with pytest.raises(InputError, match="suspect 'zh' asked for, but as published it is 'en';"):
        off_target(tiny, heads, PROMPTS, ByCodePoint(), suspect="zh", as_published=True)
