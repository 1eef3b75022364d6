"""The pictures of the README: head map, specificity matrix, overlap and off-target of the demo.

Reads the results of `make demo` (demo-run/) and, where it is there, of analyses/offtarget.py
(results/offtarget.nc), loads no model, and writes HTML beside itself; PNG
too where kaleido (`pip install "langheads[figures]"`) finds a Chrome. The four
pictures are committed.

    python figures/demo.py [RUN]
"""

import sys
from pathlib import Path

from langheads.files import read_json
from langheads.heads import LanguageHeads
from langheads.results import load_result
from langheads.view import (
    head_map,
    language_overlap,
    off_target_bars,
    specificity_matrix,
)

HERE = Path(__file__).parent
RUN = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "demo-run"
OFF_TARGET = HERE.parent / "results" / "offtarget.nc"

figures = {
    "demo-head-map": head_map(
        load_result(RUN / "scores.nc", "scores"),
        heads=LanguageHeads.load(RUN / "heads.json"),
        planted=read_json(RUN / "planted.json")["planted"],
    ),
    "demo-specificity": specificity_matrix(load_result(RUN / "ablation.nc", "ablation"), "zero"),
    "demo-overlap": language_overlap(load_result(RUN / "scores.nc", "scores"), "lahis"),
}
if OFF_TARGET.is_file():
    figures["demo-off-target"] = off_target_bars(load_result(OFF_TARGET, "offtarget"))
for name, figure in figures.items():
    figure.write_html(HERE / f"{name}.html", include_plotlyjs="directory")
    print(HERE / f"{name}.html")
    try:
        figure.write_image(HERE / f"{name}.png", scale=1.5)
        print(HERE / f"{name}.png")
    except (ValueError, RuntimeError) as error:
        # kaleido is not installed, or it found no Chrome.
        print(f"no PNG: {str(error).strip().splitlines()[0]}", file=sys.stderr)
