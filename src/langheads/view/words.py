"""What saved results say, in words and tables; the report page shows them, nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from langheads.heads import HeadSet, LanguageHeads
from langheads.view.figures import Planted, scored_methods
from langheads.view.matrix import control_range
from langheads.view.style import names

# A p-value below this counts as shown.
LEVEL = 0.05
# Fewer random head sets than this describe chance badly (the method asks for 100).
_FEW_CONTROLS = 100
_NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: one sentence.
        header: column names.
        rows: cells; the first of a row names it.
        folded: shown only when the reader opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


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

    A baseline shows a diagonal when own-minus-others is above 0 and both its p-value and that of
    the diagonal share are below 0.05.

    Args:
        ablation: dataset of kind ``ablation``.
    """
    baselines = names(ablation, "baseline")
    found = {name: _shows_diagonal(ablation, name) for name in baselines}
    reasons = [_statistic_words(ablation, name) for name in baselines]
    reasons.append(
        "p is the share of random choices of heads, matched layer by layer and in number, that do "
        f"at least as well; below {LEVEL} counts as shown."
    )
    reasons.append(_language_words(ablation))
    controls = ablation.sizes.get("control", 0)
    if controls < _FEW_CONTROLS:
        reasons.append(
            f"Only {controls} random head sets a row were drawn; {_FEW_CONTROLS} or more make a "
            "p-value worth quoting."
        )
    missing = [name for name in ("zero", "mean") if name not in found]
    if missing:
        headline = (
            f"No verdict: {missing[0]} ablation was not run, and a verdict needs zero and mean."
        )
        return Verdict("open", headline, reasons)
    if None in found.values():
        return Verdict("open", "No verdict: the diagonal could not be tested.", reasons)
    if all(found.values()):
        headline = (
            "Proven on these texts: switching off a language's heads hurts that language more than "
            "the others, and more than random heads would, under zero and mean ablation alike."
        )
        return Verdict("yes", headline, reasons)
    if not any(found.values()):
        headline = (
            "Not proven: there is no diagonal. Under zero and mean ablation alike, switching off a "
            "language's heads does not hurt that language more than chance would have it."
        )
        reasons.append(
            "What this means: these heads have high scores for a language, but the language does "
            "not depend on them more than others do. Do not call them its language heads; other "
            "heads may take over their work, or the scores may point at something else."
        )
        return Verdict("no", headline, reasons)
    shown = [name for name, diagonal in found.items() if diagonal]
    not_shown = [name for name, diagonal in found.items() if not diagonal]
    headline = (
        f"No verdict: {', '.join(shown)} ablation shows a diagonal, {', '.join(not_shown)} "
        "ablation does not."
    )
    return Verdict("open", headline, reasons)


def _shows_diagonal(ablation: xr.Dataset, baseline: str) -> bool | None:
    keys = ("own_minus_others", "diagonal_p", "own_minus_others_p")
    margin, share_p, margin_p = (_number(ablation, key, baseline=baseline) for key in keys)
    if not np.isfinite([margin, share_p, margin_p]).all():
        return None
    return margin > 0 and share_p < LEVEL and margin_p < LEVEL


def _statistic_words(ablation: xr.Dataset, baseline: str) -> str:
    share = _number(ablation, "diagonal_share", baseline=baseline)
    if not np.isfinite(share):
        return f"{baseline.capitalize()} ablation: no diagonal statistic."
    return (
        f"{baseline.capitalize()} ablation: the own language is hurt most in {100 * share:.0f}% of "
        f"the head sets (p = {_number(ablation, 'diagonal_p', baseline=baseline):.2g}); own minus "
        f"others is {_number(ablation, 'own_minus_others', baseline=baseline):.3g} nats per byte "
        f"(p = {_number(ablation, 'own_minus_others_p', baseline=baseline):.2g})."
    ).replace("is -", "is −")


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
        header += [f"own rise, {name}", f"largest other rise, {name}"]
    rows = []
    for language in names(ablation, "heads_of"):
        if language not in names(ablation, "text_of"):
            continue
        row = [language, _count(_number(ablation, "n_heads", heads_of=language))]
        for name in baselines:
            row += _own_and_other(ablation, name, language)
        rows.append([*row, _language_verdict(ablation, language)])
    return Table(
        "Rise in loss when a language's heads are off, in percent of its loss with nothing off. "
        "Yes: under zero and mean ablation alike, the own language is hurt most, and more than "
        "with 95% of the random head sets.",
        [*header, "carries its language"],
        rows,
    )


