"""Chosen heads: which head serves which language, by which rule."""

from collections.abc import Iterator

from langheads.heads import LanguageHeads
from langheads.view.contents import Kind, RunFolder
from langheads.view.table import NONE, Table, isolated, plain
from langheads.view.verdict import GENERAL


def _tables(heads: LanguageHeads, run: RunFolder) -> Iterator[Table]:
    sets = [*heads.specific.items(), (GENERAL, heads.general)]
    yield Table(
        "Chosen heads, strongest first (L3H7 is head 7 of layer 3, both counted from 0).",
        ["language", "number", "heads"],
        [[name, str(len(chosen)), str(chosen) or NONE] for name, chosen in sets],
    )


def _summary(heads: LanguageHeads, run: RunFolder) -> Iterator[str]:
    numbers = ", ".join(
        f"{isolated(language)} {len(chosen)}" for language, chosen in heads.specific.items()
    )
    settings = {key: v for key, v in heads.rule.items() if key not in ("name", "listed")}
    rule = str(heads.rule.get("name", "not recorded"))
    if settings:
        rule += f" ({', '.join(f'{key} {plain(value)}' for key, value in settings.items())})"
    yield (
        f"Specific heads a language: {numbers or 'none'}; general heads: {len(heads.general)}. "
        f"Rule: {rule}.{_impossible(heads)}"
    )


def _impossible(heads: LanguageHeads) -> str:
    """What it means when a rule asks a general head for more languages than there are."""
    least, languages = heads.rule.get("general_at"), len(heads.specific)
    if not isinstance(least, (int, float)) or least <= languages:
        return ""
    return (
        f" General heads are impossible here: one must be on the lists of {least:g} languages, and "
        f"there are only {languages}. So a head that is called specific may be shared by several."
    )


KIND = Kind("heads", "Chosen heads", tables=_tables, summary=_summary, load=LanguageHeads.load)
