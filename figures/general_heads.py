"""What every language loses with the general heads off, beside random heads.

Of arXiv 2511.07498, the ablation of general heads. Published, Aya-23-8B on XL-Sum, BERTScore F1,
mean of 7 languages: 78.5 with nothing off, 66.2 with general heads off, 77.7 with random heads off.
Ours is the rise in loss on held-out text; the two are not on one scale. Reads ablation.nc.

    python figures/general_heads.py [RUN]
"""

import _common
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from langheads.view.style import COLOURWAY, names, tick_labels

verb = "langheads ablate MODEL --heads heads.json --text TEXT --out ablation.nc"
proof = _common.result("ablation.nc", "ablation", verb)
if "general" not in names(proof, "heads_of"):
    _common.stop(f"the head set of {_common.RUN} has no general heads; select with more languages")
at = proof.sel(baseline=names(proof, "baseline")[0], heads_of="general")
languages = tick_labels(names(proof, "text_of"))
if not np.isfinite(at.delta_nats_per_byte).any():
    _common.stop(f"the head set of {_common.RUN} has no general heads; lower --general-at")
figure = make_subplots(1, 2, subplot_titles=["ours", "published"], column_widths=[0.7, 0.3])
for name, values, errors, colour in (
    ("general heads off", at.delta_nats_per_byte, at.delta_se, COLOURWAY[0]),
    ("random heads off", at.control_mean, at.control_se, COLOURWAY[5]),
):
    figure.add_trace(
        go.Bar(
            x=languages,
            y=values.values,
            error_y={"array": 1.96 * errors.values, "color": "#969696"},
            name=name,
            marker={"color": colour},
            hovertemplate=f"%{{x}}, {name}: %{{y:.4g}} nats per byte<extra></extra>",
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
_common.titled(figure, "General heads off", proof, "bars: 95% intervals; published on the right")
figure.update_xaxes(title_text="text of (language)", col=1)
figure.update_xaxes(title_text="heads (condition)", col=2)
figure.update_yaxes(title_text="rise (nats per byte)", col=1)
figure.update_yaxes(title_text="BERTScore F1 (0 to 100)", range=[0, 100], col=2)
figure.update_layout(width=1000, height=430)
_common.write(figure, "general-heads")
