"""Benchmark of scores: how well each predicts exact knock-out, and deletion curves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.io.errors import InputError
from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures import canvas
from langheads.view.figures.style import (
    COLOURWAY,
    PALE,
    check_kind,
    distinct,
    literal,
    model_of,
    names,
)
from langheads.view.table import Table, between, decimal, mean, with_ends_of

_PANELS = {
    "spearman": "Spearman with exact knock-out",
    "average_precision": "average precision<br>on planted heads",
    "area": "area under the deletion curve,<br>share of NLL",
    "split_half": "split-half reliability",
}


def score_benchmark(comparison: xr.Dataset) -> go.Figure:
    """One panel a measure, one row a score, one dot a language; the bar is the mean.

    Args:
        comparison: dataset of kind ``comparison``.

    Returns:
        A plotly figure of fixed size; measures that the run did not make are left out.

    Raises:
        InputError: another kind of dataset, or one without any measure.
    """
    check_kind(comparison, "comparison", ["spearman"])
    panels = {x: title for x, title in _PANELS.items() if np.isfinite(comparison[x]).any()}
    if not panels:
        raise InputError("the comparison has no measure to show")
    methods, languages = names(comparison, "score"), names(comparison, "language")
    figure, places = canvas.side_by_side(list(panels.values()), 0.03, shared_yaxes=True)
    figure.update_annotations(font_size=11)
    rows = [literal(method) for method in methods]
    mean_bar = {"color": PALE[COLOURWAY[6]], "line": {"color": COLOURWAY[6], "width": 1}}
    bars: dict[str, Any] = {"orientation": "h", "marker": mean_bar}
    bars |= {"hovertemplate": "%{y}: mean %{x:.3f}<extra></extra>", "showlegend": False}
    for name, at in zip(panels, places, strict=True):
        values = comparison[name].values
        means = [np.nanmean(row) if np.isfinite(row).any() else None for row in values]
        figure.add_bar(x=means, y=rows, **bars, **at)
        for k, language in enumerate(languages):
            colour, symbol = distinct(k)
            figure.add_scatter(
                x=values[:, k],
                y=rows,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8},
                name=literal(language),
                legendgroup=language,
                showlegend=at["col"] == 1,
                hovertemplate=f"%{{y}}, {literal(language)}: %{{x:.3f}}<extra></extra>",
                **at,
            )
    figure.update_yaxes(autorange="reversed")
    # The legend has one line a language.
    height = max(6 + 30 * len(methods), 30 * len(languages))
    return canvas.finish(
        figure,
        f"Benchmark of scores, {model_of(comparison)}",
        panels=(max(500, 240 * len(panels) + 20), height),
        margins=(84, 90, 40, 130),
    )


_COLUMNS = {
    "slope": "nats that a score in nats predicts for each nat lost, 1 where it is right",
    "precision": "share of planted heads among as many of the highest",
    "decoys": "heads planted with a large gradient and no effect, the share among the highest",
    "area": "under the deletion curve, what a language loses more than the others",
    "split_half": "how alike two halves of the documents rank heads",
}


def _comparison_tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    table = [str(name) for name in result if result[name].dims == ("score", "language")]
    measures = [x for x in table if not x.endswith(("_low", "_high")) and x != "spearman"]
    rows = []
    for score in names(result, "score"):
        of = result.sel(score=score)
        spearman = of["spearman"].values
        lowest = np.nanmin(spearman) if np.isfinite(spearman).any() else np.nan
        row = [score, _with_interval(of, "spearman"), decimal(lowest)]
        row += [_with_interval(of, name) for name in measures]
        costs = [name for name in ("forwards", "forwards_large") if name in of]
        row += [decimal(float(of[name]), 0) for name in costs]
        rows.append([*row, decimal(float(of.seconds), 1)])
    header = ["score", "spearman, mean", "spearman, lowest"]
    header += [*(x.replace("_", " ") for x in measures), "forwards of every document"]
    header += ["forwards, 32 layers of 32 heads"] if "forwards_large" in result else []
    caption = "Every score, means over languages."
    if terms := [f"{x.replace('_', ' ')}: {_COLUMNS[x]}" for x in _COLUMNS if x in measures]:
        caption += f" {'; '.join(terms).capitalize()}."
    if "mean_spearman_low" in result:
        caption += (
            " In brackets 95% intervals, for other documents like these. They come "
            "from leaving out and resampling documents; for a score of which only the standard "
            "error is stored, from that. Spearman large: over heads beyond 2 standard errors; "
            "behind: Spearman of the best score less this one's; drawn: over seeds; top: share of "
            "the heads that lose most among the highest. Rows of sampled knock-out and certified "
            "top run knock-outs themselves; theirs are means over draws."
        )
    yield Table(caption, [*header, "seconds"], rows)


def _with_interval(of: xr.Dataset, name: str) -> str:
    """The mean over languages; its interval where the file has one."""
    return between(mean(of[name].values), *with_ends_of(of, f"mean_{name}")[1:])


def _best(values: xr.DataArray, leave_out: str = "") -> tuple[str, Mapping[str, float]]:
    """The score with the highest mean over languages, and all means; "" where none has one."""
    every = {str(of.score.values): mean(of.values) for of in values.transpose("score", ...)}
    means = {x: value for x, value in every.items() if x != leave_out and np.isfinite(value)}
    return max(means, key=lambda score: means[score], default=""), means


def _comparison_summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    # Rows that run knock-outs themselves are not compared.
    scores = result["spearman"].where(np.isfinite(result.get("behind", result["spearman"])))
    best, means = _best(scores, "knockout")
    if best:
        spearman = _with_interval(result.sel(score=best), "spearman")
        yield (
            f"Benchmark: of {len(means)} scores, {best} ranks heads most as exact knock-out does "
            f"(mean Spearman {spearman})."
        )


COMPARISON = Kind(
    "comparison",
    "Benchmark of scores",
    (
        "Shows: which score predicts exact knock-out, finds planted heads, and gives the same "
        "ranking on other documents.",
        "Does not show: that a head is specific. A score can predict losses well and still "
        "rank general heads first.",
    ),
    captioned(
        score_benchmark,
        "How to read it: each mark is a language, the bar their mean; further right is better. "
        "Average precision is 1 where the planted heads rank first; the area says how much more a "
        "language loses than the others as heads are removed in its order; split-half "
        "reliability is how alike two halves of the documents rank heads.",
    ),
    _comparison_tables,
    _comparison_summary,
)


def deletion_curves(deletion: xr.Dataset) -> go.Figure:
    """One panel a language: its ΔNLL, and the others' mean, as heads are removed by each score.

    Args:
        deletion: dataset of kind ``deletion``.

    Returns:
        A plotly figure, all panels on the same axes; solid lines are the language's own text,
        dotted ones the mean of the other languages'. A click in the legend hides a score.

    Raises:
        InputError: another kind of dataset.
    """
    check_kind(deletion, "deletion", ["rise"])
    languages, steps = names(deletion, "heads_of"), deletion.step.values
    rows, columns = canvas.grid(len(languages))
    figure, places = canvas.facets([literal(x) for x in languages], 0.08, 0.34 / rows)
    for language, at in zip(languages, places, strict=True):
        for k, method in enumerate(names(deletion, "score")):
            colour, symbol = distinct(k)
            delta = 100 * deletion.rise.sel(score=method, heads_of=language)
            own, others = delta.sel(text_of=language), delta.drop_sel(text_of=language)
            label = literal(method.replace("_", "-"))
            for of, dash, whose in (
                (own, "solid", language),
                (others.mean("text_of"), "dot", "others"),
            ):
                figure.add_scatter(
                    x=steps,
                    y=of.values,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 1.5},
                    marker={"symbol": symbol, "size": 6},
                    name=label,
                    legendgroup=label,
                    showlegend=at == places[0] and dash == "solid",
                    hovertemplate=f"{label}, text of {literal(whose)}<br>%{{x}} heads off: "
                    "%{y:+.2f}%<extra></extra>",
                    **at,
                )
        figure.update_xaxes(type="log", tickvals=list(steps), **at)
    canvas.title_outer(figure, places, "heads off", "ΔNLL, %")
    figure.update_xaxes(matches="x")
    figure.update_yaxes(matches="y", rangemode="tozero")
    return canvas.finish(
        figure,
        "Heads removed in the order of each score",
        f"{model_of(deletion)}, {literal(deletion.attrs.get('docs', '?'))} held-out documents a "
        "language; solid: own text, dotted: mean of the others",
        panels=(10 + 300 * columns, 230 * rows),
        margins=(100, 150, 50, 70),
    )


def _deletion_tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    rows = []
    for score in names(result, "score"):
        area = result.area.sel(score=score).values
        rows.append([score.replace("_", "-"), *map(decimal, area), decimal(mean(area))])
    caption = (
        "Area under the deletion curve: own ΔNLL minus the mean of the other languages', share of "
        "the loss with nothing off, mean over the steps. Larger is better; 0 tells no language "
        "from another."
    )
    yield Table(caption, ["score", *names(result, "heads_of"), "mean"], rows)


def _deletion_summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    best, areas = _best(result["area"])
    if best:
        yield (
            f"Deletion: heads in the order of {best.replace('_', '-')} hurt their own language "
            f"most beyond the others, by {decimal(areas[best])} of its loss on average."
        )


DELETION = Kind(
    "deletion",
    "Deletion curves",
    (
        "Shows: each language's ΔNLL on held-out text as heads are removed by each score. "
        "A score that finds a language's own heads has a steep solid and a flat dotted line.",
        "Does not show: chance. There are no random head sets here; the proof by ablation has "
        "them.",
    ),
    captioned(
        deletion_curves,
        "How to read it: further right more heads are off, further up ΔNLL is larger. A click in "
        "the legend hides a score.",
    ),
    _deletion_tables,
    _deletion_summary,
)
