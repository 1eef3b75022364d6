"""Whole chains in one call, each into one folder.

`run`        score, select, prove on held-out documents, report
`benchmark`  scores, exact knock-out and deletion of the same texts, compared
`demo`       `run` on the embedded model with planted heads, offline
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

from langheads.demo import grammar
from langheads.experiments.benchmark.compare import compare
from langheads.experiments.benchmark.deletion import deletion
from langheads.experiments.specificity.experiment import ablate
from langheads.heads import LanguageHeads
from langheads.io.errors import InputError, LangheadsError, logger
from langheads.io.files import check_run, write_text_atomically
from langheads.io.results import save
from langheads.io.sources import made_from
from langheads.model import DEMO, EMBEDDED, load, model_name
from langheads.scores.exact_knockout import knockout
from langheads.scores.registry import SCORES, names
from langheads.scores.score import score
from langheads.selection.count import select
from langheads.text import Corpus, read_texts
from langheads.view import AttentionView, report, show_attention
from langheads.view.ending import ending

# 48 heads: a share of 2% would be less than one head, and the upper 4% two heads, of which general
# ones take a place; so the demo lists the upper tenth and keeps two a language.
_DEMO_QUANTILE, _DEMO_SHARE = 0.9, 0.05
_DEMO_TEXTS = 240
# A text that is read at a glance, and short enough for matrices.
_SHOWN_TOKENS = 60


def run(
    model: TransformerBridge,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    out: str | Path,
    *,
    method: str | Iterable[str] = ("lahis", "lahis-paper", "taylor"),
    languages: Iterable[str] | None = None,
    docs: int = 1000,
    proof_docs: int = 100,
    n_controls: int = 100,
    quantile: float = 0.96,
    general_at: int = 4,
    share: float = 0.02,
    max_tokens: int = 2048,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    aligned: bool | None = None,
) -> Path:
    """Score, select, prove on held-out documents and report.

    Args:
        model: the model.
        text: texts, see `read_texts`.
        out: folder for ``scores.nc``, ``heads.json``, ``ablation.nc``, ``attention.json`` and
            ``report.html``.
        method: see `score`; selection takes the first.
        languages: all by default.
        docs: documents a language for scoring, from the front of the seeded order.
        proof_docs: documents a language for the proof, from its back.
        n_controls: random head sets, see `ablate`.
        quantile: heads above this quantile of their language's scores are on its list, 0 to 1.
        general_at: a head on at least so many lists is general.
        share: at most this share of all heads, and at least one head, is kept a language.
        max_tokens: documents are cut here.
        seed: order of documents and random heads.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a batch, padding included.
        aligned: documents of the same id or line are translations of each other, see `read_texts`.

    Returns:
        Path of the report.

    Raises:
        LangheadsError: see `score`, `select`, `ablate`; what was finished by then is kept.
    """
    out = Path(out)
    check_run(out)
    methods = [method] if isinstance(method, str) else list(method)
    corpus = read_texts(text, languages=languages, seed=seed, aligned=aligned)
    docs = _left_for_scores(corpus, docs, proof_docs)
    same: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed, "bos": bos}
    same |= {"batch_tokens": batch_tokens}
    scores = score(model, corpus, method=methods, docs=docs, **same)
    save(scores, out / "scores.nc")
    heads = select(scores, score=methods[0], quantile=quantile, general_at=general_at, share=share)
    heads.save(out / "heads.json")
    proof = ablate(model, heads, corpus, docs=proof_docs, n_controls=n_controls, **same)
    save(proof, out / "ablation.nc")
    _show(model, heads, scores, corpus, methods[0], bos, out / "attention.json")
    return report(out, out / "report.html")


def _left_for_scores(corpus: Corpus, docs: int, proof_docs: int) -> int:
    """How many documents can be scored, so that enough are left for the proof."""
    shortest = min(corpus.texts, key=lambda language: len(corpus.texts[language]))
    left = len(corpus.texts[shortest]) - proof_docs
    if left < 1:
        raise InputError(
            f"language {shortest} has {len(corpus.texts[shortest])} documents, and {proof_docs} "
            "are asked for the proof; give more texts or lower --proof-docs"
        )
    if docs > left:
        logger.warning(
            "scoring %d documents a language, so that %d are left for the proof", left, proof_docs
        )
    return min(docs, left)


def _show(
    model: TransformerBridge,
    heads: LanguageHeads,
    scores: xr.Dataset,
    corpus: Corpus,
    score_name: str,
    bos: bool | None,
    path: Path,
) -> None:
    """Attention of the strongest heads of two languages over a held-out text of each."""
    with_heads = [language for language, chosen in heads.specific.items() if chosen]
    pair = list(dict.fromkeys((with_heads[0], with_heads[-1])))
    texts = [corpus.back(1)[language][0] for language in pair]
    strongest = {language: heads.specific[language].top(2) for language in pair}
    try:
        view = show_attention(
            model,
            texts[0],
            replace(heads, specific=strongest),
            scores=scores,
            score=score_name,
            beside=texts[1] if len(texts) > 1 else None,
            labels=pair,
            max_tokens=_SHOWN_TOKENS,
            bos=bos,
        )
    except LangheadsError as error:
        # A run must not fail over a picture.
        logger.warning("no picture of attention: %s", error)
        # An earlier run's picture would pass for this one's.
        path.unlink(missing_ok=True)
        return
    # It shows the strongest heads, which change with the others.
    made = {**view.data.provenance, **made_from(view.data.provenance, heads, scores)}
    AttentionView(replace(view.data, provenance=made)).save(path)


def benchmark(
    model: TransformerBridge,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    out: str | Path,
    *,
    method: str | Iterable[str] | None = None,
    languages: Iterable[str] | None = None,
    docs: int = 100,
    deletion_docs: int = 16,
    seeds: int = 3,
    max_tokens: int = 2048,
    seed: int = 0,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Compare scores with exact knock-out of the same documents: make what `compare` reads,
    compare.

    Args:
        model: the model; an embedded one brings its list of planted heads.
        text: texts, see `read_texts`.
        out: folder for the results that `compare` reads, and ``comparison.nc``.
        method: scores to compare; all by default.
        languages: all by default.
        docs: documents a language for scores and knock-outs, from the front of the seeded order.
        deletion_docs: documents a language for the deletion curves, from its back.
        seeds: how often scores with random draws are made, each time with another seed.
        max_tokens: documents are cut here.
        seed: order of documents, draws of scores.
        batch_tokens: tokens a batch, padding included.

    Returns:
        What `compare` returns.

    Raises:
        LangheadsError: see `score`, `knockout`, `deletion`; what was finished by then is kept.
    """
    out = Path(out)
    corpus = read_texts(text, languages=languages, seed=seed)
    # Before hours of knock-outs rather than after them.
    few = [x for x, texts in corpus.texts.items() if len(texts) < docs + deletion_docs]
    if few or len(corpus.languages) < 2:
        raise InputError(
            f"{docs} documents for scores and {deletion_docs} for deletion asked for; "
            + (f"language {', '.join(few)} has fewer" if few else "at least 2 languages are needed")
        )
    same: dict[str, Any] = {"max_tokens": max_tokens, "batch_tokens": batch_tokens}
    methods = [method] if isinstance(method, str) else list(method or names())
    scores = score(model, corpus, method=methods, docs=docs, seed=seed, **same)
    save(scores, out / "scores.nc")
    for path, number, texts, some in _again(corpus.front(docs), methods, seeds):
        how = same | {"seed": seed + number, "gradients": False, "docs": None}
        save(score(model, texts, method=some, **how), out / path)
    save(knockout(model, corpus, docs=docs, seed=seed, **same), out / "knockout.nc")
    how = {"docs": deletion_docs, "batch_tokens": batch_tokens}
    save(deletion(model, scores, corpus, **how), out / "deletion.nc")
    if folder := EMBEDDED.get(model_name(model)):
        write_text_atomically(out / "planted.json", (folder / "planted.json").read_text("utf-8"))
    comparison = compare(out)
    save(comparison, out / "comparison.nc")
    return comparison


