"""Chosen heads, and classes of heads: needed by one of two languages, or by both."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go

from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.classes import HeadClasses
from langheads.io.schemas import as_shown
from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures import warped
from langheads.view.figures.canvas import finish
from langheads.view.figures.style import COLOURWAY, DOTTED, literal
from langheads.view.figures.traces import error_bars
from langheads.view.table import NONE, Table, isolated, plain, readable


def _tables(heads: LanguageHeads, run: RunFolder) -> Iterator[Table]:
    yield Table(
        "Chosen heads, strongest first (L3H7 is head 7 of layer 3, both counted from 0).",
        ["language", "number", "heads"],
        [[name, str(len(chosen)), str(chosen) or NONE] for name, chosen in heads.by_name.items()],
    )


def _summary(heads: LanguageHeads, run: RunFolder) -> Iterator[str]:
    numbers = ", ".join(f"{isolated(x)} {len(chosen)}" for x, chosen in heads.specific.items())
    left_out, rule = ("name", "listed"), str(heads.rule.get("name", "not recorded"))
    settings = [f"{k} {plain(v)}" for k, v in as_shown(heads.rule).items() if k not in left_out]
    rule += f" ({', '.join(settings)})" if settings else ""
    said = f"general heads: {len(heads.general)}. Rule: {rule}."
    # A rule may require more languages for a general head than there are.
    least, languages = heads.rule.get("general_at"), len(heads.specific)
    if isinstance(least, (int, float)) and least > languages:
        said += (
            f" General heads are impossible here: one must be on the lists of {least:g} languages, "
            f"and there are only {languages}. So a head that is called specific may be shared by "
            "several."
        )
    yield f"Specific heads a language: {numbers or 'none'}; {said}"


HEADS = Kind("heads", "Chosen heads", tables=_tables, summary=_summary, load=LanguageHeads.load)

# Colour and shape both show the class; the many other heads are small, open and grey.
_MARKERS = (
    {"color": COLOURWAY[0], "symbol": "triangle-right", "size": 11},
    {"color": COLOURWAY[1], "symbol": "triangle-up", "size": 11},
    {"color": COLOURWAY[2], "symbol": "diamond", "size": 10},
    {"color": COLOURWAY[3], "symbol": "x-thin-open", "size": 8},
    {"color": COLOURWAY[6], "symbol": "circle-open", "size": 6},
)
# More names than this in one class would overlap.
_NAMED = 5


def head_classes(classes: HeadClasses) -> go.Figure:
    """Change in language A (across) against change in language B (up), one dot a head.

    Colour and shape show the class. Dots that are in a class have their interval as a cross;
    hovering names every head and gives both intervals. The shaded corner is where both languages
    are harmed; the dotted lines are `min_drop`. A few heads do most of the harm, so both axes are
    asinh(change / s), s the median size of all changes: even near 0, logarithmic further out.

    Args:
        classes: the result of `classify`.

    Returns:
        A plotly figure of fixed size in pixels.
    """
    first, second = classes.languages
    rule = classes.rule
    scale = warped.middle_size(*(of[0] for of in classes.deltas.values()))
    figure = go.Figure()
    # Other heads first, so that they lie below.
    shown = zip(classes.by_class.items(), _MARKERS, strict=True)
    for (name, heads), marker in reversed(list(shown)):
        if name == "undecided" and not heads:
            continue
        figure.add_trace(_dots(classes, name, heads, marker, scale))
    edge = float(np.arcsinh(classes.harm * rule["min_drop"] / scale))
    figure.add_vline(x=edge, line=DOTTED)
    figure.add_hline(y=edge, line=DOTTED)
    reached = [_range(classes, language, edge, scale) for language in (first, second)]
    worse = [ends[0] if classes.harm < 0 else ends[1] for ends in reached]
    corner = {"x0": edge, "x1": worse[0], "y0": edge, "y1": worse[1], "layer": "below"}
    figure.add_shape(type="rect", fillcolor="rgba(128,128,128,0.13)", line_width=0, **corner)
    n = rule["examples"]
    counted = f"{n[first]} and {n[second]} documents, not aligned"
    if rule["aligned"]:
        counted = f"{n[first]} aligned {'examples' if classes.harm < 0 else 'documents'}"
        contexts = rule.get("contexts", n)[first]
        counted += f" on {contexts} contexts" if contexts < n[first] else ""
    worse_word = "negative" if classes.harm < 0 else "positive"
    across = warped.axis(reached[0], scale, 9, 0.09)
    up = warped.axis(reached[1], scale, 12, 0.04)
    what = f"with the head off, asinh scale ({literal(classes.units)})"
    figure.update_xaxes(across, title_text=f"change in {literal(first)} {what}", tickangle=0)
    figure.update_yaxes(up, title_text=f"change in {literal(second)} {what}")
    return finish(
        figure,
        f"What {literal(first)} and {literal(second)} lose without each head, "
        f"{literal(readable(classes.model))}",
        f"{literal(rule['measure'])}, {literal(rule['baseline'])} ablation, {counted}, intervals "
        f"at {100 * (1 - rule['level']):g}%; {worse_word} is worse",
        panels=(574, 460),
        margins=(84, 210, 56, 76),
        legend={"traceorder": "reversed", "x": 1.02, "y": 1},
    )


def _dots(
    classes: HeadClasses, name: str, heads: HeadSet, marker: dict[str, object], scale: float
) -> go.Scatter:
    values = {key: _of_heads(of, heads) for key, of in classes.deltas.items()}
    x, y = (np.arcsinh(values[language] / scale) for language in classes.languages)
    said = f"<b>%{{hovertext}}</b> {literal(name)}"
    for k, key in enumerate(values):
        middle, low, high = (f"%{{customdata[{3 * k + i}]:.4g}}" for i in range(3))
        said += f"<br>{literal(key)}: {middle} ({low} to {high})"
    look: dict[str, Any] = {"mode": "markers"}
    if name != "other":
        text = [str(head) if i < _NAMED else "" for i, head in enumerate(heads)]
        bars = (error_bars(*of, thickness=1, width=0) for of in (x, y))
        look = dict(zip(("error_x", "error_y"), bars, strict=True))
        look |= {"mode": "markers+text", "text": text}
    return go.Scatter(
        x=x[0],
        y=y[0],
        textposition="top center",
        textfont={"size": 10},
        hovertext=[str(head) for head in heads],
        name=f"{literal(name)} ({len(heads)})",
        marker=marker,
        customdata=np.stack([*values.values()]).reshape(9, len(heads)).T,
        hovertemplate=f"{said}<br>{literal(classes.units)}<extra></extra>",
        **look,
    )


def _of_heads(deltas: np.ndarray, heads: HeadSet) -> np.ndarray:
    """Change and ends of its interval, ``[3, head]``."""
    return deltas[:, [h.layer for h in heads], [h.head for h in heads]]


def _range(classes: HeadClasses, language: str, edge: float, scale: float) -> list[float]:
    """Ends of an axis, with every interval of a classed head and every dot inside."""
    all_of = np.arcsinh(classes.deltas[language] / scale)
    classed = (*classes.specific.values(), classes.agnostic, classes.undecided)
    shown = [all_of[0].ravel(), *(_of_heads(all_of, heads).ravel() for heads in classed)]
    values = np.concatenate([*shown, [0.0, edge]])
    values = values[np.isfinite(values)]
    room = 0.06 * (values.max() - values.min() or 1.0)
    return [float(values.min() - room), float(values.max() + room)]


def _class_tables(result: HeadClasses, run: RunFolder) -> Iterator[Table]:
    distinct = {f"{name}-specific": heads for name, heads in result.distinct.items()}
    rows = []
    for name, heads in result.by_class.items():
        chance, shown = result.expected_by_chance.get(name), distinct.get(name)
        by_chance = NONE if chance is None else f"{chance:.2g}"
        differ = NONE if shown is None else f"{len(shown)}: {shown}" if shown else "0"
        strongest = NONE if name == "other" else str(heads.top(12)) or NONE
        rows.append([name, str(len(heads)), by_chance, differ, strongest])
    caption = f"Heads in each class, by {result.rule['measure']}; the 12 strongest are named."
    header = ["class", "heads", "by chance at most", "shown to differ", "strongest"]
    yield Table(caption, header, rows)


def _class_summary(result: HeadClasses, run: RunFolder) -> Iterator[str]:
    counts = ", ".join(f"{isolated(name)} {n}" for name, n in result.counts.items())
    shown = sum(map(len, result.distinct.values()))
    specific = sum(map(len, result.specific.values()))
    yield (
        f"Classes of heads: {counts}. Specific ones that are shown to differ between the two "
        f"languages: {shown} of {specific}."
    )


CLASSES = Kind(
    "head-classes",
    "Classes of heads",
    (
        "Shows: which heads one of two languages needs while the other is shown to need them far "
        "less (a third at most, unless the file says otherwise), which both need, and the "
        "intervals behind it. Older files call a head specific where the other language is "
        "merely not shown to need it.",
        "Does not show: whether the other language needs undecided heads; its interval is too "
        "wide either way.",
    ),
    captioned(
        head_classes,
        "How to read it: each dot is a head; the shaded corner is where both languages are harmed, "
        "and beside it only one is. Crosses are intervals.",
    ),
    _class_tables,
    _class_summary,
    HeadClasses.load,
)
