"""Exact knock-out: ΔNLL of each language without each head, and how well scores predict it."""

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.heads import Head
from langheads.io.errors import InputError
from langheads.scores.registry import LABELS
from langheads.scores.top_heads import top_heads
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style, warped
from langheads.view.figures.overlap import OVERLAP, language_overlap
from langheads.view.figures.style import COLOURWAY, DOTTED, check_kind, literal, model_of, names
from langheads.view.kinds import effects
from langheads.view.kinds.scores import scored_methods
from langheads.view.table import NONE, Table, decimal, mean

_SCATTER = (
    "How to read it: each dot is a head; on a rising line the score predicts ΔNLL. "
    "Spearman's rank correlation is 1 at best. Axes are even near 0 and logarithmic further out; "
    "a dotted line, where score and loss have the same unit, is where they are equal."
)
_SAME_TEXTS = ("text_hash", "docs", "seed", "max_tokens")


def score_against_knockout(
    scores: xr.Dataset, knockout: xr.Dataset, method: str = "lahis"
) -> go.Figure:
    """One panel a language: exact ΔNLL (across) against a score (up), one dot a head.

    Args:
        scores: dataset of kind ``scores``.
        knockout: dataset of kind ``knockout``, zero baseline, of the same model.
        method: a variable of `scores`, also written with hyphens.

    Returns:
        A plotly figure of fixed size, all panels on the same asinh axes (even near 0, logarithmic
        further out); titles give rank correlations. Where the score is in nats per token, the
        diagonal is where it is exact. Hovering gives standard errors, where the files have
        them.

    Raises:
        InputError: another kind of dataset, a sampled knock-out, no such score, no common
            language.
    """
    method = method.replace("-", "_")
    check_kind(scores, "scores", [method])
    check_kind(knockout, "knockout", ["delta_nats_per_token"])
    if "sample" in knockout.attrs:
        raise InputError("this knockout ran only a sample of the documents; give one of all")
    languages = _common(scores, knockout)
    if not languages:
        raise InputError("scores and knock-outs have no language in common")
    unit, at_zero = style.unit_of(scores, method), {"baseline": "zero"}
    knockout = knockout.sel(at_zero)
    both = [knockout.delta_nats_per_token, scores[method]]
    errors = [knockout.get("delta_nats_per_token_se"), scores.get(f"{method}_se")]
    sizes = [of.sel(language=languages).values for of in both]
    # A few heads lose most. In one unit both axes are the same, and have a diagonal.
    scales = [warped.middle_size(of) for of in sizes]
    if is_same := unit == "nats per token":
        scales = [scales[0]] * 2
    ends = [_ends(warped.asinh(s)(of)) for s, of in zip(scales, sizes, strict=True)]
    titles = [
        f"{literal(x)}, Spearman "
        + decimal(stats.rank_correlation(*(of.sel(language=x).values for of in both)), 2)
        for x in languages
    ]
    rows, columns = canvas.grid(len(languages))
    figure, places = canvas.facets(titles, 0.09, 0.34 / rows)
    for language, at in zip(languages, places, strict=True):
        if is_same:
            truth = {"mode": "lines", "line": DOTTED, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(x=ends[0], y=ends[0], **truth, **at)
        figure.add_trace(_dots(language, both, errors, scales, unit), **at)
    said = "exact ΔNLL, nats per token (asinh scale)", f"score, {literal(unit)} (asinh scale)"
    canvas.title_outer(figure, places, *said)
    _set_axes(figure, ends, scales)
    return canvas.finish(
        figure,
        f"{LABELS.get(method, method)} against exact knock-out",
        model_of(scores),
        panels=(10 + 300 * columns, 230 * rows),
        margins=(100, 30, 50, 70),
    )


def _dots(
    language: str,
    both: Sequence[xr.DataArray],
    errors: Sequence[xr.DataArray | None],
    scales: Sequence[float],
    unit: str,
) -> go.Scatter:
    """The heads of one panel, by exact ΔNLL and score."""
    exact, score = (of.sel(language=language).values for of in both)
    x, y = (warped.asinh(s)(of.ravel()) for s, of in zip(scales, (exact, score), strict=True))
    beside = [_errors(of, language, exact.size) for of in errors]
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        # Light within dark: one is visible on a dark page, the other on a light one.
        marker={"color": COLOURWAY[5], "size": 7, "line": {"color": COLOURWAY[0], "width": 1.2}},
        hovertext=[str(Head(*divmod(i, exact.shape[1]))) for i in range(exact.size)],
        customdata=np.stack([exact.ravel(), *beside, score.ravel()], axis=1, dtype=object),
        hovertemplate=f"<b>%{{hovertext}}</b> {literal(language)}<br>exact "
        "%{customdata[0]:.4g}%{customdata[1]} nats per token<br>score "
        f"%{{customdata[3]:.4g}}%{{customdata[2]}} {literal(unit)}<extra></extra>",
        showlegend=False,
    )


