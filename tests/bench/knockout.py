"""Time of exact knock-out of every head against two plain loops, in one run.

    python tests/bench/knockout.py [MODEL TEXT [LANGUAGE]]     (default: demo, its own texts, en)

The plain loops gate one head at a time and run full forwards: one document a forward, or batches
of documents. The bound is what counting multiplications allows: blocks l .. L-1 instead of all,
the unembedding every time. Each way runs three times, in turn; the smallest time of each counts.
"""

import sys
import time

import torch

from langheads.demo import grammar
from langheads.heads import Head, HeadSet
from langheads.model import document_nll, gated, head_shape, load, map_documents, tokenize_languages
from langheads.model.fused_attention import fused_attention
from langheads.scores.scan import knockout_nll
from langheads.text import read_texts

DOCS, MAX_TOKENS, REPEATS = 64, 256, 3

name = sys.argv[1] if len(sys.argv) > 1 else "demo"
language = sys.argv[3] if len(sys.argv) > 3 else "en"
text = sys.argv[2] if len(sys.argv) > 2 else {language: grammar.documents(language, DOCS)}

model = load(name, device="cpu")
layers, heads = head_shape(model)
texts = read_texts(text, languages=[language]).front(DOCS)
documents = tokenize_languages(model, texts, max_tokens=MAX_TOKENS)[language]
everyone = HeadSet([Head(l, h) for l in range(layers) for h in range(heads)], (layers, heads))  # noqa: E741


@torch.no_grad()
def one_by_one() -> None:
    """One head, one document, one full forward."""
    with fused_attention(model):
        for head in everyone:
            for tokens in documents.tokens:
                with gated(model, [head], 0.0):
                    document_nll(model, tokens[None], torch.tensor([len(tokens)]))


@torch.no_grad()
def in_batches() -> None:
    """One head, batches of documents, full forwards."""
    for head in everyone:

        def measure(tokens, lengths, head=head):
            with torch.no_grad(), gated(model, [head], 0.0):
                return document_nll(model, tokens, lengths)

        map_documents(model, documents, measure)


ways = {
    "one document a forward": one_by_one,
    "batches of documents": in_batches,
    "langheads.knockout": lambda: knockout_nll(model, documents, everyone),
}
seconds = dict.fromkeys(ways, float("inf"))
for _ in range(REPEATS):
    for way, run in ways.items():
        start = time.perf_counter()
        run()
        seconds[way] = min(seconds[way], time.perf_counter() - start)

block = sum(p.numel() for p in model.blocks[0].parameters())
unembed = model.W_U.numel()
bound = (layers * block + unembed) / ((layers + 1) / 2 * block + unembed)
ours = seconds["langheads.knockout"]
print(
    f"{name}: {layers} x {heads} heads, {len(documents)} documents, "
    f"{documents.n_predicted.sum()} predicted tokens, {torch.get_num_threads()} threads"
)
for way, took in seconds.items():
    print(f"{way:26}{took:8.2f} s {took / ours:6.2f} x langheads.knockout")
print(f"bound over batches of documents, by multiplications: {bound:.2f}")
