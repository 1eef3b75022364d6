"""What a model makes of prompts with two contradicting facts, with nothing gated and under gates.

For every prompt and every condition (heads, gate): the log-probability of both answers, the NLL of
the prompt itself, what the model writes, and where the last position looks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.transfer.plan import Condition
from langheads.model import (
    captured_block_inputs,
    decode_rows,
    end_tokens,
    gated,
    map_documents,
    reply_text,
    starting_at,
    token_nll,
)
from langheads.model.attention_patterns import attention_to_spans
from langheads.model.fused_attention import fused_attention
from langheads.text import Documents
from langheads.text.knowledge_conflict import ConflictTokens

# Kana and Han, Thai and Lao, Burmese, Khmer.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


class Written(NamedTuple):
    """What the model writes after a prompt; its tokens without an end of sequence."""

    text: str
    tokens: tuple[int, ...]


def answer_logprobs(
    model: TransformerBridge,
    prompts: Sequence[ConflictTokens],
    conditions: Sequence[Condition],
    *,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "condition prompt answer part"]:
    """Log-probability of both answers of every prompt, and NLL of the prompt, nats.

    Blocks below a condition's first head are not run again, see `langheads.model.replay`.

    Args:
        model: the model.
        prompts: in tokens.
        conditions: heads and their gate.
        batch_tokens: tokens a forward, padding included.
        progress: updated by prompts times conditions done.

    Returns:
        First part: log-probability of the answer's first token. Second part: of the whole answer,
        summed over its tokens. Third part: NLL of the prompt, nats per token, its own first token
        left out; the same for both answers.
    """
    texts = Documents.of_rows("prompts", [text for prompt in prompts for text in prompt.texts])

    @torch.no_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        with captured_block_inputs(model) as inputs:
            untouched = _parts(token_nll(model, tokens, lengths), starts)
        found = []
        for heads, gate in conditions:
            first = min((head.layer for head in heads), default=None)
            if first is None:
                found.append(untouched)
                continue
            with (
                starting_at(model, inputs, first),
                gated(model, heads, gate, first_layer=first),
            ):
                found.append(_parts(token_nll(model, tokens, lengths), starts))
        if progress is not None:
            progress.update(len(conditions) * len(tokens) / 2)
        return torch.stack(found, dim=1)

    starts = torch.tensor([prompt.start for prompt in prompts for _ in prompt.texts])
    found = map_documents(model, texts, measure, given=starts, batch_tokens=batch_tokens)
    return rearrange(
        found.double().numpy(),
        "(prompt answer) condition part -> condition prompt answer part",
        answer=2,
    )


def _parts(
    nll: Float[Tensor, "batch predicted"], starts: Int[Tensor, " batch"]
) -> Float[Tensor, "batch part"]:
    """Log-probability of the token at each row's start, of all from there on, and mean NLL of the
    tokens before."""
    position = torch.arange(1, nll.shape[1] + 1, device=nll.device)
    begins = starts.to(nll.device)[:, None]
    before = position < begins
    return torch.stack(
        [
            -(nll * (position == begins)).sum(dim=1),
            -(nll * ~before).sum(dim=1),
            (nll * before).sum(dim=1) / before.sum(dim=1),
        ],
        dim=1,
    )


def continuations(
    model: TransformerBridge,
    prompts: Sequence[ConflictTokens],
    conditions: Sequence[Condition],
    *,
    max_new_tokens: int,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> list[list[Written]]:
    """What the model writes after every prompt, greedily, ``[condition][prompt]``.

    Conditions run side by side, every row of a batch under gates of its own; a character that the
    limit cut in two is left out of the text.
    """
    with fused_attention(model):
        found = decode_rows(
            model,
            [torch.tensor(prompt.prompt) for prompt in prompts] * len(conditions),
            gates=torch.from_numpy(np.stack([heads.gates(value) for heads, value in conditions])),
            gates_of=[number for number in range(len(conditions)) for _ in prompts],
            max_new_tokens=max_new_tokens,
            batch_tokens=batch_tokens,
            progress=progress,
        )
    ends = set(end_tokens(model))
    written = [
        Written(
            reply_text(model, tokens).rstrip("\ufffd"),
            tuple(token for token in tokens.tolist() if token not in ends),
        )
        for tokens in found
    ]
    return [written[i : i + len(prompts)] for i in range(0, len(written), len(prompts))]


def attention_to_facts(
    model: TransformerBridge,
    prompts: Sequence[ConflictTokens],
    conditions: Sequence[Condition],
    layers: Sequence[int],
    *,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, "condition layer head fact"]:
    """Attention from the last position of the prompt to each fact, mean over prompts.

    Args:
        model: the model.
        prompts: in tokens.
        conditions: heads and their gate.
        layers: which layers to look at, the order of the result.
        batch_tokens: tokens a forward, padding included.
        progress: updated by prompts times conditions done.

    Returns:
        Shares of 1.
    """
    documents = Documents.of_rows("prompts", [prompt.prompt for prompt in prompts])
    spans = torch.tensor([prompt.spans for prompt in prompts])

    @torch.no_grad()
    def measure(
        rows: Int[Tensor, "batch pos"],
        lengths: Int[Tensor, " batch"],
        own: Int[Tensor, "batch span 2"],
    ) -> Tensor:
        def look() -> Tensor:
            return attention_to_spans(model, rows, lengths, own, layers)

        found = []
        for heads, gate in conditions:
            if heads:
                with gated(model, heads, gate):
                    found.append(look())
            else:
                found.append(look())
        if progress is not None:
            progress.update(len(conditions) * len(rows))
        return torch.stack(found, dim=1)

    found = map_documents(model, documents, measure, given=spans, batch_tokens=batch_tokens)
    return found.double().mean(dim=0).numpy()


def said(reply: str, answers: Sequence[str]) -> int:
    """Which of two answers a short reply gives: 0, 1, or -1 for neither.

    The answer that stands first in the reply as whole words, whatever their case; the longer one
    where one is the beginning of the other. A reply that is itself the beginning of one answer
    only, because the limit cut it, gives that answer. Scripts without spaces between words
    (Chinese, Japanese, Thai, Lao, Burmese, Khmer) have no ends of words to be held to. An inflected
    or prefixed form of an answer is another word.

    Example:
        >>> said(" Doctor. It", [" baker", " doctor"]), said(" doc", [" baker", " doctor"])
        (1, 1)
        >>> said(" d", [" doctor", " dentist"]), said(" a cookbook", [" cook", " doctor"])
        (-1, -1)
    """
    text, *wanted = (
        unicodedata.normalize("NFC", part).casefold().strip() for part in (reply, *answers)
    )
    found = [
        (place.start(), -len(answer), i)
        for i, answer in enumerate(wanted)
        for place in re.finditer(f"(?={re.escape(answer)})", text)
        if not _joined(text, place.start()) and not _joined(text, place.start() + len(answer))
    ]
    if found:
        return min(found)[2]
    begun = [i for i, answer in enumerate(wanted) if text and answer.startswith(text)]
    return begun[0] if len(begun) == 1 else -1


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and at a place belong to one word of a script with spaces."""
    sides = text[at - 1 : at + 1] if at > 0 else ""
    # Combining marks, the vowels of Hindi, are no word characters to `re`.
    return len(sides) == 2 and all(
        unicodedata.category(side)[0] in "LMN" and not _UNSPACED.match(side) for side in sides
    )
