"""Prompts that hold two contradicting facts about one person, each in a language of its own.

    {fact in the first language} {filler in the first language}
    {fact in the second language}
    {query}

The query ends right before an occupation; the two facts give two answers to it. The i-th prompt
has the same person and the same two occupations for every pair of languages.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.text.templates import Wording

Span = tuple[int, int]


@dataclass(frozen=True)
class Conflict:
    """One prompt.

    Attributes:
        prompt: what the model reads.
        answers: how the query goes on after the first and after the second fact, with the leading
            space where the language writes one.
        spans: characters of the prompt that hold the first and the second fact, from and to.
    """

    prompt: str
    answers: tuple[str, str]
    spans: tuple[Span, Span]


def job_pairs(n_jobs: int, *, limit: int | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """Ordered pairs of different occupations, all of them or a random `limit` of them.

    Raises:
        InputError: a seed out of range.

    Example:
        >>> job_pairs(3)
        [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    """
    seed = check_seed(seed)
    pairs = list(itertools.permutations(range(n_jobs), 2))
    if limit is None or limit >= len(pairs):
        return pairs
    # Only Random.random() promises the same numbers in every Python version.
    rng = random.Random(f"job pairs/{seed}")
    drawn = sorted(range(len(pairs)), key=lambda _: rng.random())[:limit]
    return [pairs[i] for i in sorted(drawn)]


def conflicts(
    wordings: Mapping[str, Wording],
    first: str,
    second: str,
    query: str,
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int = 0,
) -> list[Conflict]:
    """One prompt a pair of occupations.

    Args:
        wordings: language -> its sentences and words.
        first: language of the first fact and of the filler.
        second: language of the second fact.
        query: language of the query and of the answers.
        pairs: occupation in the first fact, occupation in the second.
        seed: draws persons and fillers.

    Raises:
        InputError: the two answers are the same word in the query's language.
    """
    made = []
    one, other, asked = wordings[first], wordings[second], wordings[query]
    for jobs in pairs:
        # A pair and its reverse are told of the same person, so that they differ in nothing else.
        rng = random.Random(f"conflict/{seed}/{sorted(jobs)}")
        person = int(rng.random() * len(one.names))
        filler = one.filler[int(rng.random() * len(one.filler))]
        facts = one.tell("fact", person, jobs[0]), other.tell("fact", person, jobs[1])
        before = one.space.join((facts[0], filler)) + "\n"
        answers = asked.tell("answer", person, jobs[0]), asked.tell("answer", person, jobs[1])
        if answers[0] == answers[1]:
            raise InputError(
                f"occupations {jobs[0] + 1} and {jobs[1] + 1} are both {answers[0].strip()!r:.40} "
                f"in {query}; they must differ"
            )
        made.append(
            Conflict(
                prompt=f"{before}{facts[1]}\n{asked.tell('query', person, jobs[0])}",
                answers=answers,
                spans=((0, len(facts[0])), (len(before), len(before) + len(facts[1]))),
            )
        )
    return made


def token_span(offsets: Sequence[Span], span: Span) -> Span:
    """The tokens, from and to, whose characters overlap a span of the text.

    Args:
        offsets: characters of each token, from and to, as a fast tokenizer gives them.
        span: characters, from and to.

    Raises:
        InputError: no token does.

    Example:
        >>> token_span([(0, 3), (3, 4), (4, 9)], (1, 4))
        (0, 2)
    """
    inside = [i for i, (a, b) in enumerate(offsets) if a < span[1] and b > span[0]]
    if not inside:
        raise InputError(f"no token at characters {span[0]} to {span[1]} of a prompt")
    return inside[0], inside[-1] + 1


@dataclass(frozen=True)
class ConflictTokens:
    """One prompt in tokens.

    Attributes:
        prompt: tokens of the prompt, BOS included.
        texts: tokens of prompt and first answer, and of prompt and second answer.
        start: where both answers begin in `texts`: the texts are the same before it.
        spans: tokens of `prompt` that hold the first and the second fact, from and to.
    """

    prompt: tuple[int, ...]
    texts: tuple[tuple[int, ...], tuple[int, ...]]
    start: int
    spans: tuple[Span, Span]


def conflict_tokens(tokenizer: Any, conflict: Conflict, *, bos: bool) -> ConflictTokens:
    """Tokenise a prompt, alone and with each answer.

    Prompt and answer are tokenised as one text. Where a tokenizer merges the end of the prompt
    with the beginning of an answer, both answers begin at that merged token.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        conflict: the prompt.
        bos: prepend the tokenizer's BOS token.
    """
    prefix = [tokenizer.bos_token_id] if bos else []
    encoded = tokenizer(
        conflict.prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    prompt = prefix + encoded["input_ids"]
    first, second = (
        prefix + tokenizer(conflict.prompt + end, add_special_tokens=False, verbose=False).input_ids
        for end in conflict.answers
    )
    start = min(_shared(prompt, first), _shared(prompt, second))
    spans = [token_span(encoded["offset_mapping"], span) for span in conflict.spans]
    shift = len(prefix)
    return ConflictTokens(
        tuple(prompt),
        (tuple(first), tuple(second)),
        start,
        (
            (spans[0][0] + shift, spans[0][1] + shift),
            (spans[1][0] + shift, spans[1][1] + shift),
        ),
    )


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