def _language_verdict(ablation: xr.Dataset, language: str) -> str:
    if not _number(ablation, "n_heads", heads_of=language):
        return "no specific heads"
    said = {}
    for name in names(ablation, "baseline"):
        row = ablation["delta_nats_per_byte"].sel(baseline=name, heads_of=language)
        own = float(row.sel(text_of=language))
        others = row.drop_sel(text_of=language).values
        high = control_range(ablation, name)[1]
        at = (
            names(ablation, "heads_of").index(language),
            names(ablation, "text_of").index(language),
        )
        if np.isfinite(own) and np.isfinite(high[at]) and np.isfinite(others).any():
            said[name] = bool(own > high[at] and own > np.nanmax(others))
    if not {"zero", "mean"} <= set(said):
        return "no verdict"
    if len(set(said.values())) > 1:
        return "no verdict: baselines disagree"
    return "yes" if all(said.values()) else "no"


def _own_and_other(ablation: xr.Dataset, baseline: str, language: str) -> list[str]:
    """Rise of the own text, and the largest rise of another with its language, in percent."""
    if language not in names(ablation, "heads_of") or language not in names(ablation, "text_of"):
        return [_NONE, _NONE]
    rise = 100 * ablation["delta_nats_per_byte"] / ablation["nats_per_byte"]
    row = rise.sel(baseline=baseline, heads_of=language)
    others = row.drop_sel(text_of=language)
    if not np.isfinite(others.values).any():
        return [_percent(float(row.sel(text_of=language))), _NONE]
    worst = str(others["text_of"].values[int(np.nanargmax(others.values))])
    return [
        _percent(float(row.sel(text_of=language))),
        f"{_percent(float(others.sel(text_of=worst)))} ({worst})",
    ]


def planted_table(
    planted: Planted, heads: LanguageHeads | None, ablation: xr.Dataset | None
) -> Table:
    """Planted heads, those found again, and the rises when a language's specific heads are off."""
    baselines = names(ablation, "baseline") if ablation is not None else []
    header = ["language", "planted heads"]
    header += ["found among its specific heads"] if heads else []
    for name in baselines:
        header += [f"own rise, {name}", f"largest other rise, {name}"]
    rows = []
    for language, pairs in planted.items():
        row = [language, " ".join(f"L{layer}H{head}" for layer, head in pairs)]
        if heads:
            row.append(f"{len(found_planted(planted, heads)[language])} of {len(pairs)}")
        if ablation is not None:
            for name in baselines:
                row += _own_and_other(ablation, name, language)
        rows.append(row)
    return Table(
        "Heads on which training made each language lean, and whether they were found. Rises are "
        "those of the specific heads found, off together, in percent of the loss with nothing off.",
        header,
        rows,
    )


def found_planted(planted: Planted, heads: LanguageHeads) -> dict[str, HeadSet]:
    """Language -> its planted heads that are among its specific heads."""
    return {
        language: HeadSet([(layer, head) for layer, head in pairs], heads.shape)
        & heads.specific.get(language, HeadSet([], heads.shape))
        for language, pairs in planted.items()
    }


def languages_table(scores: xr.Dataset) -> Table:
    """What each language was scored on."""
    columns = {
        "documents": "docs",
        "left out (too short)": "skipped",
        "predicted tokens": "tokens",
        "bytes": "bytes",
    }
    columns = {label: name for label, name in columns.items() if name in scores}
    with_loss = "nats_per_byte" in scores
    rows = []
    for language in names(scores, "language"):
        row = [language]
        row += [_count(_number(scores, name, language=language)) for name in columns.values()]
        if with_loss:
            row.append(f"{_number(scores, 'nats_per_byte', language=language):.4g}")
        rows.append(row)
    header = ["language", *columns, *(["loss, nats per byte"] if with_loss else [])]
    return Table("Texts that the scores were made on.", header, rows)


