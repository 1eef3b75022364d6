"""How many heads are in each of the four classes, beside what chance gives.

Of arXiv 2602.08625, the counts of English-specific, Hindi-specific, agnostic and other heads; its
thresholds are not public and its counts not at hand, so none are drawn. Reads classes.json.

    python figures/class_counts.py [RUN]
"""

import _common
import pandas as pd
import plotly.graph_objects as go

from langheads.heads.classes import HeadClasses
from langheads.view.figures.style import COLOURWAY, literal

verb = "langheads classify knockout.nc --languages A,B --out classes.json"
classes = _common.loaded(HeadClasses, "classes.json", verb)
names = [name for name in classes.counts if name != "not measured"]
figure = go.Figure(
    [
        go.Bar(
            x=[literal(name) for name in names],
            y=[classes.counts[name] for name in names],
            text=[classes.counts[name] for name in names],
            name="ours",
            marker={"color": COLOURWAY[0]},
            hovertemplate="%{x}: %{y} heads<extra></extra>",
        ),
        go.Scatter(
            x=[literal(name) for name in classes.expected_by_chance],
            y=list(classes.expected_by_chance.values()),
            mode="markers",
            name="by chance, at most",
            marker={"symbol": "line-ew-open", "size": 34, "color": COLOURWAY[1]},
            hovertemplate="%{x}: %{y:.2g} heads by chance<extra></extra>",
        ),
    ]
)
figure.update_layout(width=760, height=430)
_common.titled(figure, "Heads in each class", classes, f"by {literal(classes.rule['measure'])}")
figure.update_xaxes(title_text="class")
figure.update_yaxes(title_text="heads (count, log scale)", type="log")
numbers = pd.DataFrame({"heads": classes.counts, "by chance": classes.expected_by_chance})
_common.write(figure, "class-counts", numbers.rename_axis("class").loc[names])
