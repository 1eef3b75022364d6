"""Replies as records: what was asked, what came, in which language, and at what cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import heads_of
from langheads.experiments.matched_heads import Matched, matched_controls
from langheads.experiments.replies.judge import Answered, answer
from langheads.experiments.replies.plan import check_steering, plan_intervention
from langheads.experiments.replies.summarise import over_controls, reply_summary
from langheads.heads import LanguageHeads
from langheads.heads.mask import HeadMask
from langheads.io.results import provenance
from langheads.model import head_shape, model_name
from langheads.text import Corpus, Detector, Rules
from langheads.text.confusion import require_known
from langheads.text.identify import warn_if_too_few_candidates
from langheads.text.requests import Request, read_requests

Steer = Mapping[tuple[str, str], float]
_Run = Callable[..., Answered]


def reply_records(
    model: TransformerBridge,
    requests: Sequence[Request | Mapping[str, Any]],
    detect: Detector,
    *,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    steer: Steer | None = None,
    mask: HeadMask | None = None,
    baseline: str = "zero",
    corpus: Corpus | None = None,
    docs: int = 100,
    max_tokens: int = 2048,
    compare: bool = True,
    n_controls: int = 3,
    rules: Rules | None = None,
    **generation: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Generate under named gates and steering, and judge every reply.

    Args:
        model, heads, gate, mask, baseline, docs, max_tokens, compare, n_controls: as for
            `langheads.generate_replies`, which checks that heads and mask are of the model.
        requests, detect: see `langheads.text.requests`, `langheads.text.detector`.
        steer: (to, from) -> how many times the difference of their mean z is added.
        corpus: texts for means of z; needed by `steer` and by baseline ``mean``.
        rules: of the pass rates.
        generation: further arguments of `langheads.generate`; its seed also draws the controls.

    Returns:
        A record a request, and a summary, see `reply_summary`; its ``random_heads`` has mean,
        lowest and highest of the same numbers over the controls.

    Raises:
        InputError: a mask beside gates, an unknown language; see `check_steering`.
    """
    gate, steer, rules = dict(gate or {}), dict(steer or {}), rules or Rules()
    requests = read_requests(requests)
    wanted = [request.language for request in requests]
    check_steering(heads, gate, steer, baseline, corpus)
    require_known(wanted, detect)
    warn_if_too_few_candidates(detect, rules.min_confidence)
    under = plan_intervention(
        model, heads, gate, steer, mask=mask, baseline=baseline, corpus=corpus, docs=docs,
        max_tokens=max_tokens, bos=generation.get("bos"),
    )  # fmt: skip
    how: dict[str, Any] = generation | {"min_confidence": rules.min_confidence}
    run: _Run = partial(answer, model, [of.prompt for of in requests], wanted, detect, **how)
    touched = bool(gate or steer or mask)
    before = run() if compare and touched else None
    answered = run(under)
    summed = partial(reply_summary, wanted=wanted, detect=detect, rules=rules, before=before)
    summary = summed(answered)
    if n_controls and touched:
        rng = np.random.default_rng(int(generation.get("seed", 0)))
        controls = matched_controls(under.touched(head_shape(model)), n_controls, rng)
        summary |= _over_controls(controls, lambda heads: summed(run(under.on(heads))))
    made = {"model": model_name(model), "gates": gate, "mask": _gates_of(mask)}
    made |= {"shift": _by_name(steer), "baseline": baseline, "detector": detect.name}
    return _records(requests, answered, before, made), summary


def _over_controls(
    controls: Sequence[Matched], summed: Callable[[Matched], dict[str, Any]]
) -> dict[str, Any]:
    """What the same does on other heads, if there are any."""
    if not controls:
        return {}
    draws = [" ".join(map(str, control.values())) for control in controls]
    return {"random_heads": {"draws": draws, **over_controls([summed(c) for c in controls])}}


def reply_provenance(
    described: Mapping[str, str],
    requests: Sequence[Request],
    detect: Detector,
    *,
    source: str,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    steer: Steer | None = None,
    mask: HeadMask | None = None,
    corpus: Corpus | None = None,
    seed: int = 0,
    rules: Rules | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What `reply_records` made its replies from, as JSON: model, prompts, heads, versions.

    Args:
        described: which model, see `langheads.model.describe`.
        source: where the prompts came from.
        corpus: the texts of the means of z; their source and hashes are stored.
        seed: of the samples.
        settings: everything else that fixes the replies.
        requests, detect, heads, gate, steer, mask, rules: as for `reply_records`.
    """
    rules, gate, steer = rules or Rules(), dict(gate or {}), dict(steer or {})
    prompts: dict[str, tuple[str, ...]] = {}
    for request in requests:
        key = request.language or "none wanted"
        prompts[key] = (*prompts.get(key, ()), request.prompt)
    named = dict.fromkeys([*gate, *(name for pair in steer for name in pair)])
    # Stored as in format 1.
    settings = {"controls" if key == "n_controls" else key: of for key, of in settings.items()}
    return provenance(
        "replies",
        described,
        Corpus(prompts, source, seed),
        sources=[heads, mask],
        gates=gate,
        shift=_by_name(steer),
        heads={} if heads is None else {name: str(heads_of(heads, name)) for name in named},
        head_set=None if heads is None else {"model": heads.model, "rule": heads.rule},
        mask=_gates_of(mask),
        means=None if corpus is None else {"text": corpus.source, "text_hash": corpus.hashes},
        detector=detect.name,
        min_words=rules.min_words,
        sure=rules.min_confidence,
        **settings,
    )


def _records(
    requests: Sequence[Request],
    answered: Answered,
    before: Answered | None,
    made: Mapping[str, Any],
) -> list[dict[str, Any]]:
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
    return records


def _by_name(steer: Steer) -> dict[str, float]:
    return {f"{to}-{away}": amount for (to, away), amount in steer.items()}


def _gates_of(mask: HeadMask | None) -> dict[str, float] | None:
    if mask is None:
        return None
    return dict(zip(map(str, mask.heads), mask.values, strict=True))
