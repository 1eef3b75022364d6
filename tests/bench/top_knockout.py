"""Certified top k held to the scan of all documents: how often right, and at what cost.

    python tests/bench/top_knockout.py scores.nc knockout.nc [K,K [DRAWS]]

`score` and `knockout` of the same documents; 5 and 10 heads at 95%, 200 orders of the documents.
Right: the k heads that lose most in the scan. Cost: its forwards over those of the scan, the
gradients and the forward with nothing off included.
"""

import sys

import numpy as np

from langheads import load_result
from langheads.scores.sampled_knockout import BACKWARD, auxiliaries
from langheads.scores.top_knockout import eliminate

CONFIDENCE = 0.95


def main(scores: str, exact: str, sizes: str = "5,10", draws: str = "200") -> None:
    """Print a row a language and k."""
    gradients, full = load_result(scores, "scores"), load_result(exact, "knockout")
    same = ("text_hash", "docs", "seed", "max_tokens", "weight_hash")
    assert all(gradients.attrs[key] == full.attrs[key] for key in same), "other documents"
    layers, heads = full.sizes["layer"], full.sizes["head"]
    blocks = np.repeat((layers - np.arange(layers)) / layers, heads)
    print("language   docs   k  right in  cost of the scan  most  lead of the k-th, in its se")
    for language in full.language.values:
        of = full.sel(language=language, baseline="zero")
        docs = int(of.docs)
        rise = of.rise.values[:docs].reshape(docs, -1).astype(float)
        gradient = gradients.gradient.sel(language=language).values[:docs].reshape(docs, -1)
        x = auxiliaries(gradient, of.doc_tokens.values[:docs])
        falling = np.argsort(-rise.sum(axis=0))
        for k in map(int, sizes.split(",")):
            right, costs = [], []
            for seed in range(int(draws)):
                top = eliminate(
                    lambda d, h, rise=rise: rise[np.ix_(d, h)],
                    x,
                    k,
                    confidence=CONFIDENCE,
                    most=docs,
                    rng=np.random.default_rng([seed, k]),
                )
                right.append(set(np.flatnonzero(top.chosen)) == set(falling[:k]))
                costs.append(BACKWARD + 1 + (top.run * blocks).sum() / docs)
            share = np.array(costs) / (1 + blocks.sum())
            lead = rise[:, falling[k - 1]] - rise[:, falling[k]]
            apart = lead.mean() / (lead.std(ddof=1) / np.sqrt(docs))
            print(
                f"{language:8} {docs:5} {k:4}  {sum(right):3}/{len(right)}  {share.mean():16.1%}  "
                f"{share.max():4.0%}  {apart:5.1f}",
                flush=True,
            )


main(*sys.argv[1:])
