"""Proof by ablation: the specificity matrix, with random heads as control.

    D[b, A, B] = (NLL of text in B with the heads of A off - NLL with nothing off) / bytes

in nats per UTF-8 byte, on text that was not used for scoring; b is the baseline that replaces a
head's output: 0, or the head's mean over the reference texts of all languages. A's heads carry A if
the diagonal D[b, A, A] stands out: against the other languages in its row, and against random head
sets with as many heads in each layer. The test is in `specificity.diagonal`; a verdict counts only
where zero and mean ablation agree.

Perplexity stands beside it, but depends on the tokenizer and cannot be compared across languages:

    perplexity                exp(sum of NLL / sum of predicted tokens)
    perplexity_by_document    mean over documents of exp(NLL / predicted tokens), as in the released
                              code of arXiv 2511.07498; a few hard or short documents decide it
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.held_out import HeldOut, held_out, losses_by_language
from langheads.experiments.matched_heads import controls_by_row
from langheads.experiments.published import published
from langheads.experiments.specificity.summarise import Plan, specificity
from langheads.heads import GENERAL, HeadSet, LanguageHeads
from langheads.heads.given import ByLanguage
from langheads.io.arguments import BASELINES, asked_names, check_least
from langheads.io.errors import InputError, logger
from langheads.io.results import provenance, with_rounding
from langheads.model import (
    describe,
    mean_over_languages,
    mean_z,
    require_heads_of,
    tokenize_languages,
)
from langheads.text import Corpus


@published
def ablate(
    model: TransformerBridge,
    heads: ByLanguage,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    baseline: str | Iterable[str] = BASELINES,
    n_controls: int = 100,
    n_random: int = 0,
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int | None = None,
    seed: int | None = None,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    allow_overlap: bool = False,
    aligned: bool | None = None,
    as_published: bool = False,
) -> xr.Dataset:
    """Delta NLL of every language's text when each language's heads are off.

    Args:
        model: the model the heads were chosen in.
        heads: language -> its specific heads; general heads make one more row.
        text: texts, see `read_texts`; documents come from the back of the seeded order.
        baseline: ``zero``, ``mean`` or both.
        n_controls: different random head sets for each distinct number of heads per layer; rows
            with the same numbers share them, except their own heads. Fewer where there are not so
            many. At least 2; 100 or more for a p-value worth quoting.
        n_random: so many random heads anywhere in the model, switched off once, too.
        languages: of the text; all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here; by default where they were for the scores.
        seed: order of documents and random heads; by default that of the scores.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a batch, padding included.
        allow_overlap: prove on scored documents all the same; recorded in the result.
        aligned: as for `read_texts`; by default as for the scores.
        as_published: as the paper and its released code have it; see
            `langheads.experiments.published`. Refuses what is given otherwise.

    Returns:
        Dataset over ``baseline, heads_of, text_of`` (and ``control``): ``delta_nats_per_byte``
        with ``delta_se``, ``control_delta`` (NaN beyond the ``n_controls`` sets of a row, none of
        which is its own), ``control_mean``, ``control_se`` (standard error of that mean),
        ``control_p`` ((1 + sets that hurt at least as much) / (1 + sets)), ``perplexity``,
        ``perplexity_off``, ``perplexity_by_document`` and ``perplexity_by_document_off``,
        ``nats_per_byte``; per baseline ``diagonal_share``, ``diagonal_p``,
        ``own_minus_others``, ``own_minus_others_p`` and ``null_matrices``, the number behind these
        p; per row ``heads`` and ``n_heads``; with `n_random` also ``random_heads``, and their
        ``random_heads_delta``, ``random_heads_perplexity_off`` and
        ``random_heads_perplexity_by_document_off`` over ``baseline, text_of``. A
        language without specific heads is a row of NaN.

    Raises:
        ProvenanceError: heads of another model, or documents that the heads were scored on.
        InputError: no language has specific heads, or an argument out of range.

    Cost: (rows + distinct controls) x baselines forwards of every document, each from the first
    block that a head is off in.
    """
    baselines = asked_names("baseline", baseline, BASELINES)
    check_least(2, n_controls, "controls")
    described = describe(model)
    heads = require_heads_of(model, heads)
    proof = held_out(
        model, heads.provenance, text, languages=languages, docs=docs, max_tokens=max_tokens,
        seed=seed, bos=bos, allow_overlap=allow_overlap, aligned=aligned,
    )  # fmt: skip
    rng = np.random.default_rng(proof.corpus.seed)
    plan = _plan(heads, proof.corpus, baselines, n_controls, n_random, rng)
    outside = _reference_documents(proof)
    reference = _reference(model, outside, proof) if "mean" in baselines else None
    losses = losses_by_language(
        model,
        proof.documents,
        [(off, reference if name == "mean" else None) for name, off in plan.conditions],
        batch_tokens,
        desc="ablate",
    )
    made_from = provenance(
        "ablation",
        described,
        proof.corpus,
        sources=[heads],
        **proof.settings,
        layers=heads.shape[0],
        heads=heads.shape[1],
        controls=n_controls,
        overlap=proof.overlap,
        reference_docs=min(map(len, outside.values())),
        scored_docs=int(heads.provenance.get("docs", 0)),
        rule=json.dumps(heads.rule, ensure_ascii=False),
    )
    return with_rounding(specificity(plan, losses, proof.documents, rng, made_from))


def _plan(
    heads: LanguageHeads,
    corpus: Corpus,
    baselines: list[str],
    n_controls: int,
    n_random: int,
    rng: np.random.Generator,
) -> Plan:
    """Rows for the text's languages that have an entry, then the general heads; and controls."""
    rows = {lang: heads.specific[lang] for lang in corpus.languages if lang in heads.specific}
    if not heads.specific:
        raise InputError(
            f"heads {heads.general} were given without a language, and a proof holds a language's "
            "heads to its own text beside that of others; name it, like zh=L0H1,L5H7"
        )
    if not rows:
        raise InputError(
            f"the head set is for {', '.join(heads.specific) or 'no language'}, the texts are in "
            f"{', '.join(corpus.languages)}; no language is in both"
        )
    if not any(rows.values()):
        raise InputError(
            "no language has specific heads, so there is nothing to prove; select with a lower "
            "--quantile or a higher --general-at"
        )
    if heads.general:
        rows[GENERAL] = heads.general
    every = list(itertools.product(*map(range, heads.shape)))
    if not 0 <= n_random <= len(every):
        raise InputError(
            f"{n_random} random heads asked for; allowed are 0 to {len(every)}, all of the model"
        )
    controls = controls_by_row(rows, n_controls, rng)
    drawn = rng.permutation(len(every))[:n_random] if n_random else ()
    return Plan(rows, controls, baselines, HeadSet([every[i] for i in drawn], heads.shape))


def _reference_documents(proof: HeldOut) -> dict[str, Sequence[str]]:
    """As many documents from the front as the proof has, outside it; else the proof's own."""
    outside: dict[str, Sequence[str]] = {}
    for language, used in proof.texts.items():
        everything = proof.corpus.texts[language]
        others = everything[: len(everything) - len(used)][: len(used)]
        if not others:
            logger.warning("language %s: mean of z from the proof's own documents", language)
        outside[language] = others or used
    return outside


def _reference(
    model: TransformerBridge, texts: Mapping[str, Sequence[str]], proof: HeldOut
) -> Float[Tensor, "layer head d_head"]:
    """Mean z over all languages, each with equal weight."""
    some = next(iter(proof.documents.values()))
    tokens = tokenize_languages(model, texts, max_tokens=some.max_tokens, bos=some.bos)
    return mean_over_languages(mean_z(model, of.tokens) for of in tokens.values())
