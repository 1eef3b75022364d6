"""Verdicts: what is proven, what is not, and what a test of this size cannot tell."""

import numpy as np
import pytest
import xarray as xr

from langheads.view.language_verdict import corrected_p, language_verdicts
from langheads.view.verdict import verdict
from tests.unit.view.made_up_run import make_ablation

LANGUAGES = ["en", "zh", "हिन्दी", "العربية"]


def answers(ablation):
    return {row[0]: row[-1] for row in language_verdicts(ablation).rows}


@pytest.mark.parametrize(
    ("ablation", "state", "said"),
    [
        ({}, "yes", "Proven on these texts"),
        ({"diagonal": (0.001, 0.001)}, "no", "no diagonal is shown"),
        (
            {"diagonal": (0.2, 0.001)},
            "open",
            "No verdict: zero ablation shows a diagonal, mean ablation shows none.",
        ),
    ],
)
def test_a_verdict_needs_both_baselines(ablation, state, said):
    found = verdict(make_ablation(LANGUAGES, **ablation))
    assert found.state == state
    assert said in found.headline


@pytest.mark.parametrize("languages", [2, 3])
def test_a_share_that_few_languages_make_likely_does_not_undo_the_margin(languages):
    ablation = make_ablation(LANGUAGES[:languages])
    ablation.diagonal_p[:] = languages**-languages
    ablation.diagonal_p[1] = 0.22
    found = verdict(ablation)
    assert found.state == "yes"
    weak = "zero and mean" if languages == 2 else "mean"
    said = [reason for reason in found.reasons if "share alone" in reason]
    assert said == [f"Under {weak} ablation the share alone does not show it."]


def test_a_share_that_is_shown_too_is_not_excused():
    assert not any("share alone" in reason for reason in verdict(make_ablation(LANGUAGES)).reasons)


def test_units_are_told():
    ablation = make_ablation(LANGUAGES)
    margin = ablation.own_minus_others.expand_dims(unit=["nats per byte", "random heads' effect"])
    said = verdict(ablation.assign(own_minus_others_by_unit=margin)).reasons
    assert (
        "Which language is hurt most depends on the unit, so an answer counts only where it is the "
        "same in each: nats per byte, random heads' effect (ΔNLL over that of random heads of the "
        "same layers on the same text, as a share of its row, so that heads which are merely "
        "strong gain nothing)."
    ) in said


@pytest.mark.parametrize(("controls", "state"), [(10, "open"), (19, "open"), (20, "yes")])
def test_too_few_random_sets_cannot_tell(controls, state):
    """With 19 sets the lowest p is 1/20, not below 0.05; with 20 it is 1/21."""
    found = verdict(make_ablation(LANGUAGES, controls=controls))
    assert found.state == state
    assert ("cannot tell" in found.headline) == (state == "open")
    assert any(f"Only {controls} random head sets" in reason for reason in found.reasons)
    if controls == 10:
        assert (
            "zero and mean ablation cannot tell (with 10 draws of random heads p is at least 0.091)"
            in (found.headline)
        )


def test_own_below_others_is_no_diagonal_however_few_the_random_sets():
    ablation = make_ablation(LANGUAGES, controls=10)
    ablation.own_minus_others[:] = -0.01
    assert verdict(ablation).state == "no"
    ablation.own_minus_others[1] = 0.01
    found = verdict(ablation)
    assert found.state == "open"
    assert "zero ablation shows none, mean ablation cannot tell" in found.headline


def test_a_margin_that_chance_reaches_is_no_diagonal():
    ablation = make_ablation(LANGUAGES)
    ablation.own_minus_others_p[:] = 0.05
    ablation.control_p[:] = 0.05
    assert verdict(ablation).state == "no"


def test_no_verdict_from_one_baseline_or_without_a_test():
    ablation = make_ablation(LANGUAGES)
    alone = verdict(ablation.sel(baseline=["zero"]))
    assert (alone.state, "mean ablation was not run" in alone.headline) == ("open", True)
    ablation.own_minus_others_p[0] = float("nan")
    found = verdict(ablation)
    assert found.state == "open"
    assert "zero ablation could not be tested, mean ablation shows a diagonal" in found.headline


def test_no_diagonal_is_said_with_what_it_means():
    found = verdict(make_ablation(LANGUAGES, diagonal=(0.001, 0.001)))
    assert any("Do not call them its language heads" in reason for reason in found.reasons)


