"""Pictures of attention transfer show the numbers of the file, and say what they are."""

import itertools

import numpy as np
import pytest

from langheads.experiments.transfer.plan import Plan, Setting
from langheads.experiments.transfer.summarise import summary
from langheads.io.errors import InputError
from langheads.view import transfer_attention, transfer_matrix, transfer_sweep
from langheads.view.contents import RunFolder
from langheads.view.kinds import KINDS
from langheads.view.kinds.transfer import _tables
from langheads.view.table import decimal
from tests.unit.experiments import test_transfer as made

HOSTILE = "<b>x</b> %{z}"


@pytest.fixture(scope="module")
def found():
    return made.arranged(*made.made_up())


@pytest.mark.parametrize("measure", made.MEASURES)
def test_the_matrix_shows_changes_and_controls(found, measure):
    figure = transfer_matrix(found, measure)
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    factor = 1 if measure == "logprob_difference" else 100
    at = found.sel(order="both")
    # Chosen heads and random heads, gate by gate.
    for i, trace in enumerate(maps):
        part = ("change", "control_mean")[i % 2]
        np.testing.assert_allclose(
            trace.z, factor * at[f"{measure}_{part}"].isel(setting=i // 2).values
        )
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == [
        "A's heads × 3", "B's heads × 0", "random heads, A's heads × 3",
        "random heads, B's heads × 0",
    ]  # fmt: skip
    change = f"{factor * float(at[f'{measure}_change'][0, 1, 0]):+.3g}".replace("-", "−")
    assert f"change {change} " in maps[0].hovertext[0][1]
    assert "not run" in maps[0].hovertext[2][0]
    low = at[f"{measure}_change_low"].isel(setting=0).values
    high = at[f"{measure}_change_high"].isel(setting=0).values
    dots = next(t for t in figure.data if t.name == "interval excludes 0")
    expected = np.argwhere((low > 0) | (high < 0))
    assert sorted(zip(np.round(dots.y + 0.32), np.round(dots.x + 0.36), strict=True)) == sorted(
        map(tuple, expected.astype(float))
    )
    unit = "nats" if factor == 1 else "points"
    towards = "below" if measure == "answer_b" else "above"
    bar = figure.layout.coloraxis.colorbar.title.text
    assert bar.startswith(f"change in {unit}")
    assert bar.endswith(f",<br>{towards} 0 is towards A")
    # Rows are A, the fact to move to.
    assert figure.layout.yaxis.title.text == "A: language of<br>the fact to move to"
    below = [axis.title.text for axis in figure.select_xaxes(row=2)]
    assert below == ["B: language of<br>the other fact"] * 2
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax


def test_panels_of_few_languages_are_as_far_apart_as_their_titles_are_wide(found):
    few = found.isel(a=[0, 1], b=[0, 1], setting=[0, 0, 1, 1])
    layout = transfer_matrix(few).layout
    plot = layout.width - layout.margin.l - layout.margin.r
    titles = [a for a in layout.annotations if a.text.startswith("random heads")]
    assert len(titles) == 4
    for left, right in itertools.pairwise(sorted(title.x for title in titles)):
        # A letter is a little more than half as wide as it is high.
        assert plot * (right - left) > 0.55 * titles[0].font.size * len(titles[0].text)


def test_the_sweep_passes_through_gate_1():
    settings = [Setting("enhance", 2.0), Setting("enhance", 3.0), Setting("weaken", 0.0)]
    rng = np.random.default_rng(0)
    pools = made.random_sets(made.OWN, 4, rng)
    plan = Plan(
        made.PAIRS[:2], made.ORDERS, settings, made.OWN, pools, made.OCCUPATIONS[:5], seed=0
    )
    runs = {}
    for text in (("en", "zh"), ("zh", "en")):
        conditions, _ = plan.conditions(text)
        runs[text] = made.Run(
            conditions,
            rng.normal(size=(len(conditions), 5, 2, 2)),
            rng.integers(-1, 2, size=(len(conditions), 5)),
            rng.random(size=(len(conditions), 5, 4)),
            np.zeros(5, dtype=bool),
            {},
        )
    attrs = {"kind": "transfer", "model": HOSTILE, "query": "en", "controls": 4, "prompts": 5}
    found = summary(plan, runs, attrs=attrs)
    figure = transfer_sweep(found, "answer_b")
    curves = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [list(curve.x) for curve in curves] == [[1.0, 2.0, 3.0], [0.0, 1.0]]
    overall = 100 * found.answer_b_overall_change.sel(order="both").values
    np.testing.assert_allclose(curves[0].y, [0.0, *overall[:2]])
    np.testing.assert_allclose(curves[1].y, [overall[2], 0.0])
    high = 100 * found.answer_b_overall_high.sel(order="both").values
    np.testing.assert_allclose(curves[0].y + curves[0].error_y.array, [0.0, *high[:2]])
    low = 100 * found.answer_b_overall_low.sel(order="both").values
    np.testing.assert_allclose(curves[0].customdata[1:], np.stack([low[:2], high[:2]], axis=1))
    np.testing.assert_array_equal(curves[0].customdata[0], [0, 0])
    assert curves[0].hovertemplate == (
        "gate %{x:g}: %{y:.3g} points (percent of prompts), interval %{customdata[0]:.3g} to "
        "%{customdata[1]:.3g}<extra></extra>"
    )
    band = next(trace for trace in figure.data if trace.fill == "toself")
    sets = found.answer_b_overall_control_change.sel(order="both").values
    # Without draws that are the chosen heads themselves.
    sets = 100 * sets[1, np.isfinite(sets).all(axis=0)]
    assert 1 < len(sets) < 4
    assert band.y[2] == pytest.approx(np.quantile(sets, 0.95))
    assert band.y[3] == pytest.approx(np.quantile(sets, 0.05))
    assert "<b>" not in figure.layout.title.text
    one = transfer_sweep(found, "answer_b", order="A first", pair=("zh", "en"))
    curve = next(trace for trace in one.data if trace.mode == "lines+markers")
    own = found.answer_b_change.sel(a="zh", b="en", order="A first").values
    assert curve.y[1] == pytest.approx(100 * own[0])


def test_refusals(found):
    with pytest.raises(InputError, match="measure 'x' asked for; allowed are answer_a"):
        transfer_matrix(found, "x")
    with pytest.raises(InputError, match="order 'x' asked for; this dataset has A first, A last"):
        transfer_sweep(found, order="x")
    with pytest.raises(InputError, match="pair en, fr asked for; this dataset has en, zh, hi"):
        transfer_sweep(found, pair=("en", "fr"))
    with pytest.raises(InputError, match="pair hi, en asked for, but it was not run"):
        transfer_sweep(found, pair=("hi", "en"))
    with pytest.raises(InputError, match="kind 'transfer' asked for, found kind 'scores'"):
        transfer_matrix(found.assign_attrs(kind="scores"))


def test_attention_before_and_after(found):
    figure = transfer_attention(found, ("en", "zh"), "weaken 0", "A last")
    at = found.sel(a="en", b="zh", order="A last", setting="weaken 0")
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["heads of en (A)", "heads of zh (B)", "others that move most"]
    assert len(figure.data) == 12
    change = abs(at.attention_after - at.attention_before).max("fact")
    by_change = {
        f"L{layer}H{head}": float(change.sel(layer=layer, head=head))
        for layer in range(2) for head in range(4)
    }  # fmt: skip
    others = sorted(set(by_change) - {"L0H1", "L0H2"}, key=by_change.__getitem__, reverse=True)
    for trace in figure.data:
        assert list(trace.y) == {"x": ["L0H1"], "x2": ["L0H2"], "x3": others}[trace.xaxis]
        _, fact, when, _ = trace.name.replace(",", "").split(" ", 3)
        values = at[f"attention_{'before' if when == 'nothing' else 'after'}"].sel(fact=fact)
        for x, head in zip(trace.x, trace.y, strict=True):
            assert x == values.sel(layer=int(head[1]), head=int(head[3])).item()
    still = found.assign(attention_after=found.attention_before.broadcast_like(found.setting))
    without = transfer_attention(still.transpose(..., "layer", "head", "fact"), ("en", "zh"))
    assert len(without.layout.annotations) == 2
    with pytest.raises(InputError, match="a 'fr' asked for; this dataset has en, zh, hi"):
        transfer_attention(found, ("fr", "zh"))
    with pytest.raises(InputError, match="setting 'x' asked for; this dataset has enhance 3"):
        transfer_attention(found, ("en", "zh"), "x")
    with pytest.raises(InputError, match="pair hi, en, enhance 3 asked for, but it was not run"):
        transfer_attention(found, ("hi", "en"))
    with pytest.raises(InputError, match="has no attention_before"):
        transfer_attention(found.drop_vars("attention_before"), ("en", "zh"))


def test_a_set_that_one_setting_lacks_stays_in_the_others(found):
    """The dotted line is the mean of the table, setting by setting."""
    partly = found.copy(deep=True)
    sets = partly.logprob_difference_overall_control_change
    sets.loc[{"setting": "weaken 0", "order": "both", "control": 0}] = np.nan
    figure = transfer_sweep(partly)
    means = [trace.y for trace in figure.data if trace.name == "random heads, mean"]
    expected = sets.sel(order="both").mean("control").values
    np.testing.assert_allclose([means[0][1], means[1][0]], expected)
    rows = next(iter(_tables(partly, RunFolder()))).rows
    said = [row[4] for row in rows if row[0].startswith("log p(A") and row[1] == "both"]
    assert said == [decimal(value) for value in expected]


def test_languages_with_the_same_heads_are_named(found):
    """Their changes cancel, and 0 was told as if it were measured."""
    said = list(KINDS["transfer"].summary(found, RunFolder()))
    same = found.assign(heads=("a", ["L0H1", "L0H1", ""]))
    assert list(KINDS["transfer"].summary(same, RunFolder())) == [
        said[0],
        "The rows of en, zh are the same heads (L0H1). Over a pair and its reverse, changes of "
        "log-probability cancel whatever they do.",
        *said[1:],
    ]


def test_too_few_random_sets_cannot_tell(found):
    """No p of 15 draws is below 1/16."""
    assert found.null_draws.values.tolist() == [15, 15]
    rows = next(iter(_tables(found, RunFolder()))).rows
    assert {row[-1] for row in rows} == {"cannot tell (≥ 0.062)"}
    more = found.assign(null_draws=("setting", [15, 99]))
    said = {row[2]: row[-1] for row in next(iter(_tables(more, RunFolder()))).rows}
    assert said["enhance 3"] == "cannot tell (≥ 0.062)"
    last = more.logprob_difference_overall_control_p.sel(setting="weaken 0", order="both").item()
    assert said["weaken 0"] == decimal(last)
    (sentence, *_) = KINDS["transfer"].summary(found, RunFolder())
    assert sentence.count("p = cannot tell (≥ 0.062)") == 2
