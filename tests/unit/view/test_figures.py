import base64

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from plotly.colors import sample_colorscale

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, LangheadsError, ProvenanceError
from langheads.view import head_map, layer_profile, specificity_matrix
from langheads.view.contents import RunFolder
from langheads.view.figures.canvas import with_room
from langheads.view.figures.style import COLOURWAY, GREY, PAGES, ink_on
from langheads.view.kinds import ablation
from tests.unit.view.made_up_run import make_ablation, make_heads, make_scores

LANGUAGES = ["en", "zh", "हिन्दी"]
HOSTILE = '<b>x</b><a href="javascript:alert(1)">%{z} & $y$</a>'


def heatmaps(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def marks(figure, label):
    """(layer, head) marked in each panel, by the panel's x axis."""
    found = {}
    for trace in figure.data:
        if trace.type == "scatter" and trace.name == label and trace.x[0] is not None:
            found.setdefault(trace.xaxis, set()).update(zip(trace.y, trace.x, strict=True))
    return found


def texts(node):
    """Every string in a figure that plotly may draw."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in ("template", "bdata", "customdata"):
                yield from texts(value)
    elif isinstance(node, (list, tuple, np.ndarray)):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


@pytest.mark.parametrize("method", ["lahis", "taylor"])
def test_head_map_shows_each_score_at_its_head(method):
    scores = make_scores(LANGUAGES)
    figure = head_map(scores, method)
    for trace, language in zip(heatmaps(figure), LANGUAGES, strict=True):
        expected = scores[method].sel(language=language).values
        np.testing.assert_allclose(trace.z, np.sign(expected) * abs(expected) ** 0.5)
        values = np.array(trace.customdata)
        np.testing.assert_array_equal(values[..., 0] if values.ndim == 3 else values, expected)
        assert trace.coloraxis == "coloraxis"
    # Layer 0 is at the bottom: the axis rises.
    assert figure.layout.yaxis.range[0] < figure.layout.yaxis.range[1]
    bar = figure.layout.coloraxis.colorbar
    assert bar.title.text == f"{scores[method].attrs['units']}<br>(square-root scale)"
    for at, text in zip(bar.tickvals, bar.ticktext, strict=True):
        assert "-" not in text
        value = float(text.strip("≥≤ ").replace("−", "-"))
        assert at == pytest.approx(np.sign(value) * abs(value) ** 0.5)
        assert float(f"{value:.1e}") == value


def test_head_map_gives_standard_errors_on_hover_where_there_are_any():
    scores = make_scores(LANGUAGES)
    trace = heatmaps(head_map(scores, "lahis"))[1]
    np.testing.assert_array_equal(trace.customdata[..., 1], scores.lahis_se.values[1])
    assert "± %{customdata[1]:.2g} (standard error)" in trace.hovertemplate
    assert "standard error" not in heatmaps(head_map(scores, "taylor"))[1].hovertemplate
    # Where only some are known, they are said head by head, and nothing is said of the others.
    scores.lahis_se[1] = np.nan
    scores.lahis_se[1, 0, 2] = 0.25
    trace = heatmaps(head_map(scores, "lahis"))[1]
    assert "standard error" not in trace.hovertemplate
    assert list(trace.text[0][:3]) == ["", "", " ± 0.25 (standard error)"]


def test_head_map_colours_signed_scores_around_zero_and_says_where_it_cuts():
    scores = make_scores(LANGUAGES)
    scores.taylor[0, 0, 0] = 5.0
    axis = head_map(scores, "taylor").layout.coloraxis
    assert axis.cmin == -axis.cmax
    # The next round number after the quantile.
    quantile = np.quantile(abs(scores.taylor.values), 0.995)
    assert quantile < axis.cmax**2 <= 1.34 * quantile
    assert axis.colorbar.ticktext[-1] == f"≥ {axis.cmax**2:.2g}"
    assert axis.colorbar.ticktext[0].startswith("≤")
    positive = head_map(scores, "lahis").layout.coloraxis
    assert positive.cmin == 0


@pytest.mark.parametrize("largest", [400.0, 2.5, 0.015, 0.3])
@pytest.mark.parametrize("method", ["lahis", "taylor"])
def test_no_part_of_the_colour_bar_is_without_a_tick(method, largest):
    scores = make_scores(LANGUAGES)
    scores[method][:] = largest
    axis = head_map(scores, method).layout.coloraxis
    places = np.array(axis.colorbar.tickvals) / np.sqrt(largest)
    assert axis.colorbar.ticktext[-1] == f"{largest:g}"
    assert places[-1] == pytest.approx(1)
    assert places[0] == pytest.approx(-1 if method == "taylor" else 0)
    # Labels of 12 pixels are 18 apart on a bar of 320 at most.
    assert np.diff(places).min() > 18 / 320 * (places[-1] - places[0]) - 1e-9
    assert np.diff(places).max() < 0.5
    assert 0 in places


def test_head_map_marks_chosen_and_planted_heads_in_their_panels():
    heads = make_heads(LANGUAGES)
    planted = {"zh": [(2, 5), (0, 1)]}
    figure = head_map(make_scores(LANGUAGES), "lahis", heads, planted)
    assert marks(figure, "specific head") == {
        axis: set(heads.specific[language])
        for axis, language in zip(["x", "x2", "x3"], LANGUAGES, strict=True)
    }
    assert marks(figure, "general head") == {a: {(3, 5)} for a in ["x", "x2", "x3"]}
    assert marks(figure, "planted head") == {"x2": {(2, 5), (0, 1)}}
    legend = [trace.name for trace in figure.data if trace.showlegend is None and trace.x]
    assert legend == ["specific head", "general head", "planted head"]
    roles = heatmaps(figure)[1].text
    assert "specific to zh, rank 1" in roles[1][1]
    assert "planted" in roles[2][5]
    assert roles[0][0] == ""


def test_head_map_of_a_large_model_keeps_cells_apart():
    languages = [f"l{i}" for i in range(13)]
    figure = head_map(make_scores(languages, shape=(32, 32)), "lahis")
    assert len(heatmaps(figure)) == 13
    plot = figure.layout.width - figure.layout.margin.l - figure.layout.margin.r
    left, right = figure.layout.xaxis.domain
    assert plot * (right - left) / 32 >= 8


def test_methods_may_be_spelled_as_on_the_command_line():
    scores = make_scores(LANGUAGES).rename(lahis="lahis_paper", lahis_se="lahis_paper_se")
    for draw in (head_map, layer_profile):
        assert draw(scores, "lahis-paper") == draw(scores, "lahis_paper")
    assert heatmaps(head_map(scores, "lahis-paper"))[0].customdata is not None


def test_layer_profile_sums_scores_and_counts_heads():
    scores, heads = make_scores(LANGUAGES), make_heads(LANGUAGES)
    score, count = heatmaps(layer_profile(scores, "taylor", heads))
    for i, language in enumerate(LANGUAGES):
        magnitudes = abs(scores.taylor.sel(language=language)).sum("head")
        np.testing.assert_allclose(score.z[i], magnitudes / magnitudes.sum())
        expected = [
            sum(h.layer == layer for h in heads.specific[language]) / 2 for layer in range(4)
        ]
        np.testing.assert_allclose(count.z[i], expected)
    assert len(heatmaps(layer_profile(scores, "lahis"))) == 1


def test_layer_profile_leaves_a_language_without_heads_empty():
    heads = make_heads(["en", "zh"])
    _, count = heatmaps(layer_profile(make_scores(LANGUAGES), "lahis", heads))
    assert np.isnan(count.z[2]).all()
    assert np.isfinite(count.z[:2]).all()


def test_general_heads_do_not_wash_out_the_colours_of_the_others():
    ablation = make_ablation(LANGUAGES)
    ablation["delta_nats_per_byte"].loc[{"heads_of": "general"}] = 7.0
    axis = specificity_matrix(ablation, "zero").layout.coloraxis
    assert axis.cmax == 0.3
    assert axis.colorbar.title.text.endswith("scale of the language rows")


def test_only_the_zero_of_what_is_below_1_is_left_out_in_cells():
    ablation = make_ablation(LANGUAGES)
    ablation["delta_nats_per_byte"].loc[{"heads_of": "general"}] = [10.25, -10.25, -0.25]
    shown = set(texts(specificity_matrix(ablation, "zero").to_dict()))
    assert {"10.250", "−10.250", "−.250"} <= shown


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_specificity_matrix_shows_rises_beside_controls_on_one_scale(baseline):
    ablation = make_ablation(LANGUAGES)
    figure = specificity_matrix(ablation, baseline)
    chosen, control = heatmaps(figure)
    at = ablation.sel(baseline=baseline)
    np.testing.assert_array_equal(chosen.z, at.delta_nats_per_byte)
    np.testing.assert_array_equal(control.z, at.control_mean)
    axis = figure.layout.coloraxis
    assert chosen.coloraxis == control.coloraxis == "coloraxis"
    # The largest of all baselines: both pictures have the same colour for the same rise.
    assert axis.cmax == -axis.cmin == ablation.delta_nats_per_byte.max() == 0.3
    own = {(s.x0 + 0.5, s.y0 + 0.5) for s in figure.layout.shapes if s.xref == "x"}
    assert own == {(0, 0), (1, 1), (2, 2)}


def marked(figure):
    """(row, column) of every triangle, by what the legend calls it."""
    return {
        trace.name: set(zip(np.round(trace.y), np.round(trace.x), strict=True))
        for trace in figure.data
        # plotly shows no legend for a lone trace unless told to.
        if trace.type == "scatter" and trace.showlegend
    }


def test_specificity_matrix_marks_cells_by_their_p():
    ablation = make_ablation(LANGUAGES)
    # Far above every random set, but the file says what p is; and far below: no mark either.
    ablation.control_p[0, 1, 1] = 0.05
    ablation.control_p[0, 2, 0] = 0.049
    assert marked(specificity_matrix(ablation, "zero")) == {
        "more than random heads, p &lt; 0.05": {(0, 0), (2, 2), (2, 0), (3, 0), (3, 1), (3, 2)}
    }
    turned = specificity_matrix(ablation.transpose(), "zero")
    assert marked(turned) == marked(specificity_matrix(ablation, "zero"))


def test_specificity_matrix_marks_nothing_in_a_file_without_p():
    older = make_ablation(LANGUAGES).drop_vars(["control_p", "n_controls"])
    figure = specificity_matrix(older, "zero")
    assert marked(figure) == {}
    assert "5th to 95th percentile" in heatmaps(figure)[0].hovertext[0][0]


def test_specificity_matrix_says_on_hover_what_a_cell_means():
    chosen, control = heatmaps(specificity_matrix(make_ablation(LANGUAGES), "zero"))
    hover = chosen.hovertext[1][1]
    # 0.2 ± 1.96 * 0.01; 0.2 of 0.5 nats per byte; perplexity 7 and 7.2.
    assert "ΔNLL 0.2 nats per byte (95% interval 0.1804 to 0.2196)" in hover
    assert "+40.00&#37; of 0.5 nats per byte" in hover
    assert "perplexity 7 before, 7.2 after<br>L1H1 L2H0" in hover
    assert "random heads: mean 0.01" in hover
    assert "more than random heads: p = 0.0099" in hover
    assert "random heads: mean 0.01" in control.hovertext[1][1]
    assert chosen.text[1][1] == ".200"


def test_specificity_matrix_says_perplexity_by_document_where_the_file_has_it():
    ablation = make_ablation(LANGUAGES)
    both = {f"perplexity_by_document{x}": 2 * ablation[f"perplexity{x}"] for x in ("", "_off")}
    (chosen, _) = heatmaps(specificity_matrix(ablation.assign(both), "zero"))
    assert (
        "perplexity 7 before, 7.2 after<br>"
        "perplexity, mean over documents, 14 before, 14.4 after<br>" in chosen.hovertext[1][1]
    )


def test_the_proofs_tables_have_random_heads_anywhere_where_the_file_has_them():
    plain = make_ablation(LANGUAGES)
    rises = np.full((plain.sizes["baseline"], len(LANGUAGES)), 0.25)
    more = {"random_heads_delta": (("baseline", "text_of"), rises), "random_heads": "L0H0 L1H1"}
    rows, with_more = (
        [row for table in ablation._tables(of, RunFolder()) if table.folded for row in table.rows]
        for of in (plain, plain.assign(more))
    )
    added = ["2 random heads anywhere", *["0.2500"] * len(LANGUAGES)]
    assert [row for row in with_more if row not in rows] == [added] * plain.sizes["baseline"]
    assert [row for row in with_more if row in rows] == rows


def test_specificity_matrix_states_the_diagonal_and_its_p_values():
    figure = specificity_matrix(make_ablation(LANGUAGES, diagonal=(0.2, 0.001)), "zero")
    subtitle = figure.layout.title.subtitle.text
    assert subtitle == (
        "own minus others 0.199 nats per byte (p = 0.0099); "
        "own language hurt most in 100&#37; of rows (p = 0.0099)"
    )


def test_specificity_matrix_leaves_a_row_without_heads_empty():
    figure = specificity_matrix(make_ablation(LANGUAGES, empty=["zh"]), "mean")
    chosen, _ = heatmaps(figure)
    assert np.isnan(chosen.z[1]).all()
    assert set(chosen.text[1]) == {"–"}
    assert "no value" in chosen.hovertext[1][0]
    assert figure.layout.yaxis.ticktext[1] == "zh (0)"
    assert figure.layout.coloraxis.cmax == pytest.approx(0.3)


@pytest.mark.parametrize("template", ["langheads", "langheads_dark"])
def test_both_templates_fit_every_figure(template):
    figure = specificity_matrix(make_ablation(LANGUAGES), "zero")
    figure.update_layout(template=template)
    assert figure.layout.template.layout.font.color != figure.layout.template.layout.paper_bgcolor


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_matrix_of_few_languages_has_room_for_its_words(number):
    figure = specificity_matrix(make_ablation(LANGUAGES[:number]), "zero")
    layout = figure.layout
    said = layout.title.subtitle.text.replace("&#37;", "%")
    assert layout.width > 6.5 * len(said)
    # The cells stay as large, and the titles of the panels apart.
    plot = layout.width - layout.margin.l - layout.margin.r
    left, right = (axis.domain for axis in (layout.xaxis, layout.xaxis2))
    for low, high in (left, right):
        assert plot * (high - low) == pytest.approx(number * 64)
    assert plot * (sum(right) - sum(left)) / 2 >= 190


def widened(title="", subtitle=""):
    title = {"text": title, "subtitle": {"text": subtitle}}
    figure = go.Figure(layout={"title": title, "width": 300, "margin": {"l": 50, "r": 60}})
    assert with_room(figure) is figure
    assert figure.layout.width - figure.layout.margin.r == 240
    return figure.layout.width


def test_a_figure_is_widened_until_its_words_fit_and_no_further():
    assert widened("short") == 300
    assert widened("猫" * 50) == pytest.approx(50 * 15, abs=30)
    assert 50 * 7 < widened("a" * 50) < 50 * 10
    assert widened("a" * 50) == widened(subtitle="a" * 63) - 3
    assert widened("<" * 10_000) == widened(subtitle="a" * 10_000) == 1200
    assert widened("&lt;" * 50) == widened("<" * 50)


def test_names_are_shown_literally():
    languages = [HOSTILE, "zh"]
    model = {"model": "<i>model</i>"}
    scores, heads = make_scores(languages, **model), make_heads(languages)
    figures = [
        head_map(scores, "lahis", heads, {HOSTILE: [(0, 0)]}),
        layer_profile(scores, "lahis", heads),
        specificity_matrix(make_ablation(languages, **model), "zero"),
    ]
    for figure in figures:
        drawn = " ".join(texts(figure.to_plotly_json()))
        for live in ("<a", "<i>", "<b>x", "%{z} &"):
            assert live not in drawn
        assert "&lt;i&gt;model&lt;/i&gt;" in drawn
        assert "&lt;b&gt;x" in drawn


def test_figures_do_not_change_the_result():
    scores, ablation = make_scores(LANGUAGES), make_ablation(LANGUAGES)
    before = scores.copy(deep=True), ablation.copy(deep=True)
    head_map(scores, "lahis", make_heads(LANGUAGES))
    layer_profile(scores, "taylor")
    specificity_matrix(ablation, "zero")
    assert scores.identical(before[0])
    assert ablation.identical(before[1])


def test_dimensions_are_found_by_name():
    scores, ablation = make_scores(LANGUAGES), make_ablation(LANGUAGES)
    turned = head_map(scores.transpose("head", "language", "layer"), "lahis")
    np.testing.assert_array_equal(heatmaps(turned)[2].z, np.sqrt(scores.lahis.values[2]))
    turned = specificity_matrix(ablation.transpose(), "mean")
    np.testing.assert_array_equal(heatmaps(turned)[0].z, ablation.delta_nats_per_byte.values[1])


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: head_map(make_ablation(["en"])), "'scores' asked for, found kind 'ablation'"),
        (lambda: layer_profile(make_ablation(["en"])), "found kind 'ablation'"),
        (lambda: specificity_matrix(make_scores(["en"])), "found kind 'scores'"),
        (lambda: head_map(make_scores(["en"]), "magic"), "this dataset has lahis, taylor"),
        (lambda: head_map(make_scores(["en"]), "lahis_paper"), "this dataset has lahis, taylor"),
        (lambda: specificity_matrix(make_ablation(["en"]), "noise"), "has zero, mean"),
        (
            lambda: specificity_matrix(make_ablation(["en"]).drop_vars("delta_nats_per_byte")),
            "has no delta_nats_per_byte",
        ),
        (lambda: head_map(make_scores(["en"]), planted={"en": [(9, 0)]}), "L9H0"),
    ],
)
def test_bad_input_is_refused_with_what_is_allowed(draw, said):
    with pytest.raises(InputError, match=said) as caught:
        draw()
    assert isinstance(caught.value, LangheadsError)


def test_heads_of_another_shape_are_refused():
    other = make_heads(["en"], shape=(8, 6))
    with pytest.raises(ProvenanceError, match="4 layers of 6 heads"):
        head_map(make_scores(["en"]), "lahis", other)


def test_exact_values_reach_the_browser():
    """plotly writes arrays as base64; decoding that gives the dataset's numbers back."""
    scores = make_scores(LANGUAGES)
    data = head_map(scores, "lahis").to_plotly_json()["data"][0]["customdata"]
    if isinstance(data, dict):
        shape = [int(n) for n in data["shape"].split(",")]
        data = np.frombuffer(base64.b64decode(data["bdata"]), dtype=data["dtype"]).reshape(shape)
    np.testing.assert_array_equal(np.array(data)[..., 0], scores.lahis.values[0])


def test_empty_head_sets_draw_no_marks():
    none = HeadSet([], (4, 6))
    heads = LanguageHeads(specific={"en": none}, general=none, model="made-up")
    figure = head_map(make_scores(["en"]), "lahis", heads)
    assert not [trace for trace in figure.data if trace.type == "scatter"]


def luminance(colour):
    """Relative luminance of a colour #rrggbb, as WCAG 2 has it."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_texts_stand_out_from_cells_of_every_colour(page, low):
    """Colours by plotly's own sampler, contrast as WCAG 2 has it: 4.5 is what it asks of text."""
    layout = pio.templates[PAGES[page]].layout
    scale = layout.colorscale.diverging if low < 0 else layout.colorscale.sequential
    at = np.linspace(0, 1, 401)
    cells = sample_colorscale([list(stop) for stop in scale], at.tolist(), colortype="tuple")
    colours = ["#" + "".join(f"{round(255 * x):02x}" for x in cell) for cell in cells]
    inks = ink_on(low + (1 - low) * at, low, 1.0)[page]
    assert min(map(contrast, inks, colours)) >= 4.5
    # What is missing shows the panel through.
    (ink,) = ink_on(np.array([np.nan]), low, 1.0)[page]
    assert contrast(ink, layout.plot_bgcolor) >= 4.5


def test_marks_stand_out_from_both_pages():
    papers = [pio.templates[name].layout.paper_bgcolor for name in PAGES.values()]
    assert min(contrast(mark, paper) for mark in (*COLOURWAY, GREY) for paper in papers) >= 3


def test_numbers_in_cells_have_the_ink_of_each_page():
    figure = specificity_matrix(make_ablation(LANGUAGES), "zero")
    words = [of for of in figure.data if of.type == "scatter" and of.mode == "text"]
    for cells, texts_of in zip(heatmaps(figure), words, strict=True):
        assert list(texts_of.text) == [text for row in cells.text for text in row]
        inks = ink_on(cells.z, -0.3, 0.3)
        assert list(texts_of.textfont.color) == inks["light"]
        assert texts_of.meta == inks


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("/home/me/My Models/llama/", "llama"),
        ("runs/2026/final", "final"),
        ("C:\\models\\llama", "llama"),
        ("/c/hub/models--google--gemma-3-1b-pt/snapshots/fcf18a2a", "google/gemma-3-1b-pt"),
        ("", "model unknown"),
    ],
)
def test_models_have_readable_names_in_titles(name, said):
    assert head_map(make_scores(["en"], model=name)).layout.title.text == (
        f"LAHIS score of every head, {said}"
    )
