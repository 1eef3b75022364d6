"""What results about heads say, in tables and in sentences for the head of the report."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads import stats
from langheads.heads import Head
from langheads.heads.classes import HeadClasses
from langheads.view.cells import decimal, mean
from langheads.view.contents import RunFolder
from langheads.view.figures.effects import mapped
from langheads.view.figures.scores import scored_methods
from langheads.view.figures.style import METHODS, names
from langheads.view.words import NONE, Table, isolated

_TOP = 5


def knockout_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """The heads that cost most, and every score's rank correlation with what is lost."""
    tables = effect_tables(result, run, ["delta_nats_per_byte"])
    for name, scores in run.of("scores").items():
        rows = []
        languages = [x for x in names(result, "language") if x in names(scores, "language")]
        for method in scored_methods(scores):
            found = _correlations(scores, result, method, languages)
            rows.append([method.replace("_", "-"), *map(decimal, found), decimal(mean(found))])
        if rows and languages:
            caption = f"Spearman rank correlation of the scores in {name} with exact knock-out."
            tables.append(Table(caption, ["score", *languages, "mean"], rows))
    return tables


def knockout_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """How well the first scores foretell what is lost."""
    words = effect_words(result, run)
    for name, scores in run.of("scores").items():
        languages = [x for x in names(result, "language") if x in names(scores, "language")]
        found = {
            method: _correlations(scores, result, method, languages)
            for method in scored_methods(scores)
        }
        found = {method: row for method, row in found.items() if np.isfinite(row).any()}
        if not found:
            continue
        best = max(found, key=lambda method: mean(found[method]))
        words.append(
            f"Of the scores in {name}, {METHODS[best]} ranks heads most as exact knock-out does: "
            f"Spearman {decimal(mean(found[best]))} on average "
            f"({decimal(np.nanmin(found[best]))} to {decimal(np.nanmax(found[best]))})."
        )
    return words


def effect_tables(
    result: xr.Dataset, run: RunFolder, variables: list[str] | None = None
) -> list[Table]:
    """The heads with the largest effect in each language, a table a measure and baseline."""
    tables = []
    for variable in variables or mapped(result):
        for baseline in _baselines(result, variable):
            rows = [
                [language, *(_with_error(result, variable, baseline, language, h) for h in found)]
                for language in names(result, "language")
                if (found := strongest(result, variable, baseline, language))
            ]
            width = max((len(row) for row in rows), default=1)
            unit = str(result[variable].attrs.get("units", "unit unknown"))
            under = f", {baseline} ablation" if baseline else ""
            caption = (
                f"Heads with the largest effect, {variable.replace('_', ' ')}{under}, in {unit} ± "
                "standard error."
            )
            header = ["language", *(f"rank {i}" for i in range(1, width))]
            tables.append(
                Table(caption, header, [[*row, *[NONE] * (width - len(row))] for row in rows])
            )
    return tables


def effect_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """The head with the largest effect in each language, by the first measure."""
    variable = next(iter(mapped(result)), None)
    if variable is None:
        return []
    baseline = _baselines(result, variable)[0]
    found = []
    for language in names(result, "language"):
        heads = strongest(result, variable, baseline, language)
        if heads:
            value = _with_error(result, variable, baseline, language, heads[0])
            found.append(f"{isolated(language)} {value}")
    what = {
        "knockout": "Exact knock-out: the head that each language loses most without",
        "knockout-task": "Questions: the head without which answers get worst",
        "attribution": "Attribution: the head that speaks most for the right answer",
    }[str(result.attrs["kind"])]
    unit = str(result[variable].attrs.get("units", "unit unknown"))
    return [f"{what}, in {unit}: {'; '.join(found)}."] if found else []


def strongest(
    result: xr.Dataset, variable: str, baseline: str | None, language: str, top: int = _TOP
) -> list[Head]:
    """Heads by falling effect; where a negative change is the harm, by rising."""
    values = _of(result, variable, baseline, language)
    if str(result[variable].attrs.get("sign", "")).startswith("negative"):
        values = -values
    order = np.argsort(-values, axis=None, kind="stable")[:top]
    return [Head(*divmod(int(i), values.shape[1])) for i in order if np.isfinite(values.flat[i])]


