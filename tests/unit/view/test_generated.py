"""Replies under gates on the page, against what ``generate`` writes and numbers made up by hand."""

import copy
import json

import numpy as np
import pytest

from langheads.experiments.replies.experiment import generate_replies
from langheads.experiments.replies.files import Replies
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError
from langheads.model import describe
from langheads.view import report
from langheads.view.contents import RunFolder
from langheads.view.folder import read_run
from langheads.view.kinds import KINDS
from tests.unit.view.made_up_replies import made_reply, make_replies, write_replies
from tests.unit.view.made_up_run import make_scores, write_run
from tests.unit.view.test_report import Page

LANGUAGES = ["en", "العربية"]


@pytest.fixture
def loaded(tmp_path):
    """Writes records and a document, and reads them as the report does."""

    def load(records, document):
        write_replies(tmp_path, records, document)
        return Replies.load(tmp_path / "replies.summary.json")

    return load


def tables(found):
    return list(KINDS["replies"].tables(found, RunFolder()))


def words(found):
    return list(KINDS["replies"].summary(found, RunFolder()))


def cells(table):
    return {row[0]: list(row[1:]) for row in table.rows}


def test_what_generate_writes_is_read_as_it_is(tiny, loaded):
    prompts = [
        {"prompt": "the cat sleeps on", "language": "en"},
        {"prompt": "猫", "language": "zh"},
    ]
    heads = LanguageHeads(
        {"en": HeadSet(["L0H1", "L2H3"], (3, 4)), "zh": HeadSet(["L1H0"], (3, 4))},
        HeadSet([], (3, 4)),
        "tiny",
        provenance=describe(tiny),
    )
    settings = {"heads": heads, "gate": {"en": 0.25}}
    made = generate_replies(tiny, prompts, n_controls=2, max_new_tokens=4, **settings)
    assert made.provenance["text"] == "prompts given in Python"
    records, summary = made.records, made.summary
    found = loaded(records, {"summary": summary, "provenance": made.provenance})

    random = summary.pop("random_heads")
    assert found.draws == tuple(random.pop("draws"))
    assert len(found.draws) == 2
    for name, value in summary.items():
        np.testing.assert_equal(found.numbers[name], np.nan if value is None else value)
    assert {x: r.model_dump() for x, r in found.random.items()} == {
        name: of for name, of in random.items() if of is not None
    }
    assert [one.reply for one in found.exchanges] == [one["reply"] for one in records]
    before = [one["untouched"]["repetition"] for one in records]
    assert found.untouched["repetition"] == pytest.approx(np.mean(before))
    # The untouched model's replies, made once more with nothing gated.
    untouched = generate_replies(tiny, prompts, max_new_tokens=4)
    plain, alone = untouched.records, untouched.summary
    assert found.untouched["nll_per_token"] == pytest.approx(alone["nll_per_token"], abs=1e-6)
    assert [one.untouched.reply for one in found.exchanges] == [one["reply"] for one in plain]
    assert (found.gates, found.heads) == ({"en": 0.25}, {"en": "L0H1 L2H3"})
    (numbers, replies), (said, *_) = tables(found), words(found)
    assert numbers.caption.startswith("Under en heads × 0.25 (en: L0H1 L2H3): means over 2 replies")
    assert said.startswith("Replies under en heads × 0.25, 2 replies: in the wanted language ")
    assert [row[0] for row in replies.rows] == ["1", "2"]


def test_the_numbers_stand_beside_untouched_and_random_heads(tmp_path):
    write_run(tmp_path, LANGUAGES)
    records, document = make_replies(LANGUAGES)
    document["summary"]["repetition"] = 0.25
    write_replies(tmp_path, records, document)
    page = Page(report(tmp_path).read_text("utf-8"))
    # Terms stand explained where they are first met.
    assert "LPR: replies of which every line is in the wanted language; WPR: of these" in page.text
    table = page.table("measure", "untouched", "under the gates")
    assert table == [
        [
            *("measure", "untouched", "under the gates"),
            "random heads, mean (lowest to highest of 2 draws)",
        ],
        ["in the wanted language (share of replies)", "1.000", "0.667", "0.800 (0.700 to 0.900)"],
        ["switch rate (share of replies)", "–", "0.333", "0.200 (0.100 to 0.300)"],
        ["LPR (mean over languages)", "–", "–", "–"],
        ["replies with a line to judge (number)", "–", "2", "2 (1 to 3)"],
        ["repetition (share of 4-grams)", "0.125", "0.250", "–"],
        ["copied prompt (share of 4-grams)", "0.500", "0.500", "–"],
        ["empty replies (share of replies)", "0.000", "0.000", "–"],
        ["NLL of the reply (nats per token)", "1.250", "1.500", "–"],
        [
            "change of NLL (nats per token)",
            "–",
            "0.250",
            "0.100 (−0.100 to 0.300)",
        ],
    ]
    assert (
        "Replies under en heads × 0.5, 6 replies: in the wanted language 0.667, untouched 1.000, "
        "random heads 0.800 (0.700 to 0.900 over 2 draws); switch rate 0.333, random heads 0.200 "
        "(0.100 to 0.300 over 2 draws). Replies fell apart under en heads × 0.5 (repetition +0.12 "
        "of 4-grams)"
    ) in page.text
    assert "not shown" not in page.text


