"""The heads on which training made each language lean (``planted.json``), beside those found."""

from pathlib import Path

import xarray as xr

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError
from langheads.io.files import read_json
from langheads.view.contents import Planted, RunFolder
from langheads.view.figures.style import names
from langheads.view.language_verdict import own_and_other
from langheads.view.table import Table
from langheads.view.verdict import proves


def read_planted(path: Path) -> Planted:
    """Language -> its planted heads.

    Raises:
        InputError: no such file, or it does not list planted heads.
    """
    document = read_json(path)
    try:
        return {
            str(language): [(int(layer), int(head)) for layer, head in pairs]
            for language, pairs in document["planted"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{path} does not list planted heads; expected {{"planted": {{"en": [[1, 3], ...]}}}}'
        ) from error


def planted_table(run: RunFolder) -> Table:
    """Planted heads, those found again, and the rises when a language's specific heads are off."""
    heads = run.heads
    proofs = [a for a in run.of("ablation").values() if heads is None or proves(a, heads)]
    ablation: xr.Dataset | None = next(iter(proofs), None)
    header = ["language", "planted heads"]
    caption = "Heads on which training made each language lean."
    if heads:
        header.append("found among its specific heads")
        caption = f"{caption[:-1]}, and whether they were found."
    if ablation is not None:
        caption += (
            " ΔNLL is that of the language's specific heads, off together, in nats per byte; in "
            "brackets in percent of that text's loss with nothing off."
        )
        for name in names(ablation, "baseline"):
            header += [f"own ΔNLL, {name}", f"largest other ΔNLL, {name}"]
    rows = []
    for language, pairs in run.planted.items():
        row = [language, " ".join(f"L{layer}H{head}" for layer, head in pairs)]
        if heads:
            row.append(f"{len(_found(run.planted, heads)[language])} of {len(pairs)}")
        if ablation is not None:
            for name in names(ablation, "baseline"):
                row += own_and_other(ablation, name, language)
        rows.append(row)
    return Table(caption, header, rows)


def planted_words(run: RunFolder) -> list[str]:
    """How many planted heads are among the chosen ones."""
    if not run.planted or run.heads is None:
        return []
    found = sum(map(len, _found(run.planted, run.heads).values()))
    return [
        f"Of {sum(map(len, run.planted.values()))} planted heads, {found} are among the specific "
        "heads of their language."
    ]


def _found(planted: Planted, heads: LanguageHeads) -> dict[str, HeadSet]:
    """Language -> its planted heads that are among its specific heads."""
    return {
        language: HeadSet([(layer, head) for layer, head in pairs], heads.shape)
        & heads.specific.get(language, HeadSet([], heads.shape))
        for language, pairs in planted.items()
    }
