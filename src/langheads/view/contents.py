"""The results of a run folder by kind; a figure that needs two of them finds the other here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from langheads.heads import LanguageHeads
from langheads.view.figures.scores import Planted


@dataclass
class RunFolder:
    """The results in a folder.

    Attributes:
        results: kind -> file name -> result.
        planted: language -> its planted heads.
        reasons: file that is not shown -> why, on one line.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    planted: Planted = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """Files that are not shown."""
        return list(self.reasons)

    def of(self, kind: str) -> dict[str, Any]:
        """File name -> result, of one kind."""
        return self.results.get(kind, {})

    @property
    def heads(self) -> LanguageHeads | None:
        """The head set that the page takes as the chosen one."""
        return next(iter(self.of("heads").values()), None)

    def sources(self) -> list[tuple[str, dict[str, Any]]]:
        """Provenance a file, of the files that have one."""
        found = [(name, dict(_provenance(result))) for _, name, result in self]
        return [(name, attrs) for name, attrs in found if attrs]

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        for kind, files in self.results.items():
            for name, result in files.items():
                yield kind, name, result


def _provenance(result: Any) -> dict[str, Any]:
    return result.attrs if isinstance(result, xr.Dataset) else result.provenance