@pytest.mark.parametrize(
    ("name", "value", "how"),
    [
        ("repetition", 0.225, ""),
        ("repetition", 0.226, "repetition +0.10 of 4-grams"),
        ("empty", 0.11, "empty replies +0.11 of all"),
        ("delta_nll_per_token", 1.0, ""),
        ("delta_nll_per_token", 1.01, "NLL of the reply +1.01 nats per token"),
    ],
)
def test_collapse_has_the_limits_of_all_other_results(loaded, name, value, how):
    records, document = make_replies(LANGUAGES)
    document["summary"] |= {"repetition": 0.125, name: value}
    said = words(loaded(records, document))[1:]
    told = f"Replies fell apart under en heads × 0.5 ({how}): there a change of language says "
    assert said == ([f"{told}nothing about the heads."] if how else [])


def test_without_the_untouched_model_collapse_is_not_judged(loaded):
    records, document = make_replies(LANGUAGES)
    for record in records:
        del record["untouched"]
    for name in ("right_before", "switch_rate", "delta_nll_per_token", "random_heads"):
        del document["summary"][name]
    document["provenance"] |= {"gates": {}, "shift": {"en-zh": 2.0}, "mask": {"L0H1": 1.2}}
    found = loaded(records, document)
    assert words(found) == [
        "Replies under steering en-zh × 2 and a mask on 1 head, 6 replies: in the wanted language "
        "0.667.",
        "Whether replies fell apart under steering en-zh × 2 and a mask on 1 head cannot be told: "
        "the untouched model gave none.",
    ]
    numbers, replies = tables(found)
    assert list(numbers.header) == ["measure", "under the gates"]
    assert list(replies.header)[-1] == "detected (confidence)"
    document["provenance"] |= {"shift": {}, "mask": None}
    document["summary"]["right"] = None
    found = loaded(records, document)
    assert words(found) == ["Replies with nothing gated, 6 replies."]
    assert list(tables(found)[0].header) == ["measure", "nothing gated"]


def test_the_first_replies_of_each_language_are_shown_as_text(loaded):
    records, document = make_replies(LANGUAGES, each=9)
    long = "\n".join(f"{i} " + "x" * 90 for i in range(5))
    records[0] |= made_reply("  <b>bold</b>\n\n\u202eturned\n3\n4", "fr", False)
    records[1] |= {"prompt": long, "wanted": "en", **made_reply(" ", "", False, empty=True)}
    records[2] |= {**made_reply(long, "en", None), "id": "n" * 50}
    _, table = tables(loaded(records, document))
    # 4 of each, though the first language alone has more than 8.
    assert [row[2] for row in table.rows] == ["en"] * 4 + ["العربية"] * 4
    assert "8 of 18: not picked" in table.caption
    assert list(table.rows[0]) == [
        *("en-0", "…\ntwo\nthree\nin en?", "en"),
        *("<b>bold</b>\n\u202eturned\n3\n…", "fr (0.75), not right"),
        *("before 0", "en (0.75), right"),
    ]
    end = "…" + "\n".join(long.split("\n")[2:])[-200:]
    assert table.rows[1][1] == end
    assert list(table.rows[1][3:5]) == ["–", "– (0.75), not right"]
    assert table.rows[2][3] == "\n".join(long.split("\n")[:3])[:200] + "…\n…"
    assert (table.rows[2][0], table.rows[2][4]) == ("n" * 40 + "…", "en (0.75)")
    assert set(table.prose) == {1, 3, 5}


