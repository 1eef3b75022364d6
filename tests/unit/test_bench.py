"""The benches run, and measure the models that they say."""

import pytest
import torch
import transformers

from langheads.io.errors import OutOfMemoryError
from langheads.scores import gradient
from tests.bench import gpu, table

# Of the published checkpoints, from their cards.
WEIGHTS = {
    "Llama-3.2-3B": 3_212_749_824,
    "Llama-3.1-8B": 8_030_261_248,
    "Aya-23-8B": 8_028_033_024,
}


@pytest.mark.parametrize("name", gpu.SHAPES)
def test_shapes_have_as_many_weights_as_the_published_models(name):
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(gpu.config(name, tiny=False))
    model.tie_weights()
    assert sum(weight.numel() for weight in model.parameters()) == WEIGHTS[name]
    assert model.config.max_position_embeddings >= 2048


@pytest.mark.slow
def test_the_gpu_bench_runs_on_a_cpu_with_tiny_models(tmp_path):
    rows = gpu.main(["--tiny", "--out", str(tmp_path / "gpu.md")])
    assert [row[:2] for row in rows] == [
        [name, way] for name in WEIGHTS for way in ("plain sdpa loop", "langheads")
    ]
    assert all(len(row) == len(gpu.HEAD) and "out of memory" not in row for row in rows)
    assert (tmp_path / "gpu.md").read_text().count("\n|") == 2 + len(rows)


def test_the_gpu_bench_goes_on_where_memory_runs_out(monkeypatch):
    def out_of_memory(*_):
        raise OutOfMemoryError("out of memory on one document")

    monkeypatch.setattr(gradient, "gate_gradients", out_of_memory)
    plain, ours = gpu.of_shape("Llama-3.2-3B", device="cpu", tiny=True, rate=1e9)
    assert "out of memory" not in plain
    assert ours == ["Llama-3.2-3B", "langheads", "out of memory", *["-"] * 4]


def test_memory_of_commands_is_their_own():
    fat = b"1" * 2**28
    assert 0 < table.commands([["--version"]]).above < len(fat) / 2**30


@pytest.mark.slow
def test_the_table_has_a_row_for_everything_that_is_measured(tmp_path):
    table.main(["--tiny", "--out", str(tmp_path / "bench.md")])
    rows = (tmp_path / "bench.md").read_text().split("\n|")[3:]
    beside = [row.split("|")[1].strip() for row in rows]
    loops = ["plain sdpa loop", "plain eager loop"]
    assert beside == [*loops, *loops, "one process", "undisturbed", "plain sdpa loop"]
