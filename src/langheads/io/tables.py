"""Results as tables: a row a head and language, a condition, or a reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langheads.io.errors import InputError
from langheads.io.files import write_text_atomically
from langheads.io.schemas import SCHEMAS

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Tabular:
    """A result that is naturally a table."""

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        raise NotImplementedError

    def to_dataframe(self) -> pd.DataFrame:
        """As a table of pandas; see `langheads.to_dataframe`."""
        import pandas as pd

        # A mapping within a cell gets columns of its own.
        return pd.json_normalize([dict(row) for row in self._rows()], sep="_")


def to_dataframe(result: xr.Dataset | Tabular) -> pd.DataFrame:
    """A result as a table of pandas, for anything that reads tables.

    Args:
        result: what any function of langheads gives, or a file of it that was read.

    Returns:
        Of a dataset a row for each combination of its main dimensions (of scores language, layer
        and head), with a column for each variable over all or some of these; what is stored a
        document or a random head set is left out. Of heads a row a head, of a mask a head with its
        gate, of replies a reply, of a view of attention a head and a pair of tokens, of a pruned
        model a language. ``.attrs["units"]`` has the columns' units, as far as they have any.

    Raises:
        InputError: a dataset that is not a result of langheads.

    Example:
        >>> to_dataframe(scores).to_csv("scores.csv", index=False)
    """
    if isinstance(result, Tabular):
        return result.to_dataframe()
    kind = str(result.attrs.get("kind"))
    if kind not in SCHEMAS:
        raise InputError(f"a dataset of kind {kind[:40]!r} is no result of langheads")
    dims = [dim for dim in SCHEMAS[kind].dims.split() if dim in result.dims]
    names = [name for name, of in result.data_vars.items() if of.dims and set(of.dims) <= {*dims}]
    chosen = result[names]
    frame = chosen.to_dataframe(dim_order=[dim for dim in dims if dim in chosen.dims]).reset_index()
    frame.attrs["units"] = {
        name: of.attrs["units"] for name, of in chosen.variables.items() if "units" in of.attrs
    }
    return frame


def save_csv(result: xr.Dataset | Tabular, path: str | Path) -> Path:
    """Write a result as CSV, atomically; numbers as many digits as they have."""
    return write_text_atomically(path, to_dataframe(result).to_csv(index=False))
