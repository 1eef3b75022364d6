"""What the account of a pruned model says, in tables and in a sentence for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from langheads.experiments.pruning.account import Pruning
from langheads.view.cells import between, decimal
from langheads.view.contents import RunFolder
from langheads.view.words import NONE, Table, count, isolated


def pruned_tables(pruning: Pruning, run: RunFolder) -> list[Table]:
    """Losses before and after, with random heads, and what was taken away."""
    tables = []
    if pruning.losses:
        with_random = any(math.isfinite(of["control_mean"]) for of in pruning.losses.values())
        header = ["language", "before", "after", "rise (95% interval)", "rise in percent"]
        header += ["random heads (2.5 to 97.5 percentile)", "p"] if with_random else []
        rows = []
        for language, of in pruning.losses.items():
            share = 100 * of["rise"] / of["before"] if of["before"] > 0 else math.nan
            row = [language, decimal(of["before"], 4), decimal(of["after"], 4)]
            row += [_with_ends(of, "rise", "rise"), decimal(share, 2)]
            if with_random:
                row += [_with_ends(of, "control_mean", "control"), decimal(of["control_p"])]
            rows.append(row)
        caption = "Loss before and after, in nats per byte."
        if with_random:
            caption += (
                f" Random heads: the mean rise of {pruning.n_controls} sets, as many heads in each "
                "layer. p = (1 + sets under which the loss rises at least as much) / (1 + sets), "
                f"so no less than {decimal(1 / (1 + pruning.n_controls))}."
            )
        tables.append(Table(caption, header, rows))
    return [*tables, Table("What was removed.", ["what", "value"], _removed(pruning))]


def pruned_words(pruning: Pruning, run: RunFolder) -> list[str]:
    """How many heads went, and what that costs."""
    account = pruning.account
    dropped = ", ".join(map(isolated, pruning.dropped))
    words = (
        f"Pruned of the heads of {dropped}: {len(account.get('removed', ()))} heads, "
        f"{len(account.get('cut', ()))} of them cut out and {len(account.get('zeroed', ()))} "
        "zeroed"
    )
    if not pruning.losses:
        return [f"{words}; what that costs was not measured."]
    rises = {language: of["rise"] for language, of in pruning.losses.items()}
    others = [language for language in rises if language not in pruning.dropped]
    told = [_rise(pruning, language) for language in rises if language in pruning.dropped]
    if others:
        told.append(f"most of the others {_rise(pruning, max(others, key=lambda x: rises[x]))}")
    return [f"{words}; rise in nats per byte: {'; '.join(told)}."]


def _rise(pruning: Pruning, language: str) -> str:
    of = pruning.losses[language]
    text = f"{isolated(language)} {_with_ends(of, 'rise', 'rise')}"
    if math.isfinite(of["control_mean"]):
        text += f", random heads {decimal(of['control_mean'], 4)}"
    return text


def _removed(pruning: Pruning) -> list[list[str]]:
    account = pruning.account

    def heads(key: str) -> str:
        listed = account.get(key, ())
        return f"{len(listed)}: {' '.join(map(str, listed))}" if listed else "0"

    def number(key: str) -> str:
        return count(float(account[key])) if key in account else NONE

    rows = [
        ["heads of", ", ".join(pruning.dropped)],
        ["heads cut out of the shapes", heads("cut")],
        ["heads zeroed in place", heads("zeroed")],
        ["parameters zeroed", number("parameters_zeroed")],
        ["parameters saved", number("parameters_saved")],
        ["bytes saved", number("bytes_saved")],
    ]
    others: Any = account.get("also_heads_of", {})
    if isinstance(others, Mapping) and others:
        shared = "; ".join(f"{name}: {which}" for name, which in others.items())
        rows.append(["also heads of, and not to be dropped", shared])
    if "logits_differ_by" in account:
        rows.append(
            ["logits differ from those under gates by", f"{float(account['logits_differ_by']):.2g}"]
        )
    return rows


def _with_ends(of: Mapping[str, float], middle: str, prefix: str) -> str:
    return between(of[middle], of[f"{prefix}_low"], of[f"{prefix}_high"], 4)
