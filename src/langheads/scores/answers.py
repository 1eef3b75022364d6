"""Answers with every head off alone: the probability of the right one, and what the model writes.

For a prompt x with its right answer y_1 .. y_n (tokens), with one head's gate at 0:

    log p(y | x) = sum_k log softmax(logits)[y_k]        nats, exact

by the block replay of `scores.exact_knockout`, heads side by side; and the model's own greedy
continuation of x. Prompt and answer are tokenised as one text. Where a tokenizer merges the end of
the prompt with the beginning of the answer, the merged token counts to the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.model import decode, gated, map_documents, tokenize_languages
from langheads.scores.scan import heads_off
from langheads.text import Documents, Questions

logger = logging.getLogger("langheads")


@dataclass(frozen=True)
class Answers:
    """One language's examples in tokens.

    Attributes:
        prompts: what greedy decoding continues, ``[pos]`` an example.
        texts: prompt and first answer, ``[pos]`` an example; their documents.
        starts: where the answer begins in `texts`, ``[example]``.
    """

    prompts: Documents
    texts: Documents
    starts: Int[np.ndarray, " example"]


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

    Args:
        model: gives tokenizer and context length.
        questions: aligned examples.
        template: of the prompt.
        max_tokens: longest prompt with its answer.
        max_new_tokens: room that a reply needs in the model's context.
        bos: prepend BOS; None does what the model's tokenizer does by itself.

    Returns:
        The examples that are left, and their tokens a language.

    Raises:
        InputError: no example is short enough; see also `tokenize_languages`.
    """
    context = int(model.cfg.n_ctx or 0) or max_tokens + max_new_tokens + 1
    tokens = {}
    fits = np.ones(len(questions.ids), dtype=bool)
    for language, examples in questions.examples.items():
        # One more than is allowed, to see what is too long.
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
        pairs = [(prompts.tokens[i], texts.tokens[i]) for i in kept]
        answers[language] = Answers(
            _documents(prompts, [prompt for prompt, _ in pairs]),
            _documents(texts, [text for _, text in pairs]),
            np.array([_shared(*pair) for pair in pairs]),
        )
    return questions.only(map(int, kept)), answers


