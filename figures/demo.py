"""The pictures of the README: head map, specificity, overlap, off-target, transfer of the demo.

Reads the results of `make demo` (demo-run/), and of analyses/offtarget.py and analyses/transfer.py
(in the same folder, or in results/) where there are any. The five pictures are committed;
demo-attention.png beside them is a screenshot of what `langheads attention` writes.

    python figures/demo.py [RUN]
"""

import _common

from langheads.heads import read_planted
from langheads.io.results import load_result
from langheads.io.schemas import SCHEMAS
from langheads.io.tables import to_dataframe
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
    "demo-head-map": (
        head_map(scores, heads=_common.heads(verb), planted=planted),
        scores.lahis.to_series().unstack("language"),
    ),
    "demo-specificity": (
        specificity_matrix(proof, "zero"),
        proof.delta_nats_per_byte.sel(baseline="zero", drop=True).to_pandas(),
    ),
    "demo-overlap": (
        language_overlap(scores, "lahis"),
        scores.lahis.to_series().unstack("language").corr("spearman").rename_axis("language"),
    ),
}
for name, kind, draw in (
    ("demo-off-target", "offtarget", off_target_bars),
    ("demo-transfer", "transfer", lambda found: transfer_matrix(found, "logprob_difference")),
):
    places = (folder / f"{kind}.nc" for folder in (_common.RUN, _common.HERE.parent / "results"))
    if path := next((place for place in places if place.is_file()), None):
        found = load_result(path, kind)
        dims = SCHEMAS[kind].dims.split()
        figures[name] = draw(found), to_dataframe(found).set_index(dims)
for name, (figure, numbers) in figures.items():
    _common.write(figure, name, numbers, kinds=("png",), scale=1.5)
