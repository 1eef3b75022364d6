"""Picture of what languages share: do they rank heads alike, and have they the same best heads?"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float, Int
from plotly.subplots import make_subplots
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from langheads import stats
from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.view.figures.style import (
    LIGHT,
    METHODS,
    label_width,
    literal,
    names,
    tick_labels,
    with_room,
)

_KNOCKOUT = "delta_nats_per_byte"


def language_overlap(
    result: xr.Dataset, method: str | None = None, *, top: int | None = None
) -> go.Figure:
    """Left the rank correlation of all heads, right the best heads that two languages share.

    Languages stand in the order of a clustering (average linkage of 1 - correlation), so that
    those which rank heads alike are neighbours.

    Args:
        result: dataset of kind ``scores``, or ``knockout`` (its first baseline).
        method: a score; ``lahis`` by default, hyphens will do. Knock-outs have only one.
        top: how many heads of each language are compared; by default a tenth, at least 4.

    Returns:
        A plotly figure of fixed size; hover names the shared heads.

    Raises:
        InputError: another kind, a score that it does not have, fewer than 2 languages.

    Example:
        >>> language_overlap(xr.load_dataset("scores.nc"), "lahis", top=20)  # doctest: +SKIP
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
    names_in_order = [languages[i] for i in order]
    lists = [_best(maps[language], top) for language in names_in_order]

    cell = max(26, min(72, 420 // len(languages)))
    plot, gap = cell * len(languages), 110
    figure = make_subplots(
        1,
        2,
        subplot_titles=["rank correlation of all heads", f"of the {top} best heads, shared"],
        horizontal_spacing=gap / (2 * plot + gap),
        shared_yaxes=True,
    )
    # Titles of few languages' narrow panels would run into each other.
    figure.update_annotations(font_size=12 if plot < 200 else 16)
    for column, matrix in enumerate((correlation, shared), start=1):
        ordered = matrix[np.ix_(order, order)]
        figure.add_trace(
            go.Heatmap(
                z=ordered,
                text=_hover(names_in_order, lists, ordered, column == 1),
                hovertemplate="%{text}<extra></extra>",
                texttemplate="%{z:.2f}" if cell >= 34 else None,
                coloraxis=f"coloraxis{column}",
                xgap=1,
                ygap=1,
            ),
            row=1,
            col=column,
        )
    for number, (low, title) in enumerate(((-1, "Spearman"), (0, "shared / either list")), start=1):
        figure.update_layout(
            {
                f"coloraxis{number}": {
                    "cmin": low,
                    "cmax": 1,
                    "colorbar": {
                        "title": {"text": title, "side": "right"},
                        "thickness": 12,
                        "x": (number * plot + (number - 1) * gap) / (2 * plot + gap),
                        "xpad": 8,
                        "lenmode": "pixels",
                        "len": max(120, plot),
                        "nticks": 5,
                    },
                }
            }
        )
    ticks = {"tickvals": np.arange(len(languages)), "ticktext": tick_labels(names_in_order, 12)}
    ends = len(languages) - 0.5
    figure.update_xaxes(
        **ticks, title_text="language", showgrid=False, zeroline=False, range=[-0.5, ends], ticks=""
    )
    figure.update_yaxes(**ticks, showgrid=False, zeroline=False, range=[ends, -0.5], ticks="")
    figure.update_yaxes(title_text="language", col=1)
    top_margin, bottom, left, right = 100, 64, 20 + label_width(languages, 12), 100
    figure.update_layout(
        template=LIGHT,
        title={
            "text": "Do languages use the same heads?",
            "subtitle": {"text": f"{said}, {literal(result.attrs.get('model', 'model unknown'))}"},
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        width=left + 2 * plot + gap + right,
        height=top_margin + plot + bottom,
        margin={"t": top_margin, "b": bottom, "l": left, "r": right},
    )
    return with_room(figure)


def clustered(
    correlation: Float[np.ndarray, "language language"],
) -> Int[np.ndarray, " language"]:
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
        found, said = result[_KNOCKOUT].isel(baseline=0), "Exact knock-out, nats per byte"
    elif kind == "scores":
        name = (method or "lahis").replace("-", "_")
        if name not in METHODS or name not in result:
            raise InputError(f"method {name!r} asked for; this dataset does not have it")
        found, said = result[name], METHODS[name]
    else:
        raise InputError(f"scores or knock-outs asked for, found kind {kind!r}")
    return found.transpose("language", "layer", "head").values.astype(float), said


def _best(values: Float[np.ndarray, "layer head"], top: int) -> list[str]:
    order = np.argsort(-values, axis=None, kind="stable")[:top]
    return [str(Head(*divmod(int(i), values.shape[1]))) for i in order]


def _hover(
    languages: list[str],
    lists: list[list[str]],
    matrix: Float[np.ndarray, "language language"],
    correlated: bool,
) -> list[list[str]]:
    texts = []
    for i, a in enumerate(languages):
        row = []
        for j, b in enumerate(languages):
            both = [head for head in lists[i] if head in lists[j]]
            text = f"<b>{literal(a)}, {literal(b)}</b><br>"
            if correlated:
                text += f"Spearman {matrix[i, j]:.3f}"
            else:
                text += f"{len(both)} of {len(lists[i])} shared ({matrix[i, j]:.3f} of either list)"
                text += "".join(
                    f"<br>{' '.join(both[k : k + 8])}" for k in range(0, min(len(both), 32), 8)
                )
            row.append(text)
        texts.append(row)
    return texts
