"""Picture of overlap: do languages rank heads alike, and do they share their best heads?"""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.scores.registry import LABELS
from langheads.view.figures import canvas, style, traces
from langheads.view.figures.style import literal, names
from langheads.view.table import decimal

OVERLAP = (
    "How to read it: neighbours rank heads alike; shared is how many of the heads that are among "
    "the best of either language are so of both. Languages that share most of their best heads "
    "have general heads there, or scores that do not tell languages apart."
)
_KNOCKOUT = "delta_nats_per_byte"


def language_overlap(
    result: xr.Dataset, method: str | None = None, *, top: int | None = None
) -> go.Figure:
    """Left the rank correlation of all heads, right the best heads that two languages share.

    Languages are in the order of a clustering (average linkage of 1 - correlation), so that
    languages which rank heads alike are neighbours.

    Args:
        result: dataset of kind ``scores``, or ``knockout`` (its first baseline).
        method: a score, also written with hyphens; ``lahis`` by default. Knock-outs have only one.
        top: how many heads of each language are compared; by default a tenth, at least 4.

    Returns:
        A plotly figure of fixed size; hover names the shared heads.

    Raises:
        InputError: another kind, a score that it does not have, fewer than 2 languages.
    """
    values, said = _values(result, method)
    languages = names(result, "language")
    if len(languages) < 2:
        raise InputError("overlap compares languages: at least 2 are needed")
    n_heads = values[0].size
    top = top or max(4, n_heads // 10)
    if not 1 <= top <= n_heads:
        raise InputError(f"top {top} asked for; allowed are 1 to {n_heads}")
    maps = dict(zip(languages, values, strict=True))
    correlation, shared = stats.rank_overlap(maps, top=top)
    order = clustered(correlation)
    best = {languages[i]: list(map(str, HeadSet.ranked(values[i], top))) for i in order}
    correlation, shared = (matrix[np.ix_(order, order)] for matrix in (correlation, shared))
    alike, same = _hover(best, correlation, True), _hover(best, shared, False)
    panels = [
        traces.HeatPanel(
            "rank correlation of all heads", correlation, alike, (-1.0, 1.0), "Spearman"
        ),
        traces.HeatPanel(
            f"of the {top} best heads, shared", shared, same, (0.0, 1.0), "shared / either list"
        ),
    ]
    cell = max(26, min(72, 420 // len(languages)))
    plot, labels = cell * len(languages), style.tick_labels(list(best), 12)
    figure, width = traces.heat_panels(
        panels, labels, (plot, plot), 110, max(120, plot), cell >= 34
    )
    # With few languages the titles of narrow panels would overlap.
    figure.update_annotations(font_size=12 if plot < 200 else 16)
    canvas.cell_columns(figure, labels, title_text="language")
    figure.update_yaxes(title_text="language", col=1)
    return canvas.finish(
        figure,
        "Do languages use the same heads?",
        f"{said}, {style.model_of(result)}",
        panels=(width, plot),
        margins=(100, 100, 64, 20 + style.label_width(languages, 12)),
    )


def clustered(correlation: Float[np.ndarray, "language language"]) -> Int[np.ndarray, " language"]:
    """An order in which languages that rank heads alike are neighbours."""
    distance = 1 - np.nan_to_num(correlation)
    np.fill_diagonal(distance, 0.0)
    distance = np.clip((distance + distance.T) / 2, 0, None)
    tree = hierarchy.linkage(squareform(distance), "average", optimal_ordering=True)
    return hierarchy.leaves_list(tree).astype(np.int64)


def _values(
    result: xr.Dataset, method: str | None
) -> tuple[Float[np.ndarray, "language layer head"], str]:
    """Scores or knock-outs, and their name."""
    kind = result.attrs.get("kind")
    if kind == "knockout" and method is None and _KNOCKOUT in result:
        how = "Sampled" if "sample" in result.attrs else "Exact"
        found, said = result[_KNOCKOUT].isel(baseline=0), f"{how} knock-out, nats per byte"
    elif kind == "scores":
        name = (method or "lahis").replace("-", "_")
        if name not in LABELS or name not in result:
            raise InputError(f"method {name!r} asked for; this dataset does not have it")
        found, said = result[name], LABELS[name]
    else:
        raise InputError(f"scores or knock-outs asked for, found kind {kind!r}")
    return found.transpose("language", "layer", "head").values.astype(float), said


def _hover(
    best: dict[str, list[str]], matrix: Float[np.ndarray, "language language"], correlated: bool
) -> list[list[str]]:
    """Hover text of cells; `best` has each language's best heads, in the order of the matrix."""

    def say(a: str, b: str, value: float) -> str:
        title = f"<b>{literal(a)}, {literal(b)}</b><br>"
        if correlated:
            return f"{title}Spearman {decimal(value)}"
        both = [head for head in best[a] if head in best[b]]
        text = f"{len(both)} of {len(best[a])} shared ({value:.3f} of either list)"
        lines = (f"<br>{' '.join(both[k : k + 8])}" for k in range(0, min(len(both), 32), 8))
        return title + text + "".join(lines)

    return [
        [say(a, b, float(value)) for b, value in zip(best, row, strict=True)]
        for a, row in zip(best, matrix, strict=True)
    ]
