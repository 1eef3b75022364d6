"""Scores of every head for every language: shared passes run once, then each score."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel

from langheads import stats
from langheads.io.arguments import asked_names
from langheads.io.errors import InputError
from langheads.io.parts import clock, together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance, with_rounding
from langheads.model import describe, head_shape, load, tokenize_languages
from langheads.scores import registry
from langheads.scores.formulas import HeadMap
from langheads.scores.registry import SCORES, OfLanguage, Rows, Score, found
from langheads.text import Corpus, Documents, read_texts
from langheads.text.documents import document_counts, read_as


def score(
    model: str | Path | TransformerBridge | PreTrainedModel,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    method: str | Iterable[str] = ("lahis", "lahis-paper", "taylor"),
    languages: Iterable[str] | None = None,
    docs: int | None = 1000,
    max_tokens: int = 2048,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    gradients: bool = True,
    aligned: bool | None = None,
) -> xr.Dataset:
    """Scores of every head for every language.

    Formulas: `scores.formulas` (``lahis``, ``lahis-paper``, ``taylor``), `scores.gradient`
    (``lahis-sequential``), `scores.quadrature` (``quadrature``), `scores.activation` (``grad-act``,
    ``output-norm``, ``entropy``); ``random`` is a control.

    Args:
        model: the model, or what `langheads.load` takes.
        text: texts, see `read_texts`; documents come from the front of the seeded order.
        method: one or more scores, by name.
        languages: all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here (and at the model's context length).
        seed: order of documents, and random draws of scores.
        bos: prepend the tokenizer's BOS; by default as the tokenizer itself does.
        batch_tokens: tokens a batch, padding included; halved when memory runs out.
        gradients: keep every document's gradients, which the contrast rule of `select` needs;
            4 bytes x languages x documents x heads.
        aligned: documents of the same id or line are translations of each other, see `read_texts`.

    Returns:
        Dataset with dimensions ``language, layer, head``: a variable a method (``-`` becomes
        ``_``) with its standard error ``<name>_se``, in the units of ``attrs["units"]``;
        ``grad_abs`` (mean of abs(g), nats per token), ``helpful`` (share of documents with
        g m < 0); per language ``docs``, ``skipped``, ``tokens`` (predicted), ``bytes``,
        ``nats_per_byte``. ``attrs["seconds"]`` is JSON: seconds of each pass over the documents,
        and ``attrs["forward_equivalents"]`` its cost in forwards (a backward counts one). With
        `gradients`: ``gradient`` ``[language, doc, layer, head]``, NaN
        where a language has fewer documents. Provenance in ``attrs``.

    Raises:
        InputError: an unknown method, texts that cannot be used.
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Example:
        >>> import langheads
        >>> scores = langheads.score(langheads.load("demo"), "texts/", docs=8)
        >>> scores.lahis.dims
        ('language', 'layer', 'head')
    """
    methods = [SCORES[name] for name in asked_names("method", method, SCORES)]
    model = load(model)
    layers, heads = head_shape(model)
    corpus = read_texts(text, languages=languages, seed=seed, aligned=aligned)
    documents = tokenize_languages(model, corpus.front(docs), max_tokens=max_tokens, bos=bos)
    measured = measure_scores(model, documents, methods, seed=seed, batch_tokens=batch_tokens)
    g = [of.rows["gradient"] for of in measured.languages.values()]
    in_json = {
        "scored_up_to": corpus.cutoffs(docs),
        "scored": corpus.marks(docs),
        "seconds": {k: round(v, 3) for k, v in measured.seconds.items()},
        "forward_equivalents": {of.name: of.cost for of in methods},
    }
    made: dict[str, Any] = read_as(documents)
    made |= {key: json.dumps(of) for key, of in in_json.items()}
    found = xr.Dataset(
        _variables(measured, methods)
        | (stacked(g) if gradients else {})
        | document_counts(documents, "language"),
        coords={"language": list(documents), "layer": np.arange(layers), "head": np.arange(heads)},
        attrs=provenance("scores", describe(model), corpus, **made),
    )
    return with_rounding(found)


@dataclass
class Measured:
    """Passes that were run, and their cost."""

    languages: dict[str, OfLanguage]  # language -> its documents and what every pass gave
    seconds: dict[str, float]  # pass -> seconds, all languages together

    def maps(self, score: Score) -> dict[str, list[HeadMap]]:
        """The score of every head, a map a language; its standard errors under ``_se``, if any."""
        if score.run is None:
            rows = [of.rows[score.passes[-1].name] for of in self.languages.values()]
            each = [(of.mean(axis=0), stats.standard_error(of)) for of in rows]
        else:
            values = found(score.run)(self.languages)
            each = [v if isinstance(v := values[name], tuple) else (v,) for name in self.languages]
        return dict(zip(("", "_se"), map(list, zip(*each, strict=True)), strict=False))


def measure_scores(
    model: TransformerBridge,
    documents: Mapping[str, Documents],
    methods: Sequence[Score],
    *,
    seed: int = 0,
    batch_tokens: int | str = "auto",
) -> Measured:
    """Run every pass that the scores need once, and always the gradient pass."""
    for of in methods:
        if len(documents) < of.min_languages:
            raise InputError(f"{of.name} compares languages: it needs at least {of.min_languages}")
    passes = list(dict.fromkeys([registry.GRADIENT, *(p for of in methods for p in of.passes)]))
    measured = Measured({}, dict.fromkeys((p.name for p in passes), 0.0))
    total = sum(p.repeats for p in passes) * sum(map(len, documents.values()))
    with progress_bar(total=total, unit="doc", desc="score") as bar, together() as each:
        settings = {"batch_tokens": batch_tokens, "progress": bar}
        for number, (language, of_language) in enumerate(documents.items()):
            bar.set_postfix_str(language)
            rows = Rows()
            given = OfLanguage(model, of_language, [seed, number], settings, rows)
            for one in passes:
                started, awaited = clock(), True
                with each:
                    rows |= found(one.run)(given)
                    awaited = False
                rows.awaited |= awaited
                measured.seconds[one.name] += clock() - started
            measured.languages[language] = given
    return measured


def _variables(measured: Measured, methods: Sequence[Score]) -> dict[str, Any]:
    """A map a score, and its standard error where it has one; the loss with nothing off."""
    dims = ("language", "layer", "head")
    variables = {
        of.variable + suffix: (dims, np.stack(maps), {"units": of.units})
        for of in (*methods, *registry.BY_PRODUCTS)
        for suffix, maps in measured.maps(of).items()
        if of in methods or not suffix
    }
    nats = [
        (of.rows["nll"] * of.documents.n_predicted).sum() / of.documents.n_bytes.sum()
        for of in measured.languages.values()
    ]
    return variables | {"nats_per_byte": ("language", nats, {"units": "nats per byte"})}


def stacked(gradients: Sequence[Float[np.ndarray, "_ layer head"]]) -> dict[str, Any]:
    """Gradients of all languages in one variable, padded with NaN."""
    most = max(map(len, gradients))
    padded = np.full((len(gradients), most, *gradients[0].shape[1:]), np.nan, np.float32)
    for row, g in zip(padded, gradients, strict=True):
        row[: len(g)] = g  # float64 to float32
    dims = ("language", "doc", "layer", "head")
    return {"gradient": (dims, padded, {"units": "nats per token"})}
