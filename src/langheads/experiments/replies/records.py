"""Replies as records: what was asked, what came, in which language, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import heads_of, named_gates, require_heads_of
from langheads.experiments.matched_heads import matched_controls, matched_gates, matched_set
from langheads.experiments.replies.experiment import generate
from langheads.experiments.replies.judge import judge_replies, reply_nll, require_known
from langheads.experiments.replies.plan import check_steering, mean_z_by_language
from langheads.experiments.replies.summarise import Answered, over_draws, reply_summary
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import describe, head_shape, steered
from langheads.text import Corpus, Detector, Rules
from langheads.text.identify import warn_if_too_few_candidates
from langheads.text.requests import Request

Shift = tuple[HeadSet, Float[Tensor, "layer head d_head"], float]
"""Heads, what is added to their z, and how many times."""


def reply_records(
    model: TransformerBridge,
    requests: Sequence[Request],
    detect: Detector,
    *,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    shift: Mapping[tuple[str, str], float] | None = None,
    mask: HeadMask | None = None,
    baseline: str = "zero",
    corpus: Corpus | None = None,
    docs: int = 100,
    max_tokens: int = 2048,
    compare: bool = True,
    controls: int = 3,
    rules: Rules | None = None,
    **generation: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Generate under named gates and shifts, and judge every reply.

    Args:
        model: the model.
        requests: see `langheads.text.requests.read_requests`.
        detect: see `langheads.text.detector`.
        heads: which head serves which language; needed by `gate` and `shift`.
        gate: language, or ``general``, -> the gate of its heads.
        shift: (to, from) -> how many times the difference of their mean z is added, on the heads
            of both.
        mask: gates that `langheads.adapt` learned, instead of `gate`; baseline ``zero``.
        baseline: ``zero`` or ``mean`` (over all languages of `corpus`), where a gate is not 1.
        corpus: texts for means of z; needed by `shift` and by baseline ``mean``.
        docs: documents a language for them, from the front.
        max_tokens: those documents are cut here.
        compare: also let the untouched model reply, for switch rate and change in NLL.
        controls: how many times the same gates and shifts are put on other heads of the same
            layers, drawn at random (`langheads.experiments.matched_heads`).
        rules: of the pass rates.
        generation: further arguments of `langheads.generate`; its seed also draws the controls.

    Returns:
        A record a request, and a summary: shares of the replies, rates averaged over languages,
        NLL in nats per token by the untouched model. None where there is nothing to divide by.
        ``random_heads`` has mean, lowest and highest of the same numbers over the controls.

    Raises:
        InputError: gates or shifts without a head set, a shift without texts, unknown languages,
            a mask beside gates or another baseline.
        ProvenanceError: a head set or mask of another model.
    """
    gate, shift, rules = dict(gate or {}), dict(shift or {}), rules or Rules()
    touched = bool(gate or shift or mask)
    if mask is not None and gate:
        raise InputError("gates and a mask were both given; give one")
    wanted = [request.language for request in requests]
    check_steering(heads, gate, shift, baseline, corpus)
    require_known(wanted, detect)
    warn_if_too_few_candidates(detect, rules.sure)
    prompts = [request.prompt for request in requests]
    gates, shifts, mean = _interventions(
        model, heads, gate, shift, baseline, corpus, docs, max_tokens, generation.get("bos")
    )
    if mask is not None:
        mask.require_model("the mask", describe(model), head_shape(model), mean)
        gates = mask.gates()

    batch_tokens = generation.get("batch_tokens", "auto")

    def run(gates: Float[Tensor, "layer head"] | None, shifts: Sequence[Shift]) -> Answered:
        with ExitStack() as stack:
            for both, direction, amount in shifts:
                stack.enter_context(steered(model, both, direction, amount))
            replies = generate(model, prompts, gates=gates, baseline=mean, **generation)
        judged = judge_replies(model, replies, wanted, detect, sure=rules.sure)
        return Answered(replies, judged, reply_nll(model, replies, batch_tokens=batch_tokens))

    before = run(None, []) if compare and touched else None
    answered = run(gates, shifts)
    summary = reply_summary(answered, wanted, detect, rules, before)
    if controls and touched:
        rng = np.random.default_rng(int(generation.get("seed", 0)))
        places = matched_controls(_touched(model, gates, shifts), controls, rng)
        random = [
            run(
                None if gates is None else matched_gates(gates, to),
                [(matched_set(both, to), step, times) for both, step, times in shifts],
            )
            for to in places
        ]
        if random:
            summary["random_heads"] = {
                "draws": [" ".join(map(str, to.values())) for to in places],
                **over_draws([reply_summary(of, wanted, detect, rules, before) for of in random]),
            }
    made = {
        "model": describe(model)["model"],
        "gates": gate,
        "mask": None if mask is None else dict(zip(map(str, mask.heads), mask.values, strict=True)),
        "shift": {f"{to}-{away}": amount for (to, away), amount in shift.items()},
        "baseline": baseline,
        "detector": detect.name,
    }
    records = [
        {
            "id": request.id,
            "prompt": request.prompt,
            "reply": reply.text,
            "finished": reply.finished,
            "wanted": request.language,
            **asdict(judgement),
            "nll_per_token": float(nats),
            **made,
        }
        for request, reply, judgement, nats in zip(requests, *answered, strict=True)
    ]
    if before is not None:
        for record, reply, judgement in zip(records, before.replies, before.judged, strict=True):
            record["untouched"] = {"reply": reply.text, **asdict(judgement)}
    return records, summary


