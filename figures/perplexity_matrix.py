"""Rise in perplexity with each language's heads off, on every language's text.

Of arXiv 2511.07498, the perplexity matrix; its numbers are not at hand. Perplexity cannot be
compared across columns: tokens of different languages are not the same amount of text. The
comparable matrix is `langheads.view.specificity_matrix`. Reads ablation.nc.

    python figures/perplexity_matrix.py [RUN]
"""

import _common
import numpy as np
import plotly.graph_objects as go

from langheads.view.style import names, reach, tick_labels

verb = "langheads ablate MODEL --heads heads.json --text TEXT --out ablation.nc"
proof = _common.result("ablation.nc", "ablation", verb)
at = proof.sel(baseline=names(proof, "baseline")[0])
rise = (at.perplexity_off - at.perplexity).transpose("heads_of", "text_of").values
rows, columns = names(proof, "heads_of"), names(proof, "text_of")
# The row of the general heads would leave all others white.
end = reach(rise[[row in columns for row in rows]])
figure = go.Figure(
    go.Heatmap(
        z=rise,
        coloraxis="coloraxis",
        texttemplate="%{z:.2f}",
        hovertemplate="heads of %{y} off, text of %{x}: %{z:.4g} perplexity<extra></extra>",
        x=tick_labels(columns),
        y=tick_labels(rows),
        xgap=1,
        ygap=1,
    )
)
note = f"{names(proof, 'baseline')[0]} ablation; compare within a column only"
_common.titled(figure, "Rise in perplexity with heads off", proof, note)
figure.update_layout(
    coloraxis={
        "cmin": -end,
        "cmax": end,
        "colorbar": {"title": {"text": "rise (perplexity)", "side": "right"}},
    },
    width=260 + 66 * len(columns),
    height=190 + 46 * len(rows),
)
figure.update_xaxes(title_text="text of (language)", tickvals=np.arange(len(columns)))
figure.update_yaxes(title_text="heads of … off (language)", autorange="reversed")
_common.write(figure, "perplexity-matrix")
