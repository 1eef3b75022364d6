"""Increase in perplexity with each language's heads off, on every language's text.

Of arXiv 2511.07498, the perplexity matrix; its numbers are not at hand. Perplexity cannot be
compared across columns: tokens of different languages are not the same amount of text. So cells
and their colours show the increase in percent of the untouched perplexity of the column; hovering
gives the perplexities. The comparable matrix is `langheads.view.specificity_matrix`. Reads
ablation.nc.

    python figures/perplexity_matrix.py [RUN]
"""

import _common
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from langheads.view.figures.style import label_width, literal, names, reach, tick_labels
from langheads.view.figures.traces import cell_texts
from langheads.view.table import shown

verb = "langheads ablate MODEL --heads heads.json --text TEXT --out ablation.nc"
proof = _common.result("ablation.nc", "ablation", verb)
at = proof.sel(baseline=names(proof, "baseline")[0])
rise = (at.perplexity_off - at.perplexity).transpose("heads_of", "text_of").values
rows, columns = names(proof, "heads_of"), names(proof, "text_of")
percent = 100 * rise / at.perplexity.values
# The row of the general heads would leave all others white.
end = reach(percent[[row in columns for row in rows]])
cells = [[shown(round(value, 1) + 0.0, "+.3g") for value in row] for row in percent]
figure = make_subplots()
figure.add_trace(
    go.Heatmap(
        z=percent,
        coloraxis="coloraxis",
        text=cells,
        customdata=np.stack([rise, np.broadcast_to(at.perplexity.values, rise.shape)], axis=-1),
        # Names in full: those on the axes may be cut.
        hovertext=[
            [f"heads of {literal(r)} off, text of {literal(c)}" for c in columns] for r in rows
        ],
        hovertemplate=(
            "%{hovertext}<br>%{customdata[0]:.4g} perplexity more than %{customdata[1]:.4g}, "
            "%{z:+.3g}%<extra></extra>"
        ),
        # By number, as two long names may be equal once they are cut.
        x=np.arange(len(columns)),
        y=np.arange(len(rows)),
        xgap=1,
        ygap=1,
    )
)
cell_texts(figure, {"row": 1, "col": 1}, percent, cells, (-end, end))
note = f"{names(proof, 'baseline')[0]} ablation; cells: % of the column's untouched perplexity"
_common.titled(figure, "Increase in perplexity with heads off", proof, note)
left, below = 36 + label_width(rows), 36 + label_width(columns)
figure.update_layout(
    coloraxis={
        "cmin": -end,
        "cmax": end,
        "colorbar": {
            "title": {"text": "increase (% of the column's untouched perplexity)", "side": "right"}
        },
    },
    width=left + 130 + 66 * len(columns),
    height=110 + below + 46 * len(rows),
    margin={"l": left, "b": below},
)
figure.update_xaxes(
    title_text="text of (language)",
    tickvals=np.arange(len(columns)),
    ticktext=tick_labels(columns),
)
figure.update_yaxes(
    title_text="heads of … off (language)",
    tickvals=np.arange(len(rows)),
    ticktext=tick_labels(rows),
    autorange="reversed",
)
numbers = pd.DataFrame(percent, pd.Index(rows, name="increase (%), heads off of"), columns)
_common.write(figure, "perplexity-matrix", numbers)
