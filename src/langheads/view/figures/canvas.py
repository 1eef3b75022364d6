"""Layout of pictures: panels in a grid, axes of rows and cells, titles, sizes in pixels."""

import html
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from langheads.view.figures.style import CLEAR, LIGHT

Place = dict[str, int]
"""Row and column of a panel, as plotly's ``row=, col=``."""
_CELLS: dict[str, Any] = {"showgrid": False, "zeroline": False, "ticks": ""}


def spacing(gap: int, total: int, panels: int) -> float:
    """The share of `total` pixels that is between panels; a single one has no neighbour.

    Example:
        >>> spacing(64, 48, 1), spacing(64, 256, 2)
        (0.0, 0.25)
    """
    return gap / total if panels > 1 else 0.0


def grid(count: int, most: int = 3) -> tuple[int, int]:
    """Rows and columns of so many panels, at most 3 side by side."""
    columns = min(count, most)
    return math.ceil(count / columns), columns


def facets(
    titles: Sequence[str], across: float, down: float = 0.0, columns: int = 3, **options: Any
) -> tuple[go.Figure, list[Place]]:
    """An empty panel a title in a `grid`, and the place of each; spacing as plotly takes it."""
    rows, columns = grid(len(titles), columns)
    options |= {"horizontal_spacing": across, "vertical_spacing": down}
    figure = make_subplots(rows, columns, subplot_titles=titles, **options)
    return figure, [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]


def side_by_side(
    titles: Sequence[str], across: float, **options: Any
) -> tuple[go.Figure, list[Place]]:
    """Panels in one row, however many."""
    return facets(titles, across, columns=len(titles), **options)


def title_outer(figure: go.Figure, places: Sequence[Place], x: str = "", y: str = "") -> None:
    """Titles on the axes of `facets`: below the lowest panel of a column, and left of the first."""
    columns = max(at["col"] for at in places)
    for i, at in enumerate(places):
        if x and i + columns >= len(places):
            figure.update_xaxes(title_text=x, **at)
        if y and at["col"] == 1:
            figure.update_yaxes(title_text=y, **at)


def row_axis(figure: go.Figure, labels: Sequence[str], room: float = 0.1) -> None:
    """Rows of marks from top to bottom, by number, since shortened names may be equal."""
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=labels,
        # A mark at the axis must not cover its label.
        ticklabelstandoff=10,
        range=[len(labels) - 0.5 + room, -0.5 - room],
        showgrid=False,
        zeroline=False,
    )


def cell_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Rows of cells, from top to bottom."""
    ends = [len(labels) - 0.5, -0.5]
    figure.update_yaxes(tickvals=np.arange(len(labels)), ticktext=labels, range=ends, **_CELLS)


def cell_columns(figure: go.Figure, labels: Sequence[str], **axis: Any) -> None:
    """Columns of cells."""
    ends = [-0.5, len(labels) - 0.5]
    figure.update_xaxes(
        tickvals=np.arange(len(labels)), ticktext=labels, range=ends, **_CELLS, **axis
    )


def colour_axis(
    low: float, high: float, title: str, length: int, beside: float | None = None, **bar: Any
) -> dict[str, Any]:
    """A colour scale; its bar is right of all panels, or of the one that ends at `beside`."""
    of_all = {"thickness": 14, "y": 1, "yanchor": "top", "xpad": 16}
    of_one = {"thickness": 12, "x": beside, "xpad": 8, "nticks": 5}
    place = of_all if beside is None else of_one
    head = {"text": title, "side": "right"}
    return {
        "cmin": low,
        "cmax": high,
        "colorbar": {"title": head, "lenmode": "pixels", "len": length} | place | bar,
    }


def legend_above(height: int) -> dict[str, Any]:
    """A legend in one line over the titles of panels that are `height` pixels high together."""
    return {"orientation": "h", "x": 0, "y": 1 + 30 / height, "yanchor": "bottom"}


def finish(
    figure: go.Figure,
    title: str,
    subtitle: str | None = None,
    *,
    panels: tuple[int, int],
    margins: tuple[int, int, int, int],
    **layout: Any,
) -> go.Figure:
    """Template, title and size of a figure, which is changed and returned; texts ready for plotly.

    `panels` is width and height of all panels with the gaps between them, `margins` top, right,
    bottom and left, in pixels; `layout` has further plotly settings.
    """
    top, right, bottom, left = margins
    heading: dict[str, Any] = {"text": title, "y": 1, "yanchor": "top", "pad": {"t": 12}}
    if subtitle is not None:
        heading["subtitle"] = {"text": subtitle}
    # Marks and lines are more visible on the page than on the grey of empty cells.
    if not any(isinstance(trace, go.Heatmap) for trace in figure.data):
        layout["plot_bgcolor"] = CLEAR
    figure.update_layout(
        template=LIGHT,
        title=heading,
        width=left + panels[0] + right,
        height=top + panels[1] + bottom,
        margin={"t": top, "r": right, "b": bottom, "l": left},
        **layout,
    )
    return with_room(figure)


def with_room(figure: go.Figure, most: int = 1200) -> go.Figure:
    """Widen a figure at its right, until title and subtitle fit; plotly would cut them.

    The panels keep their size, and `most` is the limit for long names. Widths of letters are those
    of a common font.
    """

    def ems(text: str | None) -> float:
        wide = [unicodedata.east_asian_width(c) in "WF" for c in html.unescape(text or "")]
        return sum((1.0 if is_wide else 0.56 for is_wide in wide), 0.0)

    title = figure.layout.title
    needed = 24 + max(15 * ems(title.text), 12 * ems(title.subtitle.text))
    missing = round(min(needed, most)) - figure.layout.width
    if missing > 0:
        figure.layout.width += missing
        figure.layout.margin.r += missing
    return figure
