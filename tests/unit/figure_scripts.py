"""Runs the scripts of figures/ on a run folder, and reads the pages that they write."""

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.child import in_child

FIGURES = Path(__file__).parents[2] / "figures"
SCRIPTS = sorted(path.stem for path in FIGURES.glob("*.py") if path.stem != "_common")
# What each draws; a script more or a figure less must be noticed.
DRAWN = {
    "class_counts": {"class-counts"},
    "demo": {
        "demo-head-map",
        "demo-specificity",
        "demo-overlap",
        "demo-off-target",
        "demo-transfer",
    },
    "general_heads": {"general-heads"},
    "head_map": {"head-map"},
    "heads_per_layer": {"heads-per-layer"},
    "logit_lens": {"logit-lens"},
    "offtarget_table": {"offtarget-table"},
    "perplexity_matrix": {"perplexity-matrix"},
    "transfer": {"transfer-matrix", "transfer-points"},
    "xquad_mask": {"xquad-mask"},
}
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
# What a quantity is counted in, or a category or coefficient that has no unit.
UNIT = re.compile(
    r"\(.+\)|^layer$|^head$|^class$|^a$|^b$|^spearman$|language|nats|share|text of|heads of", re.I
)
# Numbers of the two papers, each at the language, model or condition that it belongs to.
OFF_TARGET = {
    "es": ("0.67", "1.00", "57.4 to 71.7"),
    "vi": ("0.35", "1.00", "50.2 to 80.3"),
    "hi": ("0.74", "1.00", "70.2 to 85.6"),
    "ja": ("0.99", "1.00", "81.5 to 81.5"),
    "th": ("0.78", "1.00", "59.0 to 69.1"),
}
OFF_TARGET_COLUMNS = (
    "published: nothing off (share)",
    "published: English heads off (share)",
    "published: BERTScore F1 (0 to 100)",
)
PUBLISHED = {
    "general-heads": {"nothing off": 78.5, "general off": 66.2, "random off": 77.7},
    "offtarget-table": {
        (language, column): cell
        for language, cells in OFF_TARGET.items()
        for column, cell in zip(OFF_TARGET_COLUMNS, cells, strict=True)
    },
    "transfer-points": {
        "published, answers with A's fact": 10,
        "published, answers with B's fact": -12,
    },
    "xquad-mask": {
        ("Aya-23-8B", "untouched"): "55.3",
        ("Aya-23-8B", "mask"): "61.1",
        ("Aya-23-8B", "mask on random heads"): "56.2",
        ("Llama-3.2-3B", "untouched"): "33.0",
        ("Llama-3.2-3B", "mask"): "36.8",
        ("Mistral-7B", "untouched"): "22.5",
        ("Mistral-7B", "mask"): "29.0",
    },
}


def run_scripts(run, out, scripts=SCRIPTS):
    """What each failing script said, and the packages that all of them imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, FIGURES, run, out, *scripts],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def run_scripts_in_a_fork(run, out, scripts=SCRIPTS):
    """The same without the check of imports, most of which are there."""

    def run_all():
        sys.argv = ["", *map(str, (FIGURES, run, out, *scripts))]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(PROGRAM, {})
        return json.loads(printed.getvalue().splitlines()[-1])

    return in_child(run_all)[0]


def check_drawn(out, said, modules):
    """Every script drew what it is for, and none loaded a model."""
    assert said == {}
    assert not {"torch", "transformers", "transformer_lens", "safetensors"} & set(modules)
    assert list(DRAWN) == SCRIPTS
    for kind in ("html", "csv", "tex"):
        assert {path.stem for path in out.glob(f"*.{kind}")} == set.union(*DRAWN.values())


def figures_in(path):
    """Data and layout of a figure's page, as plotly.js is given them."""
    text = path.read_text("utf-8")
    call = text[text.index("Plotly.newPlot(") :]
    decode = json.JSONDecoder()
    data, end = decode.raw_decode(call, call.index("["))
    layout, _ = decode.raw_decode(call, call.index("{", end))
    return data, layout


def numbers(values):
    """A list of plotly's, or its binary form, as an array."""
    if not isinstance(values, dict):
        return np.array(values, dtype=float)
    flat = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return flat.reshape([int(n) for n in str(values.get("shape", len(flat))).split(",")])


def check_units(path):
    """A title, and on each axis, colour bar or table what is counted, and in what."""
    data, layout = figures_in(path)
    assert layout["title"]["text"], path
    if data[0]["type"] == "table":
        assert any(UNIT.search(text) for text in data[0]["header"]["values"]), path
        return
    titles = {
        name: axis["title"]["text"]
        for name, axis in layout.items()
        if re.fullmatch(r"[xy]axis\d*", name) and axis.get("title", {}).get("text")
    }
    wanted = {"x"} if path.stem == "demo-off-target" else {"x", "y"}  # its bars have names
    assert {name[0] for name in titles} == wanted, path
    bars = [
        holder["colorbar"]["title"]["text"]
        for holder in (*data, *(layout[name] for name in layout if name.startswith("coloraxis")))
        if "colorbar" in holder
    ]
    if any(trace["type"] == "heatmap" for trace in data):
        assert bars, path
    for text in (*titles.values(), *bars):
        assert UNIT.search(text), (path, text)


def check_published(path):
    """The papers' numbers stand where they belong, marked, their bars open; ours are neither."""
    shown, rest = [], []
    for trace in figures_in(path)[0]:
        if trace["type"] == "table":
            marked, others = published_cells(trace)
            shown += marked
            rest += others
        elif "published" in (trace.get("name") or ""):
            # A trace of one bar is known by its name, as both of transfer stand at one place.
            keys = trace["x"] if len(trace["x"]) > 1 else [trace["name"]]
            shown += zip(keys, trace["y"], strict=True)
            for text, value in zip(trace["text"], trace["y"], strict=True):
                assert float(text.removeprefix("about ")) == value, path
            assert trace["marker"]["color"] == "rgba(0,0,0,0)"
            assert trace["marker"]["line"]["width"] > 0
            assert "published" in trace["hovertemplate"]
        else:
            is_open = trace.get("marker", {}).get("color") == "rgba(0,0,0,0)"
            assert not (is_open and trace["type"] == "bar"), path
            rest.extend(trace.get("text") or [])
    assert len(shown) == len(dict(shown)), path
    assert dict(shown) == PUBLISHED.get(path.stem, {}), path
    assert not any("published" in str(text) for text in rest), path


def published_cells(table):
    """((row, column) or (model, condition), value) of the papers' cells, and all other cells."""
    header, cells = table["header"]["values"], table["cells"]["values"]
    if "source" in header:
        rows = list(zip(*cells, strict=True))
        marked = [(row[1:3], row[3]) for row in rows if row[0] == "published"]
        return marked, [cell for row in rows if row[0] != "published" for cell in row]
    marked, others = [], []
    for name, column in zip(header, cells, strict=True):
        if name.startswith("published"):
            # A dash stands where the papers have no number.
            found = zip(cells[0], column, strict=True)
            marked += [((row, name), cell) for row, cell in found if cell != "–"]
        else:
            others += column
    return marked, others
