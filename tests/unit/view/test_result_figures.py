"""Maps of effects, overlap, off-target bars and switch rates hold the numbers of the results."""

import numpy as np
import pytest
from scipy import stats

from langheads.experiments.replies.off_target import CONDITIONS
from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.io.measures import TWINS
from langheads.view import (
    effect_map,
    head_map,
    language_overlap,
    layer_profile,
    off_target_bars,
    off_target_checks,
    off_target_rates,
    switch_rate_bars,
)
from langheads.view.contents import RunFolder
from langheads.view.figures.overlap import clustered
from langheads.view.kinds import KINDS
from langheads.view.kinds.effects import effect_tables
from langheads.view.kinds.switch_rate import highest, share_interval
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
        values = result.delta_nats_per_byte.values[1, i]
        np.testing.assert_array_equal(trace.z, np.sqrt(values))
        errors = result.delta_nats_per_byte_se.values[1, i]
        np.testing.assert_array_equal(trace.customdata, np.stack([values, errors], axis=2))
    assert "mean ablation" in figure.layout.title.subtitle.text
    bar = figure.layout.coloraxis.colorbar
    assert bar.title.text == "nats per byte<br>(square-root scale)"
    assert figure.layout.coloraxis.cmin == 0
    signed = effect_map(make_attribution(LANGUAGES)).layout.coloraxis
    assert signed.cmin == -signed.cmax
    patched = heatmaps(effect_map(make_attribution(LANGUAGES), "patching"))[0].z
    assert np.isnan(np.array(patched, dtype=float)[:, 3:]).all()


def test_what_has_no_standard_error_has_a_dash_with_the_reason():
    result = make_attribution(LANGUAGES)
    result.direct_se[1] = np.nan
    table, _ = KINDS["attribution"].tables(result, RunFolder())
    assert "nan" not in str(table.rows)
    assert [cell.split(" ± ")[1] for cell in table.rows[1][1:]] == ["–"] * 5
    assert table.caption == (
        "What each head says for the answer (direct logit attribution): the heads with the largest "
        "effect, in logit ± standard error. A dash: one document or prompt alone has no standard "
        "error."
    )


def test_a_sample_that_says_nothing_of_a_head_gives_another_reason():
    result = make_knockout(LANGUAGES)
    result.delta_nats_per_byte_se[:] = np.nan
    captions = []
    for sample in ({}, {"sample": 12}):
        result.attrs |= sample
        captions.append(
            next(iter(effect_tables(result, RunFolder(), ["delta_nats_per_byte"]))).caption
        )
    assert captions[0].endswith(" A dash: one document or prompt alone has no standard error.")
    assert captions[1].endswith(
        " A dash: in the documents that were run, a head does next to nothing, unlike in others."
    )


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
        assert f"{of.delta_right.values[1]:.3f}".replace("-", "−") in trace.text[1]
    assert "no heads to switch off" in figure.data[-1].text[2]
    # Nothing off, heads that should matter, and random heads have colours of their own.
    assert len({figure.data[0].marker.color[i] for i in (0, 1, 3)}) == 3


def test_guards_are_one_mark_a_language_with_its_interval():
    result = make_offtarget(LANGUAGES)
    figure = off_target_checks(result)
    assert len(figure.data) == 4 * len(LANGUAGES)
    np.testing.assert_array_equal(figure.data[1].x, result.repetition.sel(language="zh"))
    # NLL as its change, but in a file that does not have it.
    of = result.sel(language=LANGUAGES[-1])
    last = figure.data[-1]
    np.testing.assert_array_equal(last.x, of.delta_nll)
    there = np.isfinite(of.delta_nll.values)
    np.testing.assert_allclose((last.x + last.error_x.array)[there], of.delta_nll_high[there])
    np.testing.assert_allclose((last.x - last.error_x.arrayminus)[there], of.delta_nll_low[there])
    assert last.text[1] == "own off"
    assert [round(y) for y in last.y] == list(range(6))
    old = off_target_checks(result.drop_vars("delta_nll"))
    assert len(old.data) == 4 * len(LANGUAGES)
    np.testing.assert_array_equal(old.data[-1].x, of.nll)
    guards = ["repetition", "prompt_copy", "empty", "nll", "delta_nll"]
    with pytest.raises(InputError, match="none of repetition"):
        off_target_checks(result.drop_vars(guards))


