"""The first screen of hand-made runs, in whole sentences."""

import re
from dataclasses import replace

import pytest

from langheads.view import report
from langheads.view.contents import RunFolder
from langheads.view.glance import at_a_glance
from langheads.view.language_verdict import language_answers
from tests.unit.view.made_up_results import make_knockout
from tests.unit.view.made_up_run import make_ablation, make_heads, make_scores, write_run

LANGUAGES = ["en", "zh", "hi", "ar"]
FACTS = {
    "Model": "made-up, 4 layers of 6 heads",
    "Texts": "texts; en, zh, hi, ar; documents of each: 20 to score, at most 20 to prove",
    "Heads": "2 specific to each language (high for it and for few others), 1 general (high for "
    "many languages)",
}
EACH = (
    "without its own heads each loses more than the other languages do, and more than without "
    "random heads"
)
TOGETHER = (
    "Over all of them together, heads off hurt their own language more than the others, and more "
    "than random heads would."
)


def run_of(proof):
    with_heads = [x for x in LANGUAGES if proof.n_heads.sel(heads_of=x)]
    return RunFolder(
        {
            "ablation": {"ablation.nc": proof},
            "scores": {"scores.nc": make_scores(LANGUAGES)},
            "heads": {"heads.json": make_heads(with_heads)},
        }
    )


def all_proven():
    return make_ablation(LANGUAGES)


def some():
    proof = make_ablation(LANGUAGES, empty=["ar"])
    proof.control_p[:, 1] = 0.4
    return proof


def none():
    proof = make_ablation(LANGUAGES)
    proof.own_minus_others_p[:] = 0.4
    proof.control_p[:, 1:] = 0.4
    proof.delta_nats_per_byte[:, 0, 1] = 0.9  # en off hurts zh more
    return proof


def cannot_tell():
    return make_ablation(LANGUAGES, controls=10)


def test_heads_high_for_all_languages_are_not_called_high_for_few():
    run = run_of(all_proven())
    raw = replace(run.heads, rule={"name": "top", "score": "lahis"})
    told = at_a_glance(RunFolder({**run.results, "heads": {"heads.json": raw}})).facts["Heads"]
    assert told == "2 specific to each language, 1 general (high for many languages)"


@pytest.mark.parametrize(
    ("proof", "state", "headline", "answers", "more"),
    [
        (
            all_proven,
            "yes",
            f"Proven for all 4 languages: {EACH}.",
            {"Proven": "en, zh, hi, ar"},
            [TOGETHER],
        ),
        (
            some,
            "open",
            f"Proven for 2 of 3 languages: {EACH}.",
            {
                "Proven": "en, hi",
                "Not shown: random heads may do as well": "zh",
                "No specific heads": "ar",
            },
            [TOGETHER],
        ),
        (
            none,
            "no",
            "Not proven for any of 4 languages: without its own heads no language is shown to lose "
            "more than the other languages do, and more than without random heads.",
            {
                "Not its own: another language is hurt as much": "en",
                "Not shown: random heads may do as well": "zh, hi, ar",
            },
            [
                "Over all of them together no diagonal is shown.",
                "These heads have high scores for a language, but nothing shows that it depends on "
                "them: do not call them its language heads.",
            ],
        ),
        (
            cannot_tell,
            "open",
            "This run cannot tell for any of 4 languages whether these heads carry it.",
            {"Cannot tell: too few random heads": "en, zh, hi, ar"},
            [
                "Over all of them together, zero and mean ablation cannot tell (with 10 draws of "
                "random heads p is at least 0.091).",
                "More random head sets can tell: prove again with n_controls of 100 or more.",
            ],
        ),
    ],
)
def test_the_first_screen_of_a_proof(proof, state, headline, answers, more):
    found = at_a_glance(run_of(proof()))
    assert (found.state, found.headline, found.proof) == (state, headline, "ablation.nc")
    assert dict(found.facts) == FACTS
    assert dict(found.answers) == answers
    assert list(found.sentences) == more


def test_where_no_more_random_sets_are_there_more_are_not_advised():
    """A head of a layer of 8 has 7 others, however many sets are asked for."""
    proof = make_ablation(LANGUAGES, controls=7).assign_attrs(controls=25)
    assert at_a_glance(run_of(proof)).sentences[-1] == (
        "Their layers have no more random heads to draw: select more heads a language (a lower "
        "quantile and a larger share) and prove again."
    )
    asked = at_a_glance(run_of(proof.assign_attrs(controls=7))).sentences[-1]
    assert asked == "More random head sets can tell: prove again with n_controls of 100 or more."


def test_languages_without_heads_and_few_documents_are_not_counted_for_more():
    proof = make_ablation(LANGUAGES, empty=["ar"])
    proof["docs"] = ("text_of", [20, 20, 7, 20])
    found = at_a_glance(run_of(proof))
    assert found.headline == f"Proven for all 3 languages that have heads of their own: {EACH}."
    assert found.facts["Texts"].endswith("documents of each: 20 to score, 7 to 20 to prove")
    # A file of before there were counts tells the most.
    found = at_a_glance(run_of(proof.drop_vars("docs")))
    assert found.facts["Texts"].endswith("documents of each: 20 to score, at most 20 to prove")


