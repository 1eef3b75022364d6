"""Results on disk: xarray Datasets in netCDF with their provenance, written atomically."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from langheads.io.cost import spent
from langheads.io.digest import PACKAGES
from langheads.io.errors import InputError
from langheads.io.files import atomic_path, check_suffix
from langheads.io.netcdf import opened, safe_content, with_checksum
from langheads.io.parts import active_parts
from langheads.io.schemas import SCHEMAS, check_layout
from langheads.io.sources import made_from


def provenance(
    kind: str,
    model: Mapping[str, str],
    corpus: Any,
    *,
    sources: Iterable[Any] = (),
    **settings: Any,
) -> dict[str, Any]:
    """What a result was made from, flat, in types that netCDF and JSON both hold.

    `model` as `langheads.model.describe` has it, `corpus` a `langheads.text.Corpus`, `sources` are
    results that it was made from, `settings` everything else that determines the numbers. Refuses a
    kind without a schema.
    """
    if kind not in SCHEMAS:
        raise InputError(f"no schema of kind {kind!r}: see langheads.io.schemas.register")
    return {
        "format": 1,
        "kind": kind,
        **{key: value for key, value in model.items() if key != "other_weights"},
        "text": corpus.source,
        "text_hash": json.dumps(corpus.hashes),
        "seed": corpus.seed,
        **({"aligned": 1} if corpus.aligned else {}),
        **{key: int(v) if isinstance(v, bool) else v for key, v in settings.items()},
        "python": platform.python_version(),
        **({"command_hash": parts.command_hash} if (parts := active_parts()) else {}),
        **made_from(model, *sources),
        **{name.replace("-", "_"): version(name) for name in PACKAGES},
        **spent(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def with_rounding(dataset: xr.Dataset) -> xr.Dataset:
    """A result with ``rounding``, nats per token: effects below it are lost where the model ran in
    bfloat16, and nothing in wider types.

    It is twice the error of an effect, 0.025 / sqrt(tokens that were run), as measured over heads
    (``tests/bench/bfloat16.py``): a logit between 8 and 16 is rounded to sixteenths, so the NLL of
    one token, with a head and without it, differs by 1/16 / sqrt(6) at random.
    """
    if dataset.attrs.get("dtype") != "bfloat16":
        return dataset
    tokens = dataset["tokens"]
    if "sampled" in dataset:
        tokens = (dataset["sampled"] * dataset["doc_tokens"]).sum("doc")
    units = {"units": "nats per token"}
    return dataset.assign(rounding=(tokens.dims, 0.05 / np.sqrt(tokens.values), units))


def rounding_words(dataset: xr.Dataset) -> str:
    """A sentence on effects that are lost in rounding; empty where none are."""
    nats = dataset.filter_by_attrs(units=lambda units: str(units).startswith("nats per "))
    # A score that was asked for has a standard error beside it.
    scores = (str(name) for name in nats if f"{name}_se" in nats)
    known = ("delta_nats_per_token", "delta_nats_per_byte", "lahis", *scores)
    name = next((name for name in known if name in nats), None)
    if name is None or not {"rounding", "tokens", "bytes"} <= set(dataset):
        return ""
    effects, lost = dataset[name], dataset["rounding"]
    if effects.attrs.get("units") == "nats per byte":
        lost = lost * dataset["tokens"] / dataset["bytes"]
    if not (small := int((abs(effects) < lost).sum())):
        return ""
    ends = " to ".join(dict.fromkeys(f"{float(end):.2g}" for end in (lost.min(), lost.max())))
    return (
        f"{small} of {int(effects.notnull().sum())} effects are lost in the rounding of bfloat16, "
        f"below {ends} {effects.attrs.get('units')}; float32 would show them."
    )


def save(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write a result as netCDF (HDF5), atomically; returns the path.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or the path has the suffix
            of another kind of file.

    Example:
        >>> save(scores, "scores.nc")
        PosixPath('scores.nc')
    """
    check_suffix(path, ".nc")
    # HDF5 crashes the process if the disk is full on closing, so the file is made in memory.
    content = io.BytesIO()
    with opened(content, "w") as file:
        _without_nul(dataset).dump_to_store(H5NetCDFStore(file))
    with atomic_path(path) as temporary:
        temporary.write_bytes(with_checksum(content.getvalue()))
    return Path(path)


def _without_nul(dataset: xr.Dataset) -> xr.Dataset:
    """Texts with a picture for each NUL, which HDF5 refuses and a model may produce."""
    shown = {
        name: (of.dims, np.vectorize(lambda text: str(text).replace("\0", "\u2400"))(of), of.attrs)
        for name, of in dataset.variables.items()
        if of.dtype.kind in "UO" and any("\0" in str(text) for text in of.values.flat)
    }
    return dataset.assign(shown)


def load_result(path: str | Path, kind: str | None = None) -> xr.Dataset:
    """Read a result that `save` wrote, wholly into memory.

    Args:
        path: the file.
        kind: what it must be (``scores``, ``ablation``), or None for any.

    Raises:
        InputError: no such file, no netCDF, a result of another kind, or without what its kind
            has.

    Example:
        >>> load_result("run/scores.nc", "scores").language.values.tolist()
        ['en', 'hi', 'zh']
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        # Times would be converted; a result has numbers with units.
        with opened(safe_content(path)) as file:
            dataset = xr.load_dataset(H5NetCDFStore(file), decode_times=False)
    except InputError:
        raise
    except Exception as error:
        # A file that was changed makes HDF5, h5netcdf and xarray raise many kinds of error.
        raise InputError(f"{path} is not a netCDF result of langheads") from error
    # Files return numpy's numbers; Python's were saved.
    dataset.attrs = plain_attrs(dataset)
    found = dataset.attrs.get("kind")
    if not isinstance(found, str) or repr(dataset.attrs.get("format")) != "1":
        raise InputError(f"{path} is not a result of langheads (format 1)")
    if kind is not None and found != kind:
        raise InputError(f"{path} holds {found}, expected {kind}")
    check_layout(path, dataset, found)
    return dataset


def plain_attrs(dataset: xr.Dataset) -> dict[str, Any]:
    """Provenance in types that JSON can hold."""
    return {
        str(key): value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        for key, value in dataset.attrs.items()
    }
