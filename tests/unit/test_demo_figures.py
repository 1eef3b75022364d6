"""Every figure script on real results of the embedded model: it shows what the files hold.

The files are read by h5py and json here, not by langheads.
"""

import csv
import json
from collections import Counter

import h5py
import numpy as np
import pytest

from tests.unit.demo_run import TRANSFER, write_demo_run
from tests.unit.figure_scripts import (
    check_drawn,
    check_published,
    check_units,
    figures_in,
    numbers,
    run_scripts,
)

# tests/unit/test_paper_figures.py draws all of them from results that are made up.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo-figures")
    run = write_demo_run(folder / "run")
    return run, folder / "out", *run_scripts(run, folder / "out")


@pytest.fixture
def traces(drawn):
    return lambda name: figures_in(drawn[1] / f"{name}.html")[0]


@pytest.fixture
def stored(drawn):
    def read(name):
        with h5py.File(drawn[0] / f"{name}.nc") as file:
            return {
                key: of.asstr()[()] if h5py.check_string_dtype(of.dtype) else of[()]
                for key, of in file.items()
            }

    return read


@pytest.fixture
def written(drawn):
    return lambda name: json.loads((drawn[0] / f"{name}.json").read_text("utf-8"))


def equal(shown, expected):
    np.testing.assert_allclose(numbers(shown), expected, rtol=1e-6, atol=1e-9)


def test_every_script_draws_and_none_loads_a_model(drawn):
    check_drawn(*drawn[1:])


def test_titles_and_axes_carry_units_and_published_numbers_are_marked(drawn):
    for path in drawn[1].glob("*.html"):
        check_units(path)
        check_published(path)
        assert "demo" in json.dumps(figures_in(path)[1]["title"]), path


@pytest.mark.parametrize("name", ["head-map", "demo-head-map"])
def test_the_map_shows_each_score_and_the_heads_of_the_files(traces, stored, written, name):
    scores, chosen = stored("scores"), written("heads")
    maps = [trace for trace in traces(name) if trace["type"] == "heatmap"]
    assert [trace["name"] for trace in maps] == list(scores["language"])
    assert scores["lahis"].any()
    for trace, expected in zip(maps, scores["lahis"], strict=True):
        # Colours are of square roots; what is hovered over is the value.
        equal(trace["z"], np.sqrt(expected))
        equal(numbers(trace["customdata"])[..., 0], expected)
    marks = {
        kind: [
            (int(layer), int(head))
            for trace in traces(name)
            if trace["name"] == f"{kind} head" and (trace["x"] and trace["x"][0] is not None)
            for head, layer in zip(trace["x"], trace["y"], strict=True)
        ]
        for kind in ("specific", "planted")
    }
    expected = [tuple(head) for heads in chosen["specific"].values() for head in heads]
    assert Counter(marks["specific"]) == Counter(expected)
    planted = [tuple(h) for heads in written("planted")["planted"].values() for h in heads]
    # A planted head's ring is drawn on a wider white one.
    assert set(marks["planted"]) == set(planted if name == "demo-head-map" else [])


def test_matrices_show_the_rise(traces, stored):
    proof = stored("ablation")
    at = list(proof["baseline"]).index("zero")
    perplexity = traces("perplexity-matrix")[0]
    rise = proof["perplexity_off"][at] - proof["perplexity"]
    equal(numbers(perplexity["customdata"])[..., 0], rise)
    # Each column in percent of its own text's perplexity with nothing off, in colours and cells.
    percent = rise / proof["perplexity"] * 100
    equal(perplexity["z"], percent)
    for cells, row in zip(perplexity["text"], percent, strict=True):
        assert not {"−0", "−0.0", "-0"} & set(cells)
        values = [float(cell.replace("−", "-")) for cell in cells]
        np.testing.assert_allclose(values, row, rtol=0.005, atol=0.0501)
    maps = [trace["z"] for trace in traces("demo-specificity") if trace["type"] == "heatmap"]
    ours, random = maps[:2]
    equal(ours, proof["delta_nats_per_byte"][at])
    equal(random, proof["control_mean"][at])
    # The demo's heads are planted, so the diagonal of most languages stands out.
    off = proof["delta_nats_per_byte"][at][: len(proof["text_of"])]
    assert (off.argmax(axis=1) == np.arange(len(off))).sum() >= 5


