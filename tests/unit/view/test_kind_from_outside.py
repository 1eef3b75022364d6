"""A kind of result that langheads does not know, added from outside: nothing else is touched."""

import plotly.graph_objects as go
import pytest
import xarray as xr
from typer.testing import CliRunner

import langheads
from langheads.cli.app import make_app
from langheads.io import schemas
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.io.schemas import SCHEMAS, Schema
from langheads.text import read_texts
from langheads.view import kinds
from langheads.view.contents import Kind, captioned
from langheads.view.kinds import KINDS
from langheads.view.table import Table, decimal
from tests.unit.view.made_up_run import PROVENANCE, write_run
from tests.unit.view.test_report import Page

SCHEMA = Schema("depths", "depth of words", "depths.nc", "language depth", {"share": "share"})


def bars(result):
    return go.Figure(
        go.Bar(y=result.share.values[0].tolist()), layout={"width": 300, "height": 200}
    )


def tables(result, run):
    most = result.share.max("depth")
    rows = [[x, decimal(float(most.sel(language=x)))] for x in most.language.values.tolist()]
    yield Table("The most in each language.", ["language of words", "most"], rows)


KIND = Kind(
    "depths",
    "Depth of words",
    ("Shows: where words are found.", "Does not show: why."),
    captioned(bars, "How to read it: each bar is a layer."),
    tables,
    lambda result, run: [f"Words are found in {result.sizes['depth']} layers."],
)


@pytest.fixture
def known():
    schemas.register(SCHEMA)
    kinds.register(KIND)
    yield
    del SCHEMAS["depths"], KINDS["depths"]


def result():
    model = {name: of for name, of in PROVENANCE.items() if isinstance(of, str)}
    made = provenance("depths", model, read_texts({"en": ["one"], "zh": ["一"]}))
    return xr.Dataset(
        {"share": (("language", "depth"), [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], {"units": "share"})},
        coords={"language": ["en", "zh"]},
        attrs=made,
    )


@pytest.mark.usefixtures("known")
def test_it_is_saved_read_and_shown(tmp_path):
    write_run(tmp_path, ["en", "zh"])
    before = Page(langheads.report(tmp_path).read_text("utf-8"))
    made = result()
    path = langheads.save(made, tmp_path / "depths.nc")
    xr.testing.assert_identical(langheads.load_result(path, "depths"), made)
    page = Page(langheads.report(tmp_path).read_text("utf-8"))
    sections = [a["id"] for t, a in page.tags if t == "section"]
    assert sections.index("depths-1") == sections.index("limits") - 1
    for sentence in ("Words are found in 3 layers.", *KIND.shows, "each bar is a layer."):
        assert sentence in page.text
        assert sentence not in before.text
    assert page.table("language of words", "most")[1:] == [["en", "0.700"], ["zh", "0.500"]]
    figures = page.figures()
    assert len(figures) == len(before.figures()) + 1
    assert figures[-1]["data"][0]["y"] == [0.1, 0.2, 0.7]


@pytest.mark.usefixtures("known")
def test_a_file_that_lacks_what_it_needs_is_refused(tmp_path):
    path = langheads.save(result().rename(share="other"), tmp_path / "depths.nc")
    with pytest.raises(InputError, match="depths has no share over language, depth; make it again"):
        langheads.load_result(path)
    write_run(tmp_path)
    with pytest.raises(InputError, match=r"depths\.nc: depths has no share"):
        langheads.report(tmp_path)


@pytest.mark.usefixtures("known")
def test_the_verb_names_its_file():
    told = CliRunner().invoke(make_app(), ["report", "--help"]).output
    assert "depths.nc (depth of words)" in " ".join(told.split())


def test_without_a_schema_it_is_refused_and_a_file_is_not_shown(tmp_path, known):
    with pytest.raises(InputError, match="results of kind 'depths' are shown already"):
        kinds.register(KIND)
    with pytest.raises(InputError, match="no schema of kind 'widths'"):
        kinds.register(Kind("widths", "Widths"))
    write_run(tmp_path)
    langheads.save(result(), tmp_path / "depths.nc")
    del KINDS["depths"]
    try:
        page = Page(langheads.report(tmp_path).read_text("utf-8"))
    finally:
        kinds.register(KIND)
    assert "depths.nc (a result of kind 'depths', which is not shown)" in page.text
