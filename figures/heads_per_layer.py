"""In which layers do the specific heads of each language and the general heads lie?

Of arXiv 2511.07498, the figure of language heads over layers. Its numbers are not at hand, so none
are drawn beside ours. Reads heads.json.

    python figures/heads_per_layer.py [RUN]
"""

import _common
import pandas as pd
import plotly.graph_objects as go

from langheads.view.figures.style import COLOURWAY, literal

heads = _common.heads()
sets = {**heads.specific, "general": heads.general}
patterns = ("", "/", "\\", "x", "-", "|", "+", ".")
figure = go.Figure(
    [
        go.Bar(
            x=list(range(heads.shape[0])),
            y=chosen.per_layer(),
            name=literal(name),
            marker={
                "color": COLOURWAY[i % len(COLOURWAY)],
                # More languages than colours: a pattern tells the rest apart.
                "pattern": {"shape": patterns[i // len(COLOURWAY) % len(patterns)]},
            },
            hovertemplate=f"{literal(name)}, layer %{{x}}: %{{y}} heads<extra></extra>",
        )
        for i, (name, chosen) in enumerate(sets.items())
    ]
)
_common.titled(figure, "Chosen heads in each layer", heads, "specific to a language, and general")
figure.update_layout(barmode="stack", width=820, height=430)
figure.update_xaxes(title_text="layer", dtick=max(1, heads.shape[0] // 16))
figure.update_yaxes(title_text="heads (count)")
numbers = pd.DataFrame({name: chosen.per_layer() for name, chosen in sets.items()})
_common.write(figure, "heads-per-layer", numbers.rename_axis("layer"))
