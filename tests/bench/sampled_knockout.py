"""Sampled knock-out held to the scan of all documents: rank, coverage and time, in one run.

    python tests/bench/sampled_knockout.py [MODEL [TEXT [N [DOCS [LANGUAGES]]]]]
    python tests/bench/sampled_knockout.py scores.nc knockout.nc [N]

By default demo-hard, its own texts (TEXT -), 32 of 200 documents, all languages. Each language is
scanned once in full and once sampled, one after the other, for the seconds. Results of `score` and
`knockout` of the same documents spare the scans, and say nothing of time.

The documents are drawn 200 times from the full scan: Spearman with it, over all heads and over
those whose effect is beyond 2 standard errors, and of the plain mean over as many documents drawn
at random; the share of 95% intervals that hold it, over all heads and of the worst head. `again` is
the Spearman, over heads beyond 2 standard errors, of the full scan with scans of as many documents
drawn from its own with replacement: what the order of those heads is worth.
"""

import sys
from collections.abc import Iterator

import numpy as np

from langheads import load_result, stats
from langheads.demo import grammar
from langheads.model import all_heads_of, load, tokenize_languages
from langheads.scores.exact_knockout import knockout
from langheads.scores.sampled_knockout import auxiliaries, draw, estimate, first_order
from langheads.text import read_texts

DRAWS = 200
seconds = {"full": 0.0, "sampled": 0.0}


def saved(scores: str, exact: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Language, rises [doc, head] and auxiliaries from files."""
    gradients, full = load_result(scores, "scores"), load_result(exact, "knockout")
    same = ("text_hash", "docs", "seed", "max_tokens", "weight_hash")
    assert all(gradients.attrs[key] == full.attrs[key] for key in same), "other documents"
    for language in full.language.values:
        of = full.sel(language=language, baseline="zero")
        docs = int(of.docs)
        rise = of.rise.values[:docs].reshape(docs, -1).astype(float)
        gradient = gradients.gradient.sel(language=language).values[:docs].reshape(docs, -1)
        yield str(language), rise, auxiliaries(gradient, of.doc_tokens.values[:docs])


def scanned(
    name: str, text: str, count: int, docs: int, languages: list[str] | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The same from a model, timed."""
    model = load(name, device="cpu")
    everyone = all_heads_of(model, None)
    own = {language: grammar.documents(language, docs) for language in grammar.LANGUAGES}
    corpus = read_texts(own if text == "-" else text, languages=languages)
    for language, of in tokenize_languages(model, corpus.front(docs), max_tokens=256).items():
        how = {"languages": [language], "docs": docs, "max_tokens": 256}
        full = knockout(model, corpus, **how)
        seconds["full"] += full.seconds
        seconds["sampled"] += knockout(model, corpus, **how, sample=count).seconds
        (x,), _ = first_order(model, of, everyone, [None])
        yield language, full.rise.values[0, 0].reshape(len(of), -1).astype(float), x


def main(arguments: list[str]) -> None:
    """Print a row a language."""
    if arguments and arguments[0].endswith(".nc"):
        count, populations = int((arguments[2:] or [32])[0]), saved(*arguments[:2])
    else:
        name, text, of, docs, *rest = arguments + ["demo-hard", "-", "32", "200"][len(arguments) :]
        count = int(of)
        populations = scanned(name, text, count, int(docs), rest[0].split(",") if rest else None)
    print("language   docs  spearman  lowest  beyond 2 se  again  plain  coverage  worst head")
    for number, (language, rise, x) in enumerate(populations):
        truth = rise.sum(axis=0)
        large = np.abs(truth) > 2 * rise.std(axis=0, ddof=1) * np.sqrt(len(rise))
        rng, others = np.random.default_rng(number), np.random.default_rng([1, number])
        ranks, covered = [], []
        for _ in range(DRAWS):
            found = estimate(rise, x, draw(len(rise), count, rng))
            plain = rise[rng.permutation(len(rise))[:count]].mean(axis=0)
            again = rise[others.integers(0, len(rise), len(rise))].sum(axis=0)
            pairs = (found.total, truth), (found.total[large], truth[large]), (plain, truth)
            pairs = *pairs, (again[large], truth[large])
            ranks.append([stats.rank_correlation(*pair) for pair in pairs])
            covered.append(np.abs(found.total - truth) <= found.width)
        of_all, of_large, of_plain, of_again = np.mean(ranks, axis=0)
        lowest = np.min(ranks, axis=0)[0]
        print(
            f"{language:8} {count:3}/{len(rise):3}  {of_all:8.3f}  {lowest:6.3f}  "
            f"{of_large:5.3f} ({large.sum():3})  {of_again:5.3f}  {of_plain:5.3f}  "
            f"{np.mean(covered):8.3f}  {np.mean(covered, axis=0).min():10.2f}",
            flush=True,
        )
    if seconds["full"]:
        share = seconds["sampled"] / seconds["full"]
        print(f"full {seconds['full']:.1f} s, sampled {seconds['sampled']:.1f} s: {share:.1%}")


main(sys.argv[1:])
