"""What single heads do, shown alike for knock-outs, answers, attribution, scores and switching."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads.heads import Head, LanguageHeads
from langheads.view.contents import Picture, RunFolder
from langheads.view.figures.effects import effect_map, mapped
from langheads.view.figures.style import names
from langheads.view.table import NONE, Table, isolated

MAP = (
    "How to read it: each square is one head, layers from bottom to top; the same colour is the "
    "same score in every panel, and marks show the heads that were chosen."
)
OVERLAP = (
    "How to read it: neighbours rank heads alike. Languages that share most of their best heads "
    "have general heads there, or scores that do not tell languages apart."
)
_TOP = 5


def main_first(methods: list[str], heads: LanguageHeads | None) -> list[str]:
    """The score that the heads were chosen by comes first."""
    main = str(heads.rule.get("score", "")).replace("-", "_") if heads else ""
    return sorted(methods, key=lambda method: method != main)


def effect_pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    """A map of each measure, under each baseline."""
    caption = (
        "How to read it: each square is one head, layers from bottom to top; the scale beside it "
        "says what a colour is, and what was not measured is grey. Marks show the chosen heads."
    )
    for variable in mapped(result):
        for baseline in _baselines(result, variable):
            figure = effect_map(result, variable, baseline=baseline, heads=run.heads)
            yield Picture(figure, caption)


def effect_tables(
    result: xr.Dataset, run: RunFolder, variables: Sequence[str] = ()
) -> Iterator[Table]:
    """The heads with the largest effect in each language, a table a measure and baseline."""
    for variable in variables or mapped(result):
        for baseline in _baselines(result, variable):
            rows = [
                [language, *(_with_error(result, variable, baseline, language, h) for h in found)]
                for language in names(result, "language")
                if (found := _strongest(result, variable, baseline, language))
            ]
            width = max((len(row) for row in rows), default=1)
            under = f", {baseline} ablation" if baseline else ""
            yield Table(
                f"Heads with the largest effect, {variable.replace('_', ' ')}{under}, in "
                f"{_unit(result, variable)} ± standard error.",
                ["language", *(f"rank {i}" for i in range(1, width))],
                [[*row, *[NONE] * (width - len(row))] for row in rows],
            )


def strongest_words(result: xr.Dataset, what: str) -> Iterator[str]:
    """The head with the largest effect in each language, by the first measure.

    Args:
        result: of one of the kinds that `effect_map` draws.
        what: what such a head does.
    """
    for variable in mapped(result)[:1]:
        baseline = _baselines(result, variable)[0]
        found = [
            f"{isolated(language)} {_with_error(result, variable, baseline, language, head)}"
            for language in names(result, "language")
            for head in _strongest(result, variable, baseline, language)[:1]
        ]
        if found:
            yield f"{what}, in {_unit(result, variable)}: {'; '.join(found)}."


def effects_of(
    result: xr.Dataset, variable: str, baseline: str | None, language: str
) -> Float[np.ndarray, "layer head"]:
    """One language's values of a variable, under one baseline where it has any."""
    values = result[variable].sel(language=language)
    values = values if baseline is None else values.sel(baseline=baseline)
    return values.transpose("layer", "head").values.astype(float)


def _strongest(
    result: xr.Dataset, variable: str, baseline: str | None, language: str
) -> list[Head]:
    """Heads by falling effect; where a negative change is the harm, by rising."""
    values = effects_of(result, variable, baseline, language)
    if str(result[variable].attrs.get("sign", "")).startswith("negative"):
        values = -values
    order = np.argsort(-values, axis=None, kind="stable")[:_TOP]
    return [Head(*divmod(int(i), values.shape[1])) for i in order if np.isfinite(values.flat[i])]


def _with_error(
    result: xr.Dataset, variable: str, baseline: str | None, language: str, head: Head
) -> str:
    text = f"{head} {effects_of(result, variable, baseline, language)[head]:.3g}"
    if f"{variable}_se" in result:
        text += f" ± {effects_of(result, f'{variable}_se', baseline, language)[head]:.2g}"
    return text.replace("-", "−")


def _unit(result: xr.Dataset, variable: str) -> str:
    return str(result[variable].attrs.get("units", "unit unknown"))


def _baselines(result: xr.Dataset, variable: str) -> list[str | None]:
    return [*names(result, "baseline")] if "baseline" in result[variable].dims else [None]
