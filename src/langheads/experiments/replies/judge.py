"""What replies are worth: their language, and checks that tell a switch from degeneration."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.experiment import Reply, generate
from langheads.experiments.replies.plan import Intervention
from langheads.model import document_nll, end_tokens, map_documents, steered
from langheads.text import Detector, Documents, degeneration_checks, right_language
from langheads.text.confusion import require_known


@dataclass(frozen=True)
class Judgement:
    """One reply.

    Attributes:
        language: as detected on the whole reply.
        confidence: of the detector, share.
        right: whether that is the wanted language, and with enough confidence; an empty reply is
            not. None where no language is wanted.
        repetition: share of 4-grams of tokens that stood in the reply before.
        prompt_copy: share of 4-grams of tokens that the prompt has.
        empty: nothing but white space.
    """

    language: str
    confidence: float
    right: bool | None
    repetition: float
    prompt_copy: float
    empty: bool


class Answered(NamedTuple):
    """Replies to some prompts.

    Attributes:
        replies: what was written.
        judged: language and degeneration checks of each.
        nll: of each by the untouched model, nats per token.
    """

    replies: Sequence[Reply]
    judged: Sequence[Judgement]
    nll: Float[np.ndarray, " reply"]

    def part(self, rows: slice) -> Answered:
        """Some of the replies."""
        return Answered(self.replies[rows], self.judged[rows], self.nll[rows])

    def values(self) -> dict[str, Float[np.ndarray, " reply"]]:
        """``right``, ``repetition``, ``prompt_copy``, ``empty`` and ``nll`` of each reply."""
        names = ("right", "repetition", "prompt_copy", "empty")
        values = {name: [float(getattr(one, name) or 0) for one in self.judged] for name in names}
        return {name: np.array(of) for name, of in values.items()} | {"nll": self.nll}


def answer(
    model: TransformerBridge,
    prompts: Sequence[str],
    wanted: Sequence[str | None],
    detect: Detector,
    under: Intervention | None = None,
    *,
    min_confidence: float = 0.3,
    batch_tokens: int | str = "auto",
    **generation: Any,
) -> Answered:
    """Reply under an intervention, and judge each reply by the model without it.

    Args:
        model: the model.
        prompts: texts.
        wanted: the language each reply should be in, or None.
        detect: see `langheads.text.detector`.
        under: gates and steering; None leaves the model alone.
        min_confidence: see `judge_replies`.
        batch_tokens: tokens a batch, padding and replies included.
        generation: further arguments of `langheads.generate`.
    """
    under = under or Intervention()
    with ExitStack() as stack:
        for heads, direction, amount in under.steering:
            stack.enter_context(steered(model, heads, direction, amount))
        replies = generate(
            model, prompts, gates=under.gates, baseline=under.baseline,
            batch_tokens=batch_tokens, **generation,
        )  # fmt: skip
    judged = judge_replies(model, replies, wanted, detect, min_confidence=min_confidence)
    return Answered(replies, judged, reply_nll(model, replies, batch_tokens=batch_tokens))


def judge_replies(
    model: TransformerBridge,
    replies: Sequence[Reply],
    wanted: Sequence[str | None],
    detect: Detector,
    *,
    min_confidence: float = 0.3,
) -> list[Judgement]:
    """Language and degeneration checks of each reply.

    Args:
        model: gives the end-of-sequence tokens, which do not count.
        replies: see `langheads.generate`.
        wanted: the language each should be in, or None.
        detect: see `langheads.text.detector`.
        min_confidence: the detector must be surer than this for a reply to be right.

    Raises:
        InputError: a wanted language that the detector cannot answer with.
    """
    require_known(wanted, detect)
    ends = set(end_tokens(model))
    judged = []
    for reply, language in zip(replies, wanted, strict=True):
        tokens = [token for token in reply.tokens if token not in ends]
        right = None
        if language is not None:
            right = right_language(reply.text, language, detect, min_confidence)
        checks = degeneration_checks(reply.text, tokens, reply.prompt_tokens)
        judged.append(Judgement(*detect(reply.text), right, **checks))
    return judged


@torch.no_grad()
def reply_nll(
    model: TransformerBridge, replies: Sequence[Reply], *, batch_tokens: int | str = "auto"
) -> Float[np.ndarray, " reply"]:
    """NLL of each reply given its prompt, in nats per token, its end-of-sequence token included.

    - sum of log p(token | prompt and reply before it) / tokens of the reply, by the model as it is
    when this is called. Two degeneration checks come of it: replies made under gates, judged by
    the model without them (is it still language, to that model?), and replies of the untouched
    model, judged under the gates (what do the gates cost?).

    Args:
        model: the model, under gates or not.
        replies: see `langheads.generate`.
        batch_tokens: tokens a batch, padding included.

    Memory: logits of a batch.
    """
    rows = [(*reply.prompt_tokens, *reply.tokens) for reply in replies]
    documents = Documents(
        language="of the replies",
        tokens=tuple(torch.tensor(row, dtype=torch.long) for row in rows),
        n_bytes=np.ones(len(rows), dtype=np.int64),
        skipped=0,
        bos=True,
        max_tokens=max(map(len, rows)),
    )

    starts = torch.tensor([len(reply.prompt_tokens) for reply in replies])
    nll = map_documents(
        model, documents, partial(document_nll, model), given=starts, batch_tokens=batch_tokens
    )
    return nll.double().numpy() / np.array([len(reply.tokens) for reply in replies])