def heads_table(heads: LanguageHeads) -> Table:
    """The chosen heads, strongest first."""
    sets = [*heads.specific.items(), ("general", heads.general)]
    rows = [[name, str(len(chosen)), str(chosen) or _NONE] for name, chosen in sets]
    return Table(
        "Chosen heads, strongest first (L3H7 is head 7 of layer 3, both counted from 0).",
        ["language", "number", "heads"],
        rows,
    )


def matrix_table(ablation: xr.Dataset, baseline: str) -> Table:
    """The specificity matrix as numbers, with its standard error where the file has it."""
    at = ablation.sel(baseline=baseline)

    def cell(row: str, column: str) -> str:
        rise = _number(at, "delta_nats_per_byte", heads_of=row, text_of=column)
        error = _number(at, "delta_se", heads_of=row, text_of=column)
        if not np.isfinite(rise):
            return _NONE
        return f"{rise:.4f}" + (f" ± {error:.4f}" if np.isfinite(error) else "")

    columns = names(ablation, "text_of")
    return Table(
        f"{baseline.capitalize()} ablation: rise in nats per byte ± standard error; rows: heads "
        "off, columns: text.",
        ["heads of", *columns],
        [[row, *(cell(row, column) for column in columns)] for row in names(ablation, "heads_of")],
        folded=True,
    )


def provenance_table(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """What the results were made with; one line for a key on which all files agree."""
    sources = [(name, attrs) for name, attrs in sources if attrs]
    keys = dict.fromkeys(key for _, attrs in sources for key in attrs)
    rows = []
    for key in keys:
        if key in ("kind", "format"):
            continue
        values = {name: _plain(attrs[key]) for name, attrs in sources if key in attrs}
        if len(values) == len(sources) and len(set(values.values())) == 1:
            rows.append([key, "all files", next(iter(values.values()))])
        else:
            rows += [[key, name, value] for name, value in values.items()]
    return Table("What the results were made with.", ["setting", "file", "value"], rows)


def scored_words(scores: xr.Dataset) -> str:
    """One sentence: model, texts, how much of them."""
    docs = [int(n) for n in scores["docs"].values] if "docs" in scores else []
    amount = ""
    if docs:
        few, many = min(docs), max(docs)
        amount = f", {few if few == many else f'{few} to {many}'} documents a language"
    if "tokens" in scores:
        amount += f", {_count(float(scores['tokens'].sum()))} predicted tokens in all"
    return (
        f"Every head of {scores.attrs.get('model', 'a model unknown')} "
        f"({scores.sizes['layer']} layers of {scores.sizes['head']} heads) was scored on "
        f"{scores.attrs.get('text', 'texts unknown')}: {scores.sizes['language']} languages"
        f"{amount}. "
        f"Scores: {', '.join(scored_methods(scores)) or 'none known to this report'}."
    )


def chosen_words(heads: LanguageHeads) -> str:
    """One sentence: how many heads were chosen, by which rule."""
    numbers = ", ".join(
        f"{isolated(language)} {len(chosen)}" for language, chosen in heads.specific.items()
    )
    settings = {key: v for key, v in heads.rule.items() if key not in ("name", "listed")}
    rule = str(heads.rule.get("name", "not recorded"))
    if settings:
        rule += f" ({', '.join(f'{key} {_plain(value)}' for key, value in settings.items())})"
    return (
        f"Specific heads a language: {numbers or 'none'}; general heads: {len(heads.general)}. "
        f"Rule: {rule}."
    )


def isolated(name: str) -> str:
    """A name that keeps its own writing direction inside an English sentence."""
    return name if name.isascii() else f"\u2068{name}\u2069"


def _number(dataset: xr.Dataset, name: str, **at: str) -> float:
    """One value, NaN where the file does not have it."""
    if name not in dataset:
        return float("nan")
    variable = dataset[name]
    return float(variable.sel({k: v for k, v in at.items() if k in variable.dims}))


def _percent(value: float) -> str:
    return f"{value:+.2f}%".replace("-", "−") if np.isfinite(value) else _NONE


def _count(value: float) -> str:
    return f"{int(value):,}".replace(",", "\u202f") if np.isfinite(value) else _NONE


def _plain(value: Any) -> str:
    """A value as a person reads it; provenance holds JSON in strings."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return str(value) or _NONE
