"""Replies under gates: numbers, compared with untouched and random heads, and the first replies."""

from collections.abc import Iterator, Mapping

import numpy as np

from langheads.experiments.replies.files import Exchange, JudgedReply, Range, Replies
from langheads.io.measures import MEASURES, units
from langheads.view.contents import Kind, RunFolder
from langheads.view.table import NONE, PASS_RATES, Table, between, decimal, fallen, isolated

# How many replies are shown.
_MOST = 8
_LINES, _CHARACTERS, _NAME = 3, 200, 40
_MEANS = ("lpr", "wpr", "lcpr", "line_accuracy")
_WHOLE = ("counted", "skipped")
_ROWS = (
    *("right", "switch_rate", *_MEANS, *_WHOLE, "repetition", "prompt_copy", "empty"),
    *("nll_per_token", "delta_nll_per_token"),
)
_UNITS = units(_ROWS, of="replies") | dict.fromkeys(_MEANS, "mean over languages")
_LABELS = {name: MEASURES[name].label for name in _ROWS}


def _tables(found: Replies, run: RunFolder) -> Iterator[Table]:
    columns: dict[str, Mapping[str, float | Range]] = {}
    if found.untouched:
        columns["untouched"] = found.untouched
    columns["under the gates" if found.touched else "nothing gated"] = found.numbers
    if found.random:
        columns[f"random heads, mean (lowest to highest of {_draws(found)})"] = found.random
    rows = [
        [f"{_LABELS[name]} ({_UNITS[name]})", *(_cell(name, of) for of in columns.values())]
        for name in _ROWS
        if name in found.numbers
    ]
    under = _under(found)
    whose = "; ".join(f"{name}: {_cut_back(of, 80)}" for name, of in found.heads.items())
    caption = f"{under[0].upper()}{under[1:]}{f' ({whose})' if whose else ''}: "
    caption += f"means over {_replies_of(found)}; NLL by the untouched model."
    if "switch_rate" in found.numbers:
        caption += " Switch rate: right untouched, and no longer right under the gates."
    if "lpr" in found.numbers:
        caption += f" {PASS_RATES}"
    yield Table(caption, ["measure", *columns], rows)
    yield from _replies(found)


def _summary(found: Replies, run: RunFolder) -> Iterator[str]:
    under = _under(found)
    sentence = f"Replies {under}, {_replies_of(found)}"
    if np.isfinite(found.numbers.get("right", np.nan)):
        parts = [
            f"{MEASURES[name].label} {_beside(found, name)}"
            for name in ("right", "switch_rate")
            if name in found.numbers
        ]
        sentence += f": {'; '.join(parts)}"
    yield f"{sentence}."
    if not found.touched:
        return
    changes: dict[str, float] = {
        name: found.numbers[name] - found.untouched[name]
        for name in ("repetition", "empty", "nll_per_token")
        if name in found.numbers and name in found.untouched
    }
    if not changes:
        yield (f"Whether replies fell apart {under} cannot be told: the untouched model gave none.")
    elif how := fallen(changes):
        yield (
            f"Replies fell apart {under} ({how}): there a change of language says nothing about "
            "the heads."
        )


def _beside(found: Replies, name: str) -> str:
    """A share, beside that of the untouched model and of random heads."""
    text = decimal(found.numbers[name])
    if name in found.untouched:
        text += f", untouched {decimal(found.untouched[name])}"
    if name in found.random:
        mean, low, high = (decimal(of) for _, of in found.random[name])
        text += f", random heads {mean} ({low} to {high} over {_draws(found)})"
    return text


def _draws(found: Replies) -> str:
    return f"{len(found.draws)} draw{'' if len(found.draws) == 1 else 's'}"


def _replies_of(found: Replies) -> str:
    count = found.numbers["replies"]
    return f"{count:g} {'reply' if count == 1 else 'replies'}"


def _under(found: Replies) -> str:
    """The intervention, in words."""
    parts = [f"{isolated(name)} heads × {gate:g}" for name, gate in found.gates.items()]
    parts += [f"steering {isolated(name)} × {times:g}" for name, times in found.steering.items()]
    if masked := len(found.mask):
        parts.append(f"a mask on {masked} head{'' if masked == 1 else 's'}")
    return f"under {' and '.join(parts)}" if parts else "with nothing gated"


def _cell(name: str, numbers: Mapping[str, float | Range]) -> str:
    value = numbers.get(name, np.nan)
    decimals = 0 if name in _WHOLE else 3
    if isinstance(value, Range):
        return between(value.mean, value.low, value.high, decimals)
    return decimal(value, decimals)


def _replies(found: Replies) -> Iterator[Table]:
    """The first replies in each wanted language, as many of each."""
    of: dict[str | None, list[Exchange]] = {}
    for one in found.exchanges:
        of.setdefault(one.wanted, []).append(one)
    each = max(1, _MOST // max(1, len(of)))
    chosen = [one for group in of.values() for one in group[:each]][:_MOST]
    if not chosen:
        return
    before = any(one.untouched for one in chosen)
    header = ["id", "end of the prompt", "wanted", "reply", "detected (confidence)"]
    header += ["untouched reply", "detected, untouched"] if before else []
    caption = (
        f"The first replies in each wanted language, {len(chosen)} of {len(found.exchanges)}: not "
        "picked, and cut where they are long."
    )
    yield Table(caption, header, [_row(one, before) for one in chosen], prose=(1, 3, 5))


def _row(one: Exchange, before: bool) -> list[str]:
    wanted = NONE if one.wanted is None else _cut_back(one.wanted, _NAME)
    row = [_cut_back(one.id, _NAME), _end(one.prompt), wanted, *_said(one)]
    return row + (_said(one.untouched) if before else [])


def _said(reply: JudgedReply | None) -> list[str]:
    """A reply as its two cells."""
    if reply is None:
        return [NONE, NONE]
    verdict = {None: "", True: ", right", False: ", not right"}[reply.right]
    language = f"{_cut_back(reply.language, _NAME) or NONE} ({reply.confidence:.2f}){verdict}"
    lines = _lines(reply.reply)
    text = _cut_back("\n".join(lines[:_LINES]), _CHARACTERS)
    return [text + ("\n…" if len(lines) > _LINES else "") or NONE, language]


def _end(text: str) -> str:
    """The last lines, which hold a prompt's question."""
    lines = _lines(text)
    end = "\n".join(lines[-_LINES:])
    if len(end) > _CHARACTERS:
        return "…" + end[-_CHARACTERS:]
    return ("…\n" if len(lines) > _LINES else "") + end or NONE


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _cut_back(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


_SHOWS = (
    "Shows: what each of these prompts is replied under the gates, and in which language, "
    "beside the untouched model and random heads of the same layers.",
    "Does not show: chance. These are means without intervals, and few draws of random "
    "heads make no p-value; a number within their range is what any heads do.",
)
KIND = Kind(
    "replies", "Replies under gates", _SHOWS, tables=_tables, summary=_summary, load=Replies.load
)