def test_general_heads_beside_random_ones(drawn, traces, stored):
    proof = stored("ablation")
    cell = list(proof["baseline"]).index("zero"), list(proof["heads_of"]).index("general")
    ours, random, published = traces("general-heads")
    axis = figures_in(drawn[1] / "general-heads.html")[1]["xaxis"]
    assert axis["ticktext"] == list(proof["text_of"])
    for bar in (ours, random):
        equal(bar["x"], range(len(proof["text_of"])))
        equal(axis["tickvals"], numbers(bar["x"]))
        assert [at[0] for at in bar["customdata"]] == list(proof["text_of"])
        ends = np.array([at[1:] for at in bar["customdata"]])
        equal(bar["error_y"]["arrayminus"], numbers(bar["y"]) - ends[:, 0])
        equal(bar["error_y"]["array"], ends[:, 1] - numbers(bar["y"]))
        assert all(f"customdata[{i}]" in bar["hovertemplate"] for i in range(3))
    equal(ours["y"], proof["delta_nats_per_byte"][cell])
    equal(ours["error_y"]["array"], 1.96 * proof["delta_se"][cell])
    equal(ours["error_y"]["arrayminus"], 1.96 * proof["delta_se"][cell])
    assert "95% interval over documents" in ours["name"]
    equal(random["y"], proof["control_mean"][cell])
    # Of 4 sets in order, 2.5 of 100 is 0.075 of the way from the first to the second.
    first, second, third, last = np.sort(proof["control_delta"][cell], axis=0)
    ends = [[at[i] for at in random["customdata"]] for i in (1, 2)]
    equal(ends[0], first + 0.075 * (second - first))
    equal(ends[1], last - 0.075 * (last - third))
    assert "middle 95% of 4 random sets" in random["name"]
    assert published["y"] == [78.5, 66.2, 77.7]


def test_heads_are_counted_in_their_layer_and_class(traces, written):
    chosen, classes = written("heads"), written("classes")
    shown = {trace["name"]: trace for trace in traces("heads-per-layer")}
    for name, heads in {**chosen["specific"], "general": chosen["general"]}.items():
        layers = Counter(layer for layer, _ in heads)
        equal(shown[name]["y"], [layers[layer] for layer in range(chosen["shape"][0])])
    ours, chance = traces("class-counts")
    lists = {f"{name}-specific": of for name, of in classes["specific"].items()}
    lists |= {name: classes[name] for name in ("agnostic", "undecided", "other")}
    assert dict(zip(ours["x"], ours["y"], strict=True)) == {k: len(v) for k, v in lists.items()}
    assert sum(ours["y"]) == np.prod(chosen["shape"])
    assert dict(zip(chance["x"], chance["y"], strict=True)) == classes["expected_by_chance"]


def test_the_lens_shows_every_depth(traces, stored):
    lens = stored("logit-lens")
    shown = traces("logit-lens")
    found = {tuple(np.round(numbers(trace["y"]), 6)) for trace in shown}
    expected = np.moveaxis(lens["logit"], 1, 2).reshape(-1, len(lens["depth"]))
    assert found == {tuple(np.round(series, 6)) for series in expected}
    for trace in shown:
        assert trace["x"] == list(lens["depth"])


