"""Gradients of all gates in a Llama of 1.2 billion weights, beside a plain Hugging Face loop.

    python tests/bench/lean.py [--tiny] [ROUNDS]

Random weights in bfloat16, a vocabulary of 128,256, 16 layers, one document of 2,048 tokens, on the
CPU (`--tiny`: a model that takes seconds). The plain loop is what one would write: PyTorch's fused
attention, gates multiplied in before W_O, no gradients of weights, the loss from all logits. Each
way runs in a process of its own, in turn, ROUNDS times (1); its first pass is what is told, checks
at first use included. Seconds are also those of the processor, which other work on the machine
disturbs less; memory is the largest resident size above that before the pass.

Bounds: 1.5 GiB, and at least as many tokens a second as the plain loop. What the checks at first
use take, which further documents are spared, is told beside.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.measured import (
    Measured,
    bridged,
    in_child,
    network,
    plain_gradients,
    random_documents,
)

FULL = {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192}
FULL |= {"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
TINY = FULL | {"vocab_size": 32064, "hidden_size": 256, "intermediate_size": 1024}


def told(tiny: bool) -> str:
    """What is measured, in words."""
    if tiny:
        return "tiny"
    return "1.2 billion weights, one document of 2,048 tokens, bfloat16"


def prepare(way: str, shape: dict[str, int], length: int):
    """What makes gradients and losses of one document of random tokens, `way` plain or ours."""
    from transformers import LlamaConfig

    from langheads.model.chunked_losses import chunked_losses
    from langheads.model.fused_attention import fused_attention
    from langheads.scores.gradient import gate_gradients
    from langheads.text import Documents

    model = network(LlamaConfig(**shape), torch.bfloat16)
    rows = random_documents(shape["vocab_size"], 1, length)
    if way == "plain":
        return lambda: (*plain_gradients(model, rows), 0.0)
    bridge, documents = bridged(model), Documents.of_rows("random", rows)

    def run() -> tuple[torch.Tensor, torch.Tensor, float]:
        busy = time.process_time()
        with fused_attention(bridge), chunked_losses(bridge):
            checks = time.process_time() - busy
        gradients, nll = gate_gradients(bridge, documents)
        return torch.from_numpy(gradients), torch.from_numpy(nll), checks

    return run


def rounds(tiny: bool, count: int) -> Iterator[tuple[int, Measured, Measured]]:
    """Tokens, and what plain loop and langheads took, in turn."""
    shape, length = (TINY, 512) if tiny else (FULL, 2048)
    for _ in range(count):
        plain, ours = (in_child(prepare, way, shape, length) for way in ("plain", "ours"))
        yield length, plain, ours


def main() -> None:
    """Print a row a way and round, and the ratios of the best."""
    rest = [word for word in sys.argv[1:] if word != "--tiny"]
    best: dict[str, list[float]] = {}
    print("way    tokens/s  tokens/s of processor time  GiB above weights", flush=True)
    for length, *both in rounds("--tiny" in sys.argv, int(rest[0]) if rest else 1):
        for way, of in zip(("plain", "ours"), both, strict=True):
            row = [length / of.seconds, length / of.busy, -of.above]
            best[way] = list(map(max, row, best.get(way, row)))
            print(f"{way:6}{row[0]:9.1f}{row[1]:28.1f}{of.above:19.2f}", flush=True)
    speed, of_processor, memory = (a / b for a, b in zip(best["ours"], best["plain"], strict=True))
    print(f"ratio {speed:9.2f}{of_processor:28.2f}{memory:19.2f}")
    gradients, losses, checks = zip(*(of.found for of in both), strict=True)
    print(
        f"of which {checks[1]:.1f} of {both[1].busy:.1f} s of the processor for checks at first use"
    )
    cosine = F.cosine_similarity(*(of.double().flatten() for of in gradients), dim=0)
    told = " and ".join(f"{float(of[0]):.4f}" for of in losses)
    print(f"gradients' cosine {cosine:.4f}, NLL a token {told}")


if __name__ == "__main__":
    main()