def answer_logprob(
    model: TransformerBridge,
    answers: Answers,
    heads: HeadSet,
    *,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "conditions example"]:
    """Log-probability of every example's first answer, nats, summed over its tokens.

    Args:
        model: the model.
        answers: of one language.
        heads: which heads to knock out, one at a time.
        baseline: what stands in for a head; None is zero.
        batch_tokens: tokens a forward, padding included.
        progress: updated by examples times heads done.

    Returns:
        ``[1 + heads, example]``, nothing off first.
    """
    # The first column says where the answer begins, so that it stays with its row in any batch.
    packed = _packed(answers.texts, answers.starts)

    @torch.no_grad()
    def measure(rows: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
        starts, tokens = rows[:, 0], rows[:, 1:]

        def loss(copies: int) -> Float[Tensor, " rows"]:
            return answer_nll(
                model,
                repeat(tokens, "batch pos -> (copy batch) pos", copy=copies),
                repeat(starts, "batch -> (copy batch)", copy=copies),
                repeat(lengths - 1, "batch -> (copy batch)", copy=copies),
            )

        return heads_off(
            model,
            loss,
            heads,
            batch_shape=(len(tokens), tokens.shape[1]),
            baseline=baseline,
            batch_tokens=batch_tokens,
            progress=progress,
        )

    nll = map_documents(model, packed, measure, batch_tokens=batch_tokens)
    return -nll.double().numpy().T


def answer_nll(
    model: TransformerBridge,
    tokens: Int[Tensor, "batch pos"],
    starts: Int[Tensor, " batch"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Summed NLL of each row's tokens from its start to its end, in nats.

    Args:
        model: the model, under gates or not.
        tokens: right-padded.
        starts: the first token that counts, at least 1.
        lengths: tokens of each row, padding not counted.

    Memory: logits ``[batch, pos, vocab]``, and a float32 copy of the counted ones.
    """
    logits = model(tokens, return_type="logits")[:, :-1]
    position = torch.arange(1, tokens.shape[1], device=logits.device)
    counted = (position >= starts.to(logits.device)[:, None]) & (
        position < lengths.to(logits.device)[:, None]
    )
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = torch.zeros(counted.shape, dtype=wide, device=logits.device)
    losses[counted] = F.cross_entropy(
        logits[counted].to(wide), tokens[:, 1:].to(logits.device)[counted], reduction="none"
    )
    return losses.sum(dim=1)


def greedy_replies(
    model: TransformerBridge,
    answers: Answers,
    heads: HeadSet,
    *,
    max_new_tokens: int,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> list[list[str]]:
    """What the model writes after every prompt, up to EOS, the end of the line or the limit.

    The heads of a layer run side by side, every row of a batch under gates of its own; a batch
    holds prompts of like length.

    Args:
        model: the model.
        answers: of one language.
        heads: which heads to knock out, one at a time.
        max_new_tokens: longest reply.
        baseline: what stands in for a head; None is zero.
        batch_tokens: prompt tokens a batch, padding included.
        progress: updated by examples times heads done.

    Returns:
        ``[1 + heads][example]``, nothing off first.
    """

    def replies(together: Sequence[HeadSet]) -> list[list[str]]:
        gates = torch.stack([torch.from_numpy(h.gates(0.0)) for h in together])
        count = len(answers.prompts)
        # The first column says which gates the row is under.
        packed = _packed(
            answers.prompts, np.repeat(np.arange(len(together)), count), copies=len(together)
        )

        def measure(rows: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"]) -> Tensor:
            with gated(model, gates[rows[:, 0].cpu()], baseline=baseline):
                written = decode(
                    model,
                    [row[1:n].cpu() for row, n in zip(rows, lengths.tolist(), strict=True)],
                    max_new_tokens=max_new_tokens,
                )
            # -1 is no token; float64 holds every token number exactly.
            padded = torch.full((len(rows), max_new_tokens), -1.0, dtype=torch.float64)
            for line, tokens in zip(padded, written, strict=True):
                line[: len(tokens)] = tokens
            return padded

        found = map_documents(
            model, packed, measure, batch_tokens=batch_tokens, progress=progress
        ).long()
        lines = [_line(model, tokens[tokens >= 0]) for tokens in found]
        return [lines[k * count : (k + 1) * count] for k in range(len(together))]

    none = HeadSet([], heads.shape)
    ordered: dict[HeadSet, list[str]] = {none: replies([none])[0]}
    for layer in range(heads.shape[0]):
        alone = [HeadSet([head], heads.shape) for head in heads if head.layer == layer]
        if alone:
            ordered |= dict(zip(alone, replies(alone), strict=True))
    return [ordered[none], *(ordered[HeadSet([head], heads.shape)] for head in heads)]


def _line(model: TransformerBridge, tokens: Int[Tensor, " new"]) -> str:
    text = model.tokenizer.decode(
        tokens.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return str(text).split("\n", 1)[0].strip()


def _shared(prompt: Int[Tensor, " _"], text: Int[Tensor, " _"]) -> int:
    """How many tokens at the beginning are the same; at least 1, which nothing predicts."""
    width = min(len(prompt), len(text) - 1)
    differ = (prompt[:width] != text[:width]).nonzero()
    return max(1, int(differ[0]) if len(differ) else width)


def _documents(like: Documents, tokens: Sequence[Int[Tensor, " _"]]) -> Documents:
    """Documents with other tokens; their bytes are not counted."""
    return Documents(
        like.language,
        tuple(tokens),
        np.zeros(len(tokens), dtype=np.int64),
        0,
        like.bos,
        like.max_tokens,
    )


def _packed(documents: Documents, column: Int[np.ndarray, " _"], copies: int = 1) -> Documents:
    """Documents, so many times over, with one number in front of each."""
    return _documents(
        documents,
        [
            torch.cat([torch.tensor([int(number)]), tokens])
            for number, tokens in zip(column, documents.tokens * copies, strict=True)
        ],
    )
