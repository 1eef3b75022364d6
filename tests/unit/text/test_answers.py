"""Measures of replies, worked by hand."""

import re
import string
from collections import Counter

import pytest

from langheads.text.answers import best, exact_match, f1, normalise, substring


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The  «Eiffel» Tower!", "en", "eiffel tower"),
        ("$1,000", "en", "1000"),
        ("die Straße", "de", "strasse"),
        ("la Casa", "es", "casa"),
        # No article of that language.
        ("the", "ru", "the"),
        ("हाँ, दिल्ली में।", "hi", "हाँ दिल्ली में"),
        # The same letter in two spellings: nukta written apart and composed.
        ("क\u093c", "hi", "क\u093c"),
        ("\u0958", "hi", "क\u093c"),
        ("「北京」。", "zh", "北京"),
        ("the", "en", "the"),
        ("%", "en", "%"),
    ],
)
def test_normalise(text, language, expected):
    assert normalise(text, language) == expected


@pytest.mark.parametrize(
    ("reply", "answer", "language", "expected"),
    [
        # 1 of 3 words said, 1 of 2 words right: 2 * 1 / 5.
        ("in the old town", "the old harbour", "en", 0.4),
        # A word said twice counts once: 2 * 1 / 3.
        ("tea tea", "tea", "en", 2 / 3),
        # 2 of 2 characters said, 2 of 3 right.
        ("北京", "北京市", "zh", 0.8),
        ("北 京", "北京市", "zh-CN", 0.8),
        ("ก ข", "กค", "th", 0.5),
        # 1 of 1 word said, 1 of 2 right.
        ("दिल्ली", "दिल्ली में", "hi", 2 / 3),
        ("मुंबई", "दिल्ली में", "hi", 0.0),
        ("", "tea", "en", 0.0),
        ("北京", "北京市", "en", 0.0),
    ],
)
def test_f1(reply, answer, language, expected):
    assert f1(reply, answer, language) == pytest.approx(expected)
    assert f1(answer, reply, language) == pytest.approx(expected)


def test_exact_match_and_substring():
    assert exact_match("The tea.", "tea", "en") == 1
    assert exact_match("green tea", "tea", "en") == 0
    assert substring("Green  Tea!", "green tea", "en") == 1
    assert substring("tea", "green tea", "en") == 0
    assert substring("在北京。", "北京", "zh") == 1
    assert substring("वह दिल्ली में है", "दिल्ली में।", "hi") == 1
    assert best("f1", "old town", ["harbour", "the old town", "old"], "en") == 1
    assert best("exact-match", "old town", ["harbour", "old"], "en") == 0


def squad(text):
    """As in the evaluation script of SQuAD 1.1, which knows ASCII only."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.mark.parametrize(
    "text",
    ["A cat, an ox & the U.S.!", "the end", "x^2 + y`s <b>", "Theatre in Anhalt", "3-0 (win)"],
)
def test_in_english_ascii_it_is_squads(text):
    assert normalise(text, "en") == squad(text)
    said, right = squad(text).split(), squad("The cat in 30 U.S.").split()
    shared = sum((Counter(said) & Counter(right)).values())
    expected = 2 * shared / (len(said) + len(right))
    assert f1(text, "The cat in 30 U.S.", "en") == pytest.approx(expected)
