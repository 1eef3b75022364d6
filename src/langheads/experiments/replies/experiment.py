"""Replies under gates and steering by the names of languages: prompts in, judged replies out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.matched_heads import matched_controls
from langheads.experiments.published import published
from langheads.experiments.replies.files import Replies
from langheads.experiments.replies.judge import Answered, answer, over_controls, reply_summary
from langheads.experiments.replies.plan import NamedIntervention
from langheads.heads import LanguageHeads, as_language_heads, heads_of
from langheads.heads.given import ByLanguage
from langheads.heads.mask import HeadMask
from langheads.io.arguments import check_least
from langheads.io.errors import InputError
from langheads.io.parts import together
from langheads.io.results import provenance
from langheads.model import describe, head_shape, model_name, require_heads_of
from langheads.text import Corpus, Detector, Rules
from langheads.text import detector as text_detector
from langheads.text.confusion import require_known
from langheads.text.identify import warn_if_too_few_candidates
from langheads.text.prompts import Request, read_requests


@published
def generate_replies(
    model: TransformerBridge,
    prompts: str | Path | Sequence[Mapping[str, Any]],
    *,
    heads: ByLanguage | None = None,
    gate: Mapping[str, float] | None = None,
    steer: Mapping[str, float] | None = None,
    mask: HeadMask | None = None,
    baseline: str = "zero",
    text: Corpus | None = None,
    docs: int = 100,
    max_tokens: int = 2048,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    detector: str = "py3langid",
    detector_model: str | Path | None = None,
    candidates: Iterable[str] | None = None,
    min_words: int = 5,
    min_confidence: float = 0.3,
    compare: bool = True,
    n_controls: int = 3,
    chat: bool = False,
    use_cache: bool = True,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    as_published: bool = False,
) -> Replies:
    """Replies under gates, with language measures; OUT.summary.json has their means and origin.

    Args:
        model: the model.
        prompts: file of lines ``{"prompt": ..., "language": ..., "id": ...}``.
        heads: which head serves which language; what `select` gave.
        gate: language, or ``general``, -> the gate of its heads.
        steer: ``zh-en`` -> how many times the mean of z over zh less that over en is added, on the
            heads of both; needs `text`.
        mask: gates that `adapt` learned, instead of `gate`.
        baseline: ``zero`` or ``mean`` (needs `text`), where a gate is not 1.
        text: texts for means of z.
        docs: documents a language for means of z.
        max_tokens: those documents are cut here.
        max_new_tokens: length limit of a reply.
        temperature: 0 is greedy; else from 1e-4 to 1e4.
        seed: order of documents, and all random draws.
        detector: ``py3langid``, ``lingua`` or ``fasttext``.
        detector_model: file of the model of fastText.
        candidates: languages that a reply can be in; by default all that the detector knows.
        min_words: shorter lines are not judged.
        min_confidence: the detector must be surer than this.
        compare: also get the untouched model's replies.
        n_controls: draws of random heads of the same layers under the same gates.
        chat: use the chat template.
        use_cache: keep keys and values.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a batch, or ``auto``; halved if memory runs out.
        as_published: as the paper and its released code have it; see
            `langheads.experiments.published`. Refuses what is given otherwise.

    Returns:
        A record a prompt, their summary, and their provenance.

    Raises:
        LangheadsError: see `langheads.generate`; gates, steering or a mask that cannot be set or
            are of another model.
    """
    described = describe(model)
    heads = None if heads is None else require_heads_of(model, heads)
    if mask is not None:
        mask.require_model("the mask", described, head_shape(model), None)
    requests = read_requests(prompts)
    detect = text_detector(detector, candidates=candidates, model_path=detector_model)
    steering = _pairs(steer, heads)
    asked = NamedIntervention(heads, gate or {}, steering, baseline, text, mask, docs, max_tokens)
    rules = Rules(min_words=min_words, min_confidence=min_confidence)
    run = _Run(
        model, described, requests, detect, asked, rules, compare, n_controls, seed,
        {"max_new_tokens": max_new_tokens, "temperature": temperature, "use_cache": use_cache,
         "chat": chat, "bos": bos},
    )  # fmt: skip
    records, summary = run.replies(batch_tokens)
    source = str(prompts) if isinstance(prompts, str | Path) else "prompts given in Python"
    return Replies(records, summary, run.provenance(source))


@dataclass(frozen=True)
class _Run:
    """Everything that determines the replies."""

    model: TransformerBridge
    described: Mapping[str, str]
    requests: Sequence[Request]
    detect: Detector
    asked: NamedIntervention
    rules: Rules
    compare: bool
    n_controls: int
    seed: int
    how: Mapping[str, Any]

    def replies(self, batch_tokens: int | str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A record a request, and their summary; ``random_heads`` has it over the controls."""
        detect, asked, model = self.detect, self.asked, self.model
        wanted = [request.language for request in self.requests]
        asked.check()
        require_known(wanted, detect)
        warn_if_too_few_candidates(detect, self.rules.min_confidence)
        under = asked.on(model, self.how["bos"])
        run: Callable[..., Answered] = partial(
            answer, model, [of.prompt for of in self.requests], wanted, detect, seed=self.seed,
            min_confidence=self.rules.min_confidence, batch_tokens=batch_tokens, **self.how,
        )  # fmt: skip
        touched = bool(asked.gate or asked.steer or asked.mask)
        controls = []
        if self.n_controls and touched:
            heads, rng = under.touched(head_shape(model)), np.random.default_rng(self.seed)
            controls = matched_controls(heads, self.n_controls, rng)
        asked_for = [under, *map(under.on, controls)]
        runs = []
        with together() as each:
            for one in (None, *asked_for) if self.compare and touched else asked_for:
                with each:
                    runs.append(run(one))
        before = runs.pop(0) if self.compare and touched else None
        answered, *on_controls = runs
        summed = partial(
            reply_summary, wanted=wanted, detect=detect, rules=self.rules, before=before
        )
        summary = summed(answered)
        if controls:
            draws = [" ".join(map(str, control.values())) for control in controls]
            ranges = over_controls([summed(made) for made in on_controls])
            summary["random_heads"] = {"draws": draws, **ranges}
        made = {"model": model_name(model), **asked.settings()}
        made |= {"baseline": asked.baseline, "detector": detect.name}
        return _records(self.requests, answered, before, made), summary

    def provenance(self, source: str) -> dict[str, Any]:
        """What the replies were made from, as JSON: model, prompts, heads, versions."""
        asked, heads, corpus = self.asked, self.asked.heads, self.asked.corpus
        settings = asked.settings()
        prompts: dict[str, tuple[str, ...]] = {}
        for request in self.requests:
            key = request.language or "none wanted"
            prompts[key] = (*prompts.get(key, ()), request.prompt)
        named = dict.fromkeys([*asked.gate, *(name for pair in asked.steer for name in pair)])
        return provenance(
            "replies", self.described, Corpus(prompts, source, self.seed),
            sources=[heads, asked.mask], gates=settings["gates"], shift=settings["shift"],
            heads={} if heads is None else {name: str(heads_of(heads, name)) for name in named},
            head_set=None if heads is None else {"model": heads.model, "rule": heads.rule},
            mask=settings["mask"],
            means=None if corpus is None else {"text": corpus.source, "text_hash": corpus.hashes},
            detector=self.detect.name, min_words=self.rules.min_words,
            sure=self.rules.min_confidence, baseline=asked.baseline, docs=asked.docs,
            max_tokens=asked.max_tokens, compare=self.compare, controls=self.n_controls, **self.how,
        )  # fmt: skip


