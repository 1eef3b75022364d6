"""The LAHIS score of every head for every language, with the chosen heads marked.

Of arXiv 2511.07498, the figure of head importance. Reads scores.nc and heads.json.

    python figures/head_map.py [RUN]
"""

import _common

from langheads.view import head_map

scores = _common.result("scores.nc", "scores", "langheads score MODEL --text TEXT --out scores.nc")
figure = head_map(scores, "lahis", heads=_common.heads())
_common.write(figure, "head-map", scores.lahis.to_series().unstack("language"))
