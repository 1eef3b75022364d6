"""Pictures of the benchmark hold the numbers of the results that they are given."""

import numpy as np
import plotly.io as pio
import pytest
import xarray as xr

from langheads.io.errors import InputError
from langheads.view import (
    deletion_curves,
    off_target_checks,
    off_target_rates,
    score_against_knockout,
    score_benchmark,
)
from langheads.view.contents import RunFolder
from langheads.view.figures.style import DARK, LIGHT
from langheads.view.kinds.benchmark import COMPARISON
from tests.unit.view.made_up_results import make_offtarget

LANGUAGES = ["en", "zh", "<b>x</b>"]


def made(kind, variables, coords):
    return xr.Dataset(variables, coords=coords, attrs={"kind": kind, "model": "<i>m</i>"})


@pytest.fixture
def scores():
    values = np.arange(18.0).reshape(3, 2, 3)
    return made(
        "scores",
        {"quadrature": (("language", "layer", "head"), values, {"units": "nats per token"})},
        {"language": LANGUAGES},
    )


@pytest.fixture
def knockout():
    values = -np.arange(18.0).reshape(1, 3, 2, 3)
    dims = ("baseline", "language", "layer", "head")
    return made(
        "knockout",
        {"delta_nats_per_token": (dims, values)},
        {"baseline": ["zero"], "language": LANGUAGES},
    )


