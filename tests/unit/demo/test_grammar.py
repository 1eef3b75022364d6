import hashlib
import json
import random
import subprocess
import sys
import time

import pytest

from langheads.demo import grammar
from langheads.demo.patterns import fill, lexicon_of

# Unicode ranges of the letters that each language is written in.
SCRIPTS = {
    "en": [(0x41, 0x24F)],
    "de": [(0x41, 0x24F)],
    "es": [(0x41, 0x24F)],
    "ru": [(0x400, 0x4FF)],
    "zh": [(0x4E00, 0x9FFF)],
    "hi": [(0x900, 0x97F)],
    "ar": [(0x600, 0x6FF)],
}


def everything() -> str:
    """One string that changes when any public function's text does."""
    made = [
        [f(language, 5, seed=3) for language in grammar.LANGUAGES]
        for f in (grammar.documents, grammar.question_answering, grammar.replies)
    ]
    made.append(grammar.contradicting_facts("ar", "hi", 5, query="ru", seed=3))
    return hashlib.sha256(json.dumps(made, ensure_ascii=False).encode("utf-8")).hexdigest()


def test_texts_are_the_same_everywhere():
    assert grammar.documents("es", 1) == [
        "Mi vecina Clara es maestra. Después, trabajó todo el día con Sofía. "
        "Sofía dice que Clara visita a viejos amigos. "
        "De repente, Clara le escribió una larga carta a Sofía, que vive en Sevilla."
    ]
    assert everything() == "0c98bd232898a44881d44401e49bfed9e82145139411fcefedcbc046b002437a"


def test_another_process_with_another_hash_seed_makes_the_same_texts():
    code = "from langheads.demo import grammar; print(grammar.documents('ru', 3)[2])"
    made = {
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert made == {grammar.documents("ru", 3)[2]}


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_documents(language):
    held_out = grammar.documents(language, 100)
    assert held_out[:10] == grammar.documents(language, 10)
    assert len(set(held_out)) == 100
    assert held_out != grammar.documents(language, 100, seed=1)
    for text in held_out:
        assert "{" not in text
        assert "  " not in text
        assert " ." not in text
        assert 3 <= sum(text.count(stop) for stop in ".?。？।؟") <= 16


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_train_and_held_out_are_disjoint(language):
    def both(make, key):
        return [{key(x) for x in make(language, 150, split=s)} for s in ("train", "held-out")]

    for train, held_out in (
        both(grammar.documents, str),
        both(grammar.replies, lambda turn: (turn["prompt"], turn["reply"])),
        both(grammar.question_answering, lambda item: (item["context"], item["question"])),
    ):
        assert not train & held_out


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_letters_are_of_the_language_script(language):
    letters = [c for c in "".join(grammar.documents(language, 100)) if c.isalpha()]
    inside = sum(any(a <= ord(c) <= b for a, b in SCRIPTS[language]) for c in letters)
    assert inside == len(letters)


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_answers_stand_in_their_contexts(language):
    items = grammar.question_answering(language, 100)
    for item in items:
        assert item["answers"][0] in item["context"]
    assert 30 < sum(item["people"] == 2 for item in items) < 70


def test_questions_ask_for_the_same_facts_in_every_language():
    words = {x: lexicon_of(x)["words"] for x in grammar.LANGUAGES}
    items = {x: grammar.question_answering(x, 50) for x in grammar.LANGUAGES}
    for row in zip(*items.values(), strict=True):
        assert len({item["id"] for item in row}) == 1
        assert len({item["people"] for item in row}) == 1
        # the person asked for is the same, whatever the name looks like here
        people = [
            {
                n
                for n, name in enumerate(words[x]["name"])
                if any(form in item["question"] for key, form in name.items() if key != "g")
            }
            for x, item in zip(grammar.LANGUAGES, row, strict=True)
        ]
        assert set.intersection(*people)


@pytest.mark.parametrize("kind", grammar.ALIGNED)
def test_aligned_words_stand_in_one_order(kind):
    words = {x: lexicon_of(x)["words"][kind] for x in grammar.LANGUAGES}
    assert len({len(entries) for entries in words.values()}) == 1
    for entries in words.values():  # no word twice: an index would not be a fact
        assert len({tuple(entry.items()) for entry in entries}) == len(entries)
    if kind == "name":
        assert len({tuple(entry["g"] for entry in entries) for entries in words.values()}) == 1


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_every_pattern_can_be_filled_with_every_word(language):
    lexicon = lexicon_of(language)
    patterns = [*lexicon["open"], *lexicon["body"], *lexicon["scene"]]
    assert len(patterns) >= 15
    rng = random.Random(0)
    for pattern in patterns:
        for n in range(0, 32, 3):
            slots = {kind: n % len(words) for kind, words in lexicon["words"].items()}
            assert "{" not in fill(pattern, lexicon, rng, slots)


def test_contradicting_facts():
    items = grammar.contradicting_facts("de", "zh", 50, query="ru")
    russian = {form for job in lexicon_of("ru")["words"]["job"] for form in job.values()}
    for item in items:
        assert item["prompt"].startswith(item["facts"][0])
        assert item["prompt"].index(item["facts"][0]) < item["prompt"].index(item["facts"][1])
        assert item["prompt"].split("\n")[-1].startswith("Профессия ")
        assert set(item["answers"]) <= russian
        assert item["answers"][0] != item["answers"][1]
    for item in grammar.contradicting_facts("en", "en", 50, agree=True):
        assert item["facts"][0] == item["facts"][1]
        assert item["answers"][0] == item["answers"][1]
        assert item["answers"][0] in item["facts"][0]


def test_agreement():
    """A few sentences whose forms were worked out by hand."""

    def sentence(language, pattern, **slots):
        lexicon = lexicon_of(language)
        return fill(pattern, lexicon, random.Random(0), slots)

    body = lexicon_of("de")["body"]
    pattern = next(p for p in body if "{adj}" in p and p.startswith("{who} hat"))
    named = pattern.replace("{who}", "{name}")
    # Katze is feminine, Pferd neuter, Hund masculine
    assert sentence("de", named, name=0, animal=1, adj=0) == "Anna hat eine kleine Katze."
    assert sentence("de", named, name=0, animal=2, adj=0) == "Anna hat ein kleines Pferd."
    assert sentence("de", named, name=0, animal=0, adj=0) == "Anna hat einen kleinen Hund."
    fact = lexicon_of("ru")["open"][1]
    assert sentence("ru", fact, name=0, job=1, city=4) == "Анна работает учительницей в Москве."
    assert sentence("ru", fact, name=18, job=1, city=4) == "Иван работает учителем в Москве."


def test_unknown_language_and_split():
    with pytest.raises(ValueError, match="no language 'fr' here; there are en, de"):
        grammar.documents("fr", 1)
    with pytest.raises(ValueError, match="no split 'test'"):
        grammar.documents("en", 1, split="test")


def test_hundred_documents_take_well_under_a_second():
    started = time.process_time()
    grammar.documents("de", 100, seed=5)
    assert time.process_time() - started < 0.7
