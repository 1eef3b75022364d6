"""The benchmark of scores in one call: make what `compare` reads, then compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.benchmark.compare import compare
from langheads.experiments.benchmark.deletion import deletion
from langheads.io.errors import InputError
from langheads.io.files import write_text_atomically
from langheads.io.results import save
from langheads.model import EMBEDDED, describe
from langheads.scores.exact_knockout import knockout
from langheads.scores.registry import names
from langheads.scores.score import score
from langheads.text import Corpus, read_texts


def benchmark(
    model: TransformerBridge,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    out: str | Path,
    *,
    method: str | Iterable[str] | None = None,
    languages: Iterable[str] | None = None,
    docs: int = 100,
    deletion_docs: int = 16,
    max_tokens: int = 2048,
    seed: int = 0,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Hold scores to exact knock-out of the same documents; see `experiments.comparison`.

    Args:
        model: the model; an embedded one brings its list of planted heads.
        text: texts, see `read_texts`.
        out: folder for ``scores.nc``, ``halves/``, ``knockout.nc``, ``deletion.nc``,
            ``comparison.nc``.
        method: scores to compare; all by default.
        languages: all by default.
        docs: documents a language for scores and knock-outs, from the front of the seeded order.
        deletion_docs: documents a language for the deletion curves, from its back.
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
    methods = [method] if isinstance(method, str) else list(method or names())
    same = {"max_tokens": max_tokens, "seed": seed, "batch_tokens": batch_tokens}
    # Before hours of knock-outs rather than after them.
    few = [x for x, texts in corpus.texts.items() if len(texts) < docs + deletion_docs]
    if few or len(corpus.languages) < 2:
        raise InputError(
            f"{docs} documents for scores and {deletion_docs} for deletion asked for; "
            + (f"language {', '.join(few)} has fewer" if few else "at least 2 languages are needed")
        )
    front = corpus.front(docs)
    halves = [{x: texts[k::2] for x, texts in front.items()} for k in (0, 1)]
    scores = score(model, corpus, method=methods, docs=docs, **same)  # type: ignore[arg-type]
    save(scores, out / "scores.nc")
    for number, half in enumerate(halves, start=1):
        # Draws of their own, or chance would look reliable.
        apart = same | {"seed": seed + number, "gradients": False, "docs": None}
        of_half = score(model, half, method=methods, **apart)  # type: ignore[arg-type]
        save(of_half, out / "halves" / f"scores-{number}.nc")
    save(knockout(model, corpus, docs=docs, **same), out / "knockout.nc")  # type: ignore[arg-type]
    curves = deletion(model, scores, corpus, docs=deletion_docs, batch_tokens=batch_tokens)
    save(curves, out / "deletion.nc")
    if folder := EMBEDDED.get(describe(model)["model"]):
        write_text_atomically(out / "planted.json", (folder / "planted.json").read_text("utf-8"))
    comparison = compare(out)
    save(comparison, out / "comparison.nc")
    return comparison