def test_every_head_is_a_dot_with_its_name(scores, knockout):
    figure = score_against_knockout(scores, knockout, "quadrature")
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    # Both axes are asinh of multiples of 8.5, the median of the sizes 0 to 17.
    places = np.arcsinh(np.arange(18.0).reshape(3, 6) / 8.5)
    np.testing.assert_allclose([t.y for t in dots], places)
    np.testing.assert_allclose([t.x for t in dots], -places)
    assert [list(dots[1].customdata[:, i]) for i in (0, 3)] == [
        [-6.0, -7.0, -8.0, -9.0, -10.0, -11.0], [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    ]  # fmt: skip
    said = {axis.title.text for axis in figure.select_xaxes()} - {None}
    assert said == {"exact ΔNLL, nats per token (asinh scale)"}
    assert figure.layout.yaxis.title.text == "score, nats per token (asinh scale)"
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        for at, text in zip(axis.tickvals, axis.ticktext, strict=True):
            value = float(text.replace("−", "-"))
            assert 8.5 * np.sinh(at) == pytest.approx(value, rel=0.01, abs=1e-12)
            assert value >= 0 or text.startswith("−")
    assert list(dots[0].hovertext) == ["L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"]
    titles = [note.text for note in figure.layout.annotations]
    assert titles[0] == "en, Spearman −1.00"
    assert titles[2].startswith("&lt;b&gt;x")
    # The score is in nats, so the line of truth is drawn.
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert all(list(line.x) == list(line.y) for line in lines)
    assert len(lines) == 3
    # In another unit there is no such line, and the score has a scale of its own.
    scores.quadrature.attrs["units"] = "nats"
    scores.quadrature[:] *= 10
    figure = score_against_knockout(scores, knockout, "quadrature")
    assert [trace.mode for trace in figure.data] == ["markers"] * 3
    np.testing.assert_allclose([t.y for t in figure.data], places)


def test_panels_share_their_axes(scores, knockout):
    figure = score_against_knockout(scores, knockout, "quadrature")
    rise = ("score", "heads_of", "step", "text_of"), np.ones((1, 3, 2, 3))
    names = {"score": ["lahis"], "heads_of": LANGUAGES, "step": [1, 2], "text_of": LANGUAGES}
    curves = deletion_curves(made("deletion", {"rise": rise}, names))
    for each in (figure, curves):
        across, up = list(each.select_xaxes()), list(each.select_yaxes())
        assert len(across) == len(up) == 3
        assert {axis.matches for axis in across} == {"x"}
        assert {axis.matches for axis in up} == {"y"}
    assert {axis.rangemode for axis in curves.select_yaxes()} == {"tozero"}
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        assert axis.range[0] < 0 < axis.range[1]
    assert {axis.type for axis in curves.select_xaxes()} == {"log"}
    # Exact losses go from -17 to 0 over all languages.
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [list(line.x) for line in lines] == [[-np.arcsinh(2.0), 0.0]] * 3


def test_hovering_gives_the_standard_errors_that_there_are(scores, knockout):
    bare = score_against_knockout(scores, knockout, "quadrature")
    dots = [trace for trace in bare.data if trace.mode == "markers"]
    assert {text for dot in dots for row in dot.customdata for text in row[1:3]} == {""}
    knockout["delta_nats_per_token_se"] = abs(knockout.delta_nats_per_token) / 10
    scores["quadrature_se"] = scores.quadrature / 4
    scores.quadrature_se[1, 0, 1] = np.nan
    figure = score_against_knockout(scores, knockout, "quadrature")
    zh = [trace for trace in figure.data if trace.mode == "markers"][1]
    # Exact losses of zh are 6, 7, 8, ...; its scores the same.
    assert list(zh.customdata[0, 1:3]) == [" ± 0.6 (standard error)", " ± 1.5 (standard error)"]
    assert list(zh.customdata[1, 1:3]) == [" ± 0.7 (standard error)", ""]
    assert "%{customdata[0]:.4g}%{customdata[1]} nats per token<br>" in zh.hovertemplate
    assert "score %{customdata[3]:.4g}%{customdata[2]} nats per token<" in zh.hovertemplate


def luminance(colour):
    """Relative luminance of a colour #rrggbb, as WCAG 2 has it."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", [LIGHT, DARK])
def test_dots_stand_out_from_light_and_dark_pages(scores, knockout, page):
    figure = score_against_knockout(scores, knockout, "quadrature")
    marker = next(trace for trace in figure.data if trace.mode == "markers").marker
    assert marker.opacity is None
    assert figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    paper = luminance(pio.templates[page].layout.paper_bgcolor)
    contrasts = [
        (max(own, paper) + 0.05) / (min(own, paper) + 0.05)
        for own in (luminance(marker.color), luminance(marker.line.color))
    ]
    # 4.5 is what WCAG asks of text; 3 would do for graphics.
    assert max(contrasts) > 4.5


def test_curves_are_own_and_mean_of_others():
    rise = np.arange(18.0).reshape(1, 3, 2, 3) / 100
    deletion = made(
        "deletion",
        {"rise": (("score", "heads_of", "step", "text_of"), rise)},
        {"score": ["lahis_paper"], "heads_of": LANGUAGES, "step": [1, 2], "text_of": LANGUAGES},
    )
    figure = deletion_curves(deletion)
    own, others = figure.data[0], figure.data[1]
    np.testing.assert_allclose(own.y, 100 * rise[0, 0, :, 0])
    np.testing.assert_allclose(others.y, 100 * rise[0, 0, :, 1:].mean(axis=1))
    assert own.line.dash == "solid"
    assert others.line.dash == "dot"
    assert [trace.name for trace in figure.data if trace.showlegend] == ["lahis-paper"]


def test_the_benchmark_shows_what_was_measured():
    gap = np.full((2, 3), np.nan)
    measured = np.array([[1.0, 1.0, 1.0], [0.5, 0.75, np.nan]])
    dims = ("score", "language")
    comparison = made(
        "comparison",
        {
            "spearman": (dims, measured),
            "average_precision": (dims, gap),
            "area": (dims, gap),
            "split_half": (dims, measured / 2),
        },
        {"score": ["knockout", "lahis"], "language": LANGUAGES},
    )
    figure = score_benchmark(comparison)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [list(bar.x) for bar in bars] == [[1.0, 0.625], [0.5, 0.3125]]
    assert len(figure.layout.annotations) == 2
    comparison["spearman"][:] = np.nan
    comparison["split_half"][:] = np.nan
    with pytest.raises(InputError, match="no measure to show"):
        score_benchmark(comparison)


def looks(figure, names):
    """Colour and symbol of each name in the legend."""
    found = {}
    for trace in figure.data:
        if trace.name in names:
            colour = trace.marker.color or trace.line.color
            found.setdefault(trace.name, set()).add((colour, trace.marker.symbol))
    return [found[name] for name in names]


def test_thirteen_languages_and_eleven_scores_all_look_different():
    languages, scores = [f"l{i}" for i in range(13)], [f"s{i}" for i in range(11)]
    rise = np.zeros((11, 13, 2, 13))
    deletion = made(
        "deletion",
        {"rise": (("score", "heads_of", "step", "text_of"), rise)},
        {"score": scores, "heads_of": languages, "step": [1, 2], "text_of": languages},
    )
    values = np.full((11, 13), 0.5)
    kinds = ("spearman", "average_precision", "area", "split_half")
    comparison = made(
        "comparison",
        dict.fromkeys(kinds, (("score", "language"), values)),
        {"score": scores, "language": languages},
    )
    off = make_offtarget(languages)
    for figure, shown in (
        (deletion_curves(deletion), scores),
        (score_benchmark(comparison), languages),
        (off_target_checks(off), languages),
        (off_target_rates(off), languages),
    ):
        found = looks(figure, shown)
        # The same in every panel, and no two alike.
        assert all(len(each) == 1 for each in found)
        assert len(set().union(*found)) == len(shown)


def test_other_kinds_are_refused(scores, knockout):
    with pytest.raises(InputError, match="kind 'knockout' asked for, found kind 'scores'"):
        score_against_knockout(scores, scores, "quadrature")
    with pytest.raises(InputError, match="has no lahis"):
        score_against_knockout(scores, knockout, "lahis")
    with pytest.raises(InputError, match="no language in common"):
        score_against_knockout(scores, knockout.assign_coords(language=list("abc")), "quadrature")
    with pytest.raises(InputError, match="kind 'deletion' asked for"):
        deletion_curves(scores)


def test_the_table_of_the_benchmark_has_the_intervals_and_names_no_sample_the_best():
    run = RunFolder()
    dims = ("score", "language")
    gap = np.nan
    comparison = made(
        "comparison",
        {
            "spearman": (dims, [[1.0, 1.0], [0.5, 0.75], [0.8, 1.0]]),
            "spearman_low": (dims, np.full((3, 2), 0.4)),
            "behind": (dims, [[gap, gap], [0.0, 0.0], [gap, gap]]),
            "mean_spearman": ("score", [gap, 0.625, gap]),
            "mean_spearman_low": ("score", [gap, 0.4375, gap]),
            "mean_spearman_high": ("score", [gap, 0.75, gap]),
            "forwards": ("score", [29.0, 3.0, 5.25]),
            "forwards_large": ("score", [529.0, 3.0, 31.25]),
            "seconds": ("score", [9.0, 1.0, gap]),
        },
        {"score": ["knockout", "lahis", "sample-16"], "language": ["en", "zh"]},
    )
    (table,) = COMPARISON.tables(comparison, run)
    assert table.header == [
        *("score", "spearman, mean", "spearman, lowest", "behind", "forwards of every document"),
        *("forwards, 32 layers of 32 heads", "seconds"),
    ]
    lahis, sample = table.rows[1:]
    assert lahis == ["lahis", "0.625 (0.438 to 0.750)", "0.500", "0.000", "3", "3", "1.0"]
    assert sample == ["sample-16", "0.900", "0.800", "–", "5", "31", "–"]
    assert "95% intervals, for other documents like these" in table.caption
    assert list(COMPARISON.summary(comparison, run)) == [
        "Benchmark: of 1 scores, lahis ranks heads most as exact knock-out does (mean Spearman "
        "0.625 (0.438 to 0.750))."
    ]
    added = ("slope", "precision", "decoys", "area", "split_half")
    more = dict.fromkeys(added, comparison.spearman)
    (table,) = COMPARISON.tables(comparison.assign(more), run)
    assert (
        " Slope: nats that a score in nats predicts for each nat lost, 1 where it is right; "
        "precision: share of planted heads among as many of the highest; decoys: heads planted "
        "with a large gradient and no effect, the share among the highest; area: under the "
        "deletion curve, what a language loses more than the others; split half: how alike two "
        "halves of the documents rank heads."
    ) in table.caption
    old = comparison.drop_vars([x for x in comparison if x.endswith(("_low", "_high", "_large"))])
    (table,) = COMPARISON.tables(old, run)
    assert table.caption == "Every score, means over languages."
    assert table.rows[1] == ["lahis", "0.625", "0.500", "0.000", "3", "1.0"]
