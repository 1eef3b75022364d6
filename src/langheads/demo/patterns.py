"""Fill sentence patterns with words: the engine of the grammar.

Words and patterns live in `words/<language>.json`. A pattern is a sentence with slots:

- `{item}` draws a word of the class `item` and shows its first form; `{item.acc}` shows the form
  named `acc`. `{item2}` is a second, different word of the class.
- `{item:ein/eine/ein}` shows one of the alternatives, by the gender (m/f/n) of the word.
- `{job.name}` shows the form of `job` that agrees with the gender of `name`;
  `{job.name+i}` the form with that gender's letter and the suffix `i` (here an instrumental).
- `{who}` is the person of the story, by name or by pronoun (table `who`); `{who.dat}` in a case.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Slots = dict[str, int]
"""Slot -> index of its word in the word's class."""

_SLOT = re.compile(r"\{(\w+?)(\d?)(?:\.([\w+]+)|:([^{}]*))?\}")
_WHO = re.compile(r"\{who(?:\.(\w+))?\}")


@cache
def lexicon_of(language: str) -> dict[str, Any]:
    """Read a language's words and patterns; `words` maps a class to dicts of forms."""
    path = Path(__file__).parent / "words" / f"{language}.json"
    lexicon: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, words in lexicon["words"].items():
        forms = words["forms"].split()
        lexicon["words"][name] = [
            dict(zip(forms, word.split("|"), strict=True)) for word in words["words"]
        ]
    return lexicon


def fill(
    pattern: str,
    lexicon: dict[str, Any],
    rng: random.Random,
    slots: Slots,
    sentence: bool = True,
) -> str:
    """Fill the slots of a pattern: words of `slots` are chosen already, others are drawn and added.

    A `sentence` begins with a capital letter.
    """
    called = int(rng.random() < 0.6)  # by pronoun rather than by name, in the whole sentence
    pattern = _WHO.sub(lambda match: lexicon["who"][match[1] or "nom"][called], pattern)
    text = _SLOT.sub(lambda match: _show(match, lexicon, rng, slots), pattern)
    if lexicon["space"]:
        text = " ".join(text.split())
    return text[0].upper() + text[1:] if sentence else text


def draw(slot: str, lexicon: dict[str, Any], rng: random.Random, slots: Slots) -> int:
    """Choose a word for a slot, unless it has one, other than those of its class so far."""
    if slot not in slots:
        kind = slot.rstrip("2")
        size = len(lexicon["words"][kind])
        taken = {index for name, index in slots.items() if name.rstrip("2") == kind}
        while (index := int(rng.random() * size)) in taken:
            pass
        slots[slot] = index
    return slots[slot]


# Only Random.random() gives the same numbers in every Python version.
def pick(items: Sequence[T], rng: random.Random) -> T:
    """Choose one of the items."""
    return items[int(rng.random() * len(items))]


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """Return the items in random order."""
    return sorted(items, key=lambda _: rng.random())


def _show(match: re.Match[str], lexicon: dict[str, Any], rng: random.Random, slots: Slots) -> str:
    """The text in place of one slot."""
    name, digit, form, choice = match.groups()
    entry = lexicon["words"][name][draw(name + digit, lexicon, rng, slots)]
    if choice is not None:
        return str(choice.split("/")["mfn".index(entry["g"])])
    if form is None:
        return str(next(iter(entry.values())))
    owner, _, suffix = form.partition("+")
    kind = owner.rstrip("2")
    if kind in lexicon["words"]:
        form = lexicon["words"][kind][draw(owner, lexicon, rng, slots)]["g"] + suffix
    return str(entry[form])
