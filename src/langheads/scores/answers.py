"""Answers with every head off alone: the probability of the right one, and what the model writes.

For a prompt x with its right answer y_1 .. y_n (tokens), with one head's gate at 0:

    log p(y | x) = sum_k log softmax(logits)[y_k]        nats, exact

by the block replay of `scores.exact_knockout`, heads side by side; and the model's own greedy
continuation of x. Prompt and answer are tokenised as one text. Where a tokenizer merges the end of
the prompt with the beginning of the answer, the merged token counts to the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, logger
from langheads.model import context_length, decode_under_each, reply_text, tokenize_languages
from langheads.scores.scan import knockout_nll
from langheads.text import Documents, Questions
from langheads.text.documents import shared_beginning


@dataclass(frozen=True)
class Answers:
    """One language's examples in tokens."""

    prompts: Documents  # prompts for greedy decoding, ``[pos]`` an example
    texts: Documents  # prompt and first answer, ``[pos]`` an example
    starts: Int[np.ndarray, " example"]  # where the answer begins in `texts`, ``[example]``


def tokenize_answers(
    model: TransformerBridge,
    questions: Questions,
    *,
    template: str,
    max_tokens: int,
    max_new_tokens: int,
    bos: bool | None,
) -> tuple[Questions, dict[str, Answers]]:
    """Tokenise every example once; those too long in any language are left out of all.

    `max_tokens` limits a prompt with its answer; a reply needs room for `max_new_tokens` in the
    model's context. Refuses questions that are all too long.
    """
    context = context_length(model) or max_tokens + max_new_tokens + 1
    tokens = {}
    fits = np.ones(len(questions.ids), dtype=bool)
    for language, examples in questions.examples.items():
        # One more than allowed, to notice longer ones.
        prompts, texts = (
            tokenize_languages(model, {language: of}, max_tokens=max_tokens + 1, bos=bos)[language]
            for of in (
                [question.prompt(template) for question in examples],
                [question.with_answer(template) for question in examples],
            )
        )
        if prompts.skipped:
            raise InputError(f"language {language}: a prompt of fewer than 2 tokens")
        tokens[language] = (prompts, texts)
        for i, (prompt, text) in enumerate(zip(prompts.tokens, texts.tokens, strict=True)):
            # A text as long as the context may have been cut there.
            fits[i] &= len(text) < min(max_tokens + 1, context)
            fits[i] &= len(prompt) + max_new_tokens <= context
    kept = np.flatnonzero(fits)
    if not len(kept):
        raise InputError(
            f"all {len(fits)} questions are too long: more than {max_tokens} tokens, or than the "
            f"model's context of {context} with {max_new_tokens} new ones"
        )
    if left_out := len(fits) - len(kept):
        logger.warning("%d of %d questions left out, too long", left_out, len(fits))
    answers = {}
    for language, (prompts, texts) in tokens.items():
        some = kept.tolist()
        starts = [_start(prompts.tokens[i].tolist(), texts.tokens[i].tolist()) for i in some]
        answers[language] = Answers(prompts.only(some), texts.only(some), np.array(starts))
    return questions.only(map(int, kept)), answers


def answer_logprob(
    model: TransformerBridge, answers: Answers, heads: HeadSet, **how: Any
) -> Float[np.ndarray, "conditions example"]:
    """Log-probability of every example's first answer, nats, summed over its tokens.

    Nothing off first, then each head off alone; `how` as for `knockout_nll`.
    """
    return -knockout_nll(model, answers.texts, heads, starts=answers.starts, **how).T


def greedy_replies(
    model: TransformerBridge, answers: Answers, heads: HeadSet, **how: Any
) -> list[list[str]]:
    """What the model writes after every prompt, up to EOS, the end of the line or the limit.

    ``[1 + heads][example]``, nothing off first. Heads run side by side, every row of a batch under
    gates of its own; a batch holds prompts of like length. `how` as for `decode_rows`.
    """
    off = [HeadSet([], heads.shape), *(HeadSet([head], heads.shape) for head in heads)]
    gates = torch.from_numpy(np.stack([each.gates(0.0) for each in off]))
    return [
        [reply_text(model, tokens).split("\n", 1)[0].strip() for tokens in written]
        for written in decode_under_each(model, answers.prompts.tokens, gates, **how)
    ]


def _start(prompt: list[int], text: list[int]) -> int:
    """Where an answer of at least one token begins; not at the first, which nothing predicts."""
    return max(1, shared_beginning(prompt, text[:-1]))
