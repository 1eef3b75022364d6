import json
import logging

import pytest

from langheads.demo import grammar
from langheads.io.errors import InputError
from langheads.text import QA_TEMPLATE, read_questions
from langheads.text.questions import check_template

HERE = {"context": "Ann drinks tea.", "question": "What?", "answers": ["tea"]}


def write(folder, **languages):
    for language, records in languages.items():
        lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
        (folder / f"{language}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def asked(*ids, **fields):
    return [{"id": id, **HERE, **fields} for id in ids]


def test_examples_are_aligned_by_id_whatever_the_order_of_lines(tmp_path, caplog):
    english = [{**q, "question": f"What is {q['id']}?"} for q in asked(1, 2, 3, 4, 5)]
    hindi = [{**q, "question": f"{q['id']} क्या है?"} for q in asked(6, 5, 3, 1, 2)]
    folder = write(tmp_path, en=english, hi=hindi)
    with caplog.at_level(logging.WARNING, logger="langheads"):
        found = read_questions(folder)
    assert set(found.ids) == {"1", "2", "3", "5"}
    assert found.left_out == 2
    assert "2 questions left out, which not every language has" in caplog.text
    for n, id in enumerate(found.ids):
        assert found.examples["en"][n].question == f"What is {id}?"
        assert found.examples["hi"][n].question == f"{id} क्या है?"
    backwards = write(tmp_path, en=english[::-1], hi=hindi[::-1])
    assert read_questions(backwards, languages=["hi", "en"]).ids == found.ids
    orders = {read_questions(folder, seed=seed).ids for seed in range(8)}
    assert len(orders) > 1
    assert found.front(2).ids == found.ids[:2]
    assert read_questions(found, languages=["hi"]).ids == found.ids


def test_squads_nesting_and_the_grammars_records_are_read(tmp_path):
    nested = asked("a", answers={"text": ["tea ", "green tea"], "answer_start": [11, 11]})
    (question,) = read_questions(write(tmp_path, en=nested)).examples["en"]
    assert question.answers == ("tea", "green tea")
    made = {x: grammar.question_answering(x, 5) for x in ("en", "zh")}
    found = read_questions(made)
    assert len(found.ids) == 5
    for language, questions in made.items():
        for record in questions:
            at = found.ids.index(record["id"])
            assert found.examples[language][at].with_answer() == grammar.QA_TEMPLATE.format(
                context=record["context"],
                question=record["question"],
                answer=record["answers"][0],
            )


def test_a_template_of_ones_own():
    one = asked(1, context="{x}")[0]
    (question,) = read_questions({"en": [one]}).examples["en"]
    assert question.prompt() == "{x}\nQ: What?\nA:"
    assert question.with_answer("{question} {context}\n") == "What? {x}\ntea"
    assert check_template(QA_TEMPLATE) == QA_TEMPLATE
    for bad in (
        "{context!x} {question}",
        "{context!r} {question}",
        "{context:x} {question}",
        "{context} {question:100}",
        "{context:{question}} {question}",
        "{context}",
        "{context} {question} {answer}",
        "{context {question}",
        "plain",
    ):
        with pytest.raises(InputError, match=r"it needs the fields \{context\} and \{question\}"):
            check_template(bad)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"en.jsonl, line 2: not JSON"),
        ("[1]", r"en.jsonl, line 2: expected .*found \[1\]"),
        ('{"id": 2, "context": "c"}', r"line 2: question, answers missing; found id, context"),
        (asked(2, answers=[])[0], r"line 2: answers is \[\], expected \[.*\] or {.text"),
        (asked(2, answers="tea")[0], r"line 2: answers is 'tea', expected \["),
        (asked(2, answers={"start": [1]})[0], r"line 2: answers is {'start': \[1\]}, expected \["),
        (asked(2, answers=[3])[0], r"line 2: answers is \[3\], expected \["),
        (asked(2, question=" ")[0], r"line 2: question is empty"),
        (asked(None)[0], r"line 2: id is None, expected a text or a whole number"),
        (asked("1")[0], r"line 2: id 1 a second time; ids must differ"),
    ],
)
def test_a_line_that_cannot_be_used(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_questions(write(tmp_path, en=[asked(1)[0], line]))


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*; questions are a folder of"):
        read_questions(tmp_path / "no")
    with pytest.raises(InputError, match=r"no questions for language any in .*found no <language>"):
        read_questions(tmp_path)
    write(tmp_path, en=asked(1), hi=asked(2))
    with pytest.raises(InputError, match=r"no questions for language fr in .*; found en, hi"):
        read_questions(tmp_path, languages=["fr"])
    with pytest.raises(InputError, match=r"no id in .* that all languages have; .*en 1, hi 1"):
        read_questions(tmp_path)
    with pytest.raises(InputError, match="an empty language name"):
        read_questions(tmp_path, languages=["en", ""])
    (tmp_path / "en.jsonl").write_bytes(b'{"id": 1}\n\xff\n')
    with pytest.raises(InputError, match=r"en.jsonl, line 1: context, question, answers missing"):
        read_questions(tmp_path, languages=["en"])
    (tmp_path / "en.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match=r"en.jsonl, line 1, byte 1: not UTF-8"):
        read_questions(tmp_path, languages=["en"])


def test_without_ids_the_nth_of_each_language_is_one_question(tmp_path):
    for language in ("en", "hi"):
        lines = [json.dumps({**HERE, "question": f"{language} {n}?"}) for n in range(1, 5)]
        (tmp_path / f"{language}.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    found = read_questions(tmp_path)
    assert set(found.ids) == {"1", "2", "3", "4"}
    for language, of in found.examples.items():
        assert [q.question for q in of] == [f"{language} {id}?" for id in found.ids]