def comparison_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Means over languages of every measure, and the lowest rank correlation of any."""
    measures = [
        name for name in result if result[name].dims == ("score", "language") and name != "spearman"
    ]
    header = ["score", "spearman, mean", "spearman, lowest"]
    header += [str(name).replace("_", " ") for name in measures]
    header += ["forwards of every document", "seconds"]
    rows = []
    for score in names(result, "score"):
        of = result.sel(score=score)
        spearman = of["spearman"].values
        lowest = np.nanmin(spearman) if np.isfinite(spearman).any() else np.nan
        row = [score, decimal(mean(spearman)), decimal(lowest)]
        row += [decimal(mean(of[name].values)) for name in measures]
        rows.append([*row, f"{float(of.forwards):.0f}", decimal(float(of.seconds), 1)])
    return [Table("Every score, means over languages.", header, rows)]


def comparison_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """Which score foretells knock-out best."""
    means = {
        score: mean(result["spearman"].sel(score=score).values)
        for score in names(result, "score")
        if score != "knockout"
    }
    means = {score: mean for score, mean in means.items() if np.isfinite(mean)}
    if not means:
        return []
    best = max(means, key=lambda score: means[score])
    return [
        f"Benchmark: of {len(means)} scores, {best} ranks heads most as exact knock-out does "
        f"(mean Spearman {decimal(means[best])})."
    ]


def deletion_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Area under the curves."""
    languages = names(result, "heads_of")
    rows = []
    for score in names(result, "score"):
        area = [float(result.area.sel(score=score, heads_of=x)) for x in languages]
        rows.append([score.replace("_", "-"), *map(decimal, area), decimal(mean(np.array(area)))])
    caption = (
        "Area under the deletion curve: own rise minus the mean of the other languages', share of "
        "the loss with nothing off, mean over the steps. Larger is better; 0 tells no language "
        "from another."
    )
    return [Table(caption, ["score", *languages, "mean"], rows)]


def deletion_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """Which score's heads hurt their own language most."""
    areas = {score: mean(result.area.sel(score=score).values) for score in names(result, "score")}
    areas = {score: area for score, area in areas.items() if np.isfinite(area)}
    if not areas:
        return []
    best = max(areas, key=lambda score: areas[score])
    return [
        f"Deletion: heads in the order of {best.replace('_', '-')} hurt their own language most "
        f"beyond the others, by {decimal(areas[best])} of its loss on average."
    ]


def class_tables(result: HeadClasses, run: RunFolder) -> list[Table]:
    """Heads in each class, how many chance gives, and which are shown to differ."""
    groups = {f"{name}-specific": heads for name, heads in result.specific.items()}
    distinct = {f"{name}-specific": heads for name, heads in result.distinct.items()}
    groups |= {"agnostic": result.agnostic, "other": result.other}
    rows = []
    for name, heads in groups.items():
        chance = result.expected_by_chance.get(name)
        shown = distinct.get(name)
        rows.append(
            [
                name,
                str(len(heads)),
                NONE if chance is None else f"{chance:.2g}",
                NONE if shown is None else f"{len(shown)}: {shown}" if shown else "0",
                NONE if name == "other" else str(heads.top(12)) or NONE,
            ]
        )
    caption = f"Heads in each class, by {result.rule['measure']}; the 12 strongest are named."
    header = ["class", "heads", "by chance at most", "shown to differ", "strongest"]
    return [Table(caption, header, rows)]


def class_words(result: HeadClasses, run: RunFolder) -> list[str]:
    """How many heads are in each class."""
    counts = ", ".join(f"{isolated(name)} {n}" for name, n in result.counts.items())
    shown = sum(map(len, result.distinct.values()))
    specific = sum(map(len, result.specific.values()))
    return [
        f"Classes of heads: {counts}. Of {specific} specific ones, {shown} are shown to differ "
        "between the two languages."
    ]


def _baselines(result: xr.Dataset, variable: str) -> list[str | None]:
    return [*names(result, "baseline")] if "baseline" in result[variable].dims else [None]


def _of(
    result: xr.Dataset, variable: str, baseline: str | None, language: str
) -> Float[np.ndarray, "layer head"]:
    values = result[variable].sel(language=language)
    values = values if baseline is None else values.sel(baseline=baseline)
    return values.transpose("layer", "head").values.astype(float)


def _with_error(
    result: xr.Dataset, variable: str, baseline: str | None, language: str, head: Head
) -> str:
    text = f"{head} {_of(result, variable, baseline, language)[head]:.3g}"
    if f"{variable}_se" in result:
        text += f" ± {_of(result, f'{variable}_se', baseline, language)[head]:.2g}"
    return text.replace("-", "−")


def _correlations(
    scores: xr.Dataset, exact: xr.Dataset, method: str, languages: list[str]
) -> Float[np.ndarray, " language"]:
    if "zero" not in names(exact, "baseline"):
        return np.full(len(languages), np.nan)
    return np.array(
        [
            stats.rank_correlation(
                _of(scores, method, None, language),
                _of(exact, "delta_nats_per_token", "zero", language),
            )
            for language in languages
        ]
    )