def _again(
    texts: Mapping[str, Sequence[str]], methods: Sequence[str], seeds: int
) -> Iterator[tuple[Path, int, Mapping[str, Sequence[str]], Sequence[str]]]:
    """File, number to add to the seed, texts and scores: the same documents with other seeds, and
    two halves of them, each with random draws of its own, or chance would look reliable."""
    drawing = [name for name in methods if SCORES[name].draws]
    for number in range(1, seeds if drawing else 1):
        yield Path("seeds", f"scores-{number}.nc"), number, texts, drawing
    for number in (1, 2):
        half = {language: of[number - 1 :: 2] for language, of in texts.items()}
        yield Path("halves", f"scores-{number}.nc"), number, half, methods


def demo(out: str | Path, *, docs: int = 48, n_controls: int = 25) -> tuple[Path, str]:
    """The main chain on the embedded model with planted heads, offline.

    Args:
        out: folder; texts, results, planted heads and report go there.
        docs: documents a language for scoring; a third as many for the proof.
        n_controls: random head sets.

    Returns:
        Path of the report, and a table as text: per language the planted heads found, the change in
        NLL per byte with the selected heads off, for its own text and the other languages', and
        whether these heads carry it.
    """
    out = Path(out)
    if docs < 2 or docs + docs // 3 > _DEMO_TEXTS:
        most = _DEMO_TEXTS * 3 // 4
        raise InputError(f"{docs} documents asked for; the demo takes 2 to {most} a language")
    texts = out / "text"
    files = {out / "planted.json": (DEMO / "planted.json").read_text("utf-8")}
    for language in grammar.LANGUAGES:
        lines = [
            json.dumps({"text": document}, ensure_ascii=False)
            for document in grammar.documents(language, _DEMO_TEXTS)
        ]
        files[texts / f"{language}.jsonl"] = "\n".join(lines) + "\n"
    for path, content in files.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != content.encode()):
            raise InputError(f"{path} is there and is not the demo's; name another folder")
    for path, content in files.items():
        write_text_atomically(path, content)
    page = run(
        load("demo", device="cpu"),
        texts,
        out,
        # A user's own texts beside them are not the demo's.
        languages=sorted(grammar.LANGUAGES),
        docs=docs,
        proof_docs=max(1, docs // 3),
        n_controls=n_controls,
        quantile=_DEMO_QUANTILE,
        share=_DEMO_SHARE,
        aligned=False,
    )
    return page, ending(out).table