def test_a_run_without_its_replies_has_its_numbers(tmp_path):
    make_scores(LANGUAGES).to_netcdf(tmp_path / "scores.nc")
    records, document = make_replies(LANGUAGES)
    write_replies(tmp_path, records, document, "one")
    write_replies(tmp_path, records, document, "two")
    (tmp_path / "two.jsonl").unlink()
    page = Page(report(tmp_path).read_text("utf-8"))
    assert "Replies under gates: one.summary.json" in page.text
    assert "Replies under gates: two.summary.json" in page.text
    found = read_run(tmp_path).of("replies")["two.summary.json"]
    assert found.exchanges == ()
    assert set(found.untouched) == {"right", "nll_per_token"}
    assert len(list(KINDS["replies"].tables(found, RunFolder()))) == 1


def broken(records, document):
    records, document = copy.deepcopy(records), copy.deepcopy(document)
    yield records[1:], document, "sums up 6 replies, beside it are 5"
    yield [*records[1:], {"text": "no reply"}], document, r"line 6: .* missing; found text"
    yield [*records[1:], []], document, r"line 6: expected {.*}, found \[\]"
    for name, value, expected in (
        ("right", "much", "a number"),
        ("replies", None, "a whole number from 0"),
        ("counted", -3, "a whole number from 0"),
        ("skipped", float("nan"), "a whole number from 0"),
        ("empty", 10**400, "a number"),
    ):
        changed = {"summary": document["summary"] | {name: value}}
        told = rf"(summary\.{name}|json: {name}: it) is .*, expected {expected}"
        yield records, document | changed, told
    changed = {"provenance": document["provenance"] | {"gates": ["en"]}}
    yield records, document | changed, r"provenance\.gates is \['en'\], expected keys and values"


def test_broken_replies_are_named_and_left_out(tmp_path, loaded):
    make_scores(LANGUAGES).to_netcdf(tmp_path / "scores.nc")
    for records, document, message in broken(*make_replies(LANGUAGES)):
        with pytest.raises(InputError, match=message):
            loaded(records, document)
        assert list(read_run(tmp_path).reasons) == ["replies.summary.json"]
    for content in (b"\xff\n", b"{"):
        write_replies(tmp_path, *make_replies(LANGUAGES))
        (tmp_path / "replies.jsonl").write_bytes(content)
        assert list(read_run(tmp_path).reasons) == ["replies.summary.json"]
    # Any other summary is not one of generate.
    (tmp_path / "replies.summary.json").write_text(json.dumps({"summary": {}, "provenance": {}}))
    assert list(read_run(tmp_path).reasons) == ["replies.summary.json"]
    with pytest.raises(InputError, match="is not a summary of generate"):
        Replies.load(tmp_path / "replies.summary.json")


def test_replies_of_another_model_are_left_out(tmp_path):
    make_scores(LANGUAGES).to_netcdf(tmp_path / "scores.nc")
    records, document = make_replies(LANGUAGES)
    document["provenance"]["weight_hash"] = "ef" * 32
    write_replies(tmp_path, records, document)
    run = read_run(tmp_path)
    assert "replies.summary.json was made with weights efef" in run.reasons["replies.summary.json"]
    assert not run.of("replies")


def test_replies_and_summary_of_two_runs_are_not_read_as_one(tmp_path):
    """A run that is killed between its two files leaves new replies under the old summary."""
    records, document = make_replies(LANGUAGES)
    made = Replies(records, document["summary"], document["provenance"])
    path, summary = made.save(tmp_path / "twice.jsonl"), tmp_path / "twice.summary.json"
    assert Replies.load(summary).exchanges == made.exchanges
    old = summary.read_text("utf-8")
    new = [record | {"reply": "another"} for record in records]
    Replies(new, made.summary, made.provenance).save(path)
    summary.write_text(old, "utf-8")
    told = (
        "does not sum up the replies in twice.jsonl beside it: they were changed, or a run was "
        "ended before it wrote both; generate them again"
    )
    with pytest.raises(InputError) as error:
        Replies.load(summary)
    assert str(error.value) == f"{summary} {told}"
    # Alone in its folder it was not named, as if there were no replies.
    with pytest.raises(InputError) as error:
        read_run(tmp_path)
    assert str(error.value) == (
        f"nothing to report in {tmp_path}: expected scores.nc, heads.json or ablation.nc, found "
        f"twice.jsonl, twice.summary.json; twice.summary.json is left out: {told}"
    )
    make_scores(LANGUAGES).to_netcdf(tmp_path / "scores.nc")
    assert read_run(tmp_path).reasons["twice.summary.json"] == told
    # Written by an earlier version, the summary has no hash.
    unhashed = {k: v for k, v in json.loads(old).items() if k in ("summary", "provenance")}
    summary.write_text(json.dumps(unhashed), "utf-8")
    assert len(Replies.load(summary).records) == len(new)
