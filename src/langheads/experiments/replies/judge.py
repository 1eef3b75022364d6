"""What a reply is worth: its language, and checks that tell a switch from degeneration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.experiment import Reply
from langheads.io.errors import InputError
from langheads.model import document_nll, end_tokens, map_documents
from langheads.text import (
    Confusion,
    Detector,
    Documents,
    Rules,
    degeneration_checks,
    language_confusion,
    right_language,
)


@dataclass(frozen=True)
class Judgement:
    """One reply.

    Attributes:
        language: as detected on the whole reply.
        confidence: of the detector, share.
        right: whether that is the wanted language, and sure enough; an empty reply is not. None
            where no language is wanted.
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


def judge_replies(
    model: TransformerBridge,
    replies: Sequence[Reply],
    wanted: Sequence[str | None],
    detect: Detector,
    *,
    sure: float = 0.3,
) -> list[Judgement]:
    """Language and degeneration checks of each reply.

    Args:
        model: gives the end-of-sequence tokens, which do not count.
        replies: see `langheads.generate`.
        wanted: the language each should be in, or None.
        detect: see `langheads.text.detector`.
        sure: the detector must be surer than this for a reply to be right.

    Raises:
        InputError: a wanted language that the detector cannot answer with.
    """
    require_known(wanted, detect)
    ends = set(end_tokens(model))
    judged = []
    for reply, language in zip(replies, wanted, strict=True):
        found, confidence = detect(reply.text)
        tokens = [token for token in reply.tokens if token not in ends]
        judged.append(
            Judgement(
                language=found,
                confidence=confidence,
                right=None
                if language is None
                else right_language(reply.text, language, detect, sure),
                **degeneration_checks(reply.text, tokens, reply.prompt_tokens),
            )
        )
    return judged


def require_known(wanted: Iterable[str | None], detect: Detector) -> None:
    """Refuse a wanted language that the detector cannot answer with: nothing could be right."""
    unknown = [w for w in dict.fromkeys(wanted) if w is not None and w not in detect.languages]
    if unknown:
        raise InputError(
            f"language {', '.join(unknown)} is wanted, but the detector answers with "
            f"{', '.join(detect.languages)} only"
        )


def confusion_by_language(
    replies: Sequence[Reply],
    wanted: Sequence[str | None],
    detect: Detector,
    rules: Rules | None = None,
) -> dict[str, Confusion]:
    """Pass rates of the replies of each wanted language; see `langheads.text.confusion`."""
    texts: dict[str, list[str]] = {}
    for reply, language in zip(replies, wanted, strict=True):
        if language is not None:
            texts.setdefault(language, []).append(reply.text)
    return {
        language: language_confusion(of_language, language, detect, rules)
        for language, of_language in texts.items()
    }


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