@pytest.mark.parametrize("diagonal", [(0.2, 0.3), (0.001, 0.001)])
def test_scored_documents_leave_the_question_open(diagonal):
    ablation = make_ablation(LANGUAGES, diagonal=diagonal, overlap=np.int64(1))
    found = verdict(ablation)
    assert found.state == "open"
    assert "roven" not in found.headline
    assert found.reasons[0] == "1 of the proof documents was used for scoring."
    assert set(answers(ablation).values()) == {"cannot tell: proof documents were scored"}


def test_an_overlap_that_could_not_be_checked_is_told():
    unknown = verdict(make_ablation(LANGUAGES, overlap=-1))
    assert unknown.state == "yes"
    assert any("could not be checked" in reason for reason in unknown.reasons)
    checked = verdict(make_ablation(LANGUAGES, overlap=0))
    assert not any("could not be checked" in reason for reason in checked.reasons)


def test_each_language_is_judged_by_both_baselines():
    ablation = make_ablation(LANGUAGES, empty=["हिन्दी"])
    ablation.delta_nats_per_byte[1, 1, 0] = 0.4  # zh off hurts en more, mean ablation only
    ablation.delta_nats_per_byte[:, 3, 0] = 0.5
    assert answers(ablation) == {
        "en": "yes",
        "zh": "cannot tell: baselines disagree",
        "हिन्दी": "no specific heads",
        "العربية": "no",
    }
    rows = {row[0]: row for row in language_verdicts(ablation).rows}
    assert rows["zh"][2:8] == [
        *("0.2000 (+40.00%)", "0.0010 (+0.20%, en)", "0.0099"),
        *("0.3000 (+60.00%)", "0.4000 (+80.00%, en)", "0.0099"),
    ]
    assert rows["हिन्दी"][1:8] == ["0", *"–––", *"–––"]


def test_a_language_is_judged_by_its_p_and_not_by_the_spread_of_random_sets():
    ablation = make_ablation(LANGUAGES)
    ablation.control_p[:, 0, 0] = 0.05
    # Most random sets are the row's own heads; those that differ are all below.
    ablation.control_delta[:, 1, 20:, 1] = ablation.delta_nats_per_byte[:, 1, 1]
    assert answers(ablation) == {"en": "not shown", "zh": "yes", "हिन्दी": "yes", "العربية": "yes"}


@pytest.mark.parametrize(("n", "answer"), [(19, "cannot tell: too few random heads"), (20, "yes")])
def test_a_language_with_few_other_random_sets_cannot_be_judged(n, answer):
    ablation = make_ablation(LANGUAGES)
    ablation.n_controls[0] = n
    assert answers(ablation)["en"] == answer
    assert answers(ablation)["zh"] == "yes"


@pytest.mark.parametrize(
    ("ablation", "answer"),
    [
        (
            make_ablation(LANGUAGES).drop_vars(["control_p", "n_controls"]),
            "cannot tell: the file has no p for it",
        ),
        (
            make_ablation(LANGUAGES).sel(baseline=["zero"]),
            "cannot tell: needs zero and mean ablation",
        ),
        (make_ablation(["en"]), "cannot tell: nothing to compare with"),
    ],
)
def test_what_a_file_lacks_leaves_its_languages_open(ablation, answer):
    assert set(answers(ablation).values()) == {answer}


def test_the_headline_counts_languages_and_names_those_that_are_not_shown():
    """Together the diagonal is shown, but of 4 languages it is one that makes it."""
    ablation = make_ablation(LANGUAGES)
    ablation.control_p[:, 1:4] = 0.4
    ablation.control_p[:, 0] = 0.01
    found = verdict(ablation)
    assert found.state == "open"
    assert found.headline.startswith("Not the same for all: 1 of 4: en;")
    assert "Proven" not in found.headline
    assert "1 of 4: en; not shown: zh, \u2068हिन्दी\u2069, \u2068العربية\u2069" in found.headline
    assert "1 of 4: en" in next(r for r in found.reasons if r.startswith("Language by"))
    assert "4 of 4: en, zh" in verdict(make_ablation(LANGUAGES)).headline
    few = make_ablation(LANGUAGES[:2])
    few.n_controls[:] = 19
    assert verdict(few).headline == (
        "No verdict: 0 of 2; cannot tell: too few random heads: en, zh. Over all of them together, "
        "heads off hurt their own language more than the others, and more than random heads would."
    )
    none = make_ablation(LANGUAGES, diagonal=(0.2, 0.2))
    none.own_minus_others_p[:] = 0.3
    assert verdict(none).state == "open"
    assert "no diagonal is shown" in verdict(none).headline
    assert "4 of 4" in verdict(none).headline


