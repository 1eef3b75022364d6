"""Replies that stray: do they come back to the wanted language when heads are off or steered?"""

from collections.abc import Iterator, Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from langheads.io.errors import InputError
from langheads.io.measures import TWINS, labels, units
from langheads.view import table
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style
from langheads.view.figures.style import COLOURWAY, PALE, literal, model_of, names, with_ends
from langheads.view.figures.traces import Look, ShareBars, points, share_bars
from langheads.view.table import LONG, NONE, PASS_RATES, Table, fallen, isolated, with_interval

_SHOWN = {"shift": "steering", "random shift": "random steering"}
# The kinds of condition: nothing off, random heads, and heads that should matter.
_FRAME = {"none": COLOURWAY[6], "random": COLOURWAY[4]}
_CHECKS = labels(("repetition", "prompt_copy", "empty", "nll", "delta_nll"))
_RATES = {"lpr": "LPR: lines pass", "wpr": "WPR: words pass", "lcpr": "LCPR: harmonic mean"}
_LANGUAGE = {"right": "in the language", "delta_right": "change against none"} | labels(_RATES)


def off_target_bars(result: xr.Dataset) -> go.Figure:
    """One panel a language, one bar a condition: the share of replies in the wanted language.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; bars carry 95% intervals, hovering gives the paired change
        against nothing off. Conditions without heads stay empty.

    Raises:
        InputError: another kind of dataset.
    """
    style.check_kind(result, "offtarget")
    conditions = _in_order(result)

    def bars(language: str) -> ShareBars:
        of = result.sel(language=language, condition=conditions)
        return ShareBars(
            [literal(_shown(name)) for name in conditions],
            of.right.values,
            of.right_low.values,
            of.right_high.values,
            [PALE[_FRAME.get(name.split()[0], COLOURWAY[0])] for name in conditions],
            [_FRAME.get(name.split()[0], COLOURWAY[0]) for name in conditions],
            [_hover(of.sel(condition=name), name, language) for name in conditions],
        )

    panels, apart = {language: bars(language) for language in names(result, "language")}, 0.03
    height, x = 24 * len(conditions), "share of replies"
    figure, size = share_bars(panels, height, 260, apart, x, shared_yaxes=True)
    return canvas.finish(
        figure,
        "Replies in the wanted language, heads off or steered",
        f"{model_of(result)}, replies stray into {literal(result.attrs.get('suspect', '?'))}; "
        "95% intervals over prompts",
        panels=size,
        margins=(104, 30, 50, 150),
    )


def off_target_checks(result: xr.Dataset) -> go.Figure:
    """One panel a degeneration check, one row a condition, one mark a language.

    NLL is shown as its change against ``none``, where the file has it.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; replies that came back to their language count only where
        these stay near the row ``none``.

    Raises:
        InputError: another kind of dataset, or one without degeneration checks.
    """
    style.check_kind(result, "offtarget")
    there = {name: label for name, label in _CHECKS.items() if name in result}
    if "delta_nll" in there:
        there.pop("nll", None)
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_CHECKS)}")
    return _marks(result, there, "Did the replies fall apart?")


def off_target_rates(result: xr.Dataset) -> go.Figure:
    """One panel a pass rate, one row a condition, one mark a language.

    Args:
        result: dataset of kind ``offtarget``.

    Returns:
        A plotly figure of fixed size; languages that have no WPR have neither it nor LCPR.

    Raises:
        InputError: another kind of dataset, or one without rates.
    """
    style.check_kind(result, "offtarget")
    there = _rates(result)
    if not there:
        raise InputError(f"this dataset has none of {', '.join(_RATES)}")
    return _marks(result, there, "Pass rates of the replies")


def _rates(result: xr.Dataset) -> dict[str, str]:
    """The pass rates that a dataset has of any language, with their titles."""
    return {x: of for x, of in _RATES.items() if x in result and np.isfinite(result[x]).any()}


def _shown(condition: str) -> str:
    """A condition in the field's terms; files of format 1 call steering a shift."""
    return _SHOWN.get(condition, condition)


def _in_order(result: xr.Dataset) -> list[str]:
    """The conditions as they are drawn: every one followed by its random twin."""
    given = names(result, "condition")
    twins = {TWINS[name]: name for name in given if TWINS.get(name) in given}
    found: list[str] = []
    for name in given:
        if TWINS.get(name) not in given:
            found += [name, *([twins[name]] if name in twins else [])]
    return found


