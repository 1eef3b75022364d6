"""One table of schemas: what made-up results of every kind are, and what readers refuse."""

import dataclasses

import pytest
import xarray as xr

from langheads.io import schemas
from langheads.io.errors import InputError
from langheads.io.results import load_result, provenance
from langheads.io.schemas import SCHEMAS, Schema, check_layout, files, kind_of_file
from tests.unit.io.test_results import CORPUS, MODEL
from tests.unit.view.made_up_results import make_full_page


@pytest.fixture(scope="module")
def results(made_once):
    """Kind -> its file and what it holds."""
    folder = made_once("full", make_full_page)
    return {of.attrs["kind"]: (path.name, of) for path, of in _loaded(folder)}


def _loaded(folder):
    return ((path, load_result(path)) for path in folder.glob("*.nc"))


def test_every_result_has_the_dimensions_of_its_schema(results):
    netcdf = {schema.kind: schema.file for schema in SCHEMAS.values() if schema.dims}
    assert results.keys() == netcdf.keys()
    assert all(results[kind][0] == file for kind, file in netcdf.items() if file)


@pytest.mark.parametrize("schema", [s for s in SCHEMAS.values() if s.dims], ids=lambda s: s.kind)
def test_what_a_reader_needs_is_asked_for(results, schema):
    _, whole = results[schema.kind]
    for name in schema.variables:
        dims = schema.dims_of(name)
        told = rf"^here: {schema.kind} has no {name} over {', '.join(dims)}; make it again$"
        with pytest.raises(InputError, match=told):
            check_layout("here", whole.drop_vars(name), schema.kind)
    for dim in schema.dims.split():
        with pytest.raises(InputError, match=f"nothing along {dim}"):
            check_layout("here", whole.isel({dim: slice(0, 0)}), schema.kind)


def test_a_new_kind_is_known_by_its_name_and_its_file(monkeypatch):
    monkeypatch.setattr(schemas, "SCHEMAS", dict(SCHEMAS))
    new = Schema("ranks", "ranks of heads", "ranks.nc", "layer head")
    assert schemas.register(new) is new
    assert kind_of_file("ranks.nc") == "ranks"
    assert files()["ranks.nc"] == "ranks of heads"
    with pytest.raises(InputError, match="holds ranks, but nothing along layer"):
        check_layout("here", xr.Dataset(), "ranks")
    with pytest.raises(InputError, match="there is a kind of result 'ranks' already"):
        schemas.register(new)
    with pytest.raises(InputError, match=r"scores\.nc is the name for results of kind 'scores'"):
        schemas.register(dataclasses.replace(new, kind="other", file="scores.nc"))


def test_nothing_is_written_that_nobody_could_read():
    with pytest.raises(InputError, match="no schema of kind 'guess'"):
        provenance("guess", MODEL, CORPUS)
