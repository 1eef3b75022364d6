"""Maps of effects, overlap, off-target bars and switch rates hold the numbers of the results."""

import numpy as np
import pytest
from scipy import stats

from langheads.errors import InputError
from langheads.heads import Head
from langheads.view import (
    effect_map,
    language_overlap,
    off_target_bars,
    off_target_guards,
    switch_rate_bars,
)
from langheads.view.overlap import clustered
from langheads.view.switching import highest, share_interval
from tests.unit.view.made_up_results import (
    make_attribution,
    make_knockout,
    make_offtarget,
    make_switch_rate,
    make_task,
)
from tests.unit.view.made_up_run import make_heads, make_scores
from tests.unit.view.test_figures import HOSTILE, heatmaps, texts

LANGUAGES = ["en", "zh", "हिन्दी"]


def test_a_map_shows_the_effect_of_each_head_with_its_error():
    result = make_knockout(LANGUAGES)
    figure = effect_map(result, baseline="mean", heads=make_heads(LANGUAGES))
    for i, trace in enumerate(heatmaps(figure)):
        np.testing.assert_array_equal(trace.z, result.delta_nats_per_byte.values[1, i])
        np.testing.assert_array_equal(trace.customdata, result.delta_nats_per_byte_se.values[1, i])
    assert "mean ablation" in figure.layout.title.subtitle.text
    assert figure.layout.coloraxis.colorbar.title.text == "nats per byte"
    assert figure.layout.coloraxis.cmin == 0
    signed = effect_map(make_attribution(LANGUAGES)).layout.coloraxis
    assert signed.cmin == -signed.cmax
    patched = heatmaps(effect_map(make_attribution(LANGUAGES), "patching"))[0].z
    assert np.isnan(np.array(patched, dtype=float)[:, 3:]).all()


def test_a_map_refuses_what_it_cannot_show():
    with pytest.raises(InputError, match="kind 'scores' given; a map can be drawn of knockout"):
        effect_map(make_scores(LANGUAGES))
    with pytest.raises(InputError, match="variable 'f1' asked for; this dataset has delta_answer"):
        effect_map(make_task(LANGUAGES), "f1")
    with pytest.raises(InputError, match="'median' asked for; this dataset has zero, mean"):
        effect_map(make_knockout(LANGUAGES), baseline="median")
    with pytest.raises(InputError, match="direct has none"):
        effect_map(make_attribution(LANGUAGES), baseline="zero")


def test_overlap_is_rank_correlation_and_shared_heads_in_clustered_order():
    scores = make_scores(["a", "b", "c"])
    # c ranks heads nearly as a does.
    scores.lahis[2] = scores.lahis[0] + 1e-4
    scores.lahis[2, 0, 0] = 0
    figure = language_overlap(scores, "lahis", top=5)
    correlation, shared = heatmaps(figure)
    order = list(figure.layout.yaxis.ticktext)
    assert abs(order.index("a") - order.index("c")) == 1
    values = dict(zip("abc", scores.lahis.values.reshape(3, -1), strict=True))
    for i, x in enumerate(order):
        for j, y in enumerate(order):
            expected = stats.spearmanr(values[x], values[y]).statistic
            assert correlation.z[i][j] == pytest.approx(expected)
            best = [set(np.argsort(values[name])[-5:]) for name in (x, y)]
            assert shared.z[i][j] == pytest.approx(len(best[0] & best[1]) / len(best[0] | best[1]))
            for head in best[0] & best[1]:
                assert str(Head(*divmod(int(head), 6))) in shared.text[i][j]
    assert figure.layout.coloraxis.cmin == -1
    assert language_overlap(make_knockout(["a", "b"])).data


def test_overlap_refuses_one_language_and_other_kinds():
    with pytest.raises(InputError, match="at least 2"):
        language_overlap(make_scores(["a"]))
    with pytest.raises(InputError, match="top 99 asked for; allowed are 1 to 24"):
        language_overlap(make_scores(["a", "b"]), top=99)
    with pytest.raises(InputError, match="scores or knock-outs asked for, found kind 'offtarget'"):
        language_overlap(make_offtarget(LANGUAGES))
    with pytest.raises(InputError, match="method 'nothing' asked for"):
        language_overlap(make_scores(["a", "b"]), "nothing")


