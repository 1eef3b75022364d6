"""A folder of results, read for the report: every kind of result by file name."""

from pathlib import Path
from typing import Any

from langheads.experiments.replies.files import is_summary
from langheads.heads import planted_of
from langheads.io.errors import InputError
from langheads.io.files import read_json
from langheads.io.results import load_result
from langheads.io.schemas import files, kind_of_file
from langheads.view.belonging import leave_out_other_models, leave_out_other_sources
from langheads.view.contents import RunFolder
from langheads.view.kinds import KINDS
from langheads.view.planted import read_planted


def read_run(folder: Path) -> RunFolder:
    """Everything in a folder that the report can show.

    Pruned models have folders of their own: their accounts are read one level below, too. What is
    of another model than most, or made from another file than is here, is left out with a reason.

    Raises:
        InputError: no such folder, nothing in it, or a file under a name of ours that is broken.
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
            # A file of another name need not be a result of langheads.
            if name in named:
                raise
            said = " ".join(str(error).removeprefix(str(path)).removeprefix(":").split())
            run.reasons[name] = said if len(said) <= 200 else f"{said[:199]}…"
    if not run.results:
        raise InputError(
            f"nothing to report in {folder}: expected scores.nc, heads.json or ablation.nc, found "
            f"{', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'an empty folder'}"
        )
    model = leave_out_other_models(run)
    leave_out_other_sources(run)
    if run.planted and model and not planted_of(folder / "planted.json", model):
        run.planted, run.reasons["planted.json"] = {}, "of another model"
    return run


def _take(run: RunFolder, path: Path, name: str) -> None:
    """Put a file where it belongs, under its name within the folder."""
    wanted = kind_of_file(path.name)
    if wanted == "planted":
        run.planted = read_planted(path)
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
    """JSON says what it is; head sets, the oldest kind, do not."""
    document = read_json(path)
    if is_summary(document):
        return "replies"
    return str(document.get("kind", "heads")) if isinstance(document, dict) else "heads"
