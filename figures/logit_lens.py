"""At which depth does the model turn to each answer? The logit lens of a worked example.

Of arXiv 2511.07498, the logit lens beside attention transfer; its numbers are not at hand. Reads
logit-lens.nc, which analyses/logit_lens.py makes with TransformerLens' own logit lens.

    python figures/logit_lens.py [RUN]
"""

import _common
import plotly.graph_objects as go

from langheads.view.style import COLOURWAY, literal, names

found = _common.result(
    "logit-lens.nc", "logit-lens", f"python analyses/logit_lens.py {_common.RUN}"
)
dashes = ("solid", "dash", "dot", "dashdot")
figure = go.Figure()
for i, condition in enumerate(names(found, "condition")):
    for j, answer in enumerate(names(found, "answer")):
        at = found.logit.sel(condition=condition, answer=answer)
        figure.add_trace(
            go.Scatter(
                x=names(found, "depth"),
                y=at.values,
                mode="lines+markers",
                name=f"{literal(answer)}, {literal(condition)}",
                line={"color": COLOURWAY[j % len(COLOURWAY)], "dash": dashes[i % len(dashes)]},
                marker={"symbol": ("circle", "square")[j % 2]},
                hovertemplate=f"{literal(answer)}, {literal(condition)}, %{{x}}: "
                "%{y:.3f}<extra></extra>",
            )
        )
prompt = str(found.attrs["prompt"]).replace("\n", " / ")
_common.titled(figure, "Logit lens at the last position", found, literal(prompt[-100:]))
figure.update_layout(width=900, height=460)
figure.update_xaxes(title_text="residual stream (before layer)", type="category")
figure.update_yaxes(title_text="logit of the answer's first token (logit)")
_common.write(figure, "logit-lens")
