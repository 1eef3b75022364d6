"""The pictures of the README: head map, specificity, overlap, off-target, transfer of the demo.

Reads the results of `make demo` (demo-run/), and of analyses/offtarget.py and analyses/transfer.py
(in the same folder, or in results/) where there are any. The five pictures are committed;
demo-attention.png beside them is a screenshot of the report.

    python figures/demo.py [RUN]
"""

import _common

from langheads.heads import read_planted
from langheads.io.results import load_result
from langheads.view import (
    head_map,
    language_overlap,
    off_target_bars,
    specificity_matrix,
    transfer_matrix,
)

verb = "langheads demo --out RUN"
scores = _common.result("scores.nc", "scores", verb)
proof = _common.result("ablation.nc", "ablation", verb)
shape = (scores.sizes["layer"], scores.sizes["head"])
planted = read_planted(_common.file("planted.json", verb), shape)["planted"]
figures = {
    "demo-head-map": head_map(scores, heads=_common.heads(verb), planted=planted),
    "demo-specificity": specificity_matrix(proof, "zero"),
    "demo-overlap": language_overlap(scores, "lahis"),
}
for name, kind, draw in (
    ("demo-off-target", "offtarget", off_target_bars),
    ("demo-transfer", "transfer", lambda found: transfer_matrix(found, "logprob_difference")),
):
    places = (folder / f"{kind}.nc" for folder in (_common.RUN, _common.HERE.parent / "results"))
    if path := next((place for place in places if place.is_file()), None):
        figures[name] = draw(load_result(path, kind))
for name, figure in figures.items():
    _common.write(figure, name, kinds=("png",), scale=1.5)
