"""Pruned model: ΔNLL of each language on held-out text, with heads removed for good."""

import math
from collections.abc import Iterator, Mapping

import plotly.graph_objects as go

from langheads.experiments.pruning.account import Pruning
from langheads.io.errors import InputError
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures import canvas, style
from langheads.view.figures.style import COLOURWAY, literal, with_ends
from langheads.view.figures.traces import Look, points
from langheads.view.table import NONE, Table, between, count, decimal, isolated, p_words, readable


def pruned_losses(pruning: Pruning) -> go.Figure:
    """ΔNLL of every language with its interval, beside random heads.

    Args:
        pruning: the content of ``pruned.json``, with losses.

    Returns:
        A plotly figure of fixed size: filled dots are the removed heads with 95% intervals, open
        ones the mean of random head sets, their bar the 2.5 to 97.5 percentiles over the sets.

    Raises:
        InputError: nothing was measured.
    """
    losses, dropped = pruning.losses, pruning.dropped
    if not losses:
        raise InputError("nothing was measured when these heads were removed; give prune a text")
    # Dropped languages come first.
    languages = sorted(losses, key=lambda name: name not in dropped)
    rows = range(len(languages))
    series = [("removed heads, 95% interval", "rise", "rise", COLOURWAY[1], "circle", -0.16)]
    if _with_random(pruning):
        name = f"{pruning.n_controls} random head sets: mean, 2.5 to 97.5 percentile"
        series.insert(0, (name, "control_mean", "control", COLOURWAY[6], "circle-open", 0.16))
    figure = go.Figure()
    said = {"text": [_said(pruning, language) for language in languages]}
    for name, middle, ends, colour, symbol, apart in series:
        keys = (middle, f"{ends}_low", f"{ends}_high")
        x, low, high = ([losses[language][key] for language in languages] for key in keys)
        y = [i + (apart if len(series) > 1 else 0.0) for i in rows]
        look = Look(colour, symbol, size=10)
        hover = said | {"hovertemplate": "%{text}<extra></extra>"}
        figure.add_trace(points(x, y, low, high, name, look, **hover))
    figure.add_vline(x=0, line=style.DOTTED)
    labels = [
        f"{label}{' (dropped)' if name in dropped else ''}"
        for name, label in zip(languages, style.tick_labels(languages), strict=True)
    ]
    canvas.row_axis(figure, labels)
    figure.update_xaxes(title_text="ΔNLL, nats per byte", zeroline=False)
    legend = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "reversed"}
    return canvas.finish(
        figure,
        f"ΔNLL without the heads of {literal(', '.join(dropped))}",
        f"{literal(readable(pruning.account.get('model')))}, "
        f"{len(pruning.account.get('removed', ()))} heads removed for good",
        panels=(560, 40 * len(rows) + 12),
        margins=(112, 30, 52, style.label_width(labels, 34)),
        legend=legend,
    )


def _with_random(pruning: Pruning) -> bool:
    return any(math.isfinite(of["control_mean"]) for of in pruning.losses.values())


def _said(pruning: Pruning, language: str) -> str:
    of = pruning.losses[language]
    delta = with_ends(of["rise"], of["rise_low"], of["rise_high"], "+.4f")
    text = f"<b>{literal(language)}</b><br>{of['before']:.4f} before, {of['after']:.4f} after"
    text += f"<br>ΔNLL {delta} nats per byte"
    if math.isfinite(of["control_mean"]):
        random = with_ends(of["control_mean"], of["control_low"], of["control_high"], "+.4f")
        text += f"<br>random heads {random}"
    return text + (f", p = {_p(pruning, of)}" if math.isfinite(of["control_p"]) else "")


def _p(pruning: Pruning, of: Mapping[str, float]) -> str:
    return p_words(of["control_p"], float(pruning.n_controls))


def _pictures(pruning: Pruning, run: RunFolder) -> Iterator[Picture]:
    if pruning.losses:
        yield Picture(
            pruned_losses(pruning),
            "How to read it: filled dots right of 0 are a higher loss. Without heads that carry a "
            "language its own ΔNLL lies beyond the grey bar of random heads, and the others' "
            "at 0.",
        )


