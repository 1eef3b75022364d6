"""Verdicts: what is proven, what is not, and what a test of this size cannot tell."""

import numpy as np
import pytest

from langheads.view.verdict import language_verdicts, verdict
from tests.unit.view.made_up_run import make_ablation

LANGUAGES = ["en", "zh", "हिन्दी", "العربية"]


def answers(ablation):
    return {row[0]: row[-1] for row in language_verdicts(ablation).rows}


@pytest.mark.parametrize(
    ("ablation", "state", "said"),
    [
        ({}, "yes", "Proven on these texts"),
        ({"diagonal": (0.001, 0.001)}, "no", "there is no diagonal"),
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
    assert said == [
        f"Under {weak} ablation the share alone does not show it: by chance the own language is "
        f"hurt most in 1 of {languages} head sets, one for each language."
    ]


def test_a_share_that_is_shown_too_is_not_excused():
    assert not any("share alone" in reason for reason in verdict(make_ablation(LANGUAGES)).reasons)


@pytest.mark.parametrize(("controls", "state"), [(10, "open"), (19, "open"), (20, "yes")])
def test_too_few_random_sets_cannot_tell(controls, state):
    """With 19 sets the lowest p is 1/20, not below 0.05; with 20 it is 1/21."""
    found = verdict(make_ablation(LANGUAGES, controls=controls))
    assert found.state == state
    assert ("cannot tell" in found.headline) == (state == "open")
    assert any(f"Only {controls} random head sets" in reason for reason in found.reasons)
    if controls == 10:
        assert "zero ablation cannot tell (with 10 random head sets p is at least 0.091)" in (
            found.headline
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
    assert answers(ablation) == {"en": "no", "zh": "yes", "हिन्दी": "yes", "العربية": "yes"}


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
