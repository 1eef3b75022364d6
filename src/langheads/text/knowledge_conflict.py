"""Knowledge conflicts: prompts with two contradicting facts, each in a language of its own.

    {fact in the first language} {filler in the first language}
    {fact in the second language}
    {query}

The query ends right before a person's occupation; the two facts give two answers to it. The i-th
prompt has the same person and the same two occupations for every pair of languages.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.text.documents import bos_prefix, shared_beginning
from langheads.text.templates import Template

Span = tuple[int, int]


@dataclass(frozen=True)
class KnowledgeConflict:
    """One prompt."""

    prompt: str  # what the model reads
    # The continuation of the query by the first and by the second fact, with the leading space
    # where the language writes one.
    answers: tuple[str, str]
    native: tuple[str, str]  # the same two as they are written in their facts
    # Characters of the prompt that hold the first and the second fact, from and to.
    spans: tuple[Span, Span]


@dataclass(frozen=True)
class ConflictTokens:
    """One prompt in tokens."""

    prompt: tuple[int, ...]  # tokens of the prompt, BOS included
    # Tokens of prompt and first answer, and of prompt and second answer.
    texts: tuple[tuple[int, ...], tuple[int, ...]]
    start: int  # where both answers begin in `texts`: the texts are the same before it
    # Tokens of `prompt` that hold the first and the second fact, from and to.
    spans: tuple[Span, Span]


def occupation_pairs(
    n_occupations: int, *, limit: int | None = None, seed: int = 0
) -> list[tuple[int, int]]:
    """Ordered pairs of different occupations, all of them or a random `limit` of them.

    Example:
        >>> occupation_pairs(3)
        [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    """
    seed = check_seed(seed)
    pairs = list(itertools.permutations(range(n_occupations), 2))
    if limit is None or limit >= len(pairs):
        return pairs
    # Only Random.random() gives the same numbers in every Python version.
    rng = random.Random(f"job pairs/{seed}")
    drawn = sorted(range(len(pairs)), key=lambda _: rng.random())[:limit]
    return [pairs[i] for i in sorted(drawn)]


def knowledge_conflicts(
    templates: Mapping[str, Template],
    first: str,
    second: str,
    query: str,
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
) -> list[KnowledgeConflict]:
    """One prompt a pair of occupations, that in the first fact and that in the second.

    The filler is in the language of the first fact, the answers in that of the query; equal
    answers are refused. `seed` draws persons and fillers.
    """
    made = []
    one, other, asked = templates[first], templates[second], templates[query]
    for pair in pairs:
        # A pair and its reverse are about the same person, so that they differ in nothing else.
        rng = random.Random(f"conflict/{seed}/{sorted(pair)}")
        person = int(rng.random() * len(one.names))
        filler = one.filler[int(rng.random() * len(one.filler))]
        facts = one.tell("fact", person, pair[0]), other.tell("fact", person, pair[1])
        before = one.space.join((facts[0], filler)) + "\n"
        answers = asked.tell("answer", person, pair[0]), asked.tell("answer", person, pair[1])
        if answers[0] == answers[1]:
            raise InputError(
                f"occupations {pair[0] + 1} and {pair[1] + 1} are both {answers[0].strip()!r:.40} "
                f"in {query}; they must differ"
            )
        made.append(
            KnowledgeConflict(
                prompt=f"{before}{facts[1]}\n{asked.tell('query', person, pair[0])}",
                answers=answers,
                native=(one.tell("answer", person, pair[0]), other.tell("answer", person, pair[1])),
                spans=((0, len(facts[0])), (len(before), len(before) + len(facts[1]))),
            )
        )
    return made


def conflict_tokens(tokenizer: Any, conflict: KnowledgeConflict, *, bos: bool) -> ConflictTokens:
    """Tokenise a prompt, alone and with each answer, by a fast tokenizer.

    Prompt and answer are tokenised as one text. Where a tokenizer merges the end of the prompt with
    the beginning of an answer, both answers begin at that merged token.
    """
    prefix = bos_prefix(tokenizer, bos)
    settings = {"add_special_tokens": False, "verbose": False}
    encoded = tokenizer(conflict.prompt, return_offsets_mapping=True, **settings)
    prompt = prefix + encoded["input_ids"]
    first, second = (
        tuple(prefix + tokenizer(conflict.prompt + answer, **settings).input_ids)
        for answer in conflict.answers
    )
    spans = [token_span(encoded["offset_mapping"], span) for span in conflict.spans]
    one, other = ((start + len(prefix), end + len(prefix)) for start, end in spans)
    start = min(shared_beginning(prompt, text) for text in (first, second))
    return ConflictTokens(tuple(prompt), (first, second), start, (one, other))


def token_span(offsets: Sequence[Span], span: Span) -> Span:
    """The tokens, from and to, whose characters overlap a span of the text; refuses an empty span.

    `offsets` are the characters of each token, from and to, as a fast tokenizer gives them.

    Example:
        >>> token_span([(0, 3), (3, 4), (4, 9)], (1, 4))
        (0, 2)
    """
    inside = [i for i, (a, b) in enumerate(offsets) if a < span[1] and b > span[0]]
    if not inside:
        raise InputError(f"no token at characters {span[0]} to {span[1]} of a prompt")
    return inside[0], inside[-1] + 1