def _tables(pruning: Pruning, run: RunFolder) -> Iterator[Table]:
    if pruning.losses:
        yield _losses(pruning)
    yield Table("What was removed.", ["what", "value"], list(_removed(pruning)))


def _losses(pruning: Pruning) -> Table:
    with_random = _with_random(pruning)
    header = ["language", "before", "after", "ΔNLL (95% interval)", "ΔNLL in percent"]
    caption = "Loss before and after, in nats per byte."
    if with_random:
        header += ["random heads (2.5 to 97.5 percentile)", "p"]
        caption += (
            f" Random heads: the mean ΔNLL of {pruning.n_controls} sets, as many heads in each "
            "layer. p = (1 + sets whose ΔNLL is at least as large) / (1 + sets), "
            f"so no less than {decimal(1 / (1 + pruning.n_controls))}."
        )
    rows = []
    for language, of in pruning.losses.items():
        share = 100 * of["rise"] / of["before"] if of["before"] > 0 else math.nan
        row = [language, decimal(of["before"], 4), decimal(of["after"], 4)]
        row += [_with_ends(of, "rise", "rise"), decimal(share, 2)]
        if with_random:
            row += [_with_ends(of, "control_mean", "control"), _p(pruning, of)]
        rows.append(row)
    return Table(caption, header, rows)


def _removed(pruning: Pruning) -> Iterator[list[str]]:
    account = pruning.account
    yield ["heads of", ", ".join(pruning.dropped)]
    for key, label in (("cut", "cut out of the shapes"), ("zeroed", "zeroed in place")):
        listed = account.get(key, ())
        named = f"{len(listed)}: {' '.join(map(str, listed))}" if listed else "0"
        yield [f"heads {label}", named]
    for key in ("parameters_zeroed", "parameters_saved", "bytes_saved"):
        value = count(float(account[key])) if key in account else NONE
        yield [key.replace("_", " "), value]
    others = account.get("also_heads_of", {})
    if isinstance(others, Mapping) and others:
        shared = "; ".join(f"{name}: {which}" for name, which in others.items())
        yield ["also heads of, and not to be dropped", shared]
    if "logits_differ_by" in account:
        value = f"{float(account['logits_differ_by']):.2g}"
        yield ["logits differ from those under gates by", value]


def _summary(pruning: Pruning, run: RunFolder) -> Iterator[str]:
    keys = ("removed", "cut", "zeroed")
    removed, cut, zeroed = (len(pruning.account.get(key, ())) for key in keys)
    words = (
        f"Pruned of the heads of {', '.join(map(isolated, pruning.dropped))}: {removed} heads, "
        f"{cut} of them cut out and {zeroed} zeroed"
    )
    if not pruning.losses:
        yield f"{words}; what that costs was not measured."
        return
    delta = {language: of["rise"] for language, of in pruning.losses.items()}
    others = [language for language in delta if language not in pruning.dropped]
    named = [_delta(pruning, language) for language in delta if language in pruning.dropped]
    if others:
        named.append(f"most of the others {_delta(pruning, max(others, key=lambda x: delta[x]))}")
    yield f"{words}; ΔNLL in nats per byte: {'; '.join(named)}."


def _delta(pruning: Pruning, language: str) -> str:
    of = pruning.losses[language]
    text = f"{isolated(language)} {_with_ends(of, 'rise', 'rise')}"
    if math.isfinite(of["control_mean"]):
        text += f", random heads {decimal(of['control_mean'], 4)}"
    return text


def _with_ends(of: Mapping[str, float], middle: str, prefix: str) -> str:
    return between(of[middle], of[f"{prefix}_low"], of[f"{prefix}_high"], 4)


_SHOWS = (
    "Shows: the ΔNLL of each language when these heads are removed for good, on held-out text.",
    "Does not show: a smaller or faster model. Heads that were zeroed in place save "
    "neither memory nor time; only those cut out do.",
)
KIND = Kind("pruned", "Pruned model", _SHOWS, _pictures, _tables, _summary, Pruning.load)