def test_one_language_alone_is_told_in_the_singular():
    proof = make_ablation(LANGUAGES, empty=LANGUAGES[1:])
    assert at_a_glance(run_of(proof)).headline == (
        "Proven for 1 language that has heads of its own: without its own heads it loses more than "
        "the other languages do, and more than without random heads."
    )
    proof.control_p[:] = 0.4
    assert at_a_glance(run_of(proof)).headline == (
        "Not proven for 1 language: without its own heads it is not shown to lose more than the "
        "other languages do, and more than without random heads."
    )
    proof = make_ablation(LANGUAGES)
    proof.control_p[:, 1:] = 0.4
    assert at_a_glance(run_of(proof)).headline == (
        "Proven for 1 of 4 languages: without its own heads it loses more than the other languages "
        "do, and more than without random heads."
    )


def test_as_many_random_head_sets_are_asked_for_as_these_languages_need():
    """By hand: the least p with n sets is 1 / (n + 1), times 7 languages where one has it."""
    languages = ["en", "zh", "hi", "ar", "de", "fr", "es"]
    proof = make_ablation(languages)
    proof.control_p[:, 1:] = 0.4
    told = {100: "cannot tell: too few random heads for so many languages", 140: "yes"}
    for n, answer in told.items():
        proof.control_p[:, 0, 0] = 1 / (n + 1)
        proof.n_controls[:-1] = n
        assert language_answers(proof)["en"] == answer
    proof.control_p[:, 0, 0] = 1 / 101
    proof.n_controls[:-1] = 100
    run = RunFolder({"ablation": {"ablation.nc": proof}})
    assert at_a_glance(run).sentences[1] == (
        "More random head sets can tell: prove again with n_controls of 140 or more."
    )


def test_the_first_screen_of_one_kind_only():
    run = RunFolder({"knockout": {"knockout.nc": make_knockout(["en", "zh"], model="/m/tiny")}})
    found = at_a_glance(run)
    assert (found.state, found.headline) == ("open", "Without ablation nothing here is proven.")
    assert dict(found.facts) == {"Model": "tiny, 4 layers of 6 heads", "Texts": "texts"}
    assert (dict(found.answers), list(found.sentences), found.proof) == ({}, [], "")
    alone = at_a_glance(RunFolder({"scores": {"scores.nc": make_scores(["en"])}}))
    assert alone.headline == (
        "Without ablation nothing here is proven. Scores alone are suspicions."
    )


def test_what_else_can_stand_on_it_is_at_most_six_sentences():
    run = run_of(none())
    run.planted = {"en": [(0, 0)], "zh": [(3, 3)]}
    run.reasons = {"x.nc": "broken", "y.nc": "broken"}
    other = make_heads(LANGUAGES, shape=(4, 6))
    run.results["heads"] = {"heads.json": other}
    run.results["ablation"]["ablation.nc"]["heads"][0] = "L2H2 L3H3"
    found = at_a_glance(run)
    assert list(found.sentences)[2:] == [
        "Of 2 planted heads, 1 is among the specific heads of their language.",
        "The proof in ablation.nc is of other heads than those in heads.json.",
        "The section on provenance says which files of the folder are not shown.",
    ]
    words = " ".join([found.headline, *found.sentences])
    assert len(re.findall(r"\.(?= |$)", words)) == 6


def test_of_several_proofs_that_of_the_chosen_heads_is_taken():
    run = run_of(none())
    run.results["ablation"]["ablation.nc"]["heads"][0] = "L2H2 L3H3"
    run.results["ablation"]["ours.nc"] = all_proven()
    found = at_a_glance(run)
    assert (found.proof, found.state) == ("ours.nc", "yes")
    assert list(found.sentences) == [TOGETHER]


def test_the_page_begins_with_it_and_what_each_result_says_stands_in_its_section(tmp_path):
    page = report(write_run(tmp_path / "run", LANGUAGES, diagonal=(0.2, 0.3))).read_text("utf-8")
    sections = dict(re.findall(r'<section id="([^"]+)">(.*?)</section>', page, flags=re.DOTALL))
    assert next(iter(sections)) == "summary"
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", sections["summary"]))
    assert f"Proven for all 4 languages: {EACH}. Proven en, zh, hi, ar {TOGETHER}" in words
    assert "made-up, 4 layers of 6 heads" in words
    assert not re.search(r"[{}]|\bnan\b", words)
    assert sections["summary"].count("data-figure") == 1
    assert "Every head of made-up" in sections["scores-1"]
    assert "Specific heads a language" in sections["heads-1"]
    assert "Own minus others is how much more" in sections["proof-1"]
