"""Exact knock-out: what really happens to the loss when one head is removed.

For every head (l, h), with that head's gate alone at 0 (its baseline in its place):

    delta[l,h] = sum_i (NLL_i with the head off - NLL_i) / sum_i n_i

over documents i with n_i predicted tokens (nats per token) or UTF-8 bytes (nats per byte), with
the standard error of a ratio over paired documents (`langheads.stats`). No approximation: this is
what gradient scores are judged against.

Done naively this is one full forward a head. A head of layer l changes nothing before layer l, so
the residual stream is captured once a batch and only blocks l .. L-1 run again
(`langheads.model.replay`); the heads of a layer run side by side as rows of one batch, as many as
the token budget allows, each row with its own gates.

Counting multiplications for L equal blocks of cost B and an unembedding of cost U, the bound on
the gain over full forwards is (L B + U) / ((L + 1) B / 2 + U).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.results import document_counts, provenance
from langheads.model import describe, head_shape, mean_z, tokenize_languages
from langheads.scores.scan import check_baselines, check_heads, knockout_nll
from langheads.scores.screen import check_screen, screened
from langheads.text import Corpus, read_texts


def knockout(
    model: TransformerBridge,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    heads: HeadSet | Iterable[str] | None = None,
    screen: str | None = None,
    baseline: str | Iterable[str] = ("zero",),
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int = 2048,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Exact rise in NLL when each head is knocked out alone, for every language.

    Args:
        model: the model.
        text: texts, see `read_texts`; documents come from the front of the seeded order.
        heads: only these; all by default.
        screen: ``taylor:0.1`` knocks out only the tenth of all heads that this gradient score
            ranks highest, taken in each language on the same documents: every head that is in
            any language's tenth. Any method of `score` but ``lahis-sequential``.
        baseline: ``zero``, ``mean`` (mean z over the same documents, all languages with equal
            weight) or both.
        languages: all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here.
        seed: order of documents.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a forward, padding included.

    Returns:
        Dataset over ``baseline, language, layer, head``: ``delta_nats_per_byte`` and
        ``delta_nats_per_token`` with ``<name>_se``, NaN for heads that were not asked for;
        ``nats_per_byte`` a language; for every document ``rise`` ``[baseline, language, doc,
        layer, head]`` (nats, NaN where a language has fewer documents), ``doc_bytes`` and
        ``doc_tokens``. Provenance in ``attrs``, with the heads that the screen left out.

    Raises:
        InputError: an unknown baseline, a head that the model does not have, both `heads` and
            `screen`, unusable texts.

    Example:
        >>> effect = knockout(model, "texts/", docs=100)  # doctest: +SKIP
        >>> effect.delta_nats_per_byte.sel(baseline="zero", language="zh")  # doctest: +SKIP
    """
    baselines = check_baselines(baseline)
    shape = head_shape(model)
    everyone = check_heads(None, shape)
    chosen = everyone if heads is None else check_heads(heads, shape)
    rule = None if screen is None else check_screen(screen)
    if rule is not None and heads is not None:
        raise InputError("heads and screen were both given; give one")
    corpus = read_texts(text, languages=languages, seed=seed)
    texts = corpus.front(docs)
    documents = tokenize_languages(model, texts, max_tokens=max_tokens, bos=bos)
    if rule is not None:
        chosen = screened(model, documents, *rule, seed=seed, batch_tokens=batch_tokens)
    reference = {
        "zero": None,
        "mean": torch.stack([mean_z(model, d.tokens) for d in documents.values()]).mean(dim=0)
        if "mean" in baselines
        else None,
    }
    names = ("delta_nats_per_byte", "delta_nats_per_token")
    full = (len(baselines), len(documents), *shape)
    values = {key: np.full(full, np.nan) for name in names for key in (name, f"{name}_se")}
    nats_per_byte = np.zeros(len(documents))
    started = time.perf_counter()
    most = max(map(len, documents.values()))
    rises = np.full((len(baselines), len(documents), most, *shape), np.nan, np.float32)
    total = len(baselines) * len(chosen) * sum(map(len, documents.values()))
    layers, indices = np.array(list(chosen)).T
    with tqdm(total=total, unit="doc", desc="knockout") as bar:
        for j, (language, of_language) in enumerate(documents.items()):
            bar.set_postfix_str(language)
            sizes = dict(zip(names, (of_language.n_bytes, of_language.n_predicted), strict=True))
            for i, name in enumerate(baselines):
                found = knockout_nll(
                    model,
                    of_language,
                    chosen,
                    baseline=reference[name],
                    batch_tokens=batch_tokens,
                    progress=bar,
                )
                on, off = found[:, 0], found[:, 1:]
                rises[i, j, : len(on), layers, indices] = (off - on[:, None]).T
                nats_per_byte[j] = on.sum() / of_language.n_bytes.sum()
                for key, size in sizes.items():
                    rise, error = stats.paired_ratio(on, off, size)
                    values[key][i, j, layers, indices] = rise
                    values[f"{key}_se"][i, j, layers, indices] = error
    some = next(iter(documents.values()))
    units = {"byte": "nats per byte", "token": "nats per token"}
    return xr.Dataset(
        {
            key: (
                ("baseline", "language", "layer", "head"),
                array,
                {"units": units["byte" if "byte" in key else "token"]},
            )
            for key, array in values.items()
        }
        | {
            "nats_per_byte": ("language", nats_per_byte, {"units": "nats per byte"}),
            "rise": (
                ("baseline", "language", "doc", "layer", "head"),
                rises,
                {"units": "nats", "sign": "positive: the document is less probable without it"},
            ),
            "doc_bytes": _padded([d.n_bytes for d in documents.values()], "bytes"),
            "doc_tokens": _padded([d.n_predicted for d in documents.values()], "tokens"),
        }
        | document_counts(documents, "language"),
        coords={
            "baseline": baselines,
            "language": list(documents),
            "layer": np.arange(shape[0]),
            "head": np.arange(shape[1]),
        },
        attrs=provenance(
            "knockout",
            describe(model),
            corpus,
            seconds=round(time.perf_counter() - started, 3),
            docs=max(map(len, texts.values())),
            max_tokens=some.max_tokens,
            bos=some.bos,
            **({} if rule is None else {"screen": screen, "screened_out": str(everyone - chosen)}),
        ),
    )


def _padded(
    sizes: Sequence[Int[np.ndarray, " _"]], units: str
) -> tuple[tuple[str, str], Int[np.ndarray, "language doc"], dict[str, str]]:
    """Sizes of every document in one variable; 0 where a language has fewer documents."""
    padded = np.zeros((len(sizes), max(map(len, sizes))), dtype=np.int64)
    for row, of_language in zip(padded, sizes, strict=True):
        row[: len(of_language)] = of_language
    return ("language", "doc"), padded, {"units": units}
