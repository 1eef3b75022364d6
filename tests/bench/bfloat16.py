"""What bfloat16 costs in accuracy: scores and knock-outs against float32, in one run.

    python tests/bench/bfloat16.py [MODEL TEXT [LANGUAGE,...]]     (default: demo, its own texts)

The same weights twice, in float32 and rounded to bfloat16. For `lahis`, exact knock-out and a
knock-out of 32 documents: Spearman over heads with float32's, and the error (root mean square over
heads) as a share of the spread of float32's over heads and of its median standard error. The
smallest effect that bfloat16 can see is twice that error, nats per token; beside it what results in
bfloat16 say of themselves, ``rounding``. Last, how the error of exact knock-out falls with the
number of tokens: times its square root it stays as it is where documents' errors are independent.
"""

import sys

import numpy as np
from scipy.stats import spearmanr

import langheads
from langheads.demo import grammar

DOCS, SAMPLE, MAX_TOKENS = 48, 32, 128

name = sys.argv[1] if len(sys.argv) > 1 else "demo"
languages = sys.argv[3].split(",") if len(sys.argv) > 3 else sorted(grammar.LANGUAGES)[:3]
text = sys.argv[2] if len(sys.argv) > 2 else {x: grammar.documents(x, DOCS) for x in languages}
how = {"docs": DOCS, "max_tokens": MAX_TOKENS, "languages": languages}

ways = {
    "lahis": lambda model: langheads.score(model, text, method="lahis", **how),
    "knock-out, exact": lambda model: langheads.knockout(model, text, **how),
    f"knock-out, {SAMPLE} documents": lambda model: langheads.knockout(
        model, text, sample=SAMPLE, **how
    ),
}
models = {
    dtype: langheads.load(name, dtype=dtype, device="cpu") for dtype in ("float32", "bfloat16")
}
print(f"{name}, {DOCS} documents of {', '.join(languages)}, at most {MAX_TOKENS} tokens")
print(
    f"{'':28}{'language':>9}{'Spearman':>10}{'error/spread':>14}{'error/se':>10}{'smallest':>10}"
    f"{'rounding':>10}"
)
exact = []
for way, run in ways.items():
    wide, narrow = (run(model) for model in models.values())
    variable = "lahis" if way == "lahis" else "delta_nats_per_token"
    if way == "knock-out, exact":
        exact = [wide, narrow]
    for language in languages:
        at = {"language": language} | ({} if way == "lahis" else {"baseline": "zero"})
        a, b = (found[variable].sel(at).values.ravel().astype(float) for found in (wide, narrow))
        se = wide[f"{variable}_se"].sel(at).values.ravel()
        error = np.sqrt(np.mean((a - b) ** 2))
        print(
            f"{way:28}{language:>9}{spearmanr(a, b).statistic:>10.4f}{error / a.std():>14.4f}"
            f"{error / np.median(se):>10.3f}{2 * error:>10.2g}"
            f"{float(narrow.rounding.sel(language=language)):>10.2g}"
        )
rng = np.random.default_rng(0)
for language in languages:
    wide, narrow = (of.sel(language=language, baseline="zero") for of in exact)
    off = (narrow.rise - wide.rise).values.reshape(DOCS, -1)
    tokens = wide.doc_tokens.values
    for count in (1, 4, 16, DOCS):
        draws = [rng.permutation(DOCS)[:count] for _ in range(30)]
        errors = [off[i].sum(axis=0) / np.sqrt(tokens[i].sum()) for i in draws]
        error = np.sqrt(np.mean(np.square(errors)))
        print(f"{language}, {count:>2} documents: error x sqrt(tokens) {error:.3f}")