def test_pass_rates_are_marks_with_intervals_where_a_language_has_them():
    result = make_offtarget(LANGUAGES)
    figure = off_target_rates(result)
    assert len(figure.data) == 3 * len(LANGUAGES)
    wpr = figure.data[len(LANGUAGES)]
    np.testing.assert_array_equal(wpr.x, result.wpr.sel(language="en"))
    np.testing.assert_allclose(wpr.x + wpr.error_x.array, result.wpr_high.sel(language="en"))
    result["wpr"][:] = np.nan
    assert len(off_target_rates(result).data) == 2 * len(LANGUAGES)
    # An old file has rates without intervals.
    old = result.drop_vars([f"lpr_{end}" for end in ("low", "high")])
    np.testing.assert_array_equal(off_target_rates(old).data[0].error_x.array, 0)
    with pytest.raises(InputError, match="none of lpr"):
        off_target_rates(result.drop_vars(["lpr", "wpr", "lcpr"]))


def test_random_heads_stand_below_those_they_are_drawn_for():
    result = make_offtarget(LANGUAGES)
    mixed = ["random shift", "rivals off", "none", "shift", "random off", "own off"]
    result = result.sel(condition=mixed)
    wanted = ["rivals off", "random off", "none", "shift", "random shift", "own off"]
    bars = off_target_bars(result)
    # Files of format 1 call steering a shift.
    said = ["rivals off", "random off", "none", "steering", "random steering", "own off"]
    assert list(bars.data[0].y) == said
    right = result.right.sel(language="en", condition=wanted).values
    np.testing.assert_array_equal(bars.data[0].x, right)
    colours = dict(zip(wanted, bars.data[0].marker.color, strict=True))
    assert colours["random shift"] == colours["random off"] != colours["shift"]
    guards = off_target_checks(result)
    assert list(guards.layout.yaxis.ticktext) == said
    np.testing.assert_array_equal(
        guards.data[0].x, result.repetition.sel(language="en", condition=wanted)
    )
    # Random heads without their twin stay where they are.
    alone = off_target_bars(result.sel(condition=["random shift", "none"]))
    assert list(alone.data[0].y) == ["random steering", "none"]
    assert set(TWINS) == {name for name in CONDITIONS if name.startswith("random")}
    assert set(TWINS.values()) < set(CONDITIONS)


def test_maps_of_two_baselines_have_one_colour_scale():
    result = make_knockout(LANGUAGES)
    rise = result.delta_nats_per_byte
    rise.loc["mean"] = rise.loc["mean"] / 100
    rise.loc["mean"][0, 1, 2] = -0.001
    zero, mean = (effect_map(result, baseline=b).layout.coloraxis for b in ("zero", "mean"))
    # The next round number after the quantile, 0.198, on the scale of square roots.
    assert 0.15 < np.quantile(abs(rise.values), 0.995) < 0.2
    assert zero.cmax == mean.cmax == pytest.approx(0.2**0.5)
    # One negative value under one baseline makes both diverge.
    assert zero.cmin == mean.cmin == -zero.cmax


def test_heads_without_which_replies_fell_apart_are_crossed_out_on_the_map():
    result = make_switch_rate(["en", "zh", "hi", "ar", "th"])
    result.sound[:] = 1
    result.sound[1, 2, 4] = result.sound[1, 3, 0] = result.sound[4, 0, 5] = 0
    # Heads of NaN were not tried, whatever else a file says.
    result.sound[0, 3, 5], result.sound[2, 3, 5] = -1, 0
    crosses = [t for t in effect_map(result).data if t.name == "replies fell apart"]
    assert [list(zip(t.y, t.x, strict=True)) for t in crosses] == [[(2, 4), (3, 0)], [(0, 5)]]
    assert [t.showlegend for t in crosses] == [True, False]
    # The panels of the second and the fifth language.
    maps = [t for t in effect_map(result).data if t.type == "heatmap"]
    assert [t.xaxis for t in crosses] == [maps[1].xaxis, maps[4].xaxis]


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
        lambda names: off_target_checks(make_offtarget(names, model=HOSTILE)),
        lambda names: off_target_rates(make_offtarget(names, model=HOSTILE)),
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


def test_a_single_small_panel_is_drawn():
    tiny = make_scores(["en"], shape=(1, 1))
    assert heatmaps(head_map(tiny))[0].z.shape == (1, 1)
    assert layer_profile(tiny).data[0].z.item() == 1.0
    alone = make_offtarget(["en"]).isel(condition=[0])
    assert off_target_bars(alone).data[0].x.item() == alone.right.item()


def test_an_infinite_score_leaves_no_share_of_its_language():
    scores = make_scores(["en", "zh"])
    before = layer_profile(scores).data[0].z.copy()
    scores.lahis[0, 1, 2] = np.inf
    after = layer_profile(scores).data[0].z
    assert np.isnan(after[0]).all()
    np.testing.assert_array_equal(after[1], before[1])
