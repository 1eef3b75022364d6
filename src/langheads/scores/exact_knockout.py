"""Exact knock-out: the change in the loss when one head is removed.

For every head (l, h), with that head's gate alone at 0 (its baseline in its place):

    delta[l,h] = sum_i (NLL_i with the head off - NLL_i) / sum_i n_i

over documents i with n_i predicted tokens (nats per token) or UTF-8 bytes (nats per byte), with
the standard error of a ratio over paired documents (`langheads.stats`). No approximation: gradient
scores are judged against it.

Naively this is one full forward a head; `scores.scan` does not run blocks again that a head does
not reach. Counting multiplications for L equal blocks of cost B and an unembedding of cost U, the
bound on the gain over full forwards is (L B + U) / ((L + 1) B / 2 + U).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.heads import HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.io.arguments import BASELINES, asked_names
from langheads.io.parts import clock, together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance, with_rounding
from langheads.model import (
    all_heads_of,
    describe,
    head_shape,
    mean_over_languages,
    mean_z,
    tokenize_languages,
)
from langheads.scores import sampled_knockout as sampled
from langheads.scores.scan import Baseline, knockout_nll
from langheads.scores.top_knockout import Top, check_top, eliminate, forwards, per_size
from langheads.text import Corpus, Documents, read_texts
from langheads.text.documents import document_counts, read_as


def knockout(
    model: TransformerBridge,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    heads: Named | ByLanguage | None = None,
    sample: int | float | None = None,
    top: int | None = None,
    confidence: float = 0.95,
    baseline: str | Iterable[str] = ("zero",),
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int = 2048,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    aligned: bool | None = None,
) -> xr.Dataset:
    """Exact delta NLL when each head is knocked out alone, for every language.

    Args:
        model: the model.
        text: texts, see `read_texts`; documents come from the front of the seeded order.
        heads: only these; all by default.
        sample: run only some documents of each language, a share (0.1) or a number (32), and
            estimate the effect on all from their gradients and lengths, with an interval: see
            `langheads.scores.sampled_knockout`. All are run by default.
        top: find only so many heads of each language, those that lose most, by as few knock-outs
            as possible: see `langheads.scores.top_knockout`. With `sample`, at most so many
            documents are run, and heads that were not separated by then are named.
        confidence: of `top`: that they are the top of the scan of all heads and documents.
        baseline: ``zero``, ``mean`` (mean z over the same documents, all languages with equal
            weight) or both.
        languages: all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here.
        seed: order of documents.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a forward, padding included.
        aligned: documents of the same id or line are translations of each other, see `read_texts`.

    Returns:
        Dataset over ``baseline, language, layer, head``: ``delta_nats_per_byte`` and
        ``delta_nats_per_token`` with ``<name>_se``, NaN for heads that were not asked for;
        ``nats_per_byte`` a language; for every document ``rise`` ``[baseline, language, doc,
        layer, head]`` (nats, NaN where a language has fewer documents), ``doc_bytes`` and
        ``doc_tokens``. Provenance in ``attrs``. In bfloat16 ``rounding`` a language, nats per
        token, below which effects are lost.
        With `sample`: ``rise`` is NaN for documents that were not run; ``<name>_low`` and
        ``<name>_high``, 95% for the result of all documents, NaN like ``<name>_se`` where the
        documents that were run have hardly any gradient of a head and others do; ``sampled``
        ``[language, doc]``, 1 where a document was run, else 0; ``attrs["forwards"]``, the cost
        in forwards of every document. With `top`: the same intervals; ``top``
        ``[baseline, language, layer, head]``, 1 in the top, 0 not, -1 not separated;
        ``docs_run``, on how many documents a head was run.

    Raises:
        InputError: an unknown baseline, a head that the model does not have, a sample of too few
            documents, a top of no or of all heads, unusable texts.

    Example:
        >>> effect = knockout(model, "texts/", heads=["L1H3"], docs=4)
        >>> effect.delta_nats_per_byte.sel(baseline="zero", language="zh").dims
        ('layer', 'head')
    """
    baselines = asked_names("baseline", baseline, BASELINES)
    shape = head_shape(model)
    chosen = all_heads_of(model, heads)
    if top is not None:
        check_top(top, confidence, len(chosen))
    corpus = read_texts(text, languages=languages, seed=seed, aligned=aligned)
    documents = tokenize_languages(model, corpus.front(docs), max_tokens=max_tokens, bos=bos)
    sizes = None if sample is None else sampled.sample_sizes(sample, documents)
    reference: dict[str, Baseline] = dict.fromkeys(baselines)
    if "mean" in reference:
        reference["mean"] = mean_over_languages(mean_z(model, d.tokens) for d in documents.values())
    made: dict[str, Any] = read_as(documents)
    plan = _Plan(
        model, chosen, list(reference.values()), batch_tokens, sizes, seed, top, confidence
    )
    started = clock()
    variables = _deltas(plan, documents)
    made |= {"seconds": round(clock() - started, 3)}
    if top is not None:
        made |= {"top": top, "confidence": confidence, "sample": 1.0 if sample is None else sample}
        made |= {"forwards": forwards(variables["docs_run"][1], documents)}
    elif sizes is not None:
        cost = sampled.forwards(documents, sizes, chosen, len(baselines))
        made |= {"sample": sample, "forwards": cost}
    found = xr.Dataset(
        variables | document_counts(documents, "language"),
        coords={
            "baseline": baselines,
            "language": list(documents),
            "layer": np.arange(shape[0]),
            "head": np.arange(shape[1]),
        },
        attrs=provenance("knockout", describe(model), corpus, **made),
    )
    return with_rounding(found)


@dataclass(frozen=True)
class _Measured:
    """One language: ΔNLL and NLL, nats, and effects a unit of size.

    Documents that were not run have `rise` NaN and `sampled` 0.
    """

    rise: Float[np.ndarray, "baseline doc heads"]
    nll: Float[np.ndarray, " doc"]
    effects: Sequence[Callable[[Int[np.ndarray, " doc"]], tuple[np.ndarray, ...]]]
    sampled: Int[np.ndarray, " doc"]
    tops: Sequence[Top] = ()


@dataclass(frozen=True)
class _Plan:
    """Which heads are off, with what in their place, on how many documents of each language."""

    model: TransformerBridge
    heads: HeadSet
    reference: Sequence[Baseline]
    batch_tokens: int | str
    sizes: Mapping[str, int] | None
    seed: int
    top: int | None = None
    confidence: float = 0.95

    def measure(self, number: int, documents: Documents, bar: tqdm) -> _Measured:
        """The effect on all documents of a language, estimated where only some are run."""
        if self.top is not None:
            return self._top(number, documents, self.top, bar)
        if self.sizes is None:
            return self._all(documents, bar)
        how = (self.model, documents, self.heads, self.reference)
        of_all, nll = sampled.first_order(*how, batch_tokens=self.batch_tokens)
        # One draw for all baselines.
        rng = np.random.default_rng([self.seed, number])
        drawn = sampled.draw(len(documents), self.sizes[documents.language], rng)
        rise = np.full_like(of_all[:, 0], np.nan)
        rise[:, drawn] = self._all(documents.only(drawn.tolist()), bar).rise
        effects = [sampled.estimate(*each, drawn).per for each in zip(rise, of_all, strict=True)]
        taken = np.zeros(len(documents), np.int8)
        taken[drawn] = 1
        return _Measured(rise, nll, effects, taken)

    def _top(self, number: int, documents: Documents, top: int, bar: tqdm) -> _Measured:
        """The heads that lose most, each baseline by itself."""
        how = (self.model, documents, self.heads, self.reference)
        of_all, nll = sampled.first_order(*how, batch_tokens=self.batch_tokens)
        most = len(documents) if self.sizes is None else self.sizes[documents.language]
        every, tops = list(self.heads), []

        def exact(
            b: Baseline, docs: Int[np.ndarray, " doc"], left: Int[np.ndarray, " heads"]
        ) -> Float[np.ndarray, "doc heads"]:
            some = HeadSet([every[i] for i in left], self.heads.shape)
            only = replace(self, heads=some, reference=[b], top=None)
            return only._all(documents.only(docs.tolist()), bar).rise[0]

        how_sure: dict[str, Any] = {"confidence": self.confidence, "most": most}
        with together() as each:
            for baseline, of in zip(self.reference, of_all, strict=True):
                rng = np.random.default_rng([self.seed, number])
                with each:
                    tops.append(eliminate(partial(exact, baseline), of, top, rng=rng, **how_sure))
        effects = [partial(per_size, found, of) for found, of in zip(tops, of_all, strict=True)]
        run = np.isfinite(np.stack([found.rise for found in tops])).any(axis=(0, 2)).astype(np.int8)
        return _Measured(np.stack([found.rise for found in tops]), nll, effects, run, tops)

    def _all(self, documents: Documents, bar: tqdm) -> _Measured:
        """All documents, with every head off alone."""
        how: dict[str, Any] = {"batch_tokens": self.batch_tokens, "progress": bar}
        found = []
        with together() as each:
            for baseline in self.reference:
                with each:
                    found.append(
                        knockout_nll(self.model, documents, self.heads, baseline=baseline, **how)
                    )
        rise = np.stack([of[:, 1:] - of[:, :1] for of in found])
        effects = [partial(stats.paired_ratio, np.zeros(len(documents)), of) for of in rise]
        return _Measured(rise, found[0][:, 0], effects, np.ones(len(documents), np.int8))


def _deltas(plan: _Plan, documents: Mapping[str, Documents]) -> dict[str, Any]:
    """Variables of the result: delta NLL a unit and of every document, baseline by baseline."""
    units = {"delta_nats_per_byte": "nats per byte", "delta_nats_per_token": "nats per token"}
    heads, baselines, sizes = plan.heads, len(plan.reference), plan.sizes
    certified = plan.top is not None
    ends = ("", "_se", "_low", "_high") if certified or sizes is not None else ("", "_se")
    full = (baselines, len(documents), *heads.shape)
    values = {name: {end: np.full(full, np.nan) for end in ends} for name in units}
    nats_per_byte = np.zeros(len(documents))
    most = max(map(len, documents.values()))
    delta_nll = np.full((*full[:2], most, *heads.shape), np.nan, np.float32)
    sampled = np.zeros((len(documents), most), np.int8)
    tops, docs_run = np.full(full, -1, np.int8), np.zeros(full, np.int64)
    run = sum(map(len, documents.values()) if sizes is None else sizes.values())
    at = tuple(np.array(list(heads)).T)
    measured, total = {}, baselines * len(heads) * run
    with progress_bar(total=total, unit="doc", desc="knockout") as bar, together() as each:
        for j, (language, of) in enumerate(documents.items()):
            bar.set_postfix_str(language)
            with each:
                measured[language] = plan.measure(j, of, bar)
    for j, (language, found) in enumerate(measured.items()):
        of = documents[language]
        nats_per_byte[j] = found.nll.sum() / of.n_bytes.sum()
        sampled[j, : len(of)] = found.sampled
        for i, one in enumerate(found.tops):
            tops[(i, j, *at)] = np.where(one.open, -1, one.chosen)
            docs_run[(i, j, *at)] = one.run
        for i, (rise, effect) in enumerate(zip(found.rise, found.effects, strict=True)):
            delta_nll[(i, j, slice(len(of)), *at)] = rise.T
            for name, size in zip(units, (of.n_bytes, of.n_predicted), strict=True):
                for end, value in zip(ends, effect(size), strict=True):
                    values[name][end][(i, j, *at)] = value
    sign = {"sign": "positive: the document is less probable without it"}
    over = ("baseline", "language", "layer", "head")
    in_top = {"units": "1 in the top, 0 not, -1 not separated or not asked for"}
    flag = {"units": "0 not run, 1 run"}
    return {
        **{
            f"{name}{end}": (over, of_end, {"units": units[name]})
            for name, of_name in values.items()
            for end, of_end in of_name.items()
        },
        "nats_per_byte": ("language", nats_per_byte, {"units": "nats per byte"}),
        "rise": (("baseline", "language", "doc", *over[2:]), delta_nll, {"units": "nats"} | sign),
        "doc_bytes": _padded([of.n_bytes for of in documents.values()], "bytes"),
        "doc_tokens": _padded([of.n_predicted for of in documents.values()], "tokens"),
        **({} if len(ends) == 2 else {"sampled": (("language", "doc"), sampled, flag)}),
        **({"top": (over, tops, in_top), "docs_run": (over, docs_run)} if certified else {}),
    }


def _padded(
    sizes: Sequence[Int[np.ndarray, " _"]], units: str
) -> tuple[tuple[str, str], Int[np.ndarray, "language doc"], dict[str, str]]:
    """Sizes of every document in one variable; 0 where a language has fewer documents."""
    padded = np.zeros((len(sizes), max(map(len, sizes))), dtype=np.int64)
    for row, of_language in zip(padded, sizes, strict=True):
        row[: len(of_language)] = of_language
    return ("language", "doc"), padded, {"units": units}
