"""A folder of results, read for the report: every kind of result by file name.

Heads that training made each language depend on may be beside them (``planted.json``).
"""

from pathlib import Path
from typing import Any

import xarray as xr

from langheads.experiments.replies.files import is_summary
from langheads.heads import HeadSet, LanguageHeads, planted_of, read_planted
from langheads.io.errors import InputError
from langheads.io.files import read_json
from langheads.io.results import load_result
from langheads.io.schemas import files, kind_of_file
from langheads.view.belonging import leave_out_other_models, leave_out_other_sources
from langheads.view.contents import Planted, RunFolder
from langheads.view.figures.style import names
from langheads.view.kinds import KINDS
from langheads.view.language_verdict import own_and_other
from langheads.view.table import Table
from langheads.view.verdict import proves


def read_run(folder: Path) -> RunFolder:
    """Everything in a folder that the report can show.

    Pruned models have folders of their own: their accounts are read one level below, too. Results
    of another model than most, or made from files that are not here, are left out with a reason.
    Refuses a folder with nothing to show, or with a broken file under one of our names.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; a run is a folder with scores.nc or ablation.nc")
    run, named = RunFolder(), files()
    paths = [folder / name for name in named if (folder / name).is_file()]
    paths += [p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in named]
    paths += sorted(p for p in folder.glob("*/pruned.json") if not p.parent.name.startswith("."))
    for path in paths:
        if path.suffix not in (".nc", ".json"):
            continue
        name = path.relative_to(folder).as_posix()
        try:
            _take(run, path, name)
        except InputError as error:
            # A file of another name may not be a result of langheads.
            if name in named:
                raise
            said = " ".join(str(error).removeprefix(str(path)).removeprefix(":").split())
            run.reasons[name] = said if len(said) <= 200 else f"{said[:199]}…"
    if not run.results:
        left_out = list(run.reasons.items())[:3]
        why = "".join(f"; {name} is left out: {said}" for name, said in left_out)
        raise InputError(
            f"nothing to report in {folder}: expected scores.nc, heads.json or ablation.nc, found "
            f"{', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'an empty folder'}{why}"
        )
    model = leave_out_other_models(run)
    leave_out_other_sources(run)
    if (path := folder / "planted.json").is_file():
        if planted_of(path, model, run.shape):
            run.planted = read_planted(path, run.shape or (10**9, 10**9))["planted"]
        else:
            run.reasons[path.name] = "of another model, or of heads that this one does not have"
    return run


def _take(run: RunFolder, path: Path, name: str) -> None:
    """Add a file to the run, under its name within the folder."""
    wanted = kind_of_file(path.name)
    if wanted == "planted":
        return
    if path.suffix == ".nc":
        result: Any = load_result(path, wanted)
        kind = str(result.attrs["kind"])
    else:
        kind = wanted or _kind_of(path)
        result = KINDS[kind].load(path) if kind in KINDS else None
    if kind not in KINDS:
        run.reasons[name] = f"a result of kind {kind[:40]!r}, which is not shown"
        return
    run.results.setdefault(kind, {})[name] = result


def _kind_of(path: Path) -> str:
    """The kind of a JSON file; head sets, the oldest kind, do not name it."""
    document = read_json(path)
    if is_summary(document):
        return "replies"
    return str(document.get("kind", "heads")) if isinstance(document, dict) else "heads"


def planted_table(run: RunFolder) -> Table:
    """Planted heads, those found again, and ΔNLL when a language's specific heads are off."""
    heads = run.heads
    proofs = [a for a in run.of("ablation").values() if heads is None or proves(a, heads)]
    ablation: xr.Dataset | None = next(iter(proofs), None)
    header = ["language", "planted heads"]
    caption = "Heads that training made each language depend on."
    if heads:
        header.append("found among its specific heads")
        caption = f"{caption[:-1]}, and whether they were found."
    if ablation is not None:
        caption += (
            " ΔNLL is the increase in loss with its specific heads off together, in nats per byte; "
            "in brackets in percent of that text's loss with nothing off."
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
        f"Of {sum(map(len, run.planted.values()))} planted heads, {found} "
        f"{'is' if found == 1 else 'are'} among the specific heads of their language."
    ]


def _found(planted: Planted, heads: LanguageHeads) -> dict[str, HeadSet]:
    """Language -> its planted heads that are among its specific heads."""
    return {
        language: HeadSet([(layer, head) for layer, head in pairs], heads.shape)
        & heads.specific.get(language, HeadSet([], heads.shape))
        for language, pairs in planted.items()
    }
