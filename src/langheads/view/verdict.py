"""What an ablation proves, in words: one answer for all languages, and one for each.

Primary is own minus others (the margin) against random heads. The share of rows whose own language
is hurt most is secondary: with few languages it is high by chance. A test with too few random head
sets cannot reach the level whatever the heads do, and is then no evidence against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.stats import ALPHA
from langheads.view.figures.style import names
from langheads.view.language_verdict import (
    CANNOT_TELL,
    NEEDED,
    NO_HEADS,
    by_outcome,
    each_unit,
    in_units,
    language_answers,
    overlap,
    reachable,
    same_heads,
)
from langheads.view.table import isolated, number, p_of, shown

# Fewer random head sets than this describe chance badly (the method recommends 100).
_FEW_CONTROLS = 100
"""The row of a specificity matrix that belongs to no language."""
_PROVEN = (
    "Proven on these texts: switching off a language's heads hurts that language more than the "
    "others, and more than random heads would, under zero and mean ablation alike."
)
_NOT_PROVEN = (
    "Not proven: no diagonal is shown. Under zero and mean ablation alike, switching off a "
    "language's heads is not shown to hurt that language more than chance would have it."
)
_TOGETHER = {
    "diagonal": "Over all of them together, heads off hurt their own language more than the "
    "others, and more than random heads would.",
    "none": "Over all of them together no diagonal is shown.",
}
_MEANS = (
    "What this means: these heads have high scores for a language, but nothing shows that the "
    "language depends on them more than others do. Do not call them its language heads; other "
    "heads may take over their work, or the scores may point at something else."
)


@dataclass(frozen=True)
class Verdict:
    """Whether the heads are proven to carry their languages."""

    state: str  # ``yes``, ``no`` or ``open``
    headline: str  # the answer
    reasons: Sequence[str]  # sentences


def verdict(ablation: xr.Dataset) -> Verdict:
    """The answer of a specificity matrix; yes or no only where zero and mean ablation agree.

    Args:
        ablation: dataset of kind ``ablation``.
    """
    baselines = names(ablation, "baseline")
    reasons = _reasons(ablation, baselines)
    scored = overlap(ablation)
    if scored > 0:
        used = "was" if scored == 1 else "were"
        return Verdict(
            "open",
            "No verdict: the heads were tried on documents that they were chosen with.",
            [f"{scored} of the proof documents {used} used for scoring.", *reasons],
        )
    if scored < 0:
        reasons.append(
            "The texts are not those that were scored, so it could not be checked whether a proof "
            "document was used for scoring."
        )
    for name in NEEDED:
        if name not in baselines:
            needed = "and a verdict needs zero and mean"
            headline = f"No verdict: {name} ablation was not run, {needed}."
            return Verdict("open", headline, reasons)
    found = {_shown(ablation, name) for name in baselines}
    answers = {x: said for x, said in language_answers(ablation).items() if said != NO_HEADS}
    yes = [language for language, said in answers.items() if said == "yes"]
    counted = _counted(answers)
    if found == {"diagonal"} and len(yes) == len(answers):
        return Verdict("yes", f"{_PROVEN} Language by language: {counted}.", reasons)
    if found == {"none"} and not yes:
        return Verdict("no", _NOT_PROVEN, [*reasons, _MEANS])
    if len(found) == 1 and found <= set(_TOGETHER):
        differ = "Not the same for all" if len(set(answers.values())) > 1 else "No verdict"
        return Verdict("open", f"{differ}: {counted}. {together(ablation)}", reasons)
    said = _shown_words(ablation, baselines)
    return Verdict("open", f"No verdict: {said}. By language: {counted}.", reasons)


def together(ablation: xr.Dataset) -> str:
    """A sentence on what the rows show together, under each baseline."""
    baselines = names(ablation, "baseline")
    found = {_shown(ablation, name) for name in baselines}
    if len(found) == 1 and found <= set(_TOGETHER):
        return _TOGETHER[found.pop()]
    return f"Over all of them together, {_shown_words(ablation, baselines)}."


def _counted(answers: Mapping[str, str]) -> str:
    """How many languages are proven, which, and the answers for the others."""
    groups: dict[str, list[str]] = {"yes": []}
    for language, said in answers.items():
        groups.setdefault(said, []).append(isolated(language))
    yes = groups.pop("yes")
    words = f"{len(yes)} of {len(answers)}" + (f": {', '.join(yes)}" if yes else "")
    return "; ".join([words, *(f"{said}: {', '.join(of)}" for said, of in groups.items())])


def _reasons(ablation: xr.Dataset, baselines: list[str]) -> list[str]:
    """The sentences below every headline."""
    reasons = [_statistic_words(ablation, name) for name in baselines]
    reasons.append(
        "Own minus others is how much more a text loses without its own language's heads than the "
        "other texts do on average; p is the share of random choices of heads, matched layer by "
        f"layer and in number, that do at least as well, and below {ALPHA} counts as shown."
    )
    if "unit" in ablation.dims:
        reasons.append(
            "Which language is hurt most depends on the unit, so an answer counts only where it is "
            f"the same in each: {', '.join(names(ablation, 'unit'))} (ΔNLL over that of random "
            "heads of the same layers on the same text, as a share of its row, so that heads which "
            "are merely strong gain nothing)."
        )
    reasons += [*_share_words(ablation), *same_heads(ablation, "heads_of")]
    said = _counted(language_answers(ablation))
    reasons.append(f"Language by language, do these heads carry it? {said}.")
    beside = _controls(ablation)
    if min(beside, default=0) < _FEW_CONTROLS:
        reasons.append(
            f"Only {min(beside, default=0):.0f} random head sets stand beside the row that has "
            f"fewest; {_FEW_CONTROLS} or more make a p-value worth quoting."
        )
    return reasons


def _controls(ablation: xr.Dataset) -> list[float]:
    """The number of random head sets of each row that has heads."""
    rows = [x for x in names(ablation, "heads_of") if number(ablation, "n_heads", heads_of=x)]
    if "n_controls" in ablation:
        return [number(ablation, "n_controls", heads_of=row) for row in rows]
    return [float(ablation.sizes.get("control", 0)) for _ in rows]


def _shown(ablation: xr.Dataset, baseline: str) -> str:
    """``diagonal``, ``unit`` (in some units), ``none``, ``cannot tell`` or ``untested``.

    ``cannot tell``: too few random head sets for p to be below the level.
    """
    margin = number(ablation, "own_minus_others", baseline=baseline)
    p = number(ablation, "own_minus_others_p", baseline=baseline)
    if not np.isfinite([margin, p]).all():
        return "untested"
    shown = _units_shown(ablation, baseline).values()
    if any(shown):
        return "diagonal" if all(shown) else "unit"
    if margin <= 0 or reachable(_draws(ablation, baseline)):
        return "none"
    return CANNOT_TELL


def _units_shown(ablation: xr.Dataset, baseline: str) -> dict[str, bool]:
    """Unit -> whether own minus others is above 0 and above that of random heads."""
    margin, p = (
        in_units(ablation, name).sel(baseline=baseline)
        for name in ("own_minus_others", "own_minus_others_p")
    )
    return each_unit((margin > 0) & (p < ALPHA))


def _draws(ablation: xr.Dataset, baseline: str) -> float:
    """How many matrices of random heads p is from; older files have only their controls."""
    known = number(ablation, "null_matrices", baseline=baseline)
    return known if np.isfinite(known) else float(ablation.sizes.get("control", 0))


def _shown_words(ablation: xr.Dataset, baselines: list[str]) -> str:
    """What the ablations show, grouped by what they show."""
    groups: dict[str, list[str]] = {}
    for name in baselines:
        groups.setdefault(_shown_by(ablation, name), []).append(name)
    return ", ".join(f"{' and '.join(of)} ablation {said}" for said, of in groups.items())


def _shown_by(ablation: xr.Dataset, baseline: str) -> str:
    draws = _draws(ablation, baseline)
    least = f"(with {draws:.0f} draws of random heads p is at least {1 / (1 + draws):.2g})"
    shown = {
        "diagonal": "shows a diagonal",
        "unit": f"shows a diagonal in {by_outcome(_units_shown(ablation, baseline))}",
        "none": "shows none",
        CANNOT_TELL: f"cannot tell {least}",
        "untested": "could not be tested",
    }
    return shown[_shown(ablation, baseline)]


def _statistic_words(ablation: xr.Dataset, baseline: str) -> str:
    margin = number(ablation, "own_minus_others", baseline=baseline)
    if not np.isfinite(margin):
        return f"{baseline.capitalize()} ablation: no diagonal statistic."
    words = (
        f"{baseline.capitalize()} ablation: own minus others is {shown(margin)} nats per byte "
        f"({p_of(ablation, 'own_minus_others_p', baseline=baseline)})"
    )
    share = number(ablation, "diagonal_share", baseline=baseline)
    if np.isfinite(share):
        words += (
            f"; the own language is hurt most in {100 * share:.0f}% of the head sets "
            f"({p_of(ablation, 'diagonal_p', baseline=baseline)})"
        )
    return f"{words}."


def _share_words(ablation: xr.Dataset) -> list[str]:
    """A sentence that the share alone shows nothing, if only the margin does."""
    weak = [
        name
        for name in names(ablation, "baseline")
        if _shown(ablation, name) == "diagonal"
        and number(ablation, "diagonal_p", baseline=name) >= ALPHA
    ]
    if not weak:
        return []
    return [f"Under {' and '.join(weak)} ablation the share alone does not show it."]


def proves(ablation: xr.Dataset, heads: LanguageHeads) -> bool:
    """Whether the heads that were off are those of `heads`, in every row that the proof has."""
    if "heads" not in ablation:
        return True
    return all(
        {str(head) for head in heads.by_name.get(row, ())} == set(str(off).split())
        for row, off in zip(names(ablation, "heads_of"), ablation["heads"].values, strict=True)
    )


def proofs_of_other_heads(
    ablations: Mapping[str, xr.Dataset], head_sets: Mapping[str, LanguageHeads]
) -> Iterator[str]:
    """Sentences on proofs of other heads than the first head set's; both by file name."""
    first = next(iter(head_sets), None)
    for name, ablation in ablations.items():
        if first is None or proves(ablation, head_sets[first]):
            continue
        whose = [other for other, heads in head_sets.items() if proves(ablation, heads)]
        yield f"The proof in {name} is of other heads than those in {first}" + (
            f": it is of those in {whose[0]}." if whose else "."
        )
