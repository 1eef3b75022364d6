"""What an ablation proves, in words: one answer for all languages, and one for each.

Primary is own minus others (the margin) against random heads. The share of rows whose own language
is hurt most stands beside it: with few languages it is high by chance. A test with too few random
head sets cannot reach the level whatever the heads do, and then says nothing against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.view.figures.style import LEVEL, names
from langheads.view.table import NONE, Table, count, isolated, number

# Fewer random head sets than this describe chance badly (the method asks for 100).
_FEW_CONTROLS = 100
_NEEDED = ("zero", "mean")
_CANNOT_TELL = "cannot tell"
GENERAL = "general"
"""The row of a specificity matrix that belongs to no language."""
_PROVEN = (
    "Proven on these texts: switching off a language's heads hurts that language more than the "
    "others, and more than random heads would, under zero and mean ablation alike."
)
_NOT_PROVEN = (
    "Not proven: there is no diagonal. Under zero and mean ablation alike, switching off a "
    "language's heads does not hurt that language more than chance would have it."
)
_MEANS = (
    "What this means: these heads have high scores for a language, but nothing shows that the "
    "language depends on them more than others do. Do not call them its language heads; other "
    "heads may take over their work, or the scores may point at something else."
)


@dataclass(frozen=True)
class Verdict:
    """Whether the heads are proven to carry their languages.

    Attributes:
        state: ``yes``, ``no`` or ``open``.
        headline: the answer.
        reasons: sentences.
    """

    state: str
    headline: str
    reasons: Sequence[str]


def verdict(ablation: xr.Dataset) -> Verdict:
    """The answer of a specificity matrix; yes or no only where zero and mean ablation agree.

    Args:
        ablation: dataset of kind ``ablation``.
    """
    baselines = names(ablation, "baseline")
    reasons = _reasons(ablation, baselines)
    overlap = _overlap(ablation)
    if overlap > 0:
        used = "was" if overlap == 1 else "were"
        return Verdict(
            "open",
            "No verdict: the heads were tried on documents that they were chosen with.",
            [f"{overlap} of the proof documents {used} used for scoring.", *reasons],
        )
    if overlap < 0:
        reasons.append(
            "The texts are not those that were scored, so it could not be checked whether a proof "
            "document was used for scoring."
        )
    for name in _NEEDED:
        if name not in baselines:
            needed = "and a verdict needs zero and mean"
            headline = f"No verdict: {name} ablation was not run, {needed}."
            return Verdict("open", headline, reasons)
    found = {_shown(ablation, name) for name in baselines}
    if found == {"diagonal"}:
        return Verdict("yes", _PROVEN, reasons)
    if found == {"none"}:
        return Verdict("no", _NOT_PROVEN, [*reasons, _MEANS])
    said = [_shown_words(ablation, name) for name in baselines]
    return Verdict("open", f"No verdict: {', '.join(said)}.", reasons)


def _reasons(ablation: xr.Dataset, baselines: list[str]) -> list[str]:
    """What stands below every headline."""
    reasons = [_statistic_words(ablation, name) for name in baselines]
    reasons.append(
        "p is the share of random choices of heads, matched layer by layer and in number, that do "
        f"at least as well; below {LEVEL} counts as shown."
    )
    reasons += [*_share_words(ablation), _language_words(ablation)]
    controls = ablation.sizes.get("control", 0)
    if controls < _FEW_CONTROLS:
        reasons.append(
            f"Only {controls} random head sets a row were drawn; {_FEW_CONTROLS} or more make a "
            "p-value worth quoting."
        )
    return reasons


def _overlap(ablation: xr.Dataset) -> int:
    """Proof documents that were used for scoring; -1 where that could not be checked."""
    overlap = ablation.attrs.get("overlap", 0)
    return int(overlap) if isinstance(overlap, (int, np.integer)) else -1


def _reachable(controls: int) -> bool:
    """Whether a p-value from so many random head sets can be below the level."""
    return 1 / (1 + controls) < LEVEL


def _shown(ablation: xr.Dataset, baseline: str) -> str:
    """``diagonal``, ``none``, ``cannot tell`` (too few random head sets) or ``untested``."""
    margin = number(ablation, "own_minus_others", baseline=baseline)
    p = number(ablation, "own_minus_others_p", baseline=baseline)
    if not np.isfinite([margin, p]).all():
        return "untested"
    if margin > 0 and p < LEVEL:
        return "diagonal"
    if margin <= 0 or _reachable(ablation.sizes.get("control", 0)):
        return "none"
    return _CANNOT_TELL


def _shown_words(ablation: xr.Dataset, baseline: str) -> str:
    controls = ablation.sizes.get("control", 0)
    least = f"(with {controls} random head sets p is at least {1 / (1 + controls):.2g})"
    shown = {
        "diagonal": "shows a diagonal",
        "none": "shows none",
        _CANNOT_TELL: f"cannot tell {least}",
        "untested": "could not be tested",
    }
    return f"{baseline} ablation {shown[_shown(ablation, baseline)]}"


def _statistic_words(ablation: xr.Dataset, baseline: str) -> str:
    margin = number(ablation, "own_minus_others", baseline=baseline)
    if not np.isfinite(margin):
        return f"{baseline.capitalize()} ablation: no diagonal statistic."

    def p(name: str) -> str:
        value = number(ablation, name, baseline=baseline)
        return f"p = {value:.2g}" if np.isfinite(value) else "no p-value"

    words = (
        f"{baseline.capitalize()} ablation: own minus others is {margin:.3g} nats per byte "
        f"({p('own_minus_others_p')})"
    ).replace("is -", "is −")
    share = number(ablation, "diagonal_share", baseline=baseline)
    if np.isfinite(share):
        words += (
            f"; the own language is hurt most in {100 * share:.0f}% of the head sets "
            f"({p('diagonal_p')})"
        )
    return f"{words}."


def _share_words(ablation: xr.Dataset) -> list[str]:
    """That the share alone shows nothing, where only the margin does."""
    weak = [
        name
        for name in names(ablation, "baseline")
        if _shown(ablation, name) == "diagonal"
        and number(ablation, "diagonal_p", baseline=name) >= LEVEL
    ]
    if not weak:
        return []
    return [
        f"Under {' and '.join(weak)} ablation the share alone does not show it: by chance the own "
        f"language is hurt most in 1 of {ablation.sizes['text_of']} head sets, one for each "
        "language."
    ]


def _language_words(ablation: xr.Dataset) -> str:
    grouped: dict[str, list[str]] = {}
    for row in language_verdicts(ablation).rows:
        grouped.setdefault(row[-1], []).append(isolated(row[0]))
    said = "; ".join(f"{answer}: {', '.join(group)}" for answer, group in grouped.items())
    return f"Language by language, do these heads carry it? {said or 'none to judge'}."


def language_verdicts(ablation: xr.Dataset) -> Table:
    """Per language: rise of its own text, largest rise of another, and what both baselines say."""
    baselines = names(ablation, "baseline")
    header = ["heads of", "heads"]
    for name in baselines:
        header += [f"own ΔNLL, {name}", f"largest other ΔNLL, {name}"]
        header += [f"p, {name}"] if "control_p" in ablation else []
    rows = []
    for language in names(ablation, "heads_of"):
        if language not in names(ablation, "text_of"):
            continue
        row = [language, count(number(ablation, "n_heads", heads_of=language))]
        for name in baselines:
            row += own_and_other(ablation, name, language)
            if "control_p" in ablation:
                p = _own_p(ablation, name, language)
                row.append(f"{p:.2g}" if np.isfinite(p) else NONE)
        rows.append([*row, _language_verdict(ablation, language)])
    return Table(
        "ΔNLL (rise in loss) when a language's heads are off, in nats per byte; in brackets in "
        "percent of that text's loss with nothing off. Yes: under zero and mean ablation alike, "
        "the own language is hurt most, and more than with random heads (p < "
        f"{LEVEL}, one-sided). No: under neither.",
        [*header, "carries its language"],
        rows,
    )


def _own_p(ablation: xr.Dataset, baseline: str, language: str) -> float:
    at = {"baseline": baseline, "heads_of": language, "text_of": language}
    return number(ablation, "control_p", **at)


def _language_verdict(ablation: xr.Dataset, language: str) -> str:
    if not number(ablation, "n_heads", heads_of=language):
        return "no specific heads"
    if _overlap(ablation) > 0:
        return f"{_CANNOT_TELL}: proof documents were scored"
    if not set(_NEEDED) <= set(names(ablation, "baseline")):
        return f"{_CANNOT_TELL}: needs zero and mean ablation"
    controls = number(ablation, "n_controls", heads_of=language)
    if "control_p" not in ablation or not np.isfinite(controls):
        return f"{_CANNOT_TELL}: the file has no p for it"
    if not _reachable(int(controls)):
        return f"{_CANNOT_TELL}: too few random heads"
    said = set()
    for name in names(ablation, "baseline"):
        row = ablation["delta_nats_per_byte"].sel(baseline=name, heads_of=language)
        own, p = float(row.sel(text_of=language)), _own_p(ablation, name, language)
        others = row.drop_sel(text_of=language).values
        if not np.isfinite([own, p]).all() or not np.isfinite(others).any():
            return f"{_CANNOT_TELL}: nothing to compare with"
        said.add(bool(own > np.nanmax(others) and p < LEVEL))
    if len(said) > 1:
        return f"{_CANNOT_TELL}: baselines disagree"
    return "yes" if said == {True} else "no"


def own_and_other(ablation: xr.Dataset, baseline: str, language: str) -> list[str]:
    """Rise of the own text, and the largest rise of another with its language, as cells."""
    if language not in names(ablation, "heads_of") or language not in names(ablation, "text_of"):
        return [NONE, NONE]
    row = ablation["delta_nats_per_byte"].sel(baseline=baseline, heads_of=language)
    others = row.drop_sel(text_of=language)

    def cell(text: str, name: str = "") -> str:
        rise = float(row.sel(text_of=text))
        if not np.isfinite(rise):
            return NONE
        before = number(ablation, "nats_per_byte", text_of=text)
        percent = f"{100 * rise / before:+.2f}%" if before > 0 else ""
        beside = ", ".join(filter(None, (percent.replace("-", "−"), name)))
        return f"{rise:.4f}".replace("-", "−") + (f" ({beside})" if beside else "")

    if not np.isfinite(others.values).any():
        return [cell(language), NONE]
    worst = str(others["text_of"].values[int(np.nanargmax(others.values))])
    return [cell(language), cell(worst, worst)]


def proves(ablation: xr.Dataset, heads: LanguageHeads) -> bool:
    """Whether the heads that were off are those of `heads`, in every row that the proof has."""
    if "heads" not in ablation:
        return True
    chosen = heads.specific | {GENERAL: heads.general}
    return all(
        {str(head) for head in chosen.get(row, ())} == set(str(off).split())
        for row, off in zip(names(ablation, "heads_of"), ablation["heads"].values, strict=True)
    )


def proofs_of_other_heads(
    ablations: Mapping[str, xr.Dataset], head_sets: Mapping[str, LanguageHeads]
) -> Iterator[str]:
    """Sentences about proofs of other heads than those of the first head set.

    Args:
        ablations: file name -> proof.
        head_sets: file name -> head set.
    """
    first = next(iter(head_sets), None)
    for name, ablation in ablations.items():
        if first is None or proves(ablation, head_sets[first]):
            continue
        whose = [other for other, heads in head_sets.items() if proves(ablation, heads)]
        yield f"The proof in {name} is of other heads than those in {first}" + (
            f": it is of those in {whose[0]}." if whose else "."
        )