def _marks(result: xr.Dataset, panels: Mapping[str, str], title: str) -> go.Figure:
    """Measure -> its label: a panel each, with a row a condition and a mark a language."""
    conditions, languages = _in_order(result), names(result, "language")
    rows = [literal(_shown(condition)) for condition in conditions]
    unit, y = units(panels, of="replies"), np.arange(len(rows))
    figure, places = canvas.side_by_side(list(panels.values()), 0.03, shared_yaxes=True)
    figure.update_annotations(font_size=13)
    for (name, label), at in zip(panels.items(), places, strict=True):
        for k, language in enumerate(languages):
            of = result.sel(language=language, condition=conditions)
            low, high = (of.get(f"{name}_{end}", of[name]).values for end in ("low", "high"))
            # Languages are drawn below each other, so that no interval hides another.
            apart = (k - (len(languages) - 1) / 2) * 0.8 / len(languages)
            look = Look(*style.distinct(k), size=8, outline=0, thickness=1.2, ends=0)
            said = f"%{{text}}, {literal(language)}<br>{label} %{{x:.3f}} "
            said += "(%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>"
            of_language = points(of[name].values, y + apart, low, high, literal(language), look)
            of_language.update(legendgroup=literal(language), showlegend=at["col"] == 1)
            hover = {"customdata": np.stack([low, high], axis=1), "hovertemplate": said}
            figure.add_trace(of_language.update(hover, text=rows), **at)
        figure.update_xaxes(title_text=unit[name], rangemode="tozero", nticks=5, **at)
    canvas.row_axis(figure, rows, room=0.0)
    for i in y[1:]:
        line = {"width": 1, "color": "rgba(128,128,128,0.35)"}
        figure.add_hline(y=i - 0.5, line=line, layer="below")
    return canvas.finish(
        figure,
        title,
        f"{model_of(result)}; lines are 95% intervals over prompts",
        panels=(210 * len(panels), max(30, min(64, 9 * len(languages))) * len(rows)),
        margins=(100, 130, 50, 150),
    )


def _hover(at: xr.Dataset, condition: str, language: str) -> str:
    text = f"<b>{literal(_shown(condition))}</b>, {literal(language)}"
    if not np.isfinite(at.right):
        return f"{text}<br>no heads to switch off"

    def interval(name: str) -> str:
        return with_ends(*table.with_ends_of(at, name))

    if "n_heads" in at:
        text += f", {int(at.n_heads)} heads"
    text += f"<br>in the language {interval('right')}"
    if condition != "none":
        text += f"<br>change against none {interval('delta_right')}"
    if "suspect" in at and np.isfinite(at.suspect):
        text += f"<br>in the language strayed into {interval('suspect')}"
    if "delta_nll" in at and condition != "none":
        text += f"<br>change of NLL {interval('delta_nll')} nats per token"
    return text


def _pictures(result: xr.Dataset, run: RunFolder) -> Iterator[Picture]:
    yield Picture(
        off_target_bars(result),
        "How to read it: longer bars are more replies in the wanted language; compare with "
        "none (grey) and with random heads (ochre, below the heads that they stand for). "
        "Lines are 95% intervals.",
    )
    yield Picture(
        off_target_checks(result),
        "How to read it: each mark is a language; a condition whose marks lie far right of "
        "those in the row none has damaged the replies.",
    )
    if _rates(result):
        yield Picture(
            off_target_rates(result),
            f"How to read it: each mark is a language, further right is better. {PASS_RATES}",
        )


def _tables(result: xr.Dataset, run: RunFolder) -> Iterator[Table]:
    tables = {
        "Share of replies in the wanted language and pass rates, with 95% intervals over "
        "prompts.": _LANGUAGE,
        "Degeneration checks, with 95% intervals over prompts; NLL in nats per token.": _CHECKS,
    }
    for caption, named in tables.items():
        columns = {name: label for name, label in named.items() if name in result}
        rows = []
        for language in names(result, "language"):
            for condition in _in_order(result):
                at = result.sel(language=language, condition=condition)
                if np.isfinite(at.right):
                    # Nothing off does not change against itself.
                    none = {x for x in columns if x.startswith("delta_") and condition == "none"}
                    cells = (NONE if x in none else with_interval(at, x) for x in columns)
                    rows.append([language, _shown(condition), *cells])
        if columns:
            header = ["language", "condition", *columns.values()]
            yield Table(caption, header, rows, folded=len(rows) > LONG)


def _summary(result: xr.Dataset, run: RunFolder) -> Iterator[str]:
    found = []
    for condition in names(result, "condition"):
        at = result.sel(condition=condition)
        there = np.isfinite(at.delta_right.values)
        if condition == "none" or not there.any() or "delta_right_low" not in at:
            continue
        up = int((at.delta_right_low.values > 0).sum())
        down = int((at.delta_right_high.values < 0).sum())
        found.append(f"{_shown(condition)}: more in {up}, fewer in {down} of {there.sum()}")
    if not found:
        return
    yield (
        "Replies in the wanted language, languages in which the change against nothing off is "
        f"shown (95% interval without 0, not corrected for their number): {'; '.join(found)}. "
        "What random heads do is what chance does."
    )
    said = []
    for name in names(result, "condition"):
        of = [isolated(x) for x in names(result, "language") if _fell(result, name, x)]
        said += [f"{_shown(name)} in {', '.join(of)}"] if of else []
    if said:
        yield (
            f"Replies fell apart ({table.LIMITS_IN_WORDS}): {'; '.join(said)}. There, more replies "
            "in the wanted language are no gain."
        )


def _fell(result: xr.Dataset, condition: str, language: str) -> bool:
    """Whether a condition damages the replies in a language."""
    at, none = (result.sel(language=language, condition=x) for x in (condition, "none"))
    changes = {x: float(at[x] - none[x]) for x in ("repetition", "empty", "nll") if x in at}
    return bool(fallen(changes))


_SHOWS = (
    "Shows: whether replies come back to the wanted language when heads are off or steered, "
    "beside random heads, and whether they stay sound.",
    "Does not show: good replies. A reply counts as right by its language alone; where NLL "
    "or repetition rise, it may be nothing but words of the right language.",
)
KIND = Kind("offtarget", "Replies that stray", _SHOWS, _pictures, _tables, _summary)
