"""What a verb prints about its result: a few lines, by its type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from langheads.io.errors import printable

if TYPE_CHECKING:
    from langheads.view.ending import Ending

printed_lines: list[tuple[str, bool]] = []
"""The lines that this process printed, and whether on stderr; a Ray worker returns them."""


def tell(line: str, *, beside: bool = False) -> None:
    """Print a line, `beside` the output on stderr."""
    printed_lines.append((printable(line), beside))
    typer.echo(printable(line), err=beside)


def lines_about(result: Any) -> Iterator[str]:
    """A few numbers of a result; none where the file itself is easily read."""
    kind = type(result).__name__
    if kind == "Dataset":
        from langheads.io.results import rounding_words

        kind = result.attrs.get("kind", "")
        yield from filter(None, [rounding_words(result)])
    yield from _LINES.get(kind, lambda _: iter(()))(result)


def table_of(result: Any) -> str | None:
    """The table that the verb is run for, if there is one."""
    if getattr(result, "attrs", {}).get("kind") == "comparison":
        from langheads.experiments.benchmark.table import LEGEND, as_text

        return f"{as_text(result)}\n{LEGEND}"
    return None


def ending_of(function: str, result: Any) -> Ending | None:
    """What is printed at the end of a chain of verbs."""
    if function not in ("run", "pipeline.demo"):
        return None
    from langheads.view.ending import ending

    page = path_of(result)
    return None if page is None else ending(page.parent)


def path_of(result: Any) -> Path | None:
    """The file that the function itself has written."""
    path = result[0] if isinstance(result, tuple) else result
    return path if isinstance(path, Path) else None


def write_csv(result: Any, out: str, run: str | None) -> Iterator[Path]:
    """Tables beside what was saved as `out`, or beside every result in the folder of a chain."""
    from langheads.io.tables import save_csv

    if (page := path_of(result)) is None:
        pruned = type(result).__name__ == "Pruning"
        name = Path(out) / "pruned.json" if pruned else Path(out)
        yield save_csv(result, name.with_suffix(".csv"))
        return
    from langheads.view.folder import read_run

    folder = page.parent if run is None else Path(run)
    for _, file, of in read_run(folder):
        yield save_csv(of, (folder / file).with_suffix(".csv"))


def _classes(classes: Any) -> Iterator[str]:
    for name, chance in classes.expected_by_chance.items():
        heads = classes.by_class[name]
        yield f"{name}: {len(heads)} (by chance {chance:.2g}) {heads}"
    for language, heads in classes.distinct.items():
        of = len(classes.specific[language])
        yield f"shown to matter more to {language}: {len(heads)} of its {of} {heads}"
    for name in ("undecided", "other", "not measured"):
        yield f"{name}: {classes.counts[name]}"


def _heads(heads: Any) -> Iterator[str]:
    for language, specific in heads.specific.items():
        yield f"{language}: {len(specific)} specific {specific}"
    yield f"general: {len(heads.general)} {heads.general}"


def _mask(mask: Any) -> Iterator[str]:
    for head, value in zip(mask.heads, mask.values, strict=True):
        yield f"{head}: {value:.4f}"
    for name, side in (("training", "train_set"), ("validation", "validation")):
        for step, loss in mask.losses[side]:
            yield f"{name} after {step} steps: {loss:.4f} nats per answer token"


def _pruning(pruning: Any) -> Iterator[str]:
    account = pruning.account
    for key in ("cut", "zeroed"):
        yield f"{key}: {len(account[key])} {' '.join(account[key])}"
    yield (
        f"parameters zeroed: {account['parameters_zeroed']}; saved: "
        f"{account['parameters_saved']} parameters, {account['bytes_saved']} bytes"
    )
    if not account["cut"]:
        yield "slices of W_O were zeroed only, so nothing is smaller or faster"
    if not account.get("nats_per_byte"):
        yield "no --text, so what this costs was not measured"
    for language, loss in account.get("nats_per_byte", {}).items():
        line = f"{language}: {loss['before']:.4f} -> {loss['after']:.4f} nats per byte"
        if loss["rise_low"] is not None:
            line += f", {loss['rise']:+.4f} [{loss['rise_low']:+.4f}, {loss['rise_high']:+.4f}]"
        if "control_mean" in loss:
            line += f"; random heads {loss['control_mean']:+.4f}, p {loss['control_p']:.3f}"
        yield line


def _qa(found: Any) -> Iterator[str]:
    from langheads.experiments.softmask.experiment import LANGUAGE
    from langheads.experiments.softmask.summarise import MEASURES

    questions = f"{found.sizes['example']} questions"
    for condition in found.condition.values.tolist():
        at = found.sel(condition=condition)
        values = " ".join(f"{name}={at[name].item():.4f}" for name in MEASURES)
        yield f"{condition}, {questions}: {values}"
    for name in MEASURES:
        if f"versus_random_{name}" in found:
            at = found.sel(condition=LANGUAGE)
            mean, low, high = (
                at[f"versus_random_{name}{end}"].item() for end in ("", "_low", "_high")
            )
            over = f"language heads over random heads, {questions}"
            ends = f" [{low:+.4f}, {high:+.4f}]" if low == low else ""
            yield f"{name}, {over}: {mean:+.4f}{ends}"


def _replies(replies: Any) -> Iterator[str]:
    summary = dict(replies.summary)
    random = dict(summary.pop("random_heads", {}))
    yield _numbers(summary)
    if random:
        draws = random.pop("draws")
        means = {name: found and found["mean"] for name, found in random.items()}
        yield f"random heads, mean of {len(draws)}: {_numbers(means)}"


def _numbers(numbers: dict[str, Any]) -> str:
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()}
    return " ".join(f"{key}={'none' if v is None else v}" for key, v in shown.items())


def _knockout(result: Any) -> Iterator[str]:
    if "top" not in result:
        return
    from langheads.scores.top_heads import top_heads

    for baseline, language, heads, unsure in top_heads(result):
        said = (
            f"{language}: {heads} lose most ({baseline}, confidence {result.attrs['confidence']})"
        )
        yield said + (f"; not separated: {unsure}" if unsure else "")


_LINES = {
    "HeadClasses": _classes,
    "HeadMask": _mask,
    "LanguageHeads": _heads,
    "Pruning": _pruning,
    "Replies": _replies,
    "qa": _qa,
    "knockout": _knockout,
}
