"""Benchmark of scores: which one finds the heads whose removal hurts, and the planted ones?

Claim: gradient scores rank heads by something else than what is lost without them; `quadrature`
    estimates the loss itself. Exact knock-out of the same documents is the measure.
Model: `demo`, `demo-hard`, or any other with a folder of texts.
Hardware: 2 CPU cores. Minutes: 12 for demo-hard on a busy machine, 72 documents a language.
Number to expect: the table of the README, section "How do I know it is true?".

Usage: python analyses/compare_scores.py [MODEL] [--text TEXT] [--out FOLDER] [--docs N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import langheads
from langheads.demo import grammar
from langheads.experiments.benchmark.table import LEGEND, as_text

DOCS, DELETION_DOCS, SEED, MAX_TOKENS = 72, 12, 0, 256

parser = argparse.ArgumentParser(description="Benchmark of scores.")
parser.add_argument("model", nargs="?", default="demo-hard")
parser.add_argument("--text", help="folder of texts; by default the demo's grammar")
parser.add_argument("--out", type=Path)
parser.add_argument("--docs", type=int, default=DOCS)
arguments = parser.parse_args()
text = arguments.text or {
    language: grammar.documents(language, arguments.docs + DELETION_DOCS)
    for language in grammar.LANGUAGES
}
out = arguments.out or Path("results") / f"compare-{Path(arguments.model).name}"
comparison = langheads.benchmark(
    langheads.load(arguments.model),
    text,
    out,
    docs=arguments.docs,
    deletion_docs=DELETION_DOCS,
    max_tokens=MAX_TOKENS,
    seed=SEED,
)
print(as_text(comparison), LEGEND, sep="\n")
print(out)
