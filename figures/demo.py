"""The pictures of the README: head map, specificity matrix, overlap and off-target of the demo.

Reads the results of `make demo` (demo-run/), and of analyses/offtarget.py (offtarget.nc in the same
folder, or results/offtarget.nc) where there are any. The four pictures are committed.

    python figures/demo.py [RUN]
"""

import _common

from langheads.files import read_json
from langheads.results import load_result
from langheads.view import head_map, language_overlap, off_target_bars, specificity_matrix

verb = "langheads demo --out RUN"
scores = _common.result("scores.nc", "scores", verb)
proof = _common.result("ablation.nc", "ablation", verb)
planted = read_json(_common.file("planted.json", verb))["planted"]
figures = {
    "demo-head-map": head_map(scores, heads=_common.heads(verb), planted=planted),
    "demo-specificity": specificity_matrix(proof, "zero"),
    "demo-overlap": language_overlap(scores, "lahis"),
}
of_run, of_analysis = (
    folder / "offtarget.nc" for folder in (_common.RUN, _common.HERE.parent / "results")
)
off_target = of_run if of_run.is_file() else of_analysis
if off_target.is_file():
    figures["demo-off-target"] = off_target_bars(load_result(off_target, "offtarget"))
for name, figure in figures.items():
    _common.write(figure, name, kinds=("png",), scale=1.5)