def test_replies_and_answers_in_tables(traces, stored):
    off = stored("offtarget")
    table = traces("offtarget-table")[0]
    columns = dict(zip(table["header"]["values"], table["cells"]["values"], strict=True))
    shown = 0
    for name, cells in columns.items():
        if not name.startswith("ours: "):
            continue
        condition = name.removeprefix("ours: ").removesuffix(" (share)")
        at = list(off["condition"]).index("none" if condition == "nothing off" else condition)
        for language, cell in zip(columns["language"], cells, strict=True):
            if language in off["language"]:
                row = list(off["language"]).index(language)
                expected = [off[f"right{end}"][row, at] for end in ("", "_low", "_high")]
                assert cell == "{:.2f} ({:.2f} to {:.2f})".format(*expected)
                shown += 1
            else:
                assert cell == "–"
    assert shown == 3 * 2
    qa = stored("qa")
    table = traces("xquad-mask")[0]
    rows = [row for row in zip(*table["cells"]["values"], strict=True) if row[0] == "ours"]
    assert [row[2] for row in rows] == list(qa["condition"])
    assert [row[3] for row in rows] == [f"{100 * share:.1f}" for share in qa["accuracy"]]
    ends = zip(*(qa[f"delta_accuracy{end}"] for end in ("", "_low", "_high")), strict=True)
    expected = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * np.array(end))) for end in ends]
    assert [row[4] for row in rows] == ["–", *expected[1:]]
    assert len({row[3] for row in rows}) > 1


def test_bars_of_replies(traces, stored):
    off = stored("offtarget")
    bars = traces("demo-off-target")
    assert len(bars) == len(off["language"])
    for bar, expected, low, high in zip(
        bars, off["right"], off["right_low"], off["right_high"], strict=True
    ):
        # Pictures say steering where files of format 1 say shift.
        names = [name.replace("steering", "shift") for name in bar["y"]]
        order = [list(off["condition"]).index(name) for name in names]
        equal(bar["x"], expected[order])
        equal(bar["error_x"]["array"], (high - expected)[order])
        equal(bar["error_x"]["arrayminus"], (expected - low)[order])


def test_answers_moved_by_the_gate(traces, stored):
    moved = stored("transfer")
    both = list(moved["order"]).index("both")
    shown = {trace["name"]: trace for trace in traces("transfer-points")}
    for fact in "ab":
        trace = shown[f"ours, answers with {fact.upper()}'s fact"]
        change, low, high = (
            100 * moved[f"answer_{fact}_overall_{what}"][both] for what in ("change", "low", "high")
        )
        assert change.any()
        assert trace["x"] == list(moved["setting"])
        equal(trace["y"], change)
        equal(trace["error_y"]["array"], high - change)
        equal(trace["error_y"]["arrayminus"], change - low)
        equal(trace["customdata"], np.transpose([low, high]))
        assert all(f"customdata[{i}]" in trace["hovertemplate"] for i in range(2))
    assert sorted(moved["a"]) == TRANSFER
    maps = [trace for trace in traces("transfer-matrix") if trace["type"] == "heatmap"]
    # Of each setting the heads, and below them random ones.
    expected = [
        100 * moved[f"answer_a_{what}"][:, :, both, i]
        for i in range(2)
        for what in ("change", "control_mean")
    ]
    assert len(maps) == 4
    for trace, values in zip(maps, expected, strict=True):
        equal(trace["z"], values)


def test_the_numbers_beside_figures_are_those_of_the_files(drawn, stored, written):
    def table(name):
        with open(drawn[1] / f"{name}.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    scores, proof = stored("scores"), stored("ablation")
    for row in table("head-map"):
        at = (slice(None), int(row["layer"]), int(row["head"]))
        found = [float(row[language]) for language in scores["language"]]
        assert found == scores["lahis"][at].tolist()
    zero = proof["baseline"].tolist().index("zero")
    for row, off in zip(table("demo-specificity"), proof["heads_of"], strict=True):
        assert row["heads_of"] == off
        at = (zero, proof["heads_of"].tolist().index(off))
        found = [float(row[language]) for language in proof["text_of"]]
        assert found == proof["delta_nats_per_byte"][at].tolist()
    heads = written("heads")
    layers = Counter(layer for layer, _ in heads["specific"]["zh"])
    assert {int(row["layer"]): int(row["zh"]) for row in table("heads-per-layer")} == {
        layer: layers[layer] for layer in range(heads["shape"][0])
    }
