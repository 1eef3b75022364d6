"""What replies under gates say: their numbers, a sentence on them, and the first of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from langheads.view.cells import between, decimal
from langheads.view.collapse import fallen
from langheads.view.contents import RunFolder
from langheads.view.generated import Exchange, Generated, Range, Told
from langheads.view.words import NONE, Table, isolated

# Replies that are shown.
_MOST = 8
_LINES, _CHARACTERS, _NAME = 3, 200, 40
_PASS = "mean over languages"
_ROWS = {
    "right": "in the wanted language (share of replies)",
    "switch_rate": "switch rate (share of replies)",
    "lpr": f"LPR ({_PASS})",
    "wpr": f"WPR ({_PASS})",
    "lcpr": f"LCPR ({_PASS})",
    "line_accuracy": f"right lines ({_PASS})",
    "counted": "replies with a line to judge (number)",
    "skipped": "replies without one (number)",
    "repetition": "repetition (share of 4-grams)",
    "prompt_copy": "copied prompt (share of 4-grams)",
    "empty": "empty (share of replies)",
    "nll_per_token": "NLL of the reply (nats per token)",
    "delta_nll_per_token": "change of it against untouched (nats per token)",
}
_WHOLE = ("counted", "skipped")
# Name in the summary -> name of the guard that `collapse` has a limit for.
_LIMITED = {"repetition": "repetition", "empty": "empty", "nll_per_token": "reply_nll"}


def generated_tables(found: Generated, run: RunFolder) -> list[Table]:
    """The numbers beside those of the untouched model and of random heads; the first replies."""
    columns: dict[str, Mapping[str, float | Range]] = {}
    if found.untouched:
        columns["untouched"] = found.untouched
    columns["under the gates" if found.touched else "nothing gated"] = found.numbers
    if found.random:
        columns[f"random heads, mean (lowest to highest of {_draws(found)})"] = found.random
    rows = [
        [label, *(_cell(name, of.get(name)) for of in columns.values())]
        for name, label in _ROWS.items()
        if name in found.numbers
    ]
    under = _under(found)
    whose = "; ".join(f"{name}: {_cut_back(of, 80)}" for name, of in found.heads.items())
    caption = f"{under[0].upper()}{under[1:]}{f' ({whose})' if whose else ''}: "
    caption += f"means over {_replies_of(found)}; NLL by the untouched model."
    if "switch_rate" in found.numbers:
        caption += " Switch rate: right untouched, and no longer right under the gates."
    return [Table(caption, ["measure", *columns], rows), *_replies(found)]


def generated_words(found: Generated, run: RunFolder) -> list[str]:
    """The share of right replies beside untouched and random heads, and whether they fell apart."""
    sentence = f"Replies {_under(found)}, {_replies_of(found)}"
    if np.isfinite(found.numbers.get("right", np.nan)):
        shares = {"right": "in the wanted language", "switch_rate": "switch rate"}
        parts = [
            f"{what} {_beside(found, name)}"
            for name, what in shares.items()
            if name in found.numbers
        ]
        sentence += f": {'; '.join(parts)}"
    if not found.touched:
        return [f"{sentence}."]
    changes = {
        guard: found.numbers[name] - found.untouched[name]
        for name, guard in _LIMITED.items()
        if name in found.numbers and name in found.untouched
    }
    if not changes:
        collapse = [
            f"Whether replies fell apart {_under(found)} cannot be told: the untouched model gave "
            "none."
        ]
    elif how := fallen(changes):
        collapse = [
            f"Replies fell apart {_under(found)} ({how}): there a change of language says nothing "
            "about the heads."
        ]
    else:
        collapse = []
    return [f"{sentence}.", *collapse]


def _beside(found: Generated, name: str) -> str:
    """A share, beside that of the untouched model and of random heads."""
    text = decimal(found.numbers[name])
    if name in found.untouched:
        text += f", untouched {decimal(found.untouched[name])}"
    if name in found.random:
        mean, low, high = map(decimal, found.random[name])
        text += f", random heads {mean} ({low} to {high} over {_draws(found)})"
    return text


def _draws(found: Generated) -> str:
    return f"{len(found.draws)} draw{'' if len(found.draws) == 1 else 's'}"


def _replies_of(found: Generated) -> str:
    count = found.numbers["replies"]
    return f"{count:g} {'reply' if count == 1 else 'replies'}"


def _under(found: Generated) -> str:
    """What was done to the model."""
    parts = [f"{isolated(name)} heads × {gate:g}" for name, gate in found.gates.items()]
    parts += [f"shift {isolated(name)} × {times:g}" for name, times in found.shift.items()]
    if masked := len(found.mask):
        parts.append(f"a mask on {masked} head{'' if masked == 1 else 's'}")
    return f"under {' and '.join(parts)}" if parts else "with nothing gated"


def _cell(name: str, value: float | Range | None) -> str:
    decimals = 0 if name in _WHOLE else 3
    if value is None:
        return NONE
    if isinstance(value, Range):
        return between(*value, decimals=decimals)
    return decimal(value, decimals)


def _replies(found: Generated) -> list[Table]:
    """The first replies in each wanted language, as many of each."""
    of: dict[str | None, list[Exchange]] = {}
    for one in found.exchanges:
        of.setdefault(one.wanted, []).append(one)
    each = max(1, _MOST // max(1, len(of)))
    chosen = [one for group in of.values() for one in group[:each]][:_MOST]
    if not chosen:
        return []
    before = any(one.untouched for one in chosen)
    header = ["id", "end of the prompt", "wanted", "reply", "detected (confidence)"]
    header += ["untouched reply", "detected, untouched"] if before else []
    caption = (
        f"The first replies in each wanted language, {len(chosen)} of {len(found.exchanges)}: not "
        "picked, and cut where they are long."
    )
    rows = [_row(one, before) for one in chosen]
    return [Table(caption, header, rows, prose=(1, 3, 5))]


def _row(one: Exchange, before: bool) -> list[str]:
    wanted = NONE if one.wanted is None else _cut_back(one.wanted, _NAME)
    row = [_cut_back(one.id, _NAME), _end(one.prompt), wanted, *_said(one.reply)]
    return row + (_said(one.untouched) if before else [])


def _said(told: Told | None) -> list[str]:
    """A reply as its two cells."""
    if told is None:
        return [NONE, NONE]
    verdict = {None: "", True: ", right", False: ", not right"}[told.right]
    language = f"{_cut_back(told.language, _NAME) or NONE} ({told.confidence:.2f}){verdict}"
    lines = _lines(told.text)
    text = _cut_back("\n".join(lines[:_LINES]), _CHARACTERS)
    return [text + ("\n…" if len(lines) > _LINES else "") or NONE, language]


def _end(text: str) -> str:
    """The last lines, where a prompt has its question."""
    lines = _lines(text)
    end = "\n".join(lines[-_LINES:])
    if len(end) > _CHARACTERS:
        return "…" + end[-_CHARACTERS:]
    return ("…\n" if len(lines) > _LINES else "") + end or NONE


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _cut_back(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
