"""A model's answers to prompts with two contradicting facts, with nothing gated and under gates.

For every prompt and every condition (heads, gate): the log-probability of both answers, the NLL of
the prompt itself, the reply, and the attention of the last position.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads import model as engine
from langheads.experiments.transfer.plan import Condition, PairPrompts
from langheads.io import measures
from langheads.io.parts import together
from langheads.model.attention_patterns import attention_to_spans
from langheads.text import Documents, degeneration_checks

MEASURES = ("answer_a", "answer_b", "first_token_a", "logprob_difference")
CHECKS = (*measures.TEXT_CHECKS, "prompt_nll")
"""Degeneration checks: of the reply, and the NLL of the prompt itself."""
# Kana and Han, Thai and Lao, Burmese, Khmer.
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


@dataclass(frozen=True)
class Run:
    """The model's answers to the prompts of one pair of languages."""

    conditions: list[Condition]  # heads and gate; no heads first
    # Nats, of the first token of both answers, and of all their tokens.
    logprob: Float[np.ndarray, "condition prompt answer part"]
    # The answer that was given: 0 (the first fact's), 1 (the second's) or -1 (neither).
    said: Int[np.ndarray, "condition prompt"]
    checks: Float[np.ndarray, "condition prompt check"]  # in the order of `CHECKS`
    shared: Bool[np.ndarray, " prompt"]  # whether both answers begin with the same token
    # Condition -> share of 1 ``[layer, head, fact]``, for some of the conditions.
    attention: dict[Condition, Float[np.ndarray, "layer head fact"]]

    def measures(self, fact: int) -> dict[Condition, Float[np.ndarray, "measure prompt"]]:
        """`MEASURES` and `CHECKS` in their order, where A's is the first (0) or second fact."""
        ahead = self.logprob[:, :, fact] - self.logprob[:, :, 1 - fact]
        first = np.where(self.shared, np.nan, ahead[..., 0] > 0)
        checks = np.moveaxis(self.checks, -1, 0)
        every = [self.said == fact, self.said == 1 - fact, first, ahead[..., 1], *checks]
        return dict(zip(self.conditions, np.stack(every, axis=1), strict=True))


@dataclass(frozen=True)
class Reading:
    """A model and the prompts of a pair of languages; `progress` counts prompts x conditions."""

    model: TransformerBridge
    asked: PairPrompts
    batch_tokens: int | str
    progress: tqdm

    def run(self, conditions: list[Condition], max_new_tokens: int) -> Run:
        """All conditions, without attention."""
        tokens = self.asked.tokens
        with together() as each:
            with each:
                logprob = self._logprobs(conditions)
            with each:
                written = self._continuations(conditions, max_new_tokens)
        ends = engine.end_tokens(self.model)
        checks = [
            [
                list(degeneration_checks(*reply, prompt.prompt, ends).values())
                for reply, prompt in zip(of, tokens, strict=True)
            ]
            for of in written
        ]
        answers = [
            [said(text, pair) for (text, _), pair in zip(of, self.asked.answers, strict=True)]
            for of in written
        ]
        return Run(
            conditions,
            logprob[..., :2],
            np.array(answers),
            np.concatenate([np.array(checks, dtype=float), logprob[:, :, :1, 2]], axis=-1),
            np.array([t.texts[0][t.start] == t.texts[1][t.start] for t in tokens]),
            {},
        )

    def _logprobs(
        self, conditions: Sequence[Condition]
    ) -> Float[np.ndarray, "condition prompt answer part"]:
        """Log-probability of both answers of every prompt, and NLL of the prompt, nats.

        Parts are the log-probability of the answer's first token; of the whole answer, summed over
        its tokens; and the NLL of the prompt, nats per token, its own first token left out, the
        same for both answers. Blocks below a condition's first head are not run again, see
        `langheads.model.replay`.
        """
        model, prompts = self.model, self.asked.tokens
        texts = Documents.of_rows("prompts", [text for prompt in prompts for text in prompt.texts])

        @torch.no_grad()
        def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
            def run() -> Tensor:
                return _parts(engine.token_nll(model, tokens, lengths), starts)

            # The first has no heads.
            gated = [(heads, gate, None) for heads, gate in conditions[1:]]
            found = [*engine.under_each(model, gated, run)]
            self.progress.update(len(conditions) * len(tokens) / 2)
            return torch.stack(found, dim=1)

        starts = torch.tensor([prompt.start for prompt in prompts for _ in prompt.texts])
        how: dict[str, Any] = {"given": starts, "batch_tokens": self.batch_tokens}
        named = [(str(heads), gate) for heads, gate in conditions]
        found = engine.map_documents(
            model, texts, measure, work=("answers", named), progress=self.progress,
            updates=len(conditions) / 2, **how,
        )  # fmt: skip
        shape = "(prompt answer) condition part -> condition prompt answer part"
        return rearrange(found.double().numpy(), shape, answer=2)

    def _continuations(
        self, conditions: Sequence[Condition], max_new_tokens: int
    ) -> list[list[tuple[str, list[int]]]]:
        """Text and tokens of the greedy reply to every prompt,
        ``[condition][prompt]``.

        Conditions run side by side, every row of a batch under its own gates; a character that the
        limit cut in two is left out of the text.
        """
        model = self.model
        gates = torch.from_numpy(np.stack([heads.gates(value) for heads, value in conditions]))
        found = engine.decode_under_each(
            model, [torch.tensor(of.prompt) for of in self.asked.tokens], gates,
            max_new_tokens=max_new_tokens, batch_tokens=self.batch_tokens, progress=self.progress,
        )  # fmt: skip

        def written(tokens: Tensor) -> tuple[str, list[int]]:
            return engine.reply_text(model, tokens).rstrip("\ufffd"), tokens.tolist()

        return [[written(tokens) for tokens in of] for of in found]

    def attention(
        self, conditions: Sequence[Condition], layers: Sequence[int]
    ) -> Float[np.ndarray, "condition layer head fact"]:
        """Share of attention from the prompt's last position to each fact, mean over prompts."""
        model, prompts = self.model, self.asked.tokens
        documents = Documents.of_rows("prompts", [prompt.prompt for prompt in prompts])
        spans = torch.tensor([prompt.spans for prompt in prompts])

        @torch.no_grad()
        def measure(rows: Tensor, lengths: Tensor, own: Int[Tensor, "batch span 2"]) -> Tensor:
            found = []
            for heads, gate in conditions:
                with engine.gated(model, heads, gate) if heads else nullcontext():
                    found.append(attention_to_spans(model, rows, lengths, own, layers))
            self.progress.update(len(conditions) * len(rows))
            return torch.stack(found, dim=1)

        named = [(str(heads), gate) for heads, gate in conditions]
        found = engine.map_documents(
            model, documents, measure, work=("attention", named, list(layers)), given=spans,
            batch_tokens=self.batch_tokens, progress=self.progress, updates=len(conditions),
        )  # fmt: skip
        return found.double().mean(dim=0).numpy()


