"""Templates of facts: those that come along, files of one's own, and prompts made from them."""

import json
import random

import pytest

from langheads.demo import grammar
from langheads.demo.templates import demo_templates
from langheads.io.errors import InputError
from langheads.text.knowledge_conflict import (
    conflict_tokens,
    knowledge_conflicts,
    occupation_pairs,
    token_span,
)
from langheads.text.templates import BUILT_IN, read_templates

GOOD = [
    {"fact": "{name.gen} Beruf ist {job}.", "query": "{name.gen} Beruf ist", "answer": " {job}"},
    {"filler": "Es regnet."},
    {"name": "Anna", "gender": "f", "gen": "Annas"},
    {"name": "Max", "gen": "Maxens"},
    {"job": "Arzt", "f": "Ärztin"},
    {"job": "Koch", "f": "Köchin"},
]


@pytest.fixture
def folder(tmp_path):
    def write(**languages):
        for language, records in languages.items():
            lines = [
                each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
                for each in records
            ]
            (tmp_path / f"{language}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return write


def test_those_that_come_along_are_aligned():
    templates = read_templates()
    assert {"en", "de", "es", "ru", "zh", "hi", "ar", "fr"} <= set(templates)
    for language, template in templates.items():
        assert len(template.names) == 10
        assert len(template.occupations) == 12
        # A person has one gender.
        genders = [name["gender"] for name in template.names]
        assert genders == [name["gender"] for name in templates["en"].names]
        for person in range(10):
            told = [template.tell("fact", person, job) for job in range(12)]
            assert len(set(told)) == 12
            answers = [template.tell("answer", person, job).strip() for job in range(12)]
            assert len(set(answers)) == 12
            query = template.tell("query", person, 0)
            for fact, answer in zip(told, answers, strict=True):
                space = "" if language == "zh" else " "
                assert fact.startswith(f"{query}{space}{answer}")
                assert "{" not in fact


def test_sentences_agree_with_the_person(folder):
    template = read_templates(folder(de=GOOD))["de"]
    assert template.tell("fact", 0, 0) == "Annas Beruf ist Ärztin."
    assert template.tell("fact", 1, 1) == "Maxens Beruf ist Koch."
    assert (template.tell("query", 1, 1), template.tell("answer", 0, 1)) == (
        "Maxens Beruf ist",
        " Köchin",
    )
    assert template.space == " "


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (["{"], r"de\.jsonl, line 1: not JSON"),
        (["[1]"], "line 1: it is \\[1\\], expected keys and values"),
        ([*GOOD, {"town": "Rom"}], "line 7: expected fact, filler, name or job, found town"),
        ([{"fact": "{name} {job}", "query": "{name}"}, *GOOD[1:]], "line 1: answer missing"),
        ([GOOD[0], *GOOD], "line 2: fact, query and answer a second time"),
        (GOOD[1:], "0 lines with fact, at least 1 needed"),
        ([GOOD[0], *GOOD[2:]], "0 lines with filler"),
        (GOOD[:2] + GOOD[4:], "0 lines with name"),
        (GOOD[:5], "1 lines with job, at least 2 needed"),
        ([*GOOD, {"job": "Arzt"}], "line 7: job Arzt a second time"),
        ([*GOOD, {"name": "Ida"}], "line 7: name Ida lacks the form gen"),
        ([*GOOD, {"name": "Ida", "gender": "x", "gen": "Idas"}], "line 7: gender 'x'; allowed"),
        ([*GOOD, {"job": 3}], "line 7: job is 3, expected a text"),
        ([*GOOD, {"filler": " "}], "line 7: filler is ' ', expected a text"),
        ([GOOD[0] | {"fact": "{name}."}, *GOOD[1:]], r"line 1: fact .* must have {name} and {job}"),
        ([GOOD[0] | {"query": "{name} {job}"}, *GOOD[1:]], "line 1: query .* must have {name} and"),
        ([GOOD[0] | {"answer": " {job} {x}"}, *GOOD[1:]], "answer .* no other braces"),
    ],
)
def test_files_that_cannot_be_used(folder, records, message):
    with pytest.raises(InputError, match=message) as caught:
        read_templates(folder(de=records))
    assert "\n" not in str(caught.value)


