"""Models of 3 and 8 billion weights on a GPU, beside a plain Hugging Face loop with sdpa.

    python tests/bench/gpu.py [--tiny] [--out bench-gpu.md] [--shapes Llama-3.2-3B,...]

The shapes of Llama-3.2-3B, Llama-3.1-8B and Aya-23-8B with random weights, made on the device in
bfloat16, so that nothing is loaded or downloaded; documents of 2,048 random tokens. `--tiny` runs
the same on a CPU with models that take seconds; its numbers say nothing.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.measured import (
    between,
    bridged,
    machine,
    measure,
    network,
    plain_gradients,
    plain_nll,
    random_documents,
    table,
)

_LLAMA = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 131072}
_LLAMA |= {"head_dim": 128, "rms_norm_eps": 1e-5}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-3.2-3B": ("LlamaConfig", _LLAMA | {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 24, "tie_word_embeddings": True,
    }),
    "Llama-3.1-8B": ("LlamaConfig", _LLAMA | {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }),
    "Aya-23-8B": ("CohereConfig", {
        "vocab_size": 256000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 8192, "logit_scale": 0.0625,
    }),
}  # fmt: skip
TINY = {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}

# Documents that seconds for all heads are told for, and how many of them are sampled.
CORPUS, SAMPLE = 1000, 32
HEAD = ("shape", "way", "tokens/s", "of the matrix rate", "peak above weights, GiB",
        "all heads exact, s", f"{SAMPLE} sampled, s")  # fmt: skip


def config(name: str, tiny: bool) -> Any:
    """A configuration of transformers."""
    import transformers

    kind, settings = SHAPES[name]
    return getattr(transformers, kind)(**settings | (TINY if tiny else {}))


def matrix_rate(device: str, size: int) -> float:
    """Multiplications and additions a second in products of bfloat16 matrices, the best of five."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = max(1, 2**14 // size)

    def products() -> None:
        for _ in range(times):
            torch.mm(a, b)

    measure(products)
    return 2 * size**3 * times / min(measure(products).seconds for _ in range(5))


def work_a_token(model: Any, length: int) -> float:
    """Multiplications and additions of a forward and a backward pass without gradients of weights,
    a token, nothing computed twice; of attention the half that is not masked."""
    of = model.config
    weights = sum(w.numel() for block in model.model.layers for w in block.parameters())
    weights += of.vocab_size * of.hidden_size
    z = model.model.layers[0].self_attn.o_proj.weight.shape[1]
    return 4 * weights + 6 * length * z * of.num_hidden_layers


def of_shape(name: str, *, device: str, tiny: bool, rate: float) -> list[list[str]]:
    """Two rows of the table."""
    from langheads.heads import HeadSet
    from langheads.io.errors import OutOfMemoryError
    from langheads.scores.gradient import gate_gradients
    from langheads.scores.scan import knockout_nll
    from langheads.text import Documents

    length, docs, repeats = (64, 2, 1) if tiny else (2048, 8, 3)
    model = network(config(name, tiny), torch.bfloat16, device)
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    work = work_a_token(model, length) / rate
    rows = random_documents(model.config.vocab_size, docs, length)

    def told(way: str, gradients: Callable[[], Any], off: Callable[[], Any], times: int) -> Any:
        """One row; all heads of the documents take as long as `off`, so many times."""
        try:
            # The first pass warms up, and checks what is checked at first use.
            gradients()
            passes = [measure(gradients) for _ in range(repeats)]
            off()
            scan = times * measure(off).seconds
        except (torch.OutOfMemoryError, OutOfMemoryError):
            return [name, way, "out of memory", *["-"] * (len(HEAD) - 3)]
        speeds = [docs * length / of.seconds for of in passes]
        backward = min(of.seconds for of in passes)
        seconds = [scan * CORPUS / docs, (backward * CORPUS + scan * SAMPLE) / docs]
        return [
            name, way, between(speeds, ",.0f"), between([work * speed for speed in speeds], ".0%"),
            f"{max(of.above for of in passes):.2f}", *(f"{of:,.0f}" for of in seconds),
        ]  # fmt: skip

    @torch.no_grad()
    def forwards() -> None:
        # A plain loop takes as long whichever head is off.
        for row in rows:
            plain_nll(model, row)

    # Before the model is wrapped, which changes it.
    plain = told("plain sdpa loop", partial(plain_gradients, model, rows), forwards, layers * heads)
    bridge, documents = bridged(model), Documents.of_rows("random", rows)
    first = HeadSet([(layer, 0) for layer in range(layers)], (layers, heads))
    ours = told(
        "langheads",
        partial(gate_gradients, bridge, documents),
        partial(knockout_nll, bridge, documents, first),
        heads,
    )
    return [plain, ours]


def main(arguments: list[str]) -> list[list[str]]:
    """Measure, print and write the table; its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", default="bench-gpu.md")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    given = parser.parse_args(arguments)
    device, size = ("cpu", 256) if given.tiny else ("cuda", 8192)
    rate = matrix_rate(device, size)
    told = (
        f"{machine()}; {rate / 1e12:,.2f} TFLOP/s in products of bfloat16 matrices of {size} x "
        f"{size}\n\nGate gradients of documents of {64 if given.tiny else 2048} tokens, bfloat16; "
        "median (lowest to highest). Seconds for all heads are for a language of "
        f"{CORPUS:,} such documents, extrapolated from all layers, one head each (the plain loop: "
        "from full forwards), on the documents of a pass; sampled: gradients of all documents and "
        f"knock-outs of {SAMPLE}. The plain loop takes one document a step.\n\n"
    )
    rows: list[list[str]] = []
    for name in given.shapes.split(","):
        rows += of_shape(name, device=device, tiny=given.tiny, rate=rate)
        # Hooks and modules hold on to each other.
        gc.collect()
        # After each, so that a run that ends early leaves what it has.
        Path(given.out).write_text(told + table(HEAD, rows) + "\n", encoding="utf-8")
    print(Path(given.out).read_text(encoding="utf-8"))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
