"""Classes of heads: which only one of two languages needs, and which both need."""

from collections.abc import Iterator

from langheads.heads.classes import HeadClasses
from langheads.view.contents import Kind, RunFolder, captioned
from langheads.view.figures.classes import head_classes
from langheads.view.table import NONE, Table, isolated


def _tables(result: HeadClasses, run: RunFolder) -> Iterator[Table]:
    """Heads in each class, how many chance gives, and which are shown to differ."""
    groups = {f"{name}-specific": heads for name, heads in result.specific.items()}
    distinct = {f"{name}-specific": heads for name, heads in result.distinct.items()}
    groups |= {"agnostic": result.agnostic, "undecided": result.undecided, "other": result.other}
    rows = []
    for name, heads in groups.items():
        chance, shown = result.expected_by_chance.get(name), distinct.get(name)
        rows.append(
            [
                name,
                str(len(heads)),
                NONE if chance is None else f"{chance:.2g}",
                NONE if shown is None else f"{len(shown)}: {shown}" if shown else "0",
                NONE if name == "other" else str(heads.top(12)) or NONE,
            ]
        )
    caption = f"Heads in each class, by {result.rule['measure']}; the 12 strongest are named."
    header = ["class", "heads", "by chance at most", "shown to differ", "strongest"]
    yield Table(caption, header, rows)


def _summary(result: HeadClasses, run: RunFolder) -> Iterator[str]:
    counts = ", ".join(f"{isolated(name)} {n}" for name, n in result.counts.items())
    shown = sum(map(len, result.distinct.values()))
    specific = sum(map(len, result.specific.values()))
    yield (
        f"Classes of heads: {counts}. Of {specific} specific ones, {shown} are shown to differ "
        "between the two languages."
    )


KIND = Kind(
    "head-classes",
    "Classes of heads",
    (
        "Shows: which heads only one of two languages needs, which both need, and the "
        "intervals behind it.",
        "Does not show: anything of the other language's need of undecided heads, whose interval "
        "is too wide either way.",
    ),
    captioned(
        head_classes,
        "How to read it: each dot is a head; the shaded corner is where both languages are harmed, "
        "and beside it only one is. Crosses are intervals.",
    ),
    _tables,
    _summary,
    HeadClasses.load,
)
