"""The contents of a page: the results of a run folder, and how a kind of result is shown."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.io.results import load_result
from langheads.view.table import Table

Planted = Mapping[str, Collection[Sequence[int]]]
"""Language -> its planted heads, as (layer, head)."""


@dataclass(frozen=True)
class Picture:
    """A figure and its caption."""

    figure: go.Figure
    caption: str


@dataclass
class RunFolder:
    """The results in a folder, also for figures that need two of them."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)  # kind -> file name -> result
    planted: Planted = field(default_factory=dict)  # language -> its planted heads
    # File that is not shown -> why, on one line.
    reasons: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Any]:
        """File name -> result, of one kind."""
        return self.results.get(kind, {})

    def leave_out(self, name: str, why: str) -> None:
        """Do not show a file, and record why."""
        self.reasons[name] = why
        self.results = {
            kind: kept
            for kind, files in self.results.items()
            if (kept := {file: of for file, of in files.items() if file != name})
        }

    @property
    def heads(self) -> LanguageHeads | None:
        """The head set that the page shows as chosen."""
        return next(iter(self.of("heads").values()), None)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(layers, heads a layer) of the model, if a result has it."""
        sizes = (of.sizes for _, _, of in self if isinstance(of, xr.Dataset))
        found = ((of["layer"], of["head"]) for of in sizes if {"layer", "head"} <= {*of})
        return self.heads.shape if self.heads else next(found, None)

    def sources(self) -> list[tuple[str, dict[str, Any]]]:
        """Provenance a file, of the files that have one."""
        found = [
            (name, dict(of.attrs if isinstance(of, xr.Dataset) else of.provenance))
            for _, name, of in self
        ]
        return [(name, attrs) for name, attrs in found if attrs]

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        return ((kind, *item) for kind, files in self.results.items() for item in files.items())


def _nothing(result: Any, run: RunFolder) -> Iterable[Any]:
    return ()


@dataclass(frozen=True)
class Kind:
    """How a kind of result is shown.

    Attributes:
        name: the kind, as its schema in `langheads.io.schemas` names it.
        title: heading of its section.
        shows: what the figures show, and what they do not show.
        pictures: figures with captions.
        tables: the same as numbers.
        summary: sentences for the head of the page.
        load: reads a file; netCDF by default.
        anchor: start of the section's anchor; by default the kind.
    """

    name: str
    title: str
    shows: Sequence[str] = ()
    pictures: Callable[[Any, RunFolder], Iterable[Picture]] = _nothing
    tables: Callable[[Any, RunFolder], Iterable[Table]] = _nothing
    summary: Callable[[Any, RunFolder], Iterable[str]] = _nothing
    load: Callable[[Path], Any] = load_result
    anchor: str = ""


def captioned(
    draw: Callable[[Any], go.Figure], caption: str
) -> Callable[[Any, RunFolder], Iterator[Picture]]:
    """Pictures of a kind with a single figure, which needs only the result."""

    def pictures(result: Any, run: RunFolder) -> Iterator[Picture]:
        yield Picture(draw(result), caption)

    return pictures