def _parts(
    nll: Float[Tensor, "batch predicted"], starts: Int[Tensor, " batch"]
) -> Float[Tensor, "batch part"]:
    """The parts of `Reading._logprobs`; answers begin at each row's start."""
    position = torch.arange(1, nll.shape[1] + 1, device=nll.device)
    begins = starts.to(nll.device)[:, None]
    before = position < begins
    first, answer = -(nll * (position == begins)).sum(dim=1), -(nll * ~before).sum(dim=1)
    return torch.stack([first, answer, (nll * before).sum(dim=1) / before.sum(dim=1)], dim=1)


def said(reply: str, answers: Sequence[Sequence[str]]) -> int:
    """Which of two answers, each in any of its forms, a short reply gives: 0, 1, or -1 for neither.

    The answer that comes first in the reply as whole words, whatever their case; the longer one
    where one is the beginning of the other. A reply that is itself the beginning of only one
    answer, because the limit cut it, gives that answer; a word that is a form of both gives none.
    In scripts without spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer) parts of
    words count, too. An inflected or prefixed form of an answer is another word.

    Example:
        >>> said(" Doctor. It", [(" baker", "面包师"), (" doctor", "医生")])
        1
        >>> said("面包师。", [(" baker", "面包师"), (" doctor", "医生")])
        0
        >>> said(" d", [(" doctor",), (" dentist",)]), said(" a cookbook", [(" cook",), (" ba",)])
        (-1, -1)
    """
    text = _folded(reply)
    wanted = [(_folded(form), i) for i, forms in enumerate(answers) for form in forms]
    found = [
        ((place.start(), -len(form)), i)
        for form, i in wanted
        for place in re.finditer(f"(?={re.escape(form)})", text)
        if not _joined(text, place.start()) and not _joined(text, place.start() + len(form))
    ]
    first = min(found, default=((), -1))[0]
    given = {i for at, i in found if at == first}
    begun = {i for form, i in wanted if text and form.startswith(text)}
    return min(given or begun) if len(given or begun) == 1 else -1


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and at a place belong to one word of a script with spaces."""
    sides = text[at - 1 : at + 1] if at > 0 else ""
    # Combining marks, such as the vowels of Hindi, are not word characters for `re`.
    return len(sides) == 2 and all(
        unicodedata.category(side)[0] in "LMN" and not _UNSPACED.match(side) for side in sides
    )
