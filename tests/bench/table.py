"""One table of ratios and peaks of memory, beside plain loops: ``make bench``.

    python tests/bench/table.py [--tiny] [--out bench.md]

A random Llama is made and saved, `score` and `knockout` run on it as a user would call them, and
plain Hugging Face loops on the same tokens, each in a process of its own, in turn, three times.
Then whole commands on demo: two shards at once, and a run that is killed at half its time and given
again; and the pass of `lean.py`, once. `--tiny` tries the script out; its ratios say nothing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from langheads.demo import grammar
from tests.bench import lean
from tests.bench.measured import (
    Measured,
    between,
    in_child,
    machine,
    network,
    plain_gradients,
    plain_knockout,
    plain_nll,
    table,
)

SHAPE = {"vocab_size": 32000, "hidden_size": 384, "intermediate_size": 1536}
SHAPE |= {"num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4}
TINY = SHAPE | {"vocab_size": 4096, "hidden_size": 64, "intermediate_size": 128}
# What `wait4` tells of memory has that of this process in it.
_COMMAND = """
import atexit, runpy, sys
atexit.register(lambda: print(open("/proc/self/status").read(), file=sys.stderr))
runpy.run_module("langheads", run_name="__main__", alter_sys=True)
"""
HEAD = ("what", "beside", "ratio of seconds", "of processor seconds", "peak, GiB", "peak beside")


def save(shape: dict[str, int], folder: str) -> None:
    """A random model with the demo's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig

    from langheads.model.identity import DEMO

    network(LlamaConfig(**shape), torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(DEMO).save_pretrained(folder)


def documents(docs: int) -> Any:
    """A corpus of long ones, of stories of the demo."""
    import langheads

    stories = grammar.documents("en", 5 * docs)
    long = [" ".join(stories[5 * i : 5 * i + 5]) for i in range(docs)]
    return langheads.read_texts({"en": long})


def ours(verb: str, folder: str, docs: int, max_tokens: int) -> Any:
    """What runs a verb; it gives what it measured of every document and head."""
    import langheads

    model = langheads.load(folder, device="cpu")
    how = {"docs": docs, "max_tokens": max_tokens}
    texts = documents(docs)

    def run() -> np.ndarray:
        if verb == "score":
            return langheads.score(model, texts, method="lahis", **how).gradient.values[0]
        found = langheads.knockout(model, texts, **how)
        return found.rise.values[0, 0] / found.doc_tokens.values[0][:, None, None]

    return run


def plain(verb: str, attention: str, folder: str, docs: int, max_tokens: int) -> Any:
    """What does the same in a plain loop."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    model.eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = documents(docs).front(docs)["en"]

    def run() -> np.ndarray:
        # BOS in front, as langheads has it.
        rows = [
            torch.tensor(
                [tokenizer.bos_token_id, *tokenizer(t, add_special_tokens=False)["input_ids"]]
            )
            for t in texts
        ]
        rows = [row[:max_tokens] for row in rows]
        if verb == "score":
            return plain_gradients(model, rows)[0].numpy()
        with torch.no_grad():
            on = torch.stack([plain_nll(model, row) for row in rows])
        return (plain_knockout(model, rows) - on[:, None, None]).numpy()

    return run


def beside_loops(verb: str, folder: str, docs: int, length: int, repeats: int) -> list[list[str]]:
    """A row for each kind of attention, equal as far as float32 allows."""
    took: dict[str, list[Measured]] = {}
    for _ in range(repeats):
        took.setdefault("ours", []).append(in_child(ours, verb, folder, docs, length))
        for way in ("sdpa", "eager"):
            took.setdefault(way, []).append(in_child(plain, verb, way, folder, docs, length))
    for of in took.values():
        np.testing.assert_allclose(of[0].found, took["ours"][0].found, atol=1e-4)
    what = f"`{verb}`, {docs} documents of {length} tokens, float32"
    return [row(what, f"plain {way} loop", took["ours"], took[way]) for way in ("sdpa", "eager")]


def row(what: str, beside: str, ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[str]:
    """How much longer the other took, and both peaks."""
    pairs = list(zip(ours, theirs, strict=True))
    ratios = (between([b.seconds / a.seconds for a, b in pairs]),
              between([b.busy / a.busy for a, b in pairs]))  # fmt: skip
    return [what, beside, *ratios, *(f"{max(m.above for m in of):.2f}" for of in (ours, theirs))]


def shards_and_restarts(docs: int, repeats: int) -> list[list[str]]:
    """Whole `knockout` commands on demo, one thread a process."""
    single, two, again = [], [], []
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name) / "texts"
        texts.mkdir()
        for language in sorted(grammar.LANGUAGES)[:3]:
            lines = "".join(
                json.dumps({"text": t}) + "\n" for t in grammar.documents(language, docs)
            )
            (texts / f"{language}.jsonl").write_text(lines, encoding="utf-8")
        words = ["knockout", "demo", "--text", str(texts), "--docs", str(docs), "--out"]
        for i in range(repeats):
            single.append(commands([[*words, f"{name}/{i}.nc"]]))
            shared = [*words, f"{name}/{i}-shared.nc"]
            shards = [[*shared, "--shard", f"{n}/2"] for n in (1, 2)]
            two.append(commands(shards))
            if not Path(shared[-1]).exists():
                # Each ended before the other, and waits for being given again.
                two[-1] = one_after_another(two[-1], commands(shards[:1]))
            killed = [[*words, f"{name}/{i}-killed.nc"]]
            before = commands(killed, kill_after=single[-1].seconds / 2)
            again.append(one_after_another(before, commands(killed)))
            same = [Path(f"{name}/{i}{which}.nc") for which in ("", "-shared", "-killed")]
            assert all(path.exists() for path in same), "a command made no file"
    what = f"`knockout demo`, 3 languages, {docs} documents"
    return [
        row(f"{what}, 2 shards at once", "one process", two, single),
        row(f"{what}, killed at half and given again", "undisturbed", again, single),
    ]


def one_after_another(*each: Measured) -> Measured:
    """Taken together."""
    found, seconds, busy, above = zip(*each, strict=True)
    return Measured(found, sum(seconds), sum(busy), max(above))


def commands(each: Sequence[Sequence[str]], kill_after: float | None = None) -> Measured:
    """Commands of langheads side by side; of memory the largest of one, with all it has."""
    began, busy, peaks = time.perf_counter(), 0.0, [0]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words], env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for words in each
    ]  # fmt: skip
    if kill_after is not None:
        time.sleep(kill_after)
        for process in running:
            process.kill()
    for process in running:
        with process.stderr:
            said = process.stderr.read().decode()
        _, status, of = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        # A shard that has done its share while others have not ends with 75.
        assert kill_after or process.returncode in (0, 75), said
        busy += of.ru_utime + of.ru_stime
        # One that was killed has said nothing.
        peaks += map(int, re.findall(r"VmHWM:\s*(\d+)", said))
    return Measured(None, time.perf_counter() - began, busy, max(peaks) / 2**20)


def all_rows(tiny: bool) -> Iterator[list[list[str]]]:
    """Rows as they are measured."""
    repeats = 1 if tiny else 3
    with tempfile.TemporaryDirectory() as folder:
        save(TINY if tiny else SHAPE, folder)
        for verb, docs in (("score", 2 if tiny else 8), ("knockout", 2)):
            yield beside_loops(verb, folder, docs, 64 if tiny else 256, repeats)
    yield shards_and_restarts(2 if tiny else 32, repeats)
    _, slow, fast = zip(*lean.rounds(tiny, 1), strict=True)
    yield [row(f"pass of `score`, {lean.told(tiny)}", "plain sdpa loop", fast, slow)]


def main(arguments: list[str]) -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", default="bench.md")
    given = parser.parse_args(arguments)
    told = f"{machine()}\n\nRatios: how much longer the other takes; median (lowest to highest) of "
    told += "runs in turn. Peaks: above the loaded model; of whole commands with all they have.\n\n"
    rows: list[list[str]] = []
    for some in all_rows(given.tiny):
        rows += some
        # After each, so that a run that ends early leaves what it has.
        Path(given.out).write_text(told + table(HEAD, rows) + "\n", encoding="utf-8")
    print(Path(given.out).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
