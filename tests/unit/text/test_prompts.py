"""Prompts with two answers: what is read, what is refused, and where the answers part."""

import json

import pytest

from langheads.io.errors import InputError
from langheads.text.prompts import Prompt, choice, read_prompts

GOOD = {"prompt": "The cat is", "answer": " big", "wrong": " small"}


class Words:
    """A tokenizer of one number a character, ``th`` and `` b`` being one each."""

    bos_token_id = 1

    def __call__(self, text, add_special_tokens, verbose):
        assert not add_special_tokens
        merged = text.replace("th", "\ue000").replace(" b", "\ue001")
        return {"input_ids": [ord(character) for character in merged]}


def asked(prompt, answer, wrong):
    return read_prompts([{"prompt": prompt, "answer": answer, "wrong": wrong}])[0]


def test_file_and_list_give_the_same(tmp_path):
    records = [
        GOOD,
        GOOD | {"language": "en", "corrupt": "Le chat est"},
        GOOD | {"clean": "A cat is", "corrupt": "猫是", "language": None},
    ]
    path = tmp_path / "prompts.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\ufeff" + "\n\n".join(lines) + "\r\n", encoding="utf-8")
    from_list, from_file = read_prompts(records), read_prompts(path)
    assert from_list[1] == Prompt(
        "The cat is", " big", " small", "en", "The cat is", "Le chat est", "prompt 2"
    )
    assert [p.record() for p in from_list] == [p.record() for p in from_file]
    assert from_list[2].clean == "A cat is"
    assert [p.language for p in from_list] == ["und", "en", "und"]
    assert [p.where for p in from_file] == [f"{path}, line {n}" for n in (1, 3, 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected .* found \\[1\\]"),
        (json.dumps({"prompt": "a"}), "line 2: answer, wrong missing"),
        (json.dumps(GOOD | {"wrong": None}), "line 2: wrong missing"),
        (json.dumps(GOOD | {"answer": 4}), "line 2: answer is 4, expected a text, not empty"),
        (json.dumps(GOOD | {"prompt": ""}), "line 2: prompt is '', expected a text, not empty"),
        (json.dumps(GOOD | {"lang": "en"}), "line 2: unknown key lang; allowed are prompt"),
        (json.dumps(GOOD | {"clean": "x"}), "line 2: clean without corrupt"),
        (json.dumps(GOOD | {"corrupt": "The cat is"}), "line 2: clean and corrupt are the same"),
        (json.dumps(GOOD | {"answer": "\ud800"}), "line 2: answer has a lone surrogate"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


def test_no_file_no_text_and_no_prompts(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(InputError, match="line 1, byte 13: not UTF-8"):
        read_prompts(tmp_path / "latin.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    for source in (tmp_path / "empty.jsonl", []):
        with pytest.raises(InputError, match="no prompts in"):
            read_prompts(source)
    with pytest.raises(InputError, match="prompt 2: answer, wrong missing"):
        read_prompts([GOOD, {"prompt": "a"}])


@pytest.mark.parametrize(
    ("prompt", "answer", "wrong", "read", "parts"),
    [
        ("It is", " an ox", " a dog", "It is a", "n "),  # what they share is read
        ("It is", " big", " red", "It is", "\ue001 "),
        ("wi", "th", "se", "wi", "\ue000s"),
        ("wit", "h", "s", "wi", "\ue000t"),  # the end of the prompt became one with the answer
        ("It is", " x y", " x z", "It is x ", "yz"),
    ],
)
def test_answers_part_at_the_first_token_that_differs(prompt, answer, wrong, read, parts):
    for bos in (False, True):
        found = choice(Words(), prompt, asked(prompt, answer, wrong), bos=bos)
        assert found.tokens == (*[1] * bos, *map(ord, read))
        assert (found.answer, found.wrong) == tuple(map(ord, parts))


def test_answers_that_do_not_part_are_refused():
    for answer, wrong in ((" x", " xy"), (" xy", " x"), (" x", " x")):
        with pytest.raises(InputError, match=r"prompt 1: .* no token in which they differ"):
            choice(Words(), "It is", asked("It is", answer, wrong), bos=False)
    with pytest.raises(InputError, match="differ in the first token of the prompt"):
        choice(Words(), "t", asked("t", "h", "s"), bos=True)