def test_p_of_languages_is_corrected_over_them():
    """By hand: of 4, the smallest is times 4 / 1, the next 4 / 2, ..., none above the next."""
    ablation = make_ablation(LANGUAGES)
    for i, p in enumerate((0.03, 0.012, 0.5, 0.021)):
        ablation.control_p[:, i, i] = p
    found = corrected_p(ablation, "zero")
    np.testing.assert_allclose(list(found.values()), [0.04, 0.04, 0.5, 0.04])
    for p, answer in ((0.0124, "yes"), (0.0126, "not shown")):
        for i, own in enumerate((0.2, p, 0.5, 0.2)):
            ablation.control_p[:, i, i] = own
        assert answers(ablation)["zh"] == answer
    # No random set did as well: only more of them could tell.
    ablation.n_controls[1] = 78
    assert answers(ablation)["zh"] == "cannot tell: too few random heads for so many languages"


def test_rows_that_are_the_same_heads_are_said_to_be():
    ablation = make_ablation(LANGUAGES)
    assert not any("same heads" in reason for reason in verdict(ablation).reasons)
    first = str(ablation.heads[0].item())
    ablation.heads[1] = " ".join(reversed(first.split()))
    assert f"The rows of en, zh are the same heads ({first})." in verdict(ablation).reasons


def test_the_level_is_reached_by_draws_over_all_rows_and_not_by_the_sets_of_one():
    ablation = make_ablation(LANGUAGES, controls=7)
    ablation["null_matrices"] = ("baseline", [999, 999])
    ablation.own_minus_others_p[:] = 0.001
    found = verdict(ablation)
    assert "0 of 4; cannot tell: too few random heads: en, zh" in found.headline
    assert "Over all of them together, heads off hurt" in found.headline
    assert any("Only 7 random head sets" in reason for reason in found.reasons)


def with_units(ablation, **margin_p):
    """The file with two units; `margin_p`: p of the second unit a baseline."""
    scale = xr.DataArray([1.0, 1.0], {"unit": ["nats per byte", "nats per token"]})
    made = {"delta_by_unit": ablation.delta_nats_per_byte * scale}
    for name in ("own_minus_others", "own_minus_others_p"):
        made[f"{name}_by_unit"] = ablation[name] * scale
    ablation = ablation.assign(made)
    for baseline, p in margin_p.items():
        at = {"baseline": baseline, "unit": "nats per token"}
        ablation.own_minus_others_p_by_unit.loc[at] = p
    return ablation


def test_a_diagonal_in_one_unit_alone_is_no_verdict_and_the_units_are_named():
    assert verdict(with_units(make_ablation(LANGUAGES))).state == "yes"
    found = verdict(with_units(make_ablation(LANGUAGES), zero=0.2, mean=0.3))
    assert found.state == "open"
    shown = "shows a diagonal in nats per byte (not in nats per token)"
    assert found.headline.startswith(
        f"No verdict: zero and mean ablation {shown}. By language: 4 of 4"
    )


def test_a_language_hurt_most_in_one_unit_alone_cannot_be_told():
    ablation = with_units(make_ablation(LANGUAGES))
    at = {"unit": "nats per token", "heads_of": "en"}
    ablation.delta_by_unit.loc[at | {"text_of": "zh"}] = 9.0
    words = "cannot tell: hurt most in nats per byte (not in nats per token)"
    assert answers(ablation) == {"en": words, "zh": "yes", "हिन्दी": "yes", "العربية": "yes"}
    ablation.delta_by_unit.loc[{"heads_of": "en", "text_of": "zh"}] = 9.0
    assert answers(ablation)["en"] == "no"


def test_paired_differences_of_aligned_texts_stand_in_the_table():
    ablation = make_ablation(LANGUAGES)
    like = ablation.own_minus_others.expand_dims(heads_of=ablation.heads_of).transpose()
    of = {"": 4.25, "_se": 0.5, "_p": 0.02}
    made = {f"own_minus_others_paired{end}": like * 0 + value for end, value in of.items()}
    table = language_verdicts(ablation.assign(made))
    at = table.header.index("own minus others a document, mean")
    assert {row[at] for row in table.rows} == {"4.25 ± 0.5 (p = 0.02)"}
    assert not any("document" in name for name in language_verdicts(ablation).header)


def test_no_is_said_where_another_language_is_hurt_as_much_and_not_shown_where_p_is_too_large():
    ablation = make_ablation(LANGUAGES)
    ablation.control_p[:, 0, 0] = 0.3
    ablation.delta_nats_per_byte[:, 1, 0] = 0.5  # zh off hurts en more
    ablation.control_p[0, 2, 2] = 0.3
    ablation.delta_nats_per_byte[1, 2, 0] = 0.5
    assert answers(ablation) == {
        "en": "not shown", "zh": "no", "हिन्दी": "not shown", "العربية": "yes"
    }  # fmt: skip
