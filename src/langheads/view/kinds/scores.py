"""Scores of every head: where they lie, and what they were made on."""

from collections.abc import Iterator

import xarray as xr

from langheads.scores.registry import LABELS
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.overlap import language_overlap
from langheads.view.figures.scores import head_map, layer_profile, scored_methods
from langheads.view.figures.style import names
from langheads.view.head_effects import MAP, OVERLAP, main_first
from langheads.view.table import Table, count, number

_LAYERS = (
    "How to read it: each row is a language and adds up to 1; bright cells are the layers that "
    "hold most of its score (left) and of its chosen heads (right)."
)
_COUNTS = {
    "documents": "docs",
    "left out (too short)": "skipped",
    "cut (too long)": "cut",
    "predicted tokens": "tokens",
    "bytes": "bytes",
}


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """Map and depth of each score, that which heads were chosen by first; what languages share."""
    methods = main_first(scored_methods(result), run.heads)
    for method in methods:
        figure = head_map(result, method, run.heads, run.planted)
        yield Picture(figure, f"{LABELS[method]}. {MAP}")
        figure = layer_profile(result, method, run.heads)
        yield Picture(figure, f"{LABELS[method]}. {_LAYERS}")
    if methods and result.sizes["language"] > 1:
        yield Picture(language_overlap(result, methods[0]), OVERLAP)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    """What each language was scored on."""
    columns = {label: name for label, name in _COUNTS.items() if name in result}
    header, rows = ["language", *columns], []
    for language in names(result, "language"):
        cells = (count(number(result, name, language=language)) for name in columns.values())
        rows.append([language, *cells])
        if "nats_per_byte" in result:
            rows[-1].append(f"{number(result, 'nats_per_byte', language=language):.4g}")
    if "nats_per_byte" in result:
        header.append("loss, nats per byte")
    yield Table("Texts that the scores were made on.", header, rows)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    amount = ""
    if docs := [int(n) for n in result["docs"].values] if "docs" in result else []:
        few, many = min(docs), max(docs)
        amount = f", {few if few == many else f'{few} to {many}'} documents a language"
    if "tokens" in result:
        amount += f", {count(float(result['tokens'].sum()))} predicted tokens in all"
    yield (
        f"Every head of {result.attrs.get('model', 'a model unknown')} "
        f"({result.sizes['layer']} layers of {result.sizes['head']} heads) was scored on "
        f"{result.attrs.get('text', 'texts unknown')}: {result.sizes['language']} languages"
        f"{amount}. "
        f"Scores: {', '.join(scored_methods(result)) or 'none known to this report'}."
    )


KIND = Kind("scores", "Scores of every head", (), _pictures, _tables, _summary)
