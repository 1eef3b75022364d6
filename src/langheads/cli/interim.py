"""Verbs whose one Python function is still being written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langheads.experiments.replies.files import Replies
from langheads.io.errors import InputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from langheads import HeadMask, LanguageHeads
    from langheads.text import Corpus


def generate(
    model: TransformerBridge,
    prompts: str | Path,
    *,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    shift: Mapping[str, float] | None = None,
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
    sure: float = 0.3,
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
        prompts: lines of {"prompt", "language", "id"}.
        heads: what select wrote.
        gate: zh=0, or general=0.
        shift: zh-en=1: from en to zh; needs --text.
        mask: gates that adapt learned.
        baseline: zero or mean (needs --text).
        text: texts for means of z.
        docs: documents a language for means of z.
        max_tokens: those documents are cut here.
        max_new_tokens: length limit of a reply.
        temperature: 0 is greedy; else from 1e-4 to 1e4.
        seed: order of documents, and of whatever is drawn.
        detector: py3langid, lingua or fasttext.
        detector_model: fastText's model file.
        candidates: languages a reply can be in; default: all.
        min_words: shorter lines are not judged.
        sure: the detector must be surer than this.
        compare: let the untouched model reply, too.
        n_controls: draws of random heads of the same layers under the same gates.
        chat: use the chat template.
        use_cache: keep keys and values.
        bos: prepend BOS; default: as the tokenizer.
        batch_tokens: tokens a batch, or auto; halved if memory runs out.
    """
    from langheads.experiments.replies.records import reply_provenance, reply_records
    from langheads.text import Rules
    from langheads.text.requests import read_requests

    requests = read_requests(prompts)
    detect = detector_of(detector, candidates, detector_model)
    settings: dict[str, Any] = {
        "heads": heads,
        "gate": gate or {},
        "steer": language_pairs(shift, heads),
        "mask": mask,
        "baseline": baseline,
        "corpus": text,
        "docs": docs,
        "max_tokens": max_tokens,
        "compare": compare,
        "n_controls": n_controls,
        "rules": Rules(min_words=min_words, min_confidence=sure),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "use_cache": use_cache,
        "chat": chat,
        "bos": bos,
    }
    records, summary = reply_records(model, requests, detect, **settings, batch_tokens=batch_tokens)
    made = reply_provenance(model, requests, detect, source=str(prompts), **settings)
    return Replies(records, summary, made)


def detector_of(name: str, candidates: Iterable[str] | None, model_path: str | Path | None) -> Any:
    """The detector of that name."""
    from langheads.text import detector

    return detector(name, candidates=candidates, model_path=model_path)


def language_pairs(
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
                f"--shift {name}: write two languages of the head set like zh-en; it has "
                f"{', '.join(known) or 'none, since --heads was not given'}"
            )
        found[fitting[0]] = amount
    return found
