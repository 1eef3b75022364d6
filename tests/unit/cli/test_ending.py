"""What stands at the end of a chain: the verdict, a table, a command that can be given next."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import xarray as xr

from langheads import cli
from langheads.io.results import save
from langheads.view.ending import ending
from langheads.view.verdict import verdict
from tests.unit.view.made_up_run import write_run


@pytest.fixture
def verb(monkeypatch, capsys):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["langheads", *map(str, arguments)])
        capsys.readouterr()
        cli.main()
        return capsys.readouterr()

    return run


def test_a_run_ends_with_verdict_heads_and_a_command_that_works(
    verb, tiny_folder, texts_folder, tmp_path
):
    asked = (
        "run", tiny_folder, "--text", texts_folder, "--out", tmp_path / "my run", "--docs", 2,
        "--proof-docs", 2, "--max-tokens", 30, "--n-controls", 3, "--languages",
        "zh,en", "--method", "lahis",
        "--quantile", 0.7, "--general-at", 2, "--share", 0.2, "--device", "cpu", "--csv",
    )  # fmt: skip
    said = verb(*asked)
    _, header, *rows, path = said.out.splitlines()
    page = Path(path)
    assert page == tmp_path / "my run" / "report.html"
    assert (
        " ".join(header.split())
        == "language selected own text other languages carries its language"
    )
    proof = xr.load_dataset(page.parent / "ablation.nc", engine="h5netcdf")
    assert [row.split()[0] for row in rows] == ["zh", "en"]
    for row, language, other in zip(rows, ("zh", "en"), ("en", "zh"), strict=True):
        of = proof.sel(baseline="zero", heads_of=language)
        rise = 100 * of.delta_nats_per_byte / proof.nats_per_byte
        assert str(of.heads.item()) in row
        assert f"{rise.sel(text_of=language).item():+.1f}%" in row
        beside = rise.sel(text_of=other).item()
        assert f"{beside:+.2f}% to {beside:+.2f}%" in row
        # Of three random head sets p can be no lower than 1/4.
        assert row.endswith(("  cannot tell: too few random heads", "  no"))
    told = said.err.splitlines()
    tables = [str(page.parent / f"{x}.csv") for x in ("scores", "heads", "ablation", "attention")]
    assert [line for line in told if line.endswith(".csv")] == tables
    written = [Path(table).read_text() for table in tables]
    assert all(len(text) > 50 for text in written)
    # Given again it writes no more than the tables, from what is there.
    Path(tables[0]).write_text("older")
    Path(tables[1]).unlink()
    again = verb(*asked)
    there = f"{page.parent} is there, made by this same command; --fresh makes it again\n"
    assert (again.out, again.err.splitlines()) == (there, tables)
    assert [Path(table).read_text() for table in tables] == written
    assert told[-1].startswith("next: langheads attention ")
    assert verdict(proof).headline in told
    general = re.search(r'"general": (\[[^"]*\])', (page.parent / "heads.json").read_text())[1]
    named = " ".join(f"L{layer}H{head}" for layer, head in json.loads(general))
    assert f"general heads: {named}" in told
    command = shlex.split(told[-1].removeprefix("next: "))
    assert verb(*command[1:]).out.splitlines()[-1] == str(page.parent / "look.html")


def test_a_language_without_heads_has_dashes(tmp_path):
    write_run(tmp_path, ["en", "zh"])
    (tmp_path / "planted.json").unlink()
    proof = xr.load_dataset(tmp_path / "ablation.nc", engine="h5netcdf")
    at = {"heads_of": "zh"}
    proof.attrs |= {"layers": 4, "heads": 6}
    proof.heads.loc[at] = ""
    proof.n_heads.loc[at] = 0
    proof.delta_nats_per_byte.loc[at] = float("nan")
    save(proof, tmp_path / "ablation.nc")
    _, header, en, zh = ending(tmp_path).table.splitlines()
    assert "%" in en
    assert zh.split() == ["zh", "–", "–", "no", "specific", "heads"]
    assert zh.index("–") + 1 == header.index("own text") + len("own text")
    save(proof.sel(text_of=["zh"], heads_of=["zh"]), tmp_path / "ablation.nc")
    assert ending(tmp_path).table.splitlines()[-1].split() == zh.split()
