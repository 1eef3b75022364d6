"""The end of a chain: what its folder proves, language by language, and the next command."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from langheads.heads import GENERAL, HeadSet, planted_of, read_planted
from langheads.io.results import load_result
from langheads.view.language_verdict import language_answers
from langheads.view.table import NONE
from langheads.view.verdict import verdict


@dataclass(frozen=True)
class Ending:
    """What is printed at the end of a chain."""

    headline: list[str]  # the verdict, then the general heads
    # Per language its heads, ΔNLL without them, whether they carry it; planted heads found.
    table: str
    next: str  # a command


def ending(run: Path) -> Ending:
    """The end of the run in this folder, from ``ablation.nc`` and, where it is there,
    ``planted.json``."""
    proof = load_result(run / "ablation.nc", "ablation")
    shape = (proof.attrs["layers"], proof.attrs["heads"])
    off = {
        str(row): HeadSet(str(heads).split(), shape)
        for row, heads in zip(proof.heads_of.values, proof.heads.values, strict=True)
    }
    headline = [verdict(proof).headline]
    if general := off.get(GENERAL):
        headline.append(f"general heads: {general}")
    answers = language_answers(proof)
    # Languages that are proven first.
    order = sorted((x for x in answers if off[x]), key=lambda x: answers[x] != "yes")
    look = [
        *("langheads", "attention", str(proof.attrs["model"]), "--text", "A text of yours."),
        *("--heads", str(run / "heads.json")),
        *(("--language", order[0]) if order else ()),
        *("--out", str(run / "look.html")),
    ]
    return Ending(headline, _table(run, proof, off, answers), shlex.join(look))


def _table(run: Path, proof: xr.Dataset, off: dict[str, HeadSet], answers: dict[str, str]) -> str:
    shape = (proof.attrs["layers"], proof.attrs["heads"])
    file = run / "planted.json"
    ours = file.is_file() and planted_of(file, proof.attrs, shape)
    planted = read_planted(file, shape)["planted"] if ours else {}
    percent = 100 * proof.delta_nats_per_byte.sel(baseline="zero") / proof.nats_per_byte
    wide = max(8, *map(len, answers))
    lines = [
        "delta NLL per byte with the selected heads off, in % of the NLL with nothing off",
        f"{'language':{wide}}  "
        + (f"{'selected (* planted)':26}  planted found" if planted else f"{'selected':26}")
        + "  own text  other languages    carries its language",
    ]
    for language, answer in answers.items():
        there, chosen = planted.get(language, HeadSet([], shape)), off[language]
        row = percent.sel(heads_of=language)
        others = row.drop_sel(text_of=language)
        names = " ".join(f"{head}{'*' if head in there else ''}" for head in chosen)
        found = f"  {len(chosen & there)} of {len(there):<8}" if planted else ""
        own = row.sel(text_of=language).item()
        # A language without heads has no delta, and a single one no others.
        between = (
            f"{others.min().item():+8.2f}% to {others.max().item():+.2f}%"
            if others.count()
            else NONE
        )
        deltas = f"{f'{own:+.1f}%' if np.isfinite(own) else NONE:>10}  {between:21}"
        lines.append(f"{language:{wide}}  {names:26}{found}{deltas}  {answer}")
    return "\n".join(lines)
