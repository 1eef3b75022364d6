"""Judging replies: their language, and checks that separate a switch from degeneration; sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads import text
from langheads.experiments.replies.generate import Reply, generate
from langheads.experiments.replies.plan import Intervention
from langheads.io.measures import TEXT_CHECKS
from langheads.model import document_nll, end_tokens, map_documents, steered
from langheads.model.kept import declared
from langheads.text.confusion import require_known


@dataclass(frozen=True)
class Judgement:
    """One reply."""

    language: str  # as detected on the whole reply
    confidence: float  # of the detector, share
    # Whether that is the wanted language, with enough confidence; False for an empty reply, None
    # where no language is wanted.
    right: bool | None
    repetition: float  # share of 4-grams of tokens that occurred earlier in the reply
    prompt_copy: float  # share of 4-grams of tokens that the prompt has
    empty: bool  # nothing but white space


class Answered(NamedTuple):
    """Replies to some prompts."""

    replies: Sequence[Reply]  # the texts
    judged: Sequence[Judgement]  # language and degeneration checks of each
    nll: Float[np.ndarray, " reply"]  # of each by the untouched model, nats per token

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
    detect: text.Detector,
    under: Intervention | None = None,
    *,
    min_confidence: float,
    batch_tokens: int | str,
    **how: Any,
) -> Answered:
    """Reply under an intervention, and judge each reply by the model without it; see `generate`."""
    under = under or Intervention()
    require_known(wanted, detect)
    with ExitStack() as stack:
        for heads, direction, amount in under.steering:
            stack.enter_context(declared(model, "steered", str(heads), direction, amount))
            stack.enter_context(steered(model, heads, direction, amount))
        how |= {"gates": under.gates, "baseline": under.baseline, "batch_tokens": batch_tokens}
        replies = generate(model, prompts, **how)
    ends, judged = end_tokens(model), []
    for reply, language in zip(replies, wanted, strict=True):
        right = None
        if language is not None:
            right = text.right_language(reply.text, language, detect, min_confidence)
        checks = text.degeneration_checks(reply.text, reply.tokens, reply.prompt_tokens, ends)
        judged.append(Judgement(*detect(reply.text), right, **checks))
    return Answered(replies, judged, reply_nll(model, replies, batch_tokens=batch_tokens))


@torch.no_grad()
def reply_nll(
    model: TransformerBridge, replies: Sequence[Reply], *, batch_tokens: int | str = "auto"
) -> Float[np.ndarray, " reply"]:
    """NLL of each reply given its prompt, in nats per token, its end-of-sequence token included.

    - sum of log p(token | prompt and reply before it) / tokens of the reply, by the model in its
    current state. Two degeneration checks use it: replies made under gates, judged by the model
    without them (is it still language for that model?), and replies of the untouched model, judged
    under the gates (what do the gates cost?).
    """
    rows = [(*reply.prompt_tokens, *reply.tokens) for reply in replies]
    documents = text.Documents.of_rows("of the replies", rows)
    starts = torch.tensor([len(reply.prompt_tokens) for reply in replies])
    measure = partial(document_nll, model)
    how: dict[str, Any] = {"given": starts, "batch_tokens": batch_tokens}
    nll = map_documents(model, documents, measure, work=["reply NLL"], **how)
    return nll.double().numpy() / np.array([len(reply.tokens) for reply in replies])


def reply_summary(
    made: Answered,
    wanted: Sequence[str | None],
    detect: text.Detector,
    rules: text.Rules,
    before: Answered | None = None,
) -> dict[str, Any]:
    """Means over replies, and rates averaged over languages; None where there is none.

    With replies of the untouched model to the same prompts also ``right_before``, ``switch_rate``
    and ``delta_nll_per_token``.
    """
    asked = [i for i, language in enumerate(wanted) if language is not None]
    texts: dict[str, list[str]] = {}
    for i in asked:
        texts.setdefault(str(wanted[i]), []).append(made.replies[i].text)
    rates = {name: text.language_confusion(of, name, detect, rules) for name, of in texts.items()}
    right = [bool(made.judged[i].right) for i in asked]
    summary = {
        "replies": len(made.replies),
        "right": _mean(right),
        **(asdict(text.mean_confusion(rates)) if rates else {}),
        **{name: _mean([getattr(one, name) for one in made.judged]) for name in TEXT_CHECKS},
        "nll_per_token": float(made.nll.mean()),
    }
    if before is None:
        return summary
    was = [bool(before.judged[i].right) for i in asked]
    return summary | {
        "right_before": _mean(was),
        "switch_rate": text.switch_rate(was, right) if asked else None,
        "delta_nll_per_token": float(made.nll.mean() - before.nll.mean()),
    }


def over_controls(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Mean, lowest and highest of each number over the controls that have it."""
    numbers: dict[str, dict[str, float] | None] = {}
    for name in [name for name in found[0] if name != "replies"]:
        values = [float(one[name]) for one in found if one[name] is not None]
        numbers[name] = (
            {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}
            if values
            else None
        )
    return numbers


def _mean(values: Sequence[float | bool]) -> float | None:
    return sum(values) / len(values) if values else None
