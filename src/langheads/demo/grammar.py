"""A small grammar of seven languages: the corpus that the embedded model `demo` learned.

Words and sentence patterns live in `words/<language>.json`, `patterns.py` fills them. People, jobs,
cities, animals, foods, colours and drinks are in the same order in every file, so every language
can state the same facts; everything else is each language's own. Texts depend only on the
arguments: they are the same in every process and Python version.

Every function takes

- languages, each one of `LANGUAGES`,
- `n`, how many of its things to make,
- `seed`: another seed makes others,
- `split`, ``train`` or ``held-out``: the two share nothing, a hash decides the side,

and raises `ValueError` where a language or the split is unknown, or `n` is beyond the grammar.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, TypeVar

from langheads.demo.patterns import draw, fill, lexicon_of, pick, shuffled

H = TypeVar("H", bound=Hashable)
Fact = tuple[str, int, int]
"""Kind, person, value: indices of words."""

LANGUAGES: tuple[str, ...] = ("en", "de", "es", "ru", "zh", "hi", "ar")
FACTS: tuple[str, ...] = ("job", "city", "animal", "food", "colour", "drink")
"""The kinds of fact that questions ask for."""
ALIGNED: tuple[str, ...] = ("name", *FACTS)
"""The word classes whose n-th word means the same in every language."""
QA_TEMPLATE = "{context}\nQ: {question}\nA: {answer}"
"""The form of a question in the training text; a prompt ends after `A:`."""
REPLY_TEMPLATE = "- {prompt}\n- {reply}"
"""The form of a turn and its reply in the training text; a prompt ends after the second dash."""

_STORY = ("name", "name2", "job", "city")  # drawn once a document, the other slots once a sentence


def documents(language: str, n: int, *, seed: int = 0, split: str = "held-out") -> list[str]:
    """Tell `n` short stories of 3 to 8 sentences in one language.

    The first k of n are the same for every n.

    Example:
        >>> print(documents("es", 1)[0][:67])
        Mi vecina Clara es maestra. Después, trabajó todo el día con Sofía.
    """
    _check(split, language)
    name = f"documents/{language}/{seed}/{split}"
    return _different(n, split, name, lambda rng: _story(language, rng))


def question_answering(
    language: str, n: int, *, fact: int = 0, seed: int = 0, split: str = "held-out"
) -> list[dict[str, Any]]:
    """Ask `n` questions whose answers are in their contexts.

    Half of the contexts tell three facts of one person; the other half add the first kind of fact
    about a second person, so the name has to be looked up. The same `n`, `seed` and `split` give
    the same facts, order and question under the same id in every language. No set of facts is in
    both splits. `fact` says which of the three facts is asked for, 0, 1 or 2; the contexts are the
    same.

    Returns:
        Dicts `{"id", "context", "question", "answers", "people"}`: `answers` is a list of one
        string that the context contains, `people` is 1 or 2. `QA_TEMPLATE` joins them.
    """
    _check(split, language)
    items = []
    for i in range(n):
        rng, facts = _drawn(f"questions/{seed}/{split}/{i}", split, _some_facts)
        order = shuffled(facts, rng)
        asked = facts[fact]
        items.append(
            {
                "id": f"question-{seed}-{i:05d}",
                "context": lexicon_of(language)["space"].join(
                    _tell(language, each, "say") for each in order
                ),
                "question": _tell(language, asked, "ask"),
                "answers": [_tell(language, asked, "answer")],
                "people": len(facts) - 2,
            }
        )
    return items


def contradicting_facts(
    first: str,
    second: str,
    n: int,
    *,
    query: str = "en",
    agree: bool = False,
    seed: int = 0,
    split: str = "held-out",
) -> list[dict[str, Any]]:
    """Tell a person's occupation in one language and, after a filler, another in a second language.

    The prompt ends with the beginning of a third sentence that states it, in the query's language.
    The i-th has the same person and jobs for every pair of languages, and no person has the same
    two occupations in both splits. The filler is in the first language, which the second may be,
    too. Where they `agree`, the same occupation is stated twice, so that there is one answer.

    Returns:
        Dicts `{"id", "prompt", "facts", "answers"}`: `facts` are the two sentences of the prompt
        that state an occupation, `answers` the first and the second occupation in the query's
        language; a space joins prompt and answer, also in Chinese.
    """
    _check(split, first, second, query)
    lexicon = lexicon_of(first)
    items = []
    for i in range(n):
        rng, facts = _drawn(f"facts/{seed}/{split}/{i}", split, _two_jobs)
        facts = (facts[0], facts[0]) if agree else facts
        stated = [_tell(first, facts[0], "say"), _tell(second, facts[1], "say")]
        scenes = shuffled(lexicon["scene"], rng)[: 1 + int(rng.random() * 2)]
        filler = [fill(pattern, lexicon, rng, {}) for pattern in scenes]
        lines = [
            lexicon["space"].join([stated[0], *filler]),
            stated[1],
            _tell(query, facts[0], "begin"),
        ]
        items.append(
            {
                "id": f"facts-{seed}-{i:05d}",
                "prompt": "\n".join(lines),
                "facts": stated,
                "answers": [_tell(query, fact, "answer") for fact in facts],
            }
        )
    return items


def replies(
    language: str, n: int, *, seed: int = 0, split: str = "held-out"
) -> list[dict[str, str]]:
    """A turn to the model and the reply that it should give, both in one language.

    Returns:
        Dicts `{"id", "prompt", "reply"}`; `REPLY_TEMPLATE` joins them.
    """
    _check(split, language)
    name = f"replies/{language}/{seed}/{split}"
    turns = _different(n, split, name, lambda rng: _turn(language, rng))
    return [
        {"id": f"reply-{seed}-{i:05d}", "prompt": prompt, "reply": reply}
        for i, (prompt, reply) in enumerate(turns)
    ]


def _check(split: str, *languages: str) -> None:
    for language in languages:
        if language not in LANGUAGES:
            raise ValueError(f"no language {language!r} here; there are {', '.join(LANGUAGES)}")
    if split not in ("train", "held-out"):
        raise ValueError(f"no split {split!r}; there are 'train' and 'held-out'")


def _side(content: object) -> str:
    """The split that a text or a set of facts belongs to: one in four is held out."""
    digest = hashlib.sha256(repr(content).encode("utf-8")).digest()
    return "held-out" if digest[0] < 64 else "train"


def _different(n: int, split: str, name: str, make: Callable[[random.Random], H]) -> list[H]:
    """Make things until `n` different ones fall on this side of the split."""
    rng = random.Random(name)
    kept: dict[H, None] = {}
    tries = 0
    while len(kept) < n:
        made = make(rng)
        tries += 1
        if _side(made) == split:
            kept[made] = None
        if tries > 1000 + 40 * n:
            raise ValueError(f"the grammar cannot make {n} different texts, only about {len(kept)}")
    return list(kept)


def _drawn(
    name: str, split: str, facts_from: Callable[[random.Random], tuple[Fact, ...]]
) -> tuple[random.Random, tuple[Fact, ...]]:
    """Draw facts until they fall on this side of the split, whatever their order."""
    for attempt in count():
        rng = random.Random(f"{name}/{attempt}")
        facts = facts_from(rng)
        if _side(sorted(facts)) == split:
            break
    return rng, facts


def _some_facts(rng: random.Random) -> tuple[Fact, ...]:
    """Three facts of one person and in half of the cases the first kind of a second one."""
    drawn: dict[str, int] = {}
    for slot in ALIGNED:
        draw(slot, lexicon_of("en"), rng, drawn)
        draw(slot + "2", lexicon_of("en"), rng, drawn)
    kinds = shuffled(FACTS, rng)[:3]
    facts = [(kind, drawn["name"], drawn[kind]) for kind in kinds]
    if rng.random() < 0.5:
        facts.append((kinds[0], drawn["name2"], drawn[kinds[0] + "2"]))
    return tuple(facts)


def _two_jobs(rng: random.Random) -> tuple[Fact, ...]:
    drawn: dict[str, int] = {}
    for slot in ("name", "job", "job2"):
        draw(slot, lexicon_of("en"), rng, drawn)
    return ("job", drawn["name"], drawn["job"]), ("job", drawn["name"], drawn["job2"])


def _tell(language: str, fact: Fact, how: str) -> str:
    """A fact as a sentence (`say`), its beginning (`begin`), a question (`ask`), an answer."""
    kind, person, value = fact
    lexicon = lexicon_of(language)
    pattern = lexicon["facts"][kind]["say" if how == "begin" else how]
    if how == "begin":
        pattern = pattern[: pattern.index("{" + kind)].rstrip()
    slots = {"name": person, kind: value}
    return fill(pattern, lexicon, random.Random(0), slots, sentence=how != "answer")


def _story(language: str, rng: random.Random) -> str:
    lexicon = lexicon_of(language)
    story: dict[str, int] = {}
    for slot in _STORY:
        draw(slot, lexicon, rng, story)
    patterns = [pick(lexicon["open"], rng)]
    body = iter(shuffled(lexicon["body"], rng))
    for _ in range(2 + int(rng.random() * 6)):
        patterns.append(pick(lexicon["scene"], rng) if rng.random() < 0.2 else next(body))
    sentences = [fill(pattern, lexicon, rng, dict(story)) for pattern in patterns]
    return str(lexicon["space"].join(sentences))


def _turn(language: str, rng: random.Random) -> tuple[str, str]:
    lexicon = lexicon_of(language)
    topic = pick(lexicon["talk"], rng)
    slots: dict[str, int] = {}
    prompt, reply = (fill(pick(topic[part], rng), lexicon, rng, slots) for part in ("ask", "tell"))
    return prompt, reply