def test_files_that_do_not_go_together(folder, tmp_path):
    with pytest.raises(InputError, match=r"de\.jsonl has 2 occupations, .*en\.jsonl has 3"):
        read_templates(folder(de=GOOD, en=[*GOOD, {"job": "cook"}]))
    with pytest.raises(InputError, match=r"has 2 names, .*has 3; the n-th must mean the same"):
        read_templates(folder(de=GOOD, en=[*GOOD, {"name": "Ida", "gen": "Idas"}]))
    with pytest.raises(InputError, match=r"no template for language fr in .*; found de, en"):
        read_templates(tmp_path, languages=["de", "fr"])
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        read_templates(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no template for language any .* no <language>\.jsonl"):
        read_templates(tmp_path / "empty")


def test_the_embedded_model_reads_its_own_sentences():
    """Facts and queries are those of the grammar that made its training text."""
    templates = demo_templates()
    for first, second in (("de", "zh"), ("hi", "ru"), ("es", "ar")):
        people, jobs = range(32), range(24)
        told = {templates[first].tell("fact", p, j): (p, j) for p in people for j in jobs}
        for item in grammar.contradicting_facts(first, second, 5, query="zh"):
            person, job = told[item["facts"][0]]
            query = templates["zh"].tell("query", person, job)
            assert item["prompt"].endswith("\n" + query)
            assert templates["zh"].tell("answer", person, job) == " " + item["answers"][0]
            assert item["facts"][1] in {templates[second].tell("fact", person, j) for j in jobs}
    with pytest.raises(InputError, match="no template for language fr of the embedded model"):
        demo_templates(["en", "fr"])


def test_pairs_of_occupations():
    pairs = occupation_pairs(10)
    assert len(set(pairs)) == 90
    assert all(a != b for a, b in pairs)
    some = occupation_pairs(10, limit=7, seed=1)
    assert len(some) == 7
    assert set(some) < set(pairs)
    assert some == sorted(some) == occupation_pairs(10, limit=7, seed=1)
    assert some != occupation_pairs(10, limit=7, seed=2)
    assert occupation_pairs(10, limit=900) == pairs


def test_a_prompt_tells_the_same_in_every_pair_of_languages():
    templates = read_templates()
    pairs = occupation_pairs(12, limit=20)
    one = knowledge_conflicts(templates, "de", "zh", "en", pairs)
    swapped = knowledge_conflicts(templates, "hi", "de", "fr", [(b, a) for a, b in pairs])
    people = set()
    for conflict, other, (a, b) in zip(one, swapped, pairs, strict=True):
        lines = conflict.prompt.split("\n")
        (person,) = (p for p in range(10) if templates["zh"].tell("fact", p, b) == lines[1])
        people.add(person)
        assert lines[0].startswith(templates["de"].tell("fact", person, a) + " ")
        assert lines[0].split(" ", 4)[4] in templates["de"].filler
        assert lines[2] == templates["en"].tell("query", person, a)
        told = [conflict.prompt[start:end] for start, end in conflict.spans]
        assert told == [
            templates["de"].tell("fact", person, a),
            templates["zh"].tell("fact", person, b),
        ]
        assert other.prompt.split("\n")[1] == templates["de"].tell("fact", person, a)
        assert conflict.answers == tuple(templates["en"].tell("answer", person, j) for j in (a, b))
    assert len(people) > 3
    # Persons and fillers, not occupations, change with the seed.
    again = knowledge_conflicts(templates, "de", "zh", "en", pairs, seed=1)
    assert [c.prompt for c in again] != [c.prompt for c in one]


def test_answers_must_differ(folder):
    templates = read_templates(folder(de=[*GOOD[:5], {"job": "Arztin", "f": "Ärztin"}]))
    with pytest.raises(InputError, match="occupations 1 and 2 are both 'Ärztin' in de"):
        knowledge_conflicts(templates, "de", "de", "de", [(0, 1)] * 20, seed=next(
            seed for seed in range(20) if random.Random(f"conflict/{seed}/[0, 1]").random() < 0.5
        ))  # fmt: skip


@pytest.mark.parametrize("languages", [("de", "zh"), ("hi", "ar")])
def test_spans_in_tokens(zoo, languages):
    """Of the embedded model's byte pairs, and of a tokenizer with a token a byte."""
    from transformers import AutoTokenizer

    from langheads.model import DEMO

    templates = read_templates()
    bytewise, pairs = zoo.bridge("llama-gqa").tokenizer, AutoTokenizer.from_pretrained(DEMO)
    for conflict in knowledge_conflicts(templates, *languages, "en", occupation_pairs(12, limit=4)):
        facts = [conflict.prompt[start:end] for start, end in conflict.spans]
        for tokenizer in (bytewise, pairs):
            found = conflict_tokens(tokenizer, conflict, bos=True)
            assert found.prompt[0] == tokenizer.bos_token_id
            for (start, end), fact in zip(found.spans, facts, strict=True):
                # A token may hold the newline or the space beside a fact.
                assert tokenizer.decode(found.prompt[start:end]).strip() == fact
            for text, answer in zip(found.texts, conflict.answers, strict=True):
                assert tokenizer.decode(text[1:]) == conflict.prompt + answer
                assert text[: found.start] == found.prompt[: found.start]
            assert found.start == len(found.prompt)
        bare = conflict_tokens(bytewise, conflict, bos=False)
        # A token a byte: spans are bytes.
        assert bare.spans == tuple(
            tuple(len(conflict.prompt[:at].encode()) for at in span) for span in conflict.spans
        )


def test_a_span_without_tokens():
    with pytest.raises(InputError, match="no token at characters 4 to 6"):
        token_span([(0, 4), (6, 9)], (4, 6))


def test_the_files_are_in_the_package():
    assert BUILT_IN.parts[-3:] == ("langheads", "data", "transfer")
    assert BUILT_IN.is_dir()