def check_replies(
    prompts: str | Path,
    *,
    detector: str,
    baseline: str,
    docs: int,
    heads: ByLanguage | None = None,
    gate: Mapping[str, float] | None = None,
    steer: Mapping[str, float] | None = None,
    text: Corpus | None = None,
    candidates: Iterable[str] | None = None,
    detector_model: str | Path | None = None,
) -> None:
    """Refuse arguments that `generate_replies` would refuse, before a model is loaded."""
    check_least(1, docs, "documents")
    if heads is not None:
        heads = as_language_heads(heads)
    requests = read_requests(prompts)
    detect = text_detector(detector, candidates=candidates, model_path=detector_model)
    NamedIntervention(heads, gate or {}, _pairs(steer, heads), baseline, text).check()
    require_known([request.language for request in requests], detect)


def _pairs(
    given: Mapping[str, float] | None, heads: LanguageHeads | None
) -> dict[tuple[str, str], float]:
    """The two languages of each ``zh-en``; a language's own name may have a hyphen."""
    known = () if heads is None else tuple(heads.specific)
    found = {}
    for name, amount in (given or {}).items():
        cuts = [i for i, character in enumerate(name) if character == "-"]
        pairs = [(name[:i], name[i + 1 :]) for i in cuts]
        fitting = [pair for pair in pairs if pair[0] in known and pair[1] in known]
        if len(fitting) != 1:
            raise InputError(
                f"--steer {name}: write two languages of the head set like zh-en; it has "
                f"{', '.join(known) or 'none, since --heads was not given'}"
            )
        found[fitting[0]] = amount
    return found


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
