"""Scores of every head: how much does a language's loss depend on it?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError
from langheads.io.results import document_counts, provenance
from langheads.model import describe, head_shape, tokenize_languages
from langheads.scores.attribution import attribute
from langheads.scores.exact_knockout import knockout, knockout_nll
from langheads.scores.gradient import gate_gradients, lahis_sequential
from langheads.scores.quadrature import quadrature
from langheads.scores.registry import METHODS, UNITS, forward_equivalents, measure_scores
from langheads.scores.task_knockout import knockout_task
from langheads.text import Corpus, read_texts

__all__ = [
    "METHODS",
    "attribute",
    "gate_gradients",
    "knockout",
    "knockout_nll",
    "knockout_task",
    "lahis_sequential",
    "quadrature",
    "score",
]


def score(
    model: TransformerBridge,
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
) -> xr.Dataset:
    """Scores of every head for every language.

    Formulas: `scores.gradient` (``lahis``, ``lahis-paper``, ``lahis-sequential``, ``taylor``),
    `scores.quadrature` (``quadrature``), `scores.activation` (``grad-act``, ``output-norm``,
    ``entropy``); ``random`` is a control.

    Args:
        model: the model.
        text: texts, see `read_texts`; documents come from the front of the seeded order.
        method: one or more of `METHODS`.
        languages: all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here (and at the model's context length).
        seed: order of documents.
        bos: prepend the tokenizer's BOS; by default as the tokenizer itself does.
        batch_tokens: tokens a batch, padding included; halved when memory runs out.
        gradients: keep every document's gradients, which the contrast rule of `select` needs;
            4 bytes x languages x documents x heads.

    Returns:
        Dataset with dimensions ``language, layer, head``: a variable a method (``-`` becomes
        ``_``) with its standard error ``<name>_se``, in the units of ``attrs["units"]``;
        ``grad_abs`` (mean of abs(g), nats per token), ``helpful`` (share of documents with
        g m < 0); per language ``docs``, ``skipped``, ``tokens`` (predicted), ``bytes``,
        ``nats_per_byte``. ``attrs["seconds"]`` is JSON: seconds of each pass over the documents,
        and ``attrs["forward_equivalents"]`` what it costs in forwards (a backward counts two). With
        `gradients`: ``gradient`` ``[language, doc, layer, head]``, NaN
        where a language has fewer documents. Provenance in ``attrs``.

    Raises:
        InputError: an unknown method, texts that cannot be used.
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Example:
        >>> import langheads
        >>> scores = langheads.score(langheads.load("demo"), "texts/", docs=100)  # doctest: +SKIP
        >>> scores.lahis.sel(language="zh").argmax(...)  # doctest: +SKIP
    """
    methods = [method] if isinstance(method, str) else list(dict.fromkeys(method))
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise InputError(
            f"method {', '.join(unknown) or 'none'} asked for; allowed are {', '.join(METHODS)}"
        )
    if docs is not None and docs < 1:
        raise InputError(f"{docs} documents asked for; at least 1 is needed")
    layers, heads = head_shape(model)
    corpus = read_texts(text, languages=languages, seed=seed)
    texts = corpus.front(docs)
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    measured = measure_scores(model, documents, methods, seed=seed, batch_tokens=batch_tokens)
    some = next(iter(documents.values()))
    return xr.Dataset(
        {
            name.replace("-", "_"): (
                ("language", "layer", "head"),
                np.stack([of_language[language] for language in documents]),
                {"units": UNITS[name.removesuffix("_se")]},
            )
            for name, of_language in measured.maps.items()
        }
        | {
            "nats_per_byte": (
                "language",
                list(measured.nats_per_byte.values()),
                {"units": "nats per byte"},
            )
        }
        | (_stacked(list(measured.gradients.values())) if gradients else {})
        | document_counts(documents, "language"),
        coords={"language": list(documents), "layer": np.arange(layers), "head": np.arange(heads)},
        attrs=provenance(
            "scores",
            describe(model),
            corpus,
            docs=max(map(len, texts.values())),
            max_tokens=some.max_tokens,
            bos=some.bos,
            scored_up_to=json.dumps(corpus.cutoffs(docs)),
            seconds=json.dumps({k: round(v, 3) for k, v in measured.seconds.items()}),
            forward_equivalents=json.dumps({m: forward_equivalents(m) for m in methods}),
        ),
    )


def _stacked(
    gradients: Sequence[Float[np.ndarray, "_ layer head"]],
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]:
    """Gradients of all languages in one variable, padded with NaN."""
    most = max(map(len, gradients))
    padded = np.full((len(gradients), most, *gradients[0].shape[1:]), np.nan, np.float32)
    for row, g in zip(padded, gradients, strict=True):
        row[: len(g)] = g  # float64 to float32
    dims = ("language", "doc", "layer", "head")
    return {"gradient": (dims, padded, {"units": "nats per token"})}
