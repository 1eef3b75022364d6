"""Every figure script on a made-up run: it reads, loads no model, and says units on every axis."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from langheads.results import save
from tests.unit.view.made_up_results import PROVENANCE, write_full_run

FIGURES = Path(__file__).parents[2] / "figures"
SCRIPTS = sorted(path.stem for path in FIGURES.glob("*.py") if path.stem not in ("_common", "demo"))
# Runs scripts one after another in one process, as importing plotly takes seconds.
PROGRAM = """
import json, runpy, sys
folder, run, out, *scripts = sys.argv[1:]
sys.path.insert(0, folder)
said = {}
for script in scripts:
    sys.argv = [script, run, "--out", out, "--html-only"]
    sys.modules.pop("_common", None)
    try:
        runpy.run_path(f"{folder}/{script}.py")
    except SystemExit as end:
        said[script] = str(end)
print(json.dumps([said, sorted({name.split(".")[0] for name in sys.modules})]))
"""
# What a quantity is counted in, or a category that has no unit.
UNIT = re.compile(r"\(.+\)|^layer$|^head$|^class$|language|log p|share|a$|b$|gate|fact", re.I)


def run_scripts(run, out):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, FIGURES, run, out, *SCRIPTS],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    run = write_full_run(folder / "run")
    lens = xr.Dataset(
        {"logit": (("condition", "depth", "answer"), [[[0.0, 1.0], [2.0, 1.0]]])},
        coords={"condition": ["untouched"], "depth": ["0_pre", "final"], "answer": ["a", "b"]},
        attrs=PROVENANCE | {"kind": "logit-lens", "prompt": "x\ny"},
    )
    save(lens, run / "logit-lens.nc")
    said, modules = run_scripts(run, folder / "out")
    return folder / "out", said, modules


def figures_in(path):
    """Data and layout of a figure's page, as plotly.js is given them."""
    text = path.read_text("utf-8")
    call = text[text.index("Plotly.newPlot(") :]
    decode = json.JSONDecoder()
    data, end = decode.raw_decode(call, call.index("["))
    layout, _ = decode.raw_decode(call, call.index("{", end))
    return data, layout


def test_every_script_draws_and_none_loads_a_model(made):
    out, said, modules = made
    assert said == {}
    assert not {"torch", "transformers", "transformer_lens"} & set(modules)
    written = {path.stem for path in out.glob("*.html")}
    assert len(SCRIPTS) == 9
    assert len(written) == len(SCRIPTS) + 1  # transfer draws two
    assert {name.split("-")[0] for name in written} == {name.split("_")[0] for name in SCRIPTS}


def test_titles_and_axes_carry_units(made):
    for path in made[0].glob("*.html"):
        data, layout = figures_in(path)
        assert layout["title"]["text"], path
        if data[0]["type"] == "table":
            heads = data[0]["header"]["values"]
            assert any(UNIT.search(text) for text in heads), path
            continue
        titles = {
            name: axis["title"]["text"]
            for name, axis in layout.items()
            if re.fullmatch(r"[xy]axis\d*", name) and axis.get("title", {}).get("text")
        }
        assert {name[0] for name in titles} == {"x", "y"}, path
        for text in titles.values():
            assert UNIT.search(text), (path, text)


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


def test_a_missing_result_names_the_verb_that_makes_it(tmp_path):
    said, _ = run_scripts(tmp_path, tmp_path / "out")
    assert set(said) == set(SCRIPTS)
    for message in said.values():
        assert re.fullmatch(
            r"error: .*(nc|json) is missing; `(langheads|python) .*` makes it", message
        )
    assert not (tmp_path / "out").exists()
