"""What an ablation proves for each language by itself, with p corrected over the languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr
from scipy.stats import false_discovery_control

from langheads.stats import ALPHA
from langheads.view.figures.style import names
from langheads.view.table import NONE, Table, count, decimal, isolated, number, shown

NEEDED = ("zero", "mean")
_PAIRED = "own_minus_others_paired"  # nats per document, of aligned texts
CANNOT_TELL = "cannot tell"
NO_HEADS = "no specific heads"
NOT_SHOWN = "not shown"


def overlap(ablation: xr.Dataset) -> int:
    """Proof documents that were used for scoring; -1 where that could not be checked."""
    known = ablation.attrs.get("overlap", 0)
    return int(known) if isinstance(known, (int, np.integer)) else -1


def reachable(controls: float) -> bool:
    """Whether a p-value from so many random head sets can be below `ALPHA`."""
    return 1 / (1 + controls) < ALPHA


def language_verdicts(ablation: xr.Dataset) -> Table:
    """Per language: ΔNLL of its own text, largest ΔNLL of another, and what both baselines say."""
    baselines = names(ablation, "baseline")
    header = ["heads of", "heads"]
    for name in baselines:
        header += [f"own ΔNLL, {name}", f"largest other ΔNLL, {name}"]
        header += [f"corrected p, {name}"] if "control_p" in ablation else []
        header += [f"own minus others a document, {name}"] if _PAIRED in ablation else []
    rows = []
    corrected = {name: corrected_p(ablation, name) for name in baselines}
    for language, answer in language_answers(ablation).items():
        row = [language, count(number(ablation, "n_heads", heads_of=language))]
        for name in baselines:
            row += own_and_other(ablation, name, language)
            if "control_p" in ablation:
                p = corrected[name][language]
                row.append(shown(p, ".2g"))
            if _PAIRED in ablation:
                at = {"baseline": name, "heads_of": language}
                paired = (number(ablation, f"{_PAIRED}{end}", **at) for end in ("", "_se", "_p"))
                row.append("{} ± {} (p = {})".format(*map(shown, paired, (".3g", ".2g", ".2g"))))
        rows.append([*row, answer])
    return Table(
        "ΔNLL (increase in loss) when a language's heads are off, in nats per byte; in brackets in "
        "percent of that text's loss with nothing off. Yes: under zero and mean ablation alike, "
        "the own language is hurt most in every unit (nats per byte, per token, share of the loss, "
        "and against what random heads cost it), and both its ΔNLL and how much of the row falls "
        "on it alone are beyond random heads (p < "
        f"{ALPHA}, one-sided, corrected over the languages after Benjamini and Hochberg). No: "
        "another language is hurt as much, under both. Not shown: random heads may do as well.",
        [*header, "carries its language"],
        rows,
    )


def _own_p(ablation: xr.Dataset, baseline: str, language: str) -> float:
    """The larger p of two: random heads hurt it as much, or are as specific to it."""
    at = {"baseline": baseline, "heads_of": language}
    p = number(ablation, "control_p", **at, text_of=language)
    if "specific_p" not in ablation:
        return p
    return float(np.maximum(p, number(ablation, "specific_p", **at)))


def corrected_p(ablation: xr.Dataset, baseline: str) -> dict[str, float]:
    """Language -> p of its own text, corrected over the languages that have one.

    After Benjamini and Hochberg: of the languages whose p is below the level, the expected share by
    chance is at most the level.
    """
    p = {x: _own_p(ablation, baseline, x) for x in _languages(ablation)}
    finite = {language: value for language, value in p.items() if np.isfinite(value)}
    corrected = false_discovery_control(list(finite.values())) if finite else []
    return p | dict(zip(finite, map(float, corrected), strict=True))


def language_answers(ablation: xr.Dataset) -> dict[str, str]:
    """Language -> ``yes``, ``no``, `NOT_SHOWN`, `NO_HEADS`, or `CANNOT_TELL` with the reason."""
    corrected = {name: corrected_p(ablation, name) for name in names(ablation, "baseline")}
    return {x: _language_verdict(ablation, x, corrected) for x in _languages(ablation)}


def _languages(ablation: xr.Dataset) -> list[str]:
    """Languages with a row and a text."""
    return [x for x in names(ablation, "heads_of") if x in names(ablation, "text_of")]


def _language_verdict(
    ablation: xr.Dataset, language: str, corrected: Mapping[str, Mapping[str, float]]
) -> str:
    """A language's answer, from p by baseline and language."""
    if not number(ablation, "n_heads", heads_of=language):
        return NO_HEADS
    if overlap(ablation) > 0:
        return f"{CANNOT_TELL}: proof documents were scored"
    if not set(NEEDED) <= set(names(ablation, "baseline")):
        return f"{CANNOT_TELL}: needs zero and mean ablation"
    controls = number(ablation, "n_controls", heads_of=language)
    if "control_p" not in ablation or not np.isfinite(controls):
        return f"{CANNOT_TELL}: the file has no p for it"
    if not reachable(controls):
        return f"{CANNOT_TELL}: too few random heads"
    said = set()
    own_text = np.array(names(ablation, "text_of")) == language
    for name in names(ablation, "baseline"):
        row = ablation["delta_nats_per_byte"].sel(baseline=name, heads_of=language).values
        own, others = row[own_text], row[~own_text]
        p = _own_p(ablation, name, language)
        if not np.isfinite([*own, p]).all() or not np.isfinite(others).any():
            return f"{CANNOT_TELL}: nothing to compare with"
        most = _hurt_most(ablation, name, language, own_text)
        if not any(most.values()):
            said.add("no")
        elif not all(most.values()):
            said.add(f"{CANNOT_TELL}: hurt most in {by_outcome(most)}")
        elif corrected[name][language] < ALPHA:
            said.add("yes")
        else:
            # No random set does as well, so p is the smallest possible.
            least = p <= 1 / (1 + controls)
            said.add(
                f"{CANNOT_TELL}: too few random heads for so many languages" if least else NOT_SHOWN
            )
    if said == {"no", NOT_SHOWN}:
        return NOT_SHOWN
    return said.pop() if len(said) == 1 else f"{CANNOT_TELL}: baselines disagree"


