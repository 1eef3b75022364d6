"""Does the answer move to A's fact when A's heads are strengthened or B's weakened?

Of arXiv 2511.07498, cross-lingual attention transfer. Published: answers that give A's fact gain
about 10 points, those that give B's lose 12. Reads transfer.nc.

    python figures/transfer.py [RUN]
"""

import _common
import plotly.graph_objects as go

from langheads.io.tables import to_dataframe
from langheads.view import transfer_matrix
from langheads.view.figures.style import COLOURWAY, literal, names

verb = "langheads transfer MODEL --heads heads.json --out transfer.nc"
found = _common.result("transfer.nc", "transfer", verb)
figure = transfer_matrix(found, "answer_a")
_common.write(
    figure, "transfer-matrix", to_dataframe(found).set_index(["a", "b", "order", "setting"])
)

order = "both" if "both" in names(found, "order") else names(found, "order")[0]
at = found.sel(order=order)
figure = go.Figure()
for name, label, colour in (
    ("answer_a", "answers with A's fact", COLOURWAY[0]),
    ("answer_b", "answers with B's fact", COLOURWAY[5]),
):
    change, low, high = (
        100 * at[f"{name}_overall_{what}"].values for what in ("change", "low", "high")
    )
    figure.add_trace(
        go.Bar(
            x=[literal(x) for x in names(at, "setting")],
            y=change,
            error_y={
                "array": high - change,
                "arrayminus": change - low,
                "color": "#1c1e21",
            },
            name=f"ours, {label}",
            marker={"color": colour},
            customdata=[list(ends) for ends in zip(low.tolist(), high.tolist(), strict=True)],
            hovertemplate=(
                f"%{{x}}, {label}: %{{y:+.1f}} points<br>95% interval "
                "%{customdata[0]:+.1f} to %{customdata[1]:+.1f}<extra></extra>"
            ),
        )
    )
for label, value, shape in (("A's fact", 10, ""), ("B's fact", -12, "/")):
    figure.add_trace(
        go.Bar(
            x=["published"],
            y=[value],
            text=[f"about {value:+d}"],
            textposition="outside",
            cliponaxis=False,
            name=f"published, answers with {label}",
            marker=_common.PUBLISHED | {"pattern": {"shape": shape, "fgcolor": COLOURWAY[1]}},
            hovertemplate=f"published, {label}: about %{{y:+d}} points<extra></extra>",
        )
    )
note = f"mean over pairs of languages, order {literal(order)}; 95% intervals"
_common.titled(figure, "Change in answers under the gate", found, note)
figure.update_layout(barmode="group", width=860, height=430)
figure.update_xaxes(title_text="heads and gate (condition)")
figure.update_yaxes(title_text="change (points of 100 answers)", zeroline=True)
told = [f"answer_{x}_overall_{what}" for x in "ab" for what in ("change", "low", "high")]
numbers = 100 * at[told].reset_coords(drop=True).to_dataframe()
_common.write(figure, "transfer-points", numbers.add_suffix(" (points)"))
