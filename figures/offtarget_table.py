"""Replies in the wanted language before and after English heads are switched off.

Of arXiv 2511.07498, the off-target table. Published, Mistral-7B on XL-Sum, share in the right
language: es .67 to 1.00, vi .35 to 1.00, hi .74 to 1.00, ja .99 to 1.00, th .78 to 1.00; BERTScore
F1 57.4 to 71.7, 50.2 to 80.3, 70.2 to 85.6, 81.5 to 81.5, 59.0 to 69.1. Reads offtarget.nc.

    python figures/offtarget_table.py [RUN]
"""

import _common
import numpy as np
import pandas as pd

from langheads.view.figures.style import literal, names

PUBLISHED = {
    "es": (0.67, 1.00, 57.4, 71.7),
    "vi": (0.35, 1.00, 50.2, 80.3),
    "hi": (0.74, 1.00, 70.2, 85.6),
    "ja": (0.99, 1.00, 81.5, 81.5),
    "th": (0.78, 1.00, 59.0, 69.1),
}
verb = f"python analyses/offtarget.py && cp results/offtarget.nc {_common.RUN}"
found = _common.result("offtarget.nc", "offtarget", verb)
conditions = names(found, "condition")
off = "suspect off" if "suspect off" in conditions else "rivals off"
random = "random suspect off" if off == "suspect off" else "random off"


def share(language: str, condition: str) -> str:
    """A share with its interval; a dash for what was not run or has no value."""
    if language not in names(found, "language") or condition not in conditions:
        return "–"
    at = found.sel(language=language, condition=condition)
    if not np.isfinite(at.right):
        return "–"
    return f"{float(at.right):.2f} ({float(at.right_low):.2f} to {float(at.right_high):.2f})"


languages = list(dict.fromkeys([*names(found, "language"), *PUBLISHED]))
columns = {
    "language": [literal(x) for x in languages],
    "ours: nothing off (share)": [share(x, "none") for x in languages],
    f"ours: {off} (share)": [share(x, off) for x in languages],
    f"ours: {random} (share)": [share(x, random) for x in languages],
}
for i, what in enumerate(("nothing off (share)", "English heads off (share)")):
    columns[f"published: {what}"] = [
        f"{PUBLISHED[x][i]:.2f}" if x in PUBLISHED else "–" for x in languages
    ]
columns["published: BERTScore F1 (0 to 100)"] = [
    "{2} to {3}".format(*PUBLISHED[x]) if x in PUBLISHED else "–" for x in languages
]
figure = _common.table(columns, widths=[60, *[120] * (len(columns) - 1)])
note = f"replies stray into {literal(found.attrs['suspect'])}; 95% intervals; published: Mistral-7B"
_common.titled(figure, "Replies in the wanted language (share of replies)", found, note)
figure.update_layout(width=1100)
numbers = pd.DataFrame(columns | {"language": languages}).set_index("language")
_common.write(figure, "offtarget-table", numbers)
