"""What every language loses with the general heads off, beside random heads.

Of arXiv 2511.07498, the ablation of general heads. Published, Aya-23-8B on XL-Sum, BERTScore F1,
mean of 7 languages: 78.5 with nothing off, 66.2 with general heads off, 77.7 with random heads off.
Ours is the ΔNLL on held-out text; the two are not on one scale. The error bar of the
general heads is a 95% interval over documents; that of random heads holds the middle 95% of the
random sets, which is what a single set of heads is to be compared with. Reads ablation.nc.

    python figures/general_heads.py [RUN]
"""

import _common
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from langheads.view.figures.style import COLOURWAY, label_width, literal, names, tick_labels

verb = "langheads ablate MODEL --heads heads.json --text TEXT --out ablation.nc"
proof = _common.result("ablation.nc", "ablation", verb)
if "general" not in names(proof, "heads_of"):
    _common.stop(f"the head set of {_common.RUN} has no general heads; select with more languages")
at = proof.sel(baseline=names(proof, "baseline")[0], heads_of="general")
languages = names(proof, "text_of")
if not np.isfinite(at.delta_nats_per_byte).any():
    _common.stop(f"the head set of {_common.RUN} has no general heads; lower --general-at")
figure = make_subplots(1, 2, subplot_titles=["ours", "published"], column_widths=[0.7, 0.3])
delta, random = at.delta_nats_per_byte.values, at.control_mean.values
half = 1.96 * at.delta_se.values
# Not of their mean's error: that shrinks with more sets, the spread of single sets does not.
sets = at.control_delta.dropna("control").transpose("control", "text_of").values
if not len(sets):
    _common.stop(f"the proof of {_common.RUN} has no random heads beside the general ones")
lowest, highest = np.percentile(sets, [2.5, 97.5], axis=0)
for name, ends, values, low, high, colour in (
    ("general heads off", "95% interval over documents", delta, delta - half, delta + half, 0),
    ("random heads off", f"middle 95% of {len(sets)} random sets", random, lowest, highest, 5),
):
    figure.add_trace(
        go.Bar(
            x=np.arange(len(languages)),
            y=values,
            error_y={"array": high - values, "arrayminus": values - low, "color": "#1c1e21"},
            name=f"{name}<br>({ends})",
            marker={"color": COLOURWAY[colour]},
            customdata=[
                [literal(language), *between]
                for language, *between in zip(languages, low.tolist(), high.tolist(), strict=True)
            ],
            hovertemplate=(
                f"%{{customdata[0]}}, {name}: %{{y:.4g}} nats per byte<br>"
                f"%{{customdata[1]:.4g}} to %{{customdata[2]:.4g}} ({ends})<extra></extra>"
            ),
        ),
        row=1,
        col=1,
    )
figure.add_trace(
    go.Bar(
        x=["nothing off", "general off", "random off"],
        y=[78.5, 66.2, 77.7],
        text=["78.5", "66.2", "77.7"],
        name="published (Aya-23-8B)",
        marker=_common.PUBLISHED,
        hovertemplate="published, %{x}: %{y} F1<extra></extra>",
    ),
    row=1,
    col=2,
)
note = "error bars: general heads, over documents; random heads, over sets; published on the right"
_common.titled(figure, "General heads off", proof, note)
# By number, as two long names may be equal once they are cut.
figure.update_xaxes(
    title_text="text of (language)",
    tickvals=np.arange(len(languages)),
    ticktext=tick_labels(languages),
    col=1,
)
figure.update_xaxes(title_text="heads (condition)", col=2)
figure.update_yaxes(title_text="ΔNLL (nats per byte)", col=1)
figure.update_yaxes(title_text="BERTScore F1 (0 to 100)", range=[0, 100], col=2)
# Long names stand at a slant below the axis.
below = 36 + label_width(languages)
figure.update_layout(width=1120, height=350 + below, margin={"b": below})
numbers = {
    "ΔNLL (nats per byte)": delta,
    "ΔNLL, low": delta - half,
    "ΔNLL, high": delta + half,
    "random heads": random,
    "random heads, low": lowest,
    "random heads, high": highest,
}
_common.write(figure, "general-heads", pd.DataFrame(numbers, pd.Index(languages, name="text of")))
