"""What the figure scripts share: the folder that they read, the files that they write.

    python figures/SCRIPT.py [RUN] [--out FOLDER] [--html-only]

RUN is a folder of results, demo-run/ by default. HTML is written always; SVG, PDF and PNG too where
kaleido (`pip install "langheads[figures]"`) finds a Chrome. Beside each stand its numbers, as CSV
with all digits and as a LaTeX table (booktabs, of more than 40 rows longtable) with four.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import xarray as xr

from langheads.heads import LanguageHeads
from langheads.io.errors import LangheadsError
from langheads.io.results import load_result
from langheads.view.figures.style import COLOURWAY, LIGHT, literal
from langheads.view.table import readable

HERE = Path(__file__).parent
PUBLISHED = {"color": "rgba(0,0,0,0)", "line": {"color": COLOURWAY[1], "width": 2}}
"""Marker of a published number: open, so that it is never taken for one of ours."""

_parser = argparse.ArgumentParser(description="Draw a figure from a folder of results.")
_parser.add_argument("run", nargs="?", type=Path, default=HERE.parent / "demo-run")
_parser.add_argument("--out", type=Path, default=HERE)
_parser.add_argument("--html-only", action="store_true")
_given = _parser.parse_args()
RUN: Path = _given.run


def result(name: str, kind: str, verb: str) -> xr.Dataset:
    """A result of the run folder, or one line that says how to make it."""
    try:
        return load_result(file(name, verb), kind)
    except LangheadsError as error:
        stop(str(error))


def file(name: str, verb: str) -> Path:
    """A file of the run folder."""
    if not (RUN / name).is_file():
        stop(f"{RUN / name} is missing; `{verb}` makes it")
    return RUN / name


def heads(verb: str = "langheads select RUN/scores.nc --out RUN/heads.json") -> LanguageHeads:
    """The head set of the run folder."""
    return loaded(LanguageHeads, "heads.json", verb)


def loaded(kind: Any, name: str, verb: str) -> Any:
    """What a class reads from a JSON file of the run folder."""
    try:
        return kind.load(file(name, verb))
    except LangheadsError as error:
        stop(str(error))


def stop(message: str) -> NoReturn:
    """End with one line."""
    sys.exit(f"error: {message}")


def titled(figure: go.Figure, title: str, of: Any, note: str = "") -> None:
    """Title, and below it the model and what a reader must know."""
    model = of.attrs.get("model") if isinstance(of, xr.Dataset) else of.model
    figure.update_layout(
        template=LIGHT,
        title={
            "text": title,
            "subtitle": {"text": ", ".join(filter(None, (literal(readable(model)), note)))},
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
        },
        margin={"t": 96},
    )


def table(columns: dict[str, list[str]], widths: list[int] | None = None) -> go.Figure:
    """A table that shows all its rows: a heading may take two lines, a row one."""
    # Below more than the margin: fonts differ in how high two lines of a heading are.
    head, row, top, below = 46, 26, 96, 36
    figure = go.Figure(
        go.Table(
            header={"values": list(columns), "align": "left", "height": head},
            cells={"values": list(columns.values()), "align": "left", "height": row},
            columnwidth=widths,
        )
    )
    rows = max(map(len, columns.values()))
    return figure.update_layout(
        height=top + head + row * rows + below, margin={"t": top, "b": 20, "l": 20, "r": 20}
    )


def write(
    figure: go.Figure,
    name: str,
    numbers: pd.DataFrame,
    kinds: tuple[str, ...] = ("svg", "pdf", "png"),
    scale: float = 1.0,
) -> None:
    """Write a figure as HTML, its numbers, and pictures where a Chrome is found."""
    _given.out.mkdir(parents=True, exist_ok=True)
    path = _given.out / f"{name}.html"
    figure.write_html(path, include_plotlyjs="directory")
    numbers.to_csv(path.with_suffix(".csv"))
    numbers.to_latex(
        path.with_suffix(".tex"),
        escape=True,
        float_format="{:.4g}".format,
        longtable=len(numbers) > 40,
        na_rep="–",
        encoding="utf-8",
    )
    print(path, path.with_suffix(".csv"), path.with_suffix(".tex"), sep="\n")
    if _given.html_only:
        return
    files = [path.with_suffix(f".{kind}") for kind in kinds]
    try:
        size = {"width": figure.layout.width, "height": figure.layout.height}
        pio.write_images([figure] * len(files), files, scale=scale, **size)
    except (ValueError, RuntimeError, ImportError) as error:
        # kaleido is not installed, or it found no Chrome.
        missing = ", ".join(kind.upper() for kind in kinds)
        print(f"no {missing}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return
    print(*files, sep="\n")
