"""Pictures of the benchmark of scores: against exact knock-out, and as deletion curves."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from langheads import stats
from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.scores.registry import LABELS
from langheads.view.figures.canvas import facets, finish, grid, title_outer
from langheads.view.figures.style import (
    COLOURWAY,
    DOTTED,
    check_kind,
    distinct,
    literal,
    model_of,
    names,
)

_PANELS = {
    "spearman": "Spearman with exact knock-out",
    "average_precision": "average precision on planted heads",
    "area": "area under the deletion curve, share of NLL",
    "split_half": "split-half reliability",
}


def score_against_knockout(
    scores: xr.Dataset, knockout: xr.Dataset, method: str = "lahis"
) -> go.Figure:
    """One panel a language: exact rise in NLL (across) against a score (up), one dot a head.

    Args:
        scores: dataset of kind ``scores``.
        knockout: dataset of kind ``knockout``, zero baseline, of the same model.
        method: a variable of `scores`; hyphens will do.

    Returns:
        A plotly figure of fixed size, all panels on the same axes; titles give rank correlations.
        Where the score is in nats per token, the diagonal is where it tells the truth. Hovering
        gives standard errors, where the files have them.

    Raises:
        InputError: another kind of dataset, a sampled knock-out, no such score, no common
            language.

    Example:
        >>> score_against_knockout(scores, knockout, "quadrature").show()  # doctest: +SKIP
    """
    method = method.replace("-", "_")
    check_kind(scores, "scores", [method])
    check_kind(knockout, "knockout", ["delta_nats_per_token"])
    if "sample" in knockout.attrs:
        raise InputError("this knockout ran only a sample of the documents; give one of all")
    languages = [x for x in names(scores, "language") if x in names(knockout, "language")]
    if not languages:
        raise InputError("scores and knock-outs have no language in common")
    unit = str(scores[method].attrs.get("units", "unit unknown"))
    exact = knockout.delta_nats_per_token.sel(baseline="zero")
    errors = knockout.get("delta_nats_per_token_se")
    # Panels share their axes, and so the line of truth.
    reached = exact.sel(language=languages).values
    reached = reached[np.isfinite(reached)]
    exact_se = None if errors is None else errors.sel(baseline="zero")
    score_se = scores.get(f"{method}_se")
    titles = []
    for language in languages:
        pair = (of.sel(language=language).values for of in (scores[method], exact))
        titles.append(f"{literal(language)}, Spearman {stats.rank_correlation(*pair):.2f}")
    rows, columns = grid(len(languages))
    figure, places = facets(titles, 0.09, 0.34 / rows)
    for language, at in zip(languages, places, strict=True):
        x = exact.sel(language=language).values
        if unit == "nats per token" and reached.size:
            ends = [min(0.0, float(reached.min())), max(0.0, float(reached.max()))]
            truth = {"x": ends, "y": ends, "mode": "lines", "line": DOTTED}
            figure.add_trace(go.Scatter(**truth, hoverinfo="skip", showlegend=False), **at)
        y = scores[method].sel(language=language).values
        beside = [_with_errors(errors, language, x.size) for errors in (exact_se, score_se)]
        figure.add_trace(_dots(x, y, np.stack(beside, axis=1), language, unit), **at)
    title_outer(figure, places, "exact ΔNLL, nats per token", f"score, {literal(unit)}")
    figure.update_xaxes(matches="x", rangemode="tozero")
    figure.update_yaxes(matches="y", rangemode="tozero")
    return finish(
        figure,
        f"{LABELS.get(method, method)} against exact knock-out",
        model_of(scores),
        panels=(10 + 300 * columns, 230 * rows),
        margins=(100, 30, 50, 70),
    )


def _dots(
    exact: np.ndarray, score: np.ndarray, errors: np.ndarray, language: str, unit: str
) -> go.Scatter:
    """Every head of a language ``[layer, head]``; `errors` is hover text of both, a row a head."""
    return go.Scatter(
        x=exact.ravel(),
        y=score.ravel(),
        mode="markers",
        # Light within dark: the one stands out from a dark page, the other from a light.
        marker={"color": COLOURWAY[5], "size": 7, "line": {"color": COLOURWAY[0], "width": 1.2}},
        hovertext=[str(Head(*divmod(i, exact.shape[1]))) for i in range(exact.size)],
        customdata=errors,
        hovertemplate=f"<b>%{{hovertext}}</b> {literal(language)}<br>exact "
        "%{x:.4g}%{customdata[0]} nats per token<br>score %{y:.4g}%{customdata[1]} "
        f"{literal(unit)}<extra></extra>",
        showlegend=False,
    )


def _with_errors(errors: xr.DataArray | None, language: str, size: int) -> np.ndarray:
    """Standard errors as hover text, one a head; nothing where there is none."""
    if errors is None:
        return np.full(size, "", dtype=object)
    found = errors.sel(language=language).transpose("layer", "head").values.ravel()
    said = [f" ± {e:.2g} (standard error)" if np.isfinite(e) else "" for e in found]
    return np.array(said, dtype=object)


def deletion_curves(deletion: xr.Dataset) -> go.Figure:
    """One panel a language: what it loses, and the others on average, as heads go by each score.

    Args:
        deletion: dataset of kind ``deletion``.

    Returns:
        A plotly figure, all panels on the same axes; solid lines are the language's own text,
        dotted ones the mean of the other languages'. A click in the legend hides a score.

    Raises:
        InputError: another kind of dataset.
    """
    check_kind(deletion, "deletion", ["rise"])
    languages = names(deletion, "heads_of")
    rows, columns = grid(len(languages))
    figure, places = facets([literal(x) for x in languages], 0.08, 0.34 / rows)
    steps = deletion.step.values
    for i, (language, at) in enumerate(zip(languages, places, strict=True)):
        for k, method in enumerate(names(deletion, "score")):
            colour, symbol = distinct(k)
            rise = 100 * deletion.rise.sel(score=method, heads_of=language)
            own = rise.sel(text_of=language).values
            others = rise.drop_sel(text_of=language).mean("text_of").values
            label = literal(method.replace("_", "-"))
            for values, dash, whose in ((own, "solid", language), (others, "dot", "others")):
                figure.add_trace(
                    go.Scatter(
                        x=steps,
                        y=values,
                        mode="lines+markers",
                        line={"color": colour, "dash": dash, "width": 1.5},
                        marker={"symbol": symbol, "size": 6},
                        name=label,
                        legendgroup=label,
                        showlegend=i == 0 and dash == "solid",
                        hovertemplate=f"{label}, text of {literal(whose)}<br>%{{x}} heads off: "
                        "%{y:+.2f}%<extra></extra>",
                    ),
                    **at,
                )
        figure.update_xaxes(type="log", tickvals=list(steps), **at)
    title_outer(figure, places, "heads off", "rise in NLL, %")
    figure.update_xaxes(matches="x")
    figure.update_yaxes(matches="y", rangemode="tozero")
    return finish(
        figure,
        "Heads removed in the order of each score",
        f"{model_of(deletion)}, {literal(deletion.attrs.get('docs', '?'))} held-out documents a "
        "language; solid: own text, dotted: mean of the others",
        panels=(10 + 300 * columns, 230 * rows),
        margins=(100, 150, 50, 70),
    )


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
    panels = [name for name in _PANELS if np.isfinite(comparison[name]).any()]
    if not panels:
        raise InputError("the comparison has no measure to show")
    methods = names(comparison, "score")
    languages = names(comparison, "language")
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=[_PANELS[name] for name in panels],
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    figure.update_annotations(font_size=11)
    rows = [literal(method) for method in methods]
    for column, name in enumerate(panels, start=1):
        values = comparison[name].values
        figure.add_trace(_mean_bars(values, rows), row=1, col=column)
        for k, language in enumerate(languages):
            colour, symbol = distinct(k)
            figure.add_trace(
                go.Scatter(
                    x=values[:, k],
                    y=rows,
                    mode="markers",
                    marker={"color": colour, "symbol": symbol, "size": 8},
                    name=literal(language),
                    legendgroup=language,
                    showlegend=column == 1,
                    hovertemplate=f"%{{y}}, {literal(language)}: %{{x:.3f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_yaxes(autorange="reversed")
    # The legend has a line a language.
    height = max(6 + 30 * len(methods), 30 * len(languages))
    return finish(
        figure,
        f"Benchmark of scores, {literal(comparison.attrs.get('model', 'unknown'))}",
        panels=(max(500, 240 * len(panels) + 20), height),
        margins=(84, 90, 40, 130),
    )


def _mean_bars(values: np.ndarray, rows: list[str]) -> go.Bar:
    """The mean over languages of each score, where it has any value."""
    return go.Bar(
        x=[np.nanmean(row) if np.isfinite(row).any() else None for row in values],
        y=rows,
        orientation="h",
        marker={"color": "rgba(128,128,128,0.25)"},
        hovertemplate="%{y}: mean %{x:.3f}<extra></extra>",
        showlegend=False,
    )
