"""What to cite for a folder of results: the packages, and the sources of their methods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from langheads.io.errors import printable
from langheads.io.files import write_text_atomically
from langheads.io.schemas import SCHEMAS
from langheads.scores.registry import SCORES
from langheads.view.embed import resource
from langheads.view.folder import read_run

_ALWAYS = ("langheads", "nanda2022transformerlens")
_RULES = {
    "count": ("liu2025lahis",),
    "top": ("liu2025lahis",),
    "contrast": ("janssen1997studentized", "chung2013exact", "benjamini1995controlling"),
}
_SAMPLED = ("cochran1977sampling", "mackinnon1985heteroskedasticity")


def cite(run: str | Path, out: str | Path | None = None) -> Path:
    """Write BibTeX for the methods behind the results of a folder.

    It has langheads and TransformerLens, and for each result the sources of its method; a line
    above each entry names the files. Model and texts are not included.

    Args:
        run: a folder with results of one model.
        out: the file; by default ``references.bib`` in `run`.

    Returns:
        The file's path.

    Raises:
        InputError: no such folder, nothing in it, a file that cannot be read or written.

    Example:
        >>> cite("run")
        PosixPath('run/references.bib')
    """
    folder = Path(run)
    results = read_run(folder)
    wanted: dict[str, list[str]] = {key: [] for key in _ALWAYS}
    for kind, name, result in results:
        for key in dict.fromkeys(_sources(kind, result)):
            wanted.setdefault(key, []).append(name)
    versions = {str(attrs["langheads"]) for _, attrs in results.sources() if "langheads" in attrs}
    entries = references()
    made_by = ", ".join(sorted(versions)) or version("langheads")
    entries["langheads"] = entries["langheads"].replace("VERSION", made_by)
    # A score from outside the package may name a source that is not in our list.
    missing = "% {}: no entry of langheads\n"
    text = "\n".join(
        # BibTeX reads an entry after every @, also in comments.
        f"% {printable(', '.join(files)).replace('@', '(at)') or 'all results'}\n"
        f"{entries.get(key, missing.format(key))}"
        for key, files in wanted.items()
    )
    return write_text_atomically(out or folder / "references.bib", text)


def references() -> dict[str, str]:
    """Key -> entry of everything that can be cited."""
    entries = re.split(r"\n(?=@)", resource("references.bib"))
    return {re.findall(r"\{([^,]+),", entry)[0]: entry.strip() + "\n" for entry in entries}


def _sources(kind: str, result: Any) -> Iterator[str]:
    yield from SCHEMAS[kind].sources
    names: set[str] = set()
    if isinstance(result, xr.Dataset):
        compared = result["score"].values if "score" in result.coords else ()
        names = {*map(str, result.data_vars), *map(str, compared)}
        if "sample" in result.attrs and kind == "knockout":
            yield from _SAMPLED
        if "top" in names:
            yield "evendar2006elimination"
    elif kind == "heads":
        names = {str(result.rule.get("score"))}
        yield from _RULES.get(str(result.rule.get("name")), ())
    for score in SCORES.values():
        if names & {score.name, score.variable}:
            yield from score.sources
