"""What saved results say, in words and tables; the report page shows them, nothing is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from langheads.heads import HeadSet, LanguageHeads
from langheads.view.figures.scores import Planted, scored_methods
from langheads.view.figures.style import names

# The row of a specificity matrix that belongs to no language.
GENERAL = "general"
NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: one sentence.
        header: column names.
        rows: cells; the first of a row names it.
        folded: shown only when the reader opens it.
        prose: columns of running text; each of its lines in its own writing direction.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    prose: Sequence[int] = ()


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
        percent = _percent(100 * rise / before) if before > 0 else ""
        beside = ", ".join(filter(None, (percent, name)))
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
                row += own_and_other(ablation, name, language)
        rows.append(row)
    caption = "Heads on which training made each language lean."
    if heads:
        caption = f"{caption[:-1]}, and whether they were found."
    if ablation is not None:
        caption += (
            " Rises are those of the language's specific heads, off together, in nats per byte; in "
            "brackets in percent of that text's loss with nothing off."
        )
    return Table(caption, header, rows)


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
        row += [count(number(scores, name, language=language)) for name in columns.values()]
        if with_loss:
            row.append(f"{number(scores, 'nats_per_byte', language=language):.4g}")
        rows.append(row)
    header = ["language", *columns, *(["loss, nats per byte"] if with_loss else [])]
    return Table("Texts that the scores were made on.", header, rows)


def heads_table(heads: LanguageHeads) -> Table:
    """The chosen heads, strongest first."""
    sets = [*heads.specific.items(), (GENERAL, heads.general)]
    rows = [[name, str(len(chosen)), str(chosen) or NONE] for name, chosen in sets]
    return Table(
        "Chosen heads, strongest first (L3H7 is head 7 of layer 3, both counted from 0).",
        ["language", "number", "heads"],
        rows,
    )


def matrix_table(ablation: xr.Dataset, baseline: str) -> Table:
    """The specificity matrix as numbers, with its standard error where the file has it."""
    at = ablation.sel(baseline=baseline)

    def cell(row: str, column: str) -> str:
        rise = number(at, "delta_nats_per_byte", heads_of=row, text_of=column)
        error = number(at, "delta_se", heads_of=row, text_of=column)
        if not np.isfinite(rise):
            return NONE
        return f"{rise:.4f}" + (f" ± {error:.4f}" if np.isfinite(error) else "")

    columns = names(ablation, "text_of")
    return Table(
        f"{baseline.capitalize()} ablation: rise in nats per byte ± standard error; rows: heads "
        "off, columns: text.",
        ["heads of", *columns],
        [[row, *(cell(row, column) for column in columns)] for row in names(ablation, "heads_of")],
        folded=True,
    )


def scored_words(scores: xr.Dataset) -> str:
    """One sentence: model, texts, how much of them."""
    docs = [int(n) for n in scores["docs"].values] if "docs" in scores else []
    amount = ""
    if docs:
        few, many = min(docs), max(docs)
        amount = f", {few if few == many else f'{few} to {many}'} documents a language"
    if "tokens" in scores:
        amount += f", {count(float(scores['tokens'].sum()))} predicted tokens in all"
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
        rule += f" ({', '.join(f'{key} {plain(value)}' for key, value in settings.items())})"
    return (
        f"Specific heads a language: {numbers or 'none'}; general heads: {len(heads.general)}. "
        f"Rule: {rule}.{_general_words(heads)}"
    )


def _general_words(heads: LanguageHeads) -> str:
    """What it means when a rule asks a general head for more languages than there are."""
    least, languages = heads.rule.get("general_at"), len(heads.specific)
    if not isinstance(least, (int, float)) or least <= languages:
        return ""
    return (
        f" General heads are impossible here: one must be on the lists of {least:g} languages, and "
        f"there are only {languages}. So a head that is called specific may be shared by several."
    )


def isolated(name: str) -> str:
    """A name that keeps its own writing direction inside an English sentence."""
    return name if name.isascii() else f"\u2068{name}\u2069"


def number(dataset: xr.Dataset, name: str, **at: str) -> float:
    """One value, NaN where the file does not have it."""
    if name not in dataset:
        return float("nan")
    variable = dataset[name]
    return float(variable.sel({k: v for k, v in at.items() if k in variable.dims}))


def _percent(value: float) -> str:
    return f"{value:+.2f}%".replace("-", "−") if np.isfinite(value) else NONE


def count(value: float) -> str:
    """A whole number with its thousands apart, or a dash."""
    return f"{int(value):,}".replace(",", "\u202f") if np.isfinite(value) else NONE


def plain(value: Any) -> str:
    """A value as a person reads it; provenance holds JSON in strings.

    Example:
        >>> plain('{"en": 1, "rule": {"name": "count"}}'), plain(None), plain({})
        ('en: 1; rule: (name: count)', 'none', '–')
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return value
    if isinstance(value, Mapping):
        value = "; ".join(
            f"{key}: ({plain(item)})"
            if isinstance(item, Mapping) and item
            else f"{key}: {plain(item)}"
            for key, item in value.items()
        )
    return "none" if value is None else str(value) or NONE
