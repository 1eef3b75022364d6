"""Answers under a soft head mask, with random heads as control.

Of arXiv 2511.07498, the XQuAD table. Published accuracy over languages, in percent: Aya-23-8B 55.3,
with mask 61.1, with a mask on random heads 56.2; Llama-3.2-3B 33.0 and 36.8; Mistral-7B 22.5 and
29.0 (no random heads at hand). Reads qa.nc.

    python figures/xquad_mask.py [RUN]
"""

import _common
import pandas as pd

from langheads.view.figures.style import literal, model_of, names

PUBLISHED = (
    ("Aya-23-8B", 55.3, "untouched"),
    ("Aya-23-8B", 61.1, "mask"),
    ("Aya-23-8B", 56.2, "mask on random heads"),
    ("Llama-3.2-3B", 33.0, "untouched"),
    ("Llama-3.2-3B", 36.8, "mask"),
    ("Mistral-7B", 22.5, "untouched"),
    ("Mistral-7B", 29.0, "mask"),
)
verb = "langheads evaluate-qa MODEL --questions QA --language L --gates mask.json --out qa.nc"
found = _common.result("qa.nc", "qa", verb)
rows = []
for condition in names(found, "condition"):
    at = found.sel(condition=condition)
    change = "–"
    if condition != "untouched":
        change = "{:+.1f} ({:+.1f} to {:+.1f})".format(
            *(100 * float(at[f"delta_accuracy{end}"]) for end in ("", "_low", "_high"))
        )
    model = model_of(found)
    accuracy = f"{100 * float(at.accuracy):.1f}"
    rows.append(("ours", model, literal(condition), accuracy, change))
rows += [("published", model, what, f"{value:.1f}", "–") for model, value, what in PUBLISHED]
header = ["source", "model", "condition", "accuracy (%)", "change (points, 95% interval)"]
figure = _common.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
note = f"language {literal(found.attrs.get('language', '?'))}; published: mean over languages"
_common.titled(figure, "Right answers under a soft head mask (accuracy in %)", found, note)
figure.update_layout(width=860)
_common.write(figure, "xquad-mask", pd.DataFrame(rows, columns=header).set_index("source"))
