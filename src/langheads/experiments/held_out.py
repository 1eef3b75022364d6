"""Parts of every proof by ablation: documents that were not scored, and losses with heads off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import ProvenanceError, logger
from langheads.io.files import parse_json
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.records import parse
from langheads.model import document_nll, map_documents, tokenize_languages, under_each
from langheads.text import Corpus, Documents, reaches_into, read_texts, seen_before, source_name
from langheads.text.documents import read_as

_CONDITIONS_A_PART = 64
Condition = tuple[HeadSet, Float[Tensor, "layer head d_head"] | None]
"""Heads that are off, and what stands in for them; None is 0."""


@dataclass(frozen=True)
class HeldOut:
    """Documents to prove on."""

    corpus: Corpus  # their source
    texts: Mapping[str, Sequence[str]]  # language -> documents at the back of its order
    documents: dict[str, Documents]  # language -> their tokens
    overlap: int  # how many of them were scored; -1 where the scores cannot say

    @property
    def settings(self) -> dict[str, int | bool]:
        """How the documents were read, for the provenance of a result."""
        return read_as(self.documents)


def held_out(
    model: TransformerBridge,
    scored: Mapping[str, Any],
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    languages: Iterable[str] | None = None,
    docs: int | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    bos: bool | None = None,
    allow_overlap: bool = False,
    aligned: bool | None = None,
) -> HeldOut:
    """Documents from the back of the order whose front was scored, read in the same way.

    Args:
        scored: provenance of the scores, or of the heads made from them.
        docs: documents a language; None for all.
        max_tokens, seed, bos: by default as for the scores.
        allow_overlap: accept scored documents; `HeldOut.overlap` counts them.
        aligned: as for `read_texts`; by default as for the scores, if these are the same texts.

    Raises:
        InputError: fewer than 1 document, unreadable texts.
        ProvenanceError: documents that were scored.
    """
    seed = int(scored.get("seed", 0)) if seed is None else seed
    if aligned is None and source_name(text) == scored.get("text", source_name(text)):
        aligned = bool(scored.get("aligned", False))
    corpus = read_texts(text, languages=languages, seed=seed, aligned=aligned)
    texts = corpus.back(docs)
    across = bool(corpus.aligned or scored.get("aligned"))
    overlap = check_held_out(texts, scored, allow_overlap=allow_overlap, across=across)
    if across and not scored.get("aligned") and not corpus.has_ids and overlap == 0:
        overlap = -1  # these scores do not say which lines were scored in another language
    max_tokens = int(scored.get("max_tokens", 2048)) if max_tokens is None else max_tokens
    if "bos" in scored:
        as_scored = bool(scored["bos"])
        bos = as_scored if bos is None else bos
        if bos != as_scored:
            logger.warning(
                "the heads were scored %s BOS, and these documents are read %s it",
                *("with" if of else "without" for of in (as_scored, bos)),
            )
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    return HeldOut(corpus, texts, documents, overlap)


def check_held_out(
    proof: Mapping[str, Sequence[str]],
    scored: Mapping[str, Any],
    *,
    allow_overlap: bool,
    across: bool = False,
) -> int:
    """How many proof documents were scored, or may have been; -1 where the scores cannot say.

    `scored` is the provenance of the scores or of the heads made from them. Where documents are
    translations (`across`), one that shares a key with a document scored in another language
    counts. Refuses any (`ProvenanceError`) unless `allow_overlap`.
    """
    # Older score files have only a cutoff in the order of documents.
    name = "scored" if "scored" in scored else "scored_up_to"
    if name not in scored:
        return -1
    of_scores = parse(dict[str, str], parse_json(scored[name], name), name)
    keys = "".join(of_scores.values()) if across else ""
    overlap = 0
    for language, texts in proof.items():
        before = of_scores.get(language, "")
        exact = name == "scored"
        overlap += (
            seen_before(texts, before, keys)
            if exact
            else reaches_into(texts, int(scored["seed"]), before)
        )
    if overlap > 0 and not allow_overlap:
        raise ProvenanceError(
            f"{overlap} of the documents asked for were used to score these heads, or may have "
            f"been ({scored.get('docs')} a language were); ask for fewer --docs, give "
            "more or other texts, or pass --allow-overlap"
        )
    return overlap


def losses_by_language(
    model: TransformerBridge,
    documents: Mapping[str, Documents],
    conditions: Sequence[Condition],
    batch_tokens: int | str,
    *,
    desc: str,
) -> dict[str, Float[np.ndarray, "doc condition"]]:
    """Language -> summed NLL of every document, nats: nothing off, then each condition."""
    total = (len(conditions) or 1) * sum(map(len, documents.values()))
    losses = {}
    with progress_bar(total=total, unit="doc", desc=desc) as bar, together() as each:
        for language, of_language in documents.items():
            bar.set_postfix_str(language)
            with each:
                losses[language] = losses_with_heads_off(
                    model, of_language, conditions, batch_tokens, bar
                )
                bar.update(0 if conditions else len(of_language))
    return losses


def losses_with_heads_off(
    model: TransformerBridge,
    documents: Documents,
    conditions: Sequence[Condition],
    batch_tokens: int | str,
    bar: tqdm,
) -> Float[np.ndarray, "doc condition"]:
    """Summed NLL of every document of one language, see `losses_by_language`.

    Blocks below a condition's first head are not run again, see `langheads.model.replay`.
    """

    how: dict[str, Any] = {"batch_tokens": batch_tokens, "progress": bar}
    columns: list[Tensor] = []
    with together() as each:
        # Nothing off is measured with every part: replay needs it.
        for start in range(0, len(conditions) or 1, _CONDITIONS_A_PART):
            with each:
                some = conditions[start : start + _CONDITIONS_A_PART]
                named = [(str(heads), baseline) for heads, baseline in some]
                found = map_documents(
                    model, documents, partial(_losses, model, some, bar), work=("heads off", named),
                    updates=len(some), cost=1 + sum(map(_blocks_run, some)),
                    row=(1 + len(some),), **how,
                )  # fmt: skip
                columns.append(found.double()[:, bool(columns) :])
    return torch.cat(columns, dim=1).numpy()


def _blocks_run(condition: Condition) -> float:
    """The share of the blocks that a condition runs again."""
    heads, _ = condition
    return 1 - min(head.layer for head in heads) / heads.shape[0]


@torch.no_grad()
def _losses(
    model: TransformerBridge,
    conditions: Sequence[Condition],
    bar: tqdm,
    tokens: Int[Tensor, "batch pos"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "batch conditions"]:
    """Nothing off, then each condition."""
    off = [(heads, 0.0, baseline) for heads, baseline in conditions]
    losses = under_each(model, off, lambda: document_nll(model, tokens, lengths))
    found = [next(losses)]
    for loss in losses:
        found.append(loss)
        bar.update(len(tokens))
    return torch.stack(found, dim=1)