def test_neighbours_in_the_order_are_alike():
    two_groups = np.array([[1, 0.1, 0.9, 0], [0.1, 1, 0, 0.8], [0.9, 0, 1, 0.2], [0, 0.8, 0.2, 1]])
    order = clustered(two_groups).tolist()
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset({0, 2}), frozenset({1, 3})}
    assert sorted(clustered(np.full((3, 3), np.nan)).tolist()) == [0, 1, 2]


def test_bars_are_shares_with_their_intervals():
    result = make_offtarget(LANGUAGES)
    figure = off_target_bars(result)
    for trace, language in zip(figure.data, LANGUAGES, strict=True):
        of = result.sel(language=language)
        np.testing.assert_array_equal(trace.x, of.right)
        there = np.isfinite(of.right.values)
        high = (np.array(trace.x) + np.array(trace.error_x.array))[there]
        np.testing.assert_allclose(high, of.right_high.values[there])
        low = (np.array(trace.x) - np.array(trace.error_x.arrayminus))[there]
        np.testing.assert_allclose(low, of.right_low.values[there])
        assert f"{of.delta_right.values[1]:.3f}" in trace.text[1]
    assert "no heads to switch off" in figure.data[-1].text[2]
    # Nothing off, heads that should matter, and random heads have colours of their own.
    assert len({figure.data[0].marker.color[i] for i in (0, 1, 3)}) == 3


def test_guards_are_one_mark_a_language():
    result = make_offtarget(LANGUAGES)
    figure = off_target_guards(result)
    assert len(figure.data) == 4 * len(LANGUAGES)
    np.testing.assert_array_equal(figure.data[1].x, result.repetition.sel(language="zh"))
    np.testing.assert_array_equal(figure.data[-1].x, result.nll.sel(language=LANGUAGES[-1]))
    with pytest.raises(InputError, match="none of repetition"):
        off_target_guards(result.drop_vars(["repetition", "prompt_copy", "empty", "nll"]))


def test_the_highest_switch_rates_are_bars_full_where_sound():
    result = make_switch_rate(LANGUAGES)
    figure = switch_rate_bars(result, top=20)
    for trace, language in zip(figure.data, LANGUAGES, strict=True):
        of = result.sel(language=language)
        rates = np.sort(of.switch_rate.values[np.isfinite(of.switch_rate.values)])[::-1][:20]
        np.testing.assert_array_equal(trace.x, rates)
        assert "L3H5" not in trace.y  # not tried
        for name, rate, colour in zip(trace.y, trace.x, trace.marker.color, strict=True):
            assert of.switch_rate.values[Head.parse(name)] == rate
            assert (colour == "rgba(0,0,0,0)") == (rate >= 0.5)
    assert len(highest(result, "zh", 99)) == 4 * 5 + 3


@pytest.mark.parametrize(("share", "count"), [(0.0, 20), (1.0, 20), (0.35, 40)])
def test_intervals_of_shares_are_wilsons(share, count):
    z = stats.norm.ppf(0.975)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = share_interval(share, count)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert low <= share <= high


@pytest.mark.parametrize(
    "draw",
    [
        lambda names: effect_map(make_knockout(names, model=HOSTILE)),
        lambda names: language_overlap(make_knockout(names, model=HOSTILE)),
        lambda names: off_target_bars(make_offtarget(names, model=HOSTILE)),
        lambda names: off_target_guards(make_offtarget(names, model=HOSTILE)),
        lambda names: switch_rate_bars(make_switch_rate(names, model=HOSTILE)),
    ],
)
def test_names_are_shown_literally(draw):
    said = list(texts(draw([HOSTILE, "zh"]).to_plotly_json()))
    assert any("&lt;b&gt;x" in text for text in said)
    for text in said:
        assert "<b>x</b>" not in text
        assert "<a href" not in text
        assert "%{z} &" not in text


def test_other_kinds_are_refused():
    for draw in (off_target_bars, switch_rate_bars):
        with pytest.raises(InputError, match="found kind 'knockout'"):
            draw(make_knockout(LANGUAGES))
