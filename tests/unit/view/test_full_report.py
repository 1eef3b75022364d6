"""What the report says of every kind of result, against the numbers that are in the files."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from langheads.io.errors import InputError
from langheads.io.results import save
from langheads.view import logit_lens, report, transfer_sweep
from langheads.view.contents import RunFolder
from langheads.view.folder import read_run
from langheads.view.kinds import KINDS
from tests.unit.view import made_up_results
from tests.unit.view.made_up_results import (
    LANGUAGES,
    make_deletion,
    make_full_page,
    make_knockout,
    make_lens,
    make_offtarget,
    make_switch_rate,
    make_task,
    make_transfer,
    write_full_run,
)
from tests.unit.view.made_up_run import make_scores
from tests.unit.view.test_report import Page


@pytest.fixture(scope="module")
def run(made_once):
    return made_once("full", make_full_page)


@pytest.fixture(scope="module")
def page(run):
    return Page((run / "report.html").read_text("utf-8"))


def test_every_kind_has_a_section_that_says_what_it_does_not_show(page):
    sections = [a["id"] for t, a in page.tags if t == "section"]
    assert sections[0] == "summary"
    assert sections[-3:] == ["limits", "provenance", "cite"]
    for kind, how in KINDS.items():
        assert f"{how.anchor or kind}-1" in sections
        for sentence in how.shows:
            assert " ".join(sentence.split()) in page.text
    assert page.text.count("Does not show:") == 14
    assert "arXiv 2511.07498" in page.text


def test_knockout_tables_name_the_worst_heads_and_each_scores_correlation(page, run):
    exact = read_run(run).of("knockout")["knockout.nc"]
    zh = exact.delta_nats_per_byte.sel(baseline="zero", language="zh")
    layer, head = np.unravel_index(zh.values.argmax(), zh.shape)
    table = page.table("language", "rank 1")
    row = next(row for row in table if row[0] == "zh")
    assert row[1].startswith(f"L{layer}H{head} {zh.values.max():.3g} ± ")
    scores = read_run(run).of("scores")["scores.nc"]
    expected = [
        stats.spearmanr(
            scores.taylor.sel(language=x).values.ravel(),
            exact.delta_nats_per_token.sel(baseline="zero", language=x).values.ravel(),
        ).statistic
        for x in LANGUAGES
    ]
    table = page.table("score", *LANGUAGES, "mean")
    found = [float(cell.replace("−", "-")) for cell in table[2][1:]]
    assert table[2][0] == "taylor"
    assert found == pytest.approx([*expected, np.mean(expected)], abs=6e-4)


def test_where_less_is_worse_the_lowest_head_is_named(page):
    result = make_task(LANGUAGES)
    en = result.delta_answer_logprob.values[0, 0]
    assert np.unravel_index(en.argmin(), en.shape) in [(1, 2), (2, 3)]
    worst = "L{}H{}".format(*np.unravel_index(en.argmin(), en.shape))
    assert f"the head without which answers get worst, in nats: en {worst} −" in page.text


def test_offtarget_is_counted_by_intervals(page):
    result = make_offtarget(LANGUAGES)
    own = result.sel(condition="own off")
    up, down = int((own.delta_right_low > 0).sum()), int((own.delta_right_high < 0).sum())
    assert f"own off: more in {up}, fewer in {down} of 5" in page.text
    table = page.table("language", "condition", "in the language")
    assert len(table) == 1 + 5 * 6 - 1  # one condition has no heads
    nll = result.sel(language="en", condition="own off").delta_nll
    expected = [f"{float(nll) + d:.3f}".replace("-", "−") for d in (0, -0.1, 0.1)]
    checks = page.table("language", "condition", "repetition")
    assert checks[0][-1] == "change of NLL"
    assert checks[2][-1] == "{} ({} to {})".format(*expected)
    assert checks[1][-1] == "–"
    first = result.isel(language=0, condition=0)
    assert table[1][2] == (
        f"{float(first.right):.3f} ({float(first.right) - 0.1:.3f} to "
        f"{float(first.right) + 0.1:.3f})"
    )
    assert "Replies fell apart" not in page.text


def test_replies_that_fell_apart_are_told_by_condition_and_language():
    result = make_offtarget(LANGUAGES)
    result.nll.loc["en", "shift"] = result.nll.loc["en", "none"] + 1.01
    result.nll.loc["hi", "shift"] = result.nll.loc["hi", "none"] + 0.99
    result.empty.loc["zh", "shift"] = 0.9
    result.repetition.loc["ar", "own off"] = 0.9
    said = list(KINDS["offtarget"].summary(result, RunFolder()))[1]
    assert said.startswith("Replies fell apart (")
    assert "): own off in ar; steering in en, zh. There, more replies" in said


def test_switch_rates_are_counted_with_those_that_are_sound(page):
    result = make_switch_rate(LANGUAGES)
    rates = result.switch_rate.values
    switching = np.isfinite(rates) & (rates > 0)
    sound = (switching & (result.sound.values > 0)).sum()
    assert f"{switching.sum()} of {np.isfinite(rates).sum()} head-language pairs" in page.text
    assert f"in {sound} of them replies stay sound" in page.text


def test_the_strongest_switching_head_is_named_among_sound_ones_only():
    result = make_switch_rate(["en", "zh", "hi", "ar"])
    result.switch_rate[:] = 0.1
    result.sound[:] = 1
    result.switch_rate.loc["en"][1, 2], result.sound.loc["en"][1, 2] = 0.9, 0
    result.switch_rate.loc["en"][2, 3] = 0.5
    result.sound.loc["zh"] = 0
    result.switch_rate.loc["hi"], result.sound.loc["hi"] = np.nan, -1
    result.switch_rate.loc["ar"] = 0.0
    said = list(KINDS["switch-rate"].summary(result, RunFolder()))[1]
    # Wilson's interval of 10 of 20, by its formula: 0.5 ± 1.96 sqrt(0.25 / (20 + 1.96²)).
    half = 1.96 * np.sqrt(0.25 / (20 + 1.96**2))
    assert said.endswith(
        f": en L2H3 0.500 ({0.5 - half:.3f} to {0.5 + half:.3f}); zh none, no head tried is sound; "
        "ar none, no sound head makes replies switch."
    )
    result.switch_rate[:] = np.nan
    assert len(list(KINDS["switch-rate"].summary(result, RunFolder()))) == 1


def test_deletion_classes_and_questions_are_told(page, run):
    area = make_deletion(LANGUAGES).area
    best = str(area.score.values[area.mean("heads_of").values.argmax()])
    assert f"heads in the order of {best} hurt their own language most" in page.text
    classes = read_run(run).of("head-classes")["classes.json"]
    table = page.table("class", "heads", "by chance at most")
    assert [int(row[1]) for row in table[1:]] == [
        *(len(classes.specific[x]) for x in LANGUAGES[:2]),
        len(classes.agnostic),
        len(classes.undecided),
        len(classes.other),
    ]
    assert "mask 0.100 (0.050 to 0.150); random heads 0.010 (−0.040 to 0.060)" in page.text
    table = page.table("measure", "condition", "mean")
    assert table[2] == ["accuracy (share)", "mask", "0.600", "0.100 (0.050 to 0.150)"]


def test_transfer_is_told_over_all_pairs(page):
    result = make_transfer(LANGUAGES).sel(order="both", setting="weaken 0")
    change = float(result.logprob_difference_overall_change)
    interval = f"{change:.3f} ({change - 0.05:.3f} to {change + 0.05:.3f})"
    assert f"weaken 0: {interval} nats, p = 0.040" in page.text
    table = page.table("measure", "order", "heads and gate")
    assert len(table) == 1 + 4 * 3 * 2
    random = float(result.logprob_difference_overall_control_change.mean())
    assert table[-1] == [
        "log p(A's answer) − log p(B's answer) (nats)",
        *("both", "weaken 0", interval, f"{random:.3f}".replace("-", "−"), "0.040"),
    ]


def test_the_checks_of_transfer_stand_in_a_table_and_collapse_is_told(page):
    found = make_transfer(LANGUAGES)
    assert "must not be read as a change of belief" not in page.text
    table = page.table("degeneration check", "heads and gate")
    assert len(table) == 1 + 4 * 2
    at = found.sel(order="both", setting="weaken 0")
    random = at.prompt_nll_overall_control_change.values
    change = at.prompt_nll_change
    a, b = np.unravel_index(np.nanargmax(change.values), change.shape)
    expected = [
        "NLL of the prompt (nats per token)",
        "weaken 0",
        "0.300",
        f"{0.3 + np.nanmean(change.values):.3f}",
        "0.050 (0.000 to 0.100)",
        f"{random.mean():.3f} ({random.min():.3f} to {random.max():.3f})",
        f"{np.nanmax(change.values):.3f} ({LANGUAGES[a]}, {LANGUAGES[b]})",
    ]
    assert table[-1] == [cell.replace("-", "−") for cell in expected]
    found.prompt_nll_overall_change.loc[{"order": "both"}] = [1.2, 1.0]
    found.empty_overall_change.loc[{"order": "both"}] = [0.05, 0.3]
    said = list(KINDS["transfer"].summary(found, RunFolder()))
    assert said[1] == (
        "The text itself falls apart under enhance 3 (NLL of the prompt +1.20 nats per token); "
        "weaken 0 (empty replies +0.30 of all): there the transfer must not be read as a change "
        "of belief."
    )
    # A file from before there were checks.
    old = found.drop_vars(
        [x for x in found if str(x).startswith(("repetition", "prompt_", "empty"))]
    )
    assert len(list(KINDS["transfer"].tables(old, RunFolder()))) == 1
    assert len(list(KINDS["transfer"].summary(old, RunFolder()))) == 1


def test_attention_is_drawn_of_the_pair_that_moves_furthest():
    found = make_transfer(LANGUAGES)
    # (hi, th) moves most of all, (zh, ar) of those of which attention is known.
    change = found.logprob_difference_change
    change.loc[{"a": "hi", "b": "th", "order": "both"}] = 9.0
    change.loc[{"a": "zh", "b": "ar", "order": "both", "setting": "weaken 0"}] = -5.0
    change.loc[{"a": "en", "b": "zh", "order": "both", "setting": "enhance 3"}] = 4.0
    found.attention_after.loc[{"a": "hi", "b": "th"}] = np.nan
    pictures = list(KINDS["transfer"].pictures(found, RunFolder()))
    subtitles = [each.figure.layout.title.subtitle.text for each in pictures[2:]]
    assert subtitles == [
        f"A {a}, B {b}, {setting}, both orders of the facts; mean over prompts"
        for a, b, setting in (("en", "zh", "enhance 3"), ("zh", "ar", "weaken 0"))
    ]
    without = found.drop_vars(["attention_before", "attention_after"])
    assert len(list(KINDS["transfer"].pictures(without, RunFolder()))) == 2
    found.attention_after[:] = np.nan
    assert len(list(KINDS["transfer"].pictures(found, RunFolder()))) == 2


def test_the_logit_lens_is_a_line_an_answer_and_a_table_of_its_end(page):
    result = make_lens()
    (picture,) = list(KINDS["logit-lens"].pictures(result, RunFolder()))
    lines = {trace.name: trace for trace in picture.figure.data}
    assert len(lines) == 6
    line = lines["zh (nurse), en heads x 3"]
    np.testing.assert_array_equal(line.y, result.logit.values[1, :, 1])
    assert list(line.x) == [str(x) for x in result.depth.values]
    assert line.line.color == lines["zh (nurse), untouched"].line.color
    assert line.line.dash != lines["zh (nurse), untouched"].line.dash
    first, second = result.logit.values[2, -1]
    cells = [f"{value:.3f}".replace("-", "−") for value in (first, second, first - second)]
    table = page.table("condition", "en (cook)", "zh (nurse)", "first − second")
    assert table[3] == ["zh heads x 0", *cells]
    with pytest.raises(InputError, match="kind 'logit-lens' asked for, found kind 'transfer'"):
        logit_lens(make_transfer(LANGUAGES))


def test_a_prompt_is_shown_literally_and_cut_at_its_front():
    long = "first " * 40 + "<b>last</b>"
    said = logit_lens(make_lens(prompt=long)).layout.title.subtitle.text
    assert said.startswith("…")
    assert said.endswith("first &lt;b&gt;last&lt;/b&gt;")


def test_two_results_of_a_kind_are_headed_by_their_files(tmp_path):
    save(make_knockout(LANGUAGES), tmp_path / "knockout.nc")
    save(make_knockout(LANGUAGES, seed=9), tmp_path / "again.nc")
    text = Page(report(tmp_path).read_text("utf-8")).text
    assert "Exact knock-out: knockout.nc" in text
    assert "Exact knock-out: again.nc" in text
    assert "nothing here is proven" in text


@pytest.mark.parametrize("kind", ["knockout", "deletion", "comparison", "transfer"])
def test_another_models_result_is_left_out_by_name(tmp_path, kind):
    save(make_scores(LANGUAGES), tmp_path / "scores.nc")
    other = getattr(made_up_results, f"make_{kind}")(LANGUAGES, weight_hash="ef" * 32)
    save(other, tmp_path / f"{kind}.nc")
    run = read_run(tmp_path)
    assert list(run.results) == ["scores"]
    assert f"of another model: {kind}.nc was made with weights efef" in run.reasons[f"{kind}.nc"]


@pytest.mark.slow
def test_a_model_whose_name_is_a_long_path_makes_no_large_page(tmp_path):
    name = "/".join(["m" * 99] * 100)
    short, long = (
        report(write_full_run(tmp_path / f"run-{n}", model=name[:n])) for n in (10, len(name))
    )
    said = short.read_text("utf-8").count(name[:10])
    assert said > 10
    assert name in long.read_text("utf-8")
    # Nor do figures, tables or hover texts say it more often than the page's words.
    assert long.stat().st_size - short.stat().st_size < 1.1 * said * len(name)
    assert said < 40


def test_a_result_that_lacks_what_its_kind_has_is_refused(tmp_path):
    save(make_knockout(LANGUAGES).drop_vars("delta_nats_per_token"), tmp_path / "knockout.nc")
    with pytest.raises(InputError, match=r"knockout\.nc: .*has no delta_nats_per_token"):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "knockout.nc").rename(tmp_path / "transfer.nc")
    with pytest.raises(InputError, match="holds knockout, expected transfer"):
        report(tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("No variable\nnamed 'x'"), "KeyError: .*No variable.*named 'x'"),
        (AttributeError("has no cost"), "AttributeError: has no cost"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (IndexError("index 0 is out of bounds"), "IndexError: index 0 is out"),
    ],
)
@pytest.mark.parametrize("part", ["pictures", "tables", "summary"])
def test_a_file_that_is_not_as_it_should_be_is_named_on_one_line(
    tmp_path, monkeypatch, part, error, told
):
    save(make_offtarget(LANGUAGES), tmp_path / "replies.nc")

    def broken(result, run: RunFolder):
        raise error

    monkeypatch.setitem(
        KINDS, "offtarget", dataclasses.replace(KINDS["offtarget"], **{part: broken})
    )
    with pytest.raises(InputError, match=rf"^replies\.nc cannot be shown: .*{told}") as caught:
        report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_transfer_without_any_value_has_no_figure_but_a_note(tmp_path):
    found = make_transfer(LANGUAGES)
    for name in found.data_vars:
        if found[name].dtype.kind == "f" and name not in found.coords:
            found[name][:] = np.nan
    found.to_netcdf(tmp_path / "transfer.nc", engine="h5netcdf")
    page = Page(report(tmp_path).read_text("utf-8"))
    assert "Attention transfer: no pair of languages has a change, so no figure" in page.text
    assert page.figures() == []
    with pytest.raises(InputError, match=r"^logprob_difference was measured of no pair"):
        transfer_sweep(found)


def test_a_figure_that_cannot_be_made_names_its_file(tmp_path, monkeypatch):
    save(make_offtarget(LANGUAGES), tmp_path / "replies.nc")

    def broken(result, run: RunFolder):
        raise InputError("no such thing")

    monkeypatch.setitem(
        KINDS, "offtarget", dataclasses.replace(KINDS["offtarget"], pictures=broken)
    )
    with pytest.raises(InputError, match=r"replies\.nc cannot be shown: no such thing"):
        report(tmp_path)
