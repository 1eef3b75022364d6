"""What the benches share: a process of its own for what is measured, plain loops, random models.

Plain loops are what one would write with transformers alone: hooks before W_O, one document a
forward, the loss from all logits.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Measured(NamedTuple):
    """What a function gave, and what it took.

    Attributes:
        found: what it gave.
        seconds: by the clock.
        busy: of the processor, which other work on the machine disturbs less.
        above: GiB, the most memory above that before: of the GPU where that has any, else the
            largest resident size, which Linux tells.
    """

    found: Any
    seconds: float
    busy: float
    above: float


def in_child(prepare: Callable[..., Callable[[], Any]], *given: Any) -> Measured:
    """Prepare and run something in a new process; its peak of memory is its own.

    `prepare` makes what is measured, its own work is not: ``prepare(*given)()``.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as one:
        return one.submit(_prepared, prepare, *given).result()


def _prepared(prepare: Callable[..., Callable[[], Any]], *given: Any) -> Measured:
    return measure(prepare(*given))


def measure(run: Callable[[], Any]) -> Measured:
    """Run it in this process."""
    on_gpu = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        # Forget the highest resident size so far.
        Path("/proc/self/clear_refs").write_text("5")
    before = torch.cuda.memory_allocated() / 2**30 if on_gpu else _gib("VmRSS")
    began, busy = time.perf_counter(), time.process_time()
    found = run()
    if on_gpu:
        torch.cuda.synchronize()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else _gib("VmHWM")
    return Measured(found, seconds, busy, peak - before)


def _gib(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 2**20


def network(config: Any, dtype: torch.dtype, device: str = "cpu") -> Any:
    """A model of transformers with random weights, not each of them drawn, which takes minutes."""
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    with no_init_weights(), torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    generator = torch.Generator().manual_seed(0)
    some = (0.02 * torch.randn(1_000_003, generator=generator)).to(device, dtype)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.fill_(1.0)
            continue
        flat = weight.data.view(-1)
        for at in range(0, len(flat), len(some)):
            flat[at : at + len(some)] = some[: len(flat) - at]
    # As saving writes it; TransformerLens asks for it.
    model.config.architectures = [type(model).__name__]
    return model.eval().requires_grad_(False)


def bridged(model: Any) -> Any:
    """The same model as langheads takes it; the tokenizer is the demo's, and is not asked."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    from langheads.model.identity import DEMO

    return TransformerBridge.boot_transformers(
        f"random/{model.config.model_type}", hf_model=model,
        tokenizer=AutoTokenizer.from_pretrained(DEMO), dtype=model.dtype,
        device=str(model.device),
    )  # fmt: skip


def random_documents(vocab: int, docs: int, length: int) -> list[Tensor]:
    """Rows of random tokens."""
    generator = torch.Generator().manual_seed(1)
    return list(torch.randint(vocab, (docs, length), generator=generator))


def plain_gradients(model: Any, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients ``[doc, layer, head]`` of a gate a head and NLL a token of each document, as one
    would write it."""
    shape = model.config.num_hidden_layers, model.config.num_attention_heads
    gates = torch.ones(shape, device=model.device, requires_grad=True)

    def at(layer: int) -> Callable[[Any, Any], Any]:
        def gate(module: Any, given: Any) -> Any:
            z = given[0].unflatten(-1, (shape[1], -1))
            return ((z * gates[layer][:, None].to(z.dtype)).flatten(-2), *given[1:])

        return gate

    gradients, losses = [], []
    # Gone also where memory runs out: langheads goes on with the model.
    with ExitStack() as hooks:
        for layer, block in enumerate(model.model.layers):
            handle = block.self_attn.o_proj.register_forward_pre_hook(at(layer))
            hooks.callback(handle.remove)
        for row in rows:
            nll = plain_nll(model, row)
            gradients.append(torch.autograd.grad(nll, gates)[0].cpu())
            losses.append(nll.detach().cpu())
    return torch.stack(gradients), torch.stack(losses)


@torch.no_grad()
def plain_knockout(model: Any, rows: Sequence[Tensor]) -> Tensor:
    """NLL a token ``[doc, layer, head]`` with each head off alone, one full forward each."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    nll = torch.zeros(len(rows), layers, heads)
    for layer, block in enumerate(model.model.layers):
        for head in range(heads):

            def off(module: Any, given: Any, head: int = head) -> Any:
                z = given[0].unflatten(-1, (heads, -1)).clone()
                z[..., head, :] = 0
                return (z.flatten(-2), *given[1:])

            handle = block.self_attn.o_proj.register_forward_pre_hook(off)
            for number, row in enumerate(rows):
                nll[number, layer, head] = plain_nll(model, row)
            handle.remove()
    return nll


def plain_nll(model: Any, row: Tensor) -> Tensor:
    """NLL a token of one document."""
    tokens = row.to(model.device)
    logits = model(tokens[None], use_cache=False).logits[0, :-1]
    return F.cross_entropy(logits.float(), tokens[1:])


def machine() -> str:
    """Processor, cores, threads, versions and the date, in a line."""
    import transformers

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    what = [names[0] if names else platform.machine(), f"{os.cpu_count()} cores"]
    if torch.cuda.is_available():
        what.append(torch.cuda.get_device_name())
    what.append(f"{torch.get_num_threads()} threads")
    what += [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    return ", ".join([*what, time.strftime("%Y-%m-%d")])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def between(values: Sequence[float], form: str = ".2f") -> str:
    """Median of some values, and the lowest and highest."""
    low, middle, high = (f"{of(values):{form}}" for of in (min, median, max))
    return f"{middle} ({low} to {high})"
