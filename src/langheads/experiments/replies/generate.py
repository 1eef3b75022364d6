"""Replies under gates and steering that are named by language: prompts in, judged replies out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import require_heads_of
from langheads.experiments.replies.files import Replies
from langheads.experiments.replies.plan import check_steering
from langheads.experiments.replies.records import reply_provenance, reply_records
from langheads.heads import LanguageHeads, as_language_heads
from langheads.heads.given import ByLanguage
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError
from langheads.model import describe, head_shape
from langheads.text import Corpus, Rules
from langheads.text import detector as _detector
from langheads.text.confusion import require_known
from langheads.text.requests import read_requests


def generate_replies(
    model: TransformerBridge,
    prompts: str | Path,
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
        seed: order of documents, and of whatever is drawn.
        detector: py3langid, lingua or fasttext.
        detector_model: fastText's model file.
        candidates: languages a reply can be in; by default all that the detector knows.
        min_words: shorter lines are not judged.
        min_confidence: the detector must be surer than this.
        compare: let the untouched model reply, too.
        n_controls: draws of random heads of the same layers under the same gates.
        chat: use the chat template.
        use_cache: keep keys and values.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a batch, or ``auto``; halved if memory runs out.

    Returns:
        A record a prompt, their summary, and what they were made from.

    Raises:
        LangheadsError: see `check_replies`, `reply_records` and `langheads.generate`.
    """
    described = describe(model)
    if heads is not None:
        heads = require_heads_of(model, described, heads)
    if mask is not None:
        mask.require_model("the mask", described, head_shape(model), None)
    requests = read_requests(prompts)
    detect = _detector(detector, candidates=candidates, model_path=detector_model)
    settings: dict[str, Any] = {
        "heads": heads,
        "gate": gate or {},
        "steer": _pairs(steer, heads),
        "mask": mask,
        "baseline": baseline,
        "corpus": text,
        "docs": docs,
        "max_tokens": max_tokens,
        "compare": compare,
        "n_controls": n_controls,
        "rules": Rules(min_words=min_words, min_confidence=min_confidence),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "use_cache": use_cache,
        "chat": chat,
        "bos": bos,
    }
    records, summary = reply_records(model, requests, detect, **settings, batch_tokens=batch_tokens)
    made = reply_provenance(described, requests, detect, source=str(prompts), **settings)
    return Replies(records, summary, made)


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
    """Refuse what `generate_replies` could not do, without a model; arguments as there.

    Raises:
        InputError: prompts that cannot be read, an unknown detector or language, gates or steering
            that cannot be set.
    """
    if docs < 1:
        raise InputError(f"{docs} documents asked for; at least 1 a language is needed (--docs)")
    if heads is not None:
        heads = as_language_heads(heads)
    requests = read_requests(prompts)
    detect = _detector(detector, candidates=candidates, model_path=detector_model)
    check_steering(heads, gate or {}, _pairs(steer, heads), baseline, text)
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