def reply_provenance(
    model: TransformerBridge,
    requests: Sequence[Request],
    detect: Detector,
    *,
    source: str,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    shift: Mapping[tuple[str, str], float] | None = None,
    mask: HeadMask | None = None,
    corpus: Corpus | None = None,
    seed: int = 0,
    rules: Rules | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What `reply_records` made its replies from: model, prompts, heads by name, versions.

    Args:
        model: the model.
        requests: see `reply_records`, as for the following.
        detect: its name is stored.
        source: where the prompts came from.
        heads: the head set; the heads that `gate` and `shift` touch are stored.
        gate: language -> gate.
        shift: (to, from) -> amount.
        mask: its heads and gates are stored.
        corpus: the texts of the means of z; their source and hashes are stored.
        seed: of the samples.
        rules: of the pass rates.
        settings: everything else that fixes the replies.

    Returns:
        A dictionary that JSON holds.
    """
    rules = rules or Rules()
    prompts: dict[str, tuple[str, ...]] = {}
    for request in requests:
        key = request.language or "none wanted"
        prompts[key] = (*prompts.get(key, ()), request.prompt)
    touched = dict.fromkeys([*(gate or {}), *(name for pair in shift or {} for name in pair)])
    named = {} if heads is None else {name: str(heads_of(heads, name)) for name in touched}
    return provenance(
        "replies",
        describe(model),
        Corpus(prompts, source, seed),
        gates=dict(gate or {}),
        shift={f"{to}-{away}": amount for (to, away), amount in (shift or {}).items()},
        heads=named,
        head_set=None if heads is None else {"model": heads.model, "rule": heads.rule},
        mask=None if mask is None else dict(zip(map(str, mask.heads), mask.values, strict=True)),
        means=None if corpus is None else {"text": corpus.source, "text_hash": corpus.hashes},
        detector=detect.name,
        min_words=rules.min_words,
        sure=rules.sure,
        **settings,
    )


def _interventions(
    model: TransformerBridge,
    heads: LanguageHeads | None,
    gate: Mapping[str, float],
    shift: Mapping[tuple[str, str], float],
    baseline: str,
    corpus: Corpus | None,
    docs: int,
    max_tokens: int,
    bos: bool | None,
) -> tuple[
    Float[Tensor, "layer head"] | None, list[Shift], Float[Tensor, "layer head d_head"] | None
]:
    """Gates, shifts, and the baseline."""
    if heads is None or not (gate or shift):
        return None, [], None
    require_heads_of(model, heads)
    gates = named_gates(heads, gate) if gate else None
    if corpus is None or (not shift and baseline == "zero"):
        return gates, [], None
    texts = corpus.front(docs)
    if baseline == "zero":
        texts = {language: texts[language] for pair in shift for language in pair}
    means = mean_z_by_language(model, texts, max_tokens=max_tokens, bos=bos)
    shifts = [
        (heads_of(heads, to) | heads_of(heads, away), means[to] - means[away], amount)
        for (to, away), amount in shift.items()
    ]
    mean = torch.stack(list(means.values())).mean(dim=0) if baseline == "mean" else None
    return gates, shifts, mean


def _touched(
    model: TransformerBridge,
    gates: Float[Tensor, "layer head"] | None,
    shifts: Sequence[Shift],
) -> HeadSet:
    touched = HeadSet([], head_shape(model))
    if gates is not None:
        touched |= HeadSet(map(tuple, (gates != 1).nonzero().tolist()), touched.shape)
    for both, _, _ in shifts:
        touched |= both
    return touched
