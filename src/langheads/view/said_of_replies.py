"""What results about replies and answers say, in tables and in sentences for the report."""

from __future__ import annotations

import numpy as np
import xarray as xr

from langheads.view.cells import between, decimal, mean, with_interval
from langheads.view.collapse import LIMITS_IN_WORDS, fallen
from langheads.view.contents import RunFolder
from langheads.view.figures.answers import LABELS, UNTOUCHED, is_random, masks
from langheads.view.figures.off_target import in_order
from langheads.view.figures.style import names
from langheads.view.figures.switching import highest, share_interval
from langheads.view.words import NONE, Table, isolated

_TOP = 5
_RATES = {"lpr": "LPR", "wpr": "WPR", "lcpr": "LCPR"}
_OFFTARGET_GUARDS = {
    "repetition": "repetition",
    "prompt_copy": "copied prompt",
    "empty": "empty",
    "nll": "NLL",
    "delta_nll": "change of NLL",
}


def offtarget_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Every language and condition as numbers: the language of the replies, and the guards."""
    captions = (
        (
            "Share of replies in the wanted language and pass rates, with 95% intervals over "
            "prompts.",
            {"right": "in the language", "delta_right": "change against none"} | _RATES,
        ),
        ("Guards, with 95% intervals over prompts; NLL in nats per token.", _OFFTARGET_GUARDS),
    )
    tables = []
    for caption, named in captions:
        columns = {name: label for name, label in named.items() if name in result}
        rows = []
        for language in names(result, "language"):
            for condition in in_order(result):
                at = result.sel(language=language, condition=condition)
                if np.isfinite(at.right):
                    cells = [_against_none(at, name, condition) for name in columns]
                    rows.append([language, condition, *cells])
        if columns:
            header = ["language", "condition", *columns.values()]
            tables.append(Table(caption, header, rows, folded=len(rows) > 12))
    return tables


def _against_none(at: xr.Dataset, name: str, condition: str) -> str:
    """A cell; nothing off does not change against itself."""
    nothing = name.startswith("delta_") and condition == "none"
    return NONE if nothing else with_interval(at, name)


def offtarget_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """In how many languages each condition changes the share of right replies."""
    found = []
    for condition in names(result, "condition"):
        at = result.sel(condition=condition)
        there = np.isfinite(at.delta_right.values)
        if condition == "none" or not there.any() or "delta_right_low" not in at:
            continue
        up = int((at.delta_right_low.values > 0).sum())
        down = int((at.delta_right_high.values < 0).sum())
        found.append(f"{condition}: more in {up}, fewer in {down} of {there.sum()}")
    if not found:
        return []
    return [
        "Replies in the wanted language, languages in which the change against nothing off is "
        f"shown (95% interval without 0, not corrected for their number): {'; '.join(found)}. "
        "What random heads do is what chance does.",
        *_fallen_replies(result),
    ]


def _fallen_replies(result: xr.Dataset) -> list[str]:
    """Conditions that damage replies, with the languages."""
    found = []
    for condition in names(result, "condition"):
        languages = []
        for language in names(result, "language"):
            at, none = (result.sel(language=language, condition=x) for x in (condition, "none"))
            changes = {x: float(at[x] - none[x]) for x in ("repetition", "empty") if x in at}
            if "nll" in at:
                changes["reply_nll"] = float(at.nll - none.nll)
            if fallen(changes):
                languages.append(isolated(language))
        if languages:
            found.append(f"{condition} in {', '.join(languages)}")
    if not found:
        return []
    return [
        f"Replies fell apart ({LIMITS_IN_WORDS}): {'; '.join(found)}. There, more replies in the "
        "wanted language are no gain."
    ]


def switch_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """The heads of the highest switch rate in each language, with their guards."""
    rows = []
    for language in names(result, "language"):
        at = result.sel(language=language)
        for head in highest(result, language, _TOP):
            rate = float(at.switch_rate.values[head])
            low, high = share_interval(rate, int(at.prompts))
            rows.append(
                [
                    language,
                    str(head),
                    f"{rate:.3f} ({low:.3f} to {high:.3f})",
                    *(decimal(float(at[x].values[head])) for x in ("cost", "repetition", "empty")),
                    "yes" if at.sound.values[head] > 0 else "no",
                ]
            )
    header = ["language", "head", "switch rate", "cost, nats per token", "repetition", "empty"]
    caption = "Heads of the highest switch rate, with 95% intervals and guards."
    return [Table(caption, [*header, "sound"], rows)]


def switch_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """How many heads switch at all and stay sound, and the strongest sound one a language."""
    tried = np.isfinite(result.switch_rate.values)
    switching = (result.switch_rate.values > 0) & tried
    sound = switching & (result.sound.values > 0)
    return [
        f"Switch rates: {int(switching.sum())} of {int(tried.sum())} head-language pairs make some "
        f"reply leave its language; in {int(sound.sum())} of them replies stay sound.",
        *_strongest_sound(result),
    ]


def _strongest_sound(result: xr.Dataset) -> list[str]:
    """The head of the highest switch rate in each language among those that stay sound."""
    found = []
    for language in names(result, "language"):
        if not highest(result, language, 1):
            continue
        heads = highest(result, language, 1, sound=True)
        said = "none, no head tried is sound"
        if heads:
            of = result.sel(language=language)
            rate = float(of.switch_rate.values[heads[0]])
            low, high = share_interval(rate, int(of.prompts))
            said = f"{heads[0]} {between(rate, low, high)}"
            said = said if rate > 0 else "none, no sound head makes replies switch"
        found.append(f"{isolated(language)} {said}")
    if not found:
        return []
    return [
        "Switch rates: the head without which most replies leave the language and stay sound, in "
        f"share of prompts (95% interval): {'; '.join(found)}."
    ]


def qa_tables(result: xr.Dataset, run: RunFolder) -> list[Table]:
    """Every measure under every condition, with the change against the untouched model."""
    measures = [str(name).removeprefix("delta_") for name in result if _is_change(str(name))]
    beside = any(f"versus_random_{name}" in result for name in measures)
    rows = []
    for name in measures:
        unit = result[name].attrs.get("units", "unit unknown")
        for condition in names(result, "condition"):
            at = result.sel(condition=condition)
            change = NONE if condition == UNTOUCHED else with_interval(at, f"delta_{name}")
            rows.append([f"{LABELS.get(name, name)} ({unit})", condition])
            rows[-1] += [decimal(float(at[name])), change]
            if beside:
                there = f"versus_random_{name}" in at
                rows[-1].append(with_interval(at, f"versus_random_{name}") if there else NONE)
    header = ["measure", "condition", "mean", "change against untouched"]
    header += ["over random heads"] if beside else []
    caption = "Means over questions; changes with 95% intervals, paired by question."
    return [Table(caption, header, rows, folded=len(rows) > 12)]


def qa_words(result: xr.Dataset, run: RunFolder) -> list[str]:
    """What each mask does to accuracy, beside random heads, and whether replies fell apart."""
    found, fell = [], []
    random = [name for name in masks(result) if is_random(name)]
    for condition in masks(result):
        at = result.sel(condition=condition)
        if len(random) < 2 or condition not in random:
            text = f"{condition} {with_interval(at, 'delta_accuracy')}"
            if condition not in random and np.isfinite(at.get("versus_random_accuracy", np.nan)):
                text += f", over random heads {with_interval(at, 'versus_random_accuracy')}"
            found.append(text)
        changes = {
            name: float(at[f"delta_{name}"])
            for name in ("repetition", "empty", "reply_nll")
            if f"delta_{name}" in at
        }
        if how := fallen(changes):
            fell.append(f"{condition} ({how})")
    if len(random) > 1:
        change = result.delta_accuracy.sel(condition=random).values
        found.append(
            f"{len(random)} sets of random heads {decimal(mean(change))} on average "
            f"({decimal(change.min())} to {decimal(change.max())})"
        )
    if not found:
        return []
    language = isolated(str(result.attrs.get("language", "a language unknown")))
    words = [f"Answers in {language}, change in accuracy (95% interval): {'; '.join(found)}."]
    if fell:
        words.append(
            f"Replies fell apart under {'; '.join(fell)}: there a change in accuracy says nothing "
            "about the language."
        )
    return words


def _is_change(name: str) -> bool:
    return name.startswith("delta_") and not name.endswith(("_low", "_high"))