def _set_axes(
    figure: go.Figure, ends: Sequence[tuple[float, float]], scales: Sequence[float]
) -> None:
    """One asinh axis across and one up for all panels, with room beyond the last dots."""
    for update, of, scale, apart, name in (
        (figure.update_xaxes, ends[0], scales[0], 0.16, "x"),
        (figure.update_yaxes, ends[1], scales[1], 0.08, "y"),
    ):
        room = 0.05 * (of[1] - of[0])
        axis = warped.axis([of[0] - room, of[1] + room], scale, 7, apart)
        update(axis, tickangle=0, matches=name)


def _ends(places: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest place, with 0 between them; apart even where all are 0."""
    finite = places[np.isfinite(places)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    return low, high if high > low else 1.0


def _errors(errors: xr.DataArray | None, language: str, size: int) -> np.ndarray:
    """Standard errors as hover text, one a head; empty where there is none."""
    if errors is None:
        return np.full(size, "", dtype=object)
    found = errors.sel(language=language).transpose("layer", "head").values.ravel()
    said = [f" ± {e:.2g} (standard error)" if np.isfinite(e) else "" for e in found]
    return np.array(said, dtype=object)


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    for baseline in names(result, "baseline"):
        figure = effects.effect_map(result, baseline=baseline, heads=run.heads)
        yield Picture(figure, effects.MAP.replace("score", "loss"))
    for name, scores in run.of("scores").items():
        methods = scored_methods(scores, run.heads)
        if methods and _comparable(scores, result) and "zero" in names(result, "baseline"):
            caption = f"{_SCATTER} The score is that of {name}."
            if any(scores.attrs.get(key) != result.attrs.get(key) for key in _SAME_TEXTS):
                caption += " It was made on other documents than the knock-outs, which adds noise."
            yield Picture(score_against_knockout(scores, result, methods[0]), caption)
    if result.sizes["language"] > 1:
        yield Picture(language_overlap(result), OVERLAP)


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    yield from effects.effect_tables(result, run, ["delta_nats_per_byte"])
    if "top" in result:
        yield Table(
            f"Heads that each language loses most without, with confidence "
            f"{result.attrs['confidence']} those of the scan of all heads and documents.",
            ["baseline", "language", "heads", "not separated"],
            [[b, x, str(sure), str(open_) or NONE] for b, x, sure, open_ in top_heads(result)],
        )
    for name, scores in run.of("scores").items():
        languages, found = _comparable(scores, result), _correlations(scores, result)
        if found and languages:
            yield Table(
                f"Spearman rank correlation of the scores in {name} with exact knock-out.",
                ["score", *languages, "mean"],
                [
                    [method.replace("_", "-"), *map(decimal, row), decimal(mean(row))]
                    for method, row in found.items()
                ],
            )


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    how = "Exact knock-out"
    if "sample" in result.attrs:
        how = "Knock-out on a sample of the documents"
        each = "at least one head" if "top" in result else "each head"
        yield (
            f"The effects of heads are estimates: {int((result.sampled > 0).sum())} of "
            f"{int(result.docs.sum())} documents were run without {each}, the others stand in "
            "by their gradients and lengths."
        )
    what = f"{how}: the head that each language loses most without"
    yield from effects.strongest_words(what, result, run)
    for name, scores in run.of("scores").items():
        every = _correlations(scores, result)
        found = {method: row for method, row in every.items() if np.isfinite(row).any()}
        if found:
            best = max(found, key=lambda method: mean(found[method]))
            row = found[best]
            yield (
                f"Of the scores in {name}, {LABELS[best]} ranks heads most as exact knock-out "
                f"does: Spearman {decimal(mean(row))} on average ({decimal(np.nanmin(row))} to "
                f"{decimal(np.nanmax(row))})."
            )


def _common(one: xr.Dataset, other: xr.Dataset) -> list[str]:
    return [x for x in names(one, "language") if x in names(other, "language")]


def _comparable(scores: xr.Dataset, exact: xr.Dataset) -> list[str]:
    """Languages of both; none where effects are estimates, which scores are not compared to."""
    return [] if "sample" in exact.attrs else _common(exact, scores)


def _correlations(
    scores: xr.Dataset, exact: xr.Dataset
) -> dict[str, Float[np.ndarray, " language"]]:
    """Method -> its rank correlation with zero ablation in each language that both have."""
    languages, methods = _comparable(scores, exact), scored_methods(scores)
    if "zero" not in names(exact, "baseline"):
        return dict.fromkeys(methods, np.full(len(languages), np.nan))
    lost = {x: effects.effects_of(exact, "delta_nats_per_token", "zero", x) for x in languages}

    def correlation(method: str, language: str) -> float:
        values = effects.effects_of(scores, method, None, language)
        return stats.rank_correlation(values, lost[language])

    return {of: np.array([correlation(of, x) for x in languages]) for of in methods}


_SHOWS = (
    "Shows: exact ΔNLL when one head alone is switched off, and how well scores predict it.",
    "Does not show: what heads do together. Where one head stands in for another, both "
    "look idle here; and a head that hurts is needed, not proven to serve one language.",
)
KIND = Kind("knockout", "Exact knock-out", _SHOWS, _pictures, _tables, _summary)