def in_units(ablation: xr.Dataset, name: str) -> xr.DataArray:
    """A variable in every unit; older files have only their own."""
    if f"{name}_by_unit" in ablation:
        return ablation[f"{name}_by_unit"]
    return ablation[name].expand_dims(unit=["nats per byte"])


def each_unit(shown: xr.DataArray) -> dict[str, bool]:
    """Unit -> whether the diagonal is shown in it."""
    return dict(zip(map(str, shown["unit"].values), shown.values.tolist(), strict=True))


def by_outcome(shown: Mapping[str, bool]) -> str:
    """The units in which something is shown, and the others, in words."""
    yes, no = ([unit for unit, is_so in shown.items() if is_so is of] for of in (True, False))
    return ", ".join(yes) + (f" (not in {', '.join(no)})" if no else "")


def _hurt_most(
    ablation: xr.Dataset, baseline: str, language: str, own_text: np.ndarray
) -> dict[str, bool]:
    """Unit -> whether no other language is hurt as much by this one's heads."""
    name = "delta" if "delta_by_unit" in ablation else "delta_nats_per_byte"
    delta = in_units(ablation, name).sel(baseline=baseline, heads_of=language)
    of_texts = delta.transpose("text_of", "unit").values
    most = of_texts[own_text][0] > np.fmax.reduce(of_texts[~own_text])
    return dict(zip(map(str, delta["unit"].values), most.tolist(), strict=True))


def same_heads(result: xr.Dataset, over: str) -> Iterator[str]:
    """Sentences on languages of a dimension that have the same heads."""
    rows: dict[frozenset[str], list[str]] = {}
    if "heads" in result:
        for row, off in zip(names(result, over), result["heads"].values, strict=True):
            rows.setdefault(frozenset(str(off).split()), []).append(isolated(row))
    for off, of in rows.items():
        if off and len(of) > 1:
            yield f"The rows of {', '.join(of)} are the same heads ({' '.join(sorted(off))})."


def own_and_other(ablation: xr.Dataset, baseline: str, language: str) -> list[str]:
    """ΔNLL of the own text, and the largest ΔNLL of another with its language, as cells."""
    if language not in names(ablation, "heads_of") or language not in names(ablation, "text_of"):
        return [NONE, NONE]
    row = ablation["delta_nats_per_byte"].sel(baseline=baseline, heads_of=language)
    others = row.drop_sel(text_of=language)

    def cell(text: str, name: str = "") -> str:
        delta = float(row.sel(text_of=text))
        if not np.isfinite(delta):
            return NONE
        before = number(ablation, "nats_per_byte", text_of=text)
        # A value that rounds to 0 has no minus.
        percent = shown(round(100 * delta / before, 2) + 0.0, "+.2f") + "%" if before > 0 else ""
        beside = ", ".join(filter(None, (percent, name)))
        return decimal(delta, 4) + (f" ({beside})" if beside else "")

    if not np.isfinite(others.values).any():
        return [cell(language), NONE]
    worst = str(others["text_of"].values[int(np.nanargmax(others.values))])
    return [cell(language), cell(worst, worst)]
