"""Tables of results hold the numbers of their files."""

import base64
import csv
import json
import math
import sys

import numpy as np
import pytest
import xarray as xr

import langheads
from langheads import cli
from langheads.cli.tell import write_csv
from langheads.io.errors import InputError
from langheads.io.schemas import SCHEMAS
from tests.unit.view.made_up_results import make_full_page


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(made_once, tmp_path_factory):
    """A folder with a result of every kind, and the tables that `report --csv` puts there."""
    made = made_once.copy("full", make_full_page, tmp_path_factory.mktemp("run"))
    list(write_csv(made / "report.html", "", None))
    return made


def test_a_table_stands_beside_every_result(folder):
    made = {path.with_suffix(".csv") for path in folder.rglob("*.nc")}
    made |= {path.with_suffix(".csv") for path in folder.rglob("*.json")}
    assert set(folder.rglob("*.csv")) == made - {folder / "planted.csv"}


def test_numbers_are_those_of_the_netcdf_file(folder):
    seen = set()
    for path in folder.glob("*.nc"):
        stored = xr.load_dataset(path, engine="h5netcdf")
        dims = SCHEMAS[stored.attrs["kind"]].dims.split()
        rows = rows_of(path.with_suffix(".csv"))
        assert len(rows) == math.prod(stored.sizes[dim] for dim in dims)
        names = [n for n, of in stored.data_vars.items() if of.dims and set(of.dims) <= set(dims)]
        assert set(rows[0]) == {*dims, *names, *set(stored[names].coords)}
        for row in rows[:: max(1, len(rows) // 23)]:
            at = {dim: [str(x) for x in stored[dim].values].index(row[dim]) for dim in dims}
            for name in names:
                of = stored[name]
                value = of.values[tuple(at[dim] for dim in of.dims)]
                seen.add(of.dtype.kind)
                if of.dtype.kind == "f":
                    found = of.dtype.type(row[name] or "nan")
                    assert found == value or (np.isnan(found) and np.isnan(value)), (path, name)
                else:
                    assert row[name] == str(value), (path, name)
    assert seen >= {"f", "i", "U"}


def test_tables_of_heads_gates_classes_losses_and_tokens(folder):
    def read(name):
        return json.loads((folder / f"{name}.json").read_text("utf-8")), rows_of(
            folder / f"{name}.csv"
        )

    heads, rows = read("heads")
    sets = heads["specific"] | {"general": heads["general"]}
    assert [[r["language"], r["rank"], r["layer"], r["head"]] for r in rows] == [
        [language, str(rank), str(layer), str(head)]
        for language, of in sets.items()
        for rank, (layer, head) in enumerate(of, start=1)
    ]
    mask, rows = read("mask")
    assert [(f"L{r['layer']}H{r['head']}", float(r["gate"])) for r in rows] == [
        (of["head"], of["gate"]) for of in mask["gates"]
    ]
    classes, rows = read("classes")
    first = classes["languages"][0]
    assert {r["class"] for r in rows} <= {
        *(f"{x}-specific" for x in classes["languages"]),
        "agnostic",
        "undecided",
        "other",
    }
    for row in rows:
        layer, head = int(row["layer"]), int(row["head"])
        group = row["class"].removesuffix("-specific")
        assert [layer, head] in (classes["specific"].get(group) or classes[group])
        assert float(row[f"{first}_high"]) == classes["deltas"][first]["high"][layer][head]
    view, rows = read("attention")
    context = view["contexts"][0]
    size = len(context["tokens"])
    levels = base64.b64decode(context["patterns"][1])
    mine = [r for r in rows if (r["text"], r["head"]) == (context["label"], view["heads"][1][0])]
    assert len(mine) == len(levels) == size * (size + 1) // 2
    for row, level in zip(mine, levels, strict=True):
        assert float(row["weight"]) == pytest.approx((level / 255) ** 2, rel=1e-12)
        assert row["key_token"] == context["tokens"][int(row["key"])]


def test_replies_have_a_row_each(folder):
    summary = next(folder.glob("*.summary.json"))
    lines = summary.with_name(summary.name.removesuffix(".summary.json") + ".jsonl")
    said = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    rows = rows_of(summary.with_suffix(".csv"))
    assert [(r["id"], r["prompt"], r["reply"]) for r in rows] == [
        (str(of["id"]), of["prompt"], of["reply"]) for of in said
    ]


def test_units_come_with_a_table_of_pandas(folder):
    scores = langheads.load_result(folder / "scores.nc")
    frame = langheads.to_dataframe(scores)
    assert frame.attrs["units"]["lahis"] == scores.lahis.attrs["units"]
    heads = langheads.LanguageHeads.load(folder / "heads.json")
    assert langheads.to_dataframe(heads).equals(heads.to_dataframe())
    with pytest.raises(InputError) as refused:
        langheads.to_dataframe(xr.Dataset({"a": ("x", [1.0])}))
    assert str(refused.value) == "a dataset of kind 'None' is no result of langheads"


def test_a_verb_writes_its_table_beside_its_result(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    command = ["langheads", "select", str(folder / "scores.nc"), "--out", str(tmp_path / "h.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--csv"])
    cli.main()
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'h.json'}\n"
    assert str(tmp_path / "h.csv") in said.err.splitlines()
    heads = json.loads((tmp_path / "h.json").read_text("utf-8"))
    sets = [*heads["specific"].values(), heads["general"]]
    assert len(rows_of(tmp_path / "h.csv")) == sum(map(len, sets))
    # A table that cannot be written is told before the work is done.
    (tmp_path / "h.csv").unlink()
    (tmp_path / "h.json").unlink()
    (tmp_path / "h.csv").mkdir()
    with pytest.raises(SystemExit):
        cli.main()
    assert "h.csv: it is a folder" in capsys.readouterr().err
    assert not (tmp_path / "h.json").exists()
