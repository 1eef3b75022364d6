"""Deletion curves: how much does each language lose as heads are removed in the order of a score?

For a score s, a language A and k = 1, 2, 4, ... heads:

    rise[s, A, k, B] = (NLL of text in B without A's k highest heads - NLL with all) / NLL with all

on held-out text, with gates at 0. A score that finds heads which matter only to A has a steep curve
for B = A and flat ones for all others:

    area[s, A] = mean_k (rise[s, A, k, A] - mean_{B != A} rise[s, A, k, B])

a share of A's NLL; larger is better. The idea is the deletion metric of attribution (RISE,
arXiv 1806.07421), with other languages as the control.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.held_out import held_out, losses_by_language
from langheads.heads import HeadSet
from langheads.heads.same_model import require_same_model
from langheads.io.arguments import asked_names
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import describe, head_shape
from langheads.scores.registry import GRAD_ABS, SCORES
from langheads.text import Corpus


def deletion(
    model: TransformerBridge,
    scores: xr.Dataset,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    method: str | Iterable[str] | None = None,
    steps: Sequence[int] = (1, 2, 4, 8),
    docs: int = 24,
    batch_tokens: int | str = "auto",
    allow_overlap: bool = False,
) -> xr.Dataset:
    """Remove heads in the order of each score and measure every language.

    Args:
        model: the model that was scored.
        scores: what `score` returned.
        text: texts, see `read_texts`; documents come from the back of the seeded order.
        method: which scores; all in the file by default, ``grad_abs`` among them.
        steps: numbers of heads.
        docs: documents a language.
        batch_tokens: tokens a batch, padding included.
        allow_overlap: use scored documents all the same.

    Returns:
        Dataset: ``rise`` ``[score, heads_of, step, text_of]`` and ``area`` ``[score, heads_of]``,
        shares of the NLL with nothing off; ``nats_per_byte``. Provenance in ``attrs``.

    Raises:
        ProvenanceError: scores of another model, or documents that were scored.
        InputError: an unknown score, steps beyond the number of heads, a single language.

    Cost: at most methods x languages x steps forwards of every document; equal sets run once.
    """
    shape = head_shape(model)
    described = describe(model)
    require_same_model("the scores file", described, scores.attrs)
    names = _asked(scores, method)
    if not steps or min(steps) < 1 or max(steps) >= shape[0] * shape[1]:
        raise InputError(
            f"steps {list(steps)} asked for; allowed are 1 to {shape[0] * shape[1] - 1} heads"
        )
    languages = [str(x) for x in scores.language.values]
    if len(languages) < 2:
        raise InputError("deletion compares languages: it needs scores of at least 2")
    proof = held_out(
        model, scores.attrs, text, languages=languages, docs=docs, allow_overlap=allow_overlap
    )
    sets = {
        (name, language, step): HeadSet.ranked(scores[name].sel(language=language).values, step)
        for name in names
        for language in languages
        for step in steps
    }
    distinct = list(dict.fromkeys(sets.values()))
    conditions = [(heads, None) for heads in distinct]
    losses = losses_by_language(model, proof.documents, conditions, batch_tokens, desc="deletion")
    rise = np.empty((len(names), len(languages), len(steps), len(languages)))
    nats_per_byte = []
    for column, (language, of_language) in enumerate(proof.documents.items()):
        total = losses[language].sum(axis=0)
        nats_per_byte.append(total[0] / of_language.n_bytes.sum())
        relative = dict(zip(distinct, total[1:] / total[0] - 1, strict=True))
        rise[..., column] = np.reshape([relative[off] for off in sets.values()], rise.shape[:-1])
    own = np.einsum("mlsl->mls", rise)
    others = (rise.sum(axis=-1) - own) / (len(languages) - 1)
    share = {"units": "share of the NLL with nothing off"}
    return xr.Dataset(
        {
            "rise": (("score", "heads_of", "step", "text_of"), rise, share),
            "area": (("score", "heads_of"), (own - others).mean(axis=-1), share),
            "nats_per_byte": ("text_of", nats_per_byte, {"units": "nats per byte"}),
        },
        {"score": names, "heads_of": languages, "step": list(steps), "text_of": languages},
        provenance(
            "deletion", described, proof.corpus, sources=[scores], **proof.settings,
            overlap=proof.overlap, scored_docs=int(scores.attrs["docs"]),
        ),
    )  # fmt: skip


def _asked(scores: xr.Dataset, method: str | Iterable[str] | None) -> list[str]:
    """Variables of the scores asked for; all that the file has for None."""
    known = [of.variable for of in (*SCORES.values(), GRAD_ABS)]
    there = [name for name in known if name in scores.data_vars]
    wanted = [method] if isinstance(method, str) else list(method or there)
    asked = [name.replace("-", "_") for name in wanted]
    return asked_names("score", asked, there, "the file has")
