"""Gradients of all gates in a Llama of 1.2 billion weights, beside a plain Hugging Face loop.

    python tests/bench/lean.py [--tiny] [ROUNDS]

Random weights in bfloat16, a vocabulary of 128,256, 16 layers, one document of 2,048 tokens, on the
CPU (`--tiny`: a model that takes seconds). The plain loop is what one would write: PyTorch's fused
attention, gates multiplied in before W_O, no gradients of weights, the loss from all logits. Each
way runs in a process of its own, in turn, ROUNDS times (1); its first pass is what is told, checks
at first use included. Seconds are also those of the processor, which other work on the machine
disturbs less; memory is the largest resident size above that before the pass.

Bounds: 1.5 GiB, and at least as many tokens a second as the plain loop.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

FULL = {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192}
FULL |= {"num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
TINY = FULL | {"vocab_size": 32064, "hidden_size": 256, "intermediate_size": 1024}


def network(shape: dict[str, int]):
    """A Llama with random weights, without the time that drawing each would take."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    torch.set_default_dtype(torch.bfloat16)
    with no_init_weights():
        model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="sdpa"))
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(0)
    some = (0.02 * torch.randn(1_000_003, generator=generator)).bfloat16()
    for weight in model.parameters():
        times = -(-weight.numel() // len(some))
        drawn = some.repeat(times)[: weight.numel()].reshape(weight.shape)
        weight.data.copy_(torch.ones_like(weight) if weight.ndim == 1 else drawn)
    return model.eval().requires_grad_(False)


def plain(model, tokens: Tensor):
    """Gate gradients and NLL a token, as one would write it."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    gates = torch.ones(layers, heads, requires_grad=True)
    for layer, block in enumerate(model.model.layers):

        def gate(module, given, layer=layer):
            z = given[0].unflatten(-1, (heads, -1))
            return ((z * gates[layer][:, None].to(z.dtype)).flatten(-2), *given[1:])

        block.self_attn.o_proj.register_forward_pre_hook(gate)

    def run():
        logits = model(tokens[None], use_cache=False).logits[0, :-1]
        nll = F.cross_entropy(logits.float(), tokens[1:])
        return torch.autograd.grad(nll, gates)[0], float(nll.detach())

    return run


def ours(model, tokens: Tensor):
    """The same by the pass that `lahis` takes."""
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    from langheads.scores.gradient import gate_gradients
    from langheads.text import Documents
    from tests.models.zoo import save_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = transformers.AutoTokenizer.from_pretrained(save_tokenizer(Path(folder)))
        bridge = TransformerBridge.boot_transformers(
            "random/llama", hf_model=model, tokenizer=tokenizer, dtype=torch.bfloat16, device="cpu"
        )
    documents = Documents.of_rows("random", [tokens])

    def run():
        gradients, nll = gate_gradients(bridge, documents)
        return torch.from_numpy(gradients[0]), float(nll[0])

    return run


def gib(what: str) -> float:
    """A size of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 2**20


def child(way: str, shape: dict[str, int], length: int, path: str) -> None:
    """One way, in this process."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(shape["vocab_size"], (length,), generator=generator)
    run = {"plain": plain, "ours": ours}[way](network(shape), tokens)
    Path("/proc/self/clear_refs").write_text("5")
    before, began, busy = gib("VmRSS"), time.perf_counter(), time.process_time()
    gradient, nll = run()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    above = gib("VmHWM") - before
    torch.save((gradient.double(), nll, seconds, busy, above), path)


def main() -> None:
    """Print a row a way and round, and the ratios of the best."""
    tiny = "--tiny" in sys.argv
    shape, length = (TINY, 512) if tiny else (FULL, 2048)
    rest = [word for word in sys.argv[1:] if word != "--tiny"]
    if len(rest) == 2:
        child(rest[0], shape, length, rest[1])
        return
    best: dict[str, list[float]] = {}
    found = {}
    print("way    tokens/s  tokens/s of processor time  GiB above weights", flush=True)
    for _ in range(int(rest[0]) if rest else 1):
        for way in ("plain", "ours"):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "found.pt")
                size = ["--tiny"] if tiny else []
                subprocess.run([sys.executable, __file__, *size, way, path], check=True)
                gradient, nll, seconds, busy, above = torch.load(path)
            found[way] = gradient, nll
            row = [length / seconds, length / busy, -above]
            best[way] = list(map(max, row, best.get(way, row)))
            print(f"{way:6}{row[0]:9.1f}{row[1]:28.1f}{above:19.2f}", flush=True)
    speed, of_processor, memory = (a / b for a, b in zip(best["ours"], best["plain"], strict=True))
    print(f"ratio {speed:9.2f}{of_processor:28.2f}{memory:19.2f}")
    cosine = F.cosine_similarity(*(of[0].flatten() for of in found.values()), dim=0)
    losses = " and ".join(f"{of[1]:.4f}" for of in found.values())
    print(f"gradients' cosine {cosine:.4f}, NLL a token {losses}")


main()
