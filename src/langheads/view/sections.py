"""What a page is made of: sections with words, verdicts, figures, tables and views of attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from langheads.view.attention.patterns import AttentionData
from langheads.view.judge import Verdict
from langheads.view.words import Table


@dataclass(frozen=True)
class Picture:
    """A figure and what stands below it."""

    figure: go.Figure
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an anchor."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    attention: Sequence[AttentionData] = ()
