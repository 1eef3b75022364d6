"""Pruned model: what heads removed for good cost each language on held-out text."""

import math
from collections.abc import Iterator, Mapping

from langheads.experiments.pruning.account import Pruning
from langheads.view.contents import Kind, Picture, RunFolder
from langheads.view.figures.pruning import pruned_losses
from langheads.view.table import NONE, Table, between, count, decimal, isolated


def _pictures(pruning: Pruning, run: RunFolder) -> Iterator[Picture]:
    """The rise of every language's loss, where it was measured."""
    if pruning.losses:
        yield Picture(
            pruned_losses(pruning),
            "How to read it: filled dots right of 0 are losses that rose. Heads that carry a "
            "language raise its own loss beyond the grey bar of random heads, and leave the "
            "others' at 0.",
        )


def _tables(pruning: Pruning, run: RunFolder) -> Iterator[Table]:
    """Losses before and after, with random heads, and what was taken away."""
    if pruning.losses:
        yield _losses(pruning)
    yield Table("What was removed.", ["what", "value"], list(_removed(pruning)))


def _losses(pruning: Pruning) -> Table:
    with_random = any(math.isfinite(of["control_mean"]) for of in pruning.losses.values())
    header = ["language", "before", "after", "ΔNLL (95% interval)", "ΔNLL in percent"]
    caption = "Loss before and after, in nats per byte."
    if with_random:
        header += ["random heads (2.5 to 97.5 percentile)", "p"]
        caption += (
            f" Random heads: the mean ΔNLL of {pruning.n_controls} sets, as many heads in each "
            "layer. p = (1 + sets under which the loss rises at least as much) / (1 + sets), "
            f"so no less than {decimal(1 / (1 + pruning.n_controls))}."
        )
    rows = []
    for language, of in pruning.losses.items():
        share = 100 * of["rise"] / of["before"] if of["before"] > 0 else math.nan
        row = [language, decimal(of["before"], 4), decimal(of["after"], 4)]
        row += [_with_ends(of, "rise", "rise"), decimal(share, 2)]
        if with_random:
            row += [_with_ends(of, "control_mean", "control"), decimal(of["control_p"])]
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
    """How many heads went, and what that costs."""
    removed, cut, zeroed = (
        len(pruning.account.get(key, ())) for key in ("removed", "cut", "zeroed")
    )
    words = (
        f"Pruned of the heads of {', '.join(map(isolated, pruning.dropped))}: {removed} heads, "
        f"{cut} of them cut out and {zeroed} zeroed"
    )
    if not pruning.losses:
        yield f"{words}; what that costs was not measured."
        return
    rises = {language: of["rise"] for language, of in pruning.losses.items()}
    others = [language for language in rises if language not in pruning.dropped]
    told = [_rise(pruning, language) for language in rises if language in pruning.dropped]
    if others:
        told.append(f"most of the others {_rise(pruning, max(others, key=lambda x: rises[x]))}")
    yield f"{words}; ΔNLL in nats per byte: {'; '.join(told)}."


def _rise(pruning: Pruning, language: str) -> str:
    of = pruning.losses[language]
    text = f"{isolated(language)} {_with_ends(of, 'rise', 'rise')}"
    if math.isfinite(of["control_mean"]):
        text += f", random heads {decimal(of['control_mean'], 4)}"
    return text


def _with_ends(of: Mapping[str, float], middle: str, prefix: str) -> str:
    return between(of[middle], of[f"{prefix}_low"], of[f"{prefix}_high"], 4)


KIND = Kind(
    "pruned",
    "Pruned model",
    (
        "Shows: what the loss of each language rises by when these heads are removed for good, "
        "on held-out text.",
        "Does not show: a smaller or faster model. Heads that were zeroed in place save "
        "neither memory nor time; only those cut out do.",
    ),
    _pictures,
    _tables,
    _summary,
    Pruning.load,
)
