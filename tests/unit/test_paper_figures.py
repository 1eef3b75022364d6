"""Every figure script on a made-up run: it reads, loads no model, and says units on every axis."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
import xarray as xr

from langheads.io.results import save
from tests.browser.chromium import BROWSER
from tests.unit.figure_scripts import (
    FIGURES,
    SCRIPTS,
    check_drawn,
    check_published,
    check_units,
    figures_in,
    numbers,
    run_scripts,
    run_scripts_in_a_fork,
)
from tests.unit.view.made_up_results import PROVENANCE, write_full_run


def write_made_up_run(folder, *languages, **attrs):
    run = write_full_run(folder, *languages, **attrs)
    lens = xr.Dataset(
        {"logit": (("condition", "depth", "answer"), [[[0.0, 1.0], [2.0, 1.0]]])},
        coords={"condition": ["untouched"], "depth": ["0_pre", "final"], "answer": ["a", "b"]},
        attrs=PROVENANCE | {"kind": "logit-lens", "prompt": "x\ny"} | attrs,
    )
    save(lens, run / "logit-lens.nc")
    return run


def make_figures(folder):
    """For `made_once`: a run, what all scripts draw of it, and what they said."""
    said = run_scripts(write_made_up_run(folder / "run"), folder / "out")
    (folder / "said.json").write_text(json.dumps(said), "utf-8")


@pytest.fixture(scope="module")
def made(made_once):
    folder = made_once("figures", make_figures)
    return folder / "out", *json.loads((folder / "said.json").read_text("utf-8"))


def test_every_script_draws_and_none_loads_a_model(made):
    check_drawn(*made)


def test_titles_and_axes_carry_units_and_published_numbers_are_marked(made):
    for path in made[0].glob("*.html"):
        check_units(path)
        check_published(path)


def test_numbers_are_ours_and_published_ones_are_marked(made):
    out = made[0]
    data, _ = figures_in(out / "general-heads.html")
    published = [trace for trace in data if "published" in trace["name"]]
    assert [trace["y"] for trace in published] == [[78.5, 66.2, 77.7]]
    assert published[0]["marker"]["color"] == "rgba(0,0,0,0)"
    data, _ = figures_in(out / "heads-per-layer.html")
    # The made-up heads of en are L0H0 and L1H0.
    assert next(t["y"] for t in data if t["name"] == "en") in ([1, 1, 0, 0], {"0": 1})
    data, _ = figures_in(out / "xquad-mask.html")
    cells = list(zip(*data[0]["cells"]["values"], strict=True))
    assert ("ours", "made-up", "mask", "60.0", "+10.0 (+5.0 to +15.0)") in cells
    assert ("published", "Aya-23-8B", "mask", "61.1", "–") in cells
    data, _ = figures_in(out / "offtarget-table.html")
    assert all("published" in name or "ours" in name or name == "language"
               for name in data[0]["header"]["values"])  # fmt: skip


def test_the_latex_table_beside_a_figure_holds_the_numbers_of_its_csv(made):
    for path in made[0].glob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        lines = path.with_suffix(".tex").read_text("utf-8").splitlines()
        cells = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r" \\")]
        cells = [row for row in cells if len(row) == len(header)]
        cells = cells[-len(rows) :]
        assert len(cells) == len(rows) > 0, path
        compared = 0
        for shown, stored in zip(cells, rows, strict=True):
            for text, value in zip(shown, stored, strict=True):
                plain = re.sub(r"\\([%_&#$])", r"\1", text)
                try:
                    assert float(plain) == pytest.approx(float(value), rel=6e-4), (path, value)
                    compared += 1
                except ValueError:
                    # Of the same index as above, or words.
                    assert plain in ("", "–", value) or "multirow" in plain, (path, value)
        assert compared >= len(rows) or path.stem in ("offtarget-table", "xquad-mask"), path


def test_a_share_that_is_not_known_is_a_dash(made):
    (table,), _ = figures_in(made[0] / "offtarget-table.html")
    columns = dict(zip(table["header"]["values"], table["cells"]["values"], strict=True))
    # The made-up replies of the last language have no share with its rivals off.
    at = columns["language"].index("th")
    assert columns["ours: rivals off (share)"][at] == "–"
    assert "to" in columns["ours: nothing off (share)"][at]
    assert not any("nan" in cell for column in columns.values() for cell in column)


def test_colours_of_the_perplexity_matrix_are_those_of_its_numbers(made):
    data, _ = figures_in(made[0] / "perplexity-matrix.html")
    cells, words = data[0], data[1]
    percent = [float(text.replace("−", "-")) for row in cells["text"] for text in row]
    assert percent == pytest.approx(numbers(cells["z"]).ravel(), abs=0.051)
    assert words["text"] == [text for row in cells["text"] for text in row]
    # By hand: of perplexity 7, a rise of 0.2 is 2.9%, and one of 0.001 is 0.0%.
    assert cells["text"][0][:2] == ["+2.9", "+0"]


def test_languages_whose_cut_names_are_equal_stay_apart(tmp_path):
    long = [f"a-language-with-a-very-long-name-{i}" for i in (1, 2)]
    run = write_made_up_run(tmp_path / "run", ("en", *long))
    said, _ = run_scripts_in_a_fork(run, tmp_path / "out", ["perplexity_matrix", "general_heads"])
    assert said == {}
    cut = ["en", *["a-language-with-a-very-…"] * 2]
    data, layout = figures_in(tmp_path / "out" / "perplexity-matrix.html")
    assert layout["xaxis"]["ticktext"] == cut
    assert layout["yaxis"]["ticktext"][:3] == cut
    for axis in "xy":
        assert len(set(numbers(data[0][axis]))) == len(layout[f"{axis}axis"]["ticktext"])
    assert [cell.split("text of ")[1] for cell in data[0]["hovertext"][0]] == ["en", *long]
    # 24 letters of 12 pixels, each at least half as wide as high.
    assert layout["margin"]["l"] >= 24 * 6 + 30
    data, layout = figures_in(tmp_path / "out" / "general-heads.html")
    assert layout["xaxis"]["ticktext"] == cut
    assert sorted(numbers(data[0]["x"])) == [0, 1, 2]


def test_a_missing_result_names_the_verb_that_makes_it(tmp_path):
    said, _ = run_scripts_in_a_fork(tmp_path, tmp_path / "out")
    assert set(said) == set(SCRIPTS)
    for message in said.values():
        assert re.fullmatch(
            r"error: .*(nc|json) is missing; `(langheads|python) .*` makes it", message
        )
    assert not (tmp_path / "out").exists()


def test_pictures_are_written_where_kaleido_finds_a_browser(made, tmp_path):
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine")
    done = subprocess.run(
        [sys.executable, FIGURES / "xquad_mask.py", made[0].parent / "run", "--out", tmp_path],
        env=os.environ | {"BROWSER_PATH": BROWSER},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (tmp_path / "xquad-mask.png").is_file(), done.stderr
    head = (tmp_path / "xquad-mask.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") == 860
    assert "61.1" in (tmp_path / "xquad-mask.svg").read_text("utf-8")
