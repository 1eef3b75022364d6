"""The golden record: numbers and words of every kind of result, to hold a rewrite to.

    python -m tests.golden.record make
    python -m tests.golden.record check [--only demo] [--skip help]

`make` runs everything that `scenes` names, on one core, and writes record.json; `check` runs it
again and prints every difference with its place; its exit code is 1 where there is any.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything imports torch, transformers or tqdm: they read these once.
os.environ.update(
    OMP_NUM_THREADS="1",
    TQDM_DISABLE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
    COLUMNS="100",
    TERMINAL_WIDTH="100",
    NO_COLOR="1",
)

from tests.golden import digest, scenes

RECORD = Path(__file__).with_name("record.json")
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""Numbers closer than this differ in their bits only."""


def make(groups: list[str]) -> dict[str, Any]:
    """Run the groups and describe what came out."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        clean = digest.Cleaner(folder, scenes.ROOT)
        for group in groups:
            started = time.perf_counter()
            if group == "help":
                made[group] = {name: clean.text(of) for name, of in scenes.help_texts().items()}
            else:
                made[group] = _scene(group, folder / group, clean)
            print(f"{group}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    # As it is read again: tuples are lists, keys texts.
    return json.loads(json.dumps(made))


def _scene(group: str, folder: Path, clean: digest.Cleaner) -> dict[str, Any]:
    if group == "made-up":
        steps = scenes.made_up_scene(folder)
        files = {
            path.relative_to(folder).as_posix(): digest.of_file(path, clean)
            for path in sorted(folder.glob("*/report.html"))
        }
    else:
        steps = scenes.model_scene(group, folder)
        parts = [path for path in sorted(folder.iterdir()) if path.name in scenes.RESULTS]
        files = {
            f"{part.name}/{name}": of
            for part in parts
            for name, of in digest.files_in(part, clean).items()
        }
    said = {
        name: {
            "command": clean.text(step.command),
            "code": step.code,
            "out": clean.printed(step.out),
            "err": clean.printed(step.err),
        }
        for name, step in steps.items()
    }
    return {"said": said, "files": files}


# --- Comparing ------------------------------------------------------------------------------


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Places and what differs there."""
    if isinstance(old, dict) and isinstance(new, dict):
        if "sha256" in old and "dtype" in old and "dtype" in new:
            yield from _of_arrays(old, new, place)
            return
        for key in [*old, *(key for key in new if key not in old)]:
            here = f"{place} > {key}" if place else key
            if key not in new:
                yield here, f"gone; it was {_brief(old[key])}"
            elif key not in old:
                yield here, f"new: {_brief(new[key])}"
            else:
                yield from differences(old[key], new[key], here)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) == len(new):
            for i, (a, b) in enumerate(zip(old, new, strict=True)):
                yield from differences(a, b, f"{place}[{i}]")
        else:
            yield (
                place,
                f"{len(old)} entries, now {len(new)}:\n"
                + _diff(*([json.dumps(v, ensure_ascii=False) for v in of] for of in (old, new))),
            )
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new and old != new:
        yield place, "\n" + _diff(old.split("\n"), new.split("\n"))
    elif not _same(old, new):
        bits = _numbers(old, new) and _close(old, new)
        yield place, f"{'bits differ: ' if bits else ''}{_brief(old)} is now {_brief(new)}"


def _of_arrays(old: dict[str, Any], new: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    rest = ("sha256", "values", "digest")
    yield from differences(
        {k: v for k, v in old.items() if k not in rest},
        {k: v for k, v in new.items() if k not in rest},
        place,
    )
    if old["sha256"] == new.get("sha256"):
        return
    if "digest" in old and "digest" in new:
        a, b = old["digest"], new["digest"]
        # Rounding of single values, which may cancel in the sum, is judged by their size.
        size = max(a["abs_sum"], b["abs_sum"])
        ends = [(x[key], y[key]) for key in ("first", "last") for x, y in ((a, b),)]
        close = (
            a["finite"] == b["finite"]
            and all(abs(a[k] - b[k]) <= RELATIVE * size + ABSOLUTE for k in ("sum", "abs_sum"))
            and all(x == y or (x and y and _close(float(x), float(y))) for x, y in ends)
        )
        yield place, f"{'bits differ: ' if close else ''}{_brief(a)} is now {_brief(b)}"
        return
    mine, yours = old.get("values", []), new.get("values", [])
    unequal = [i for i, (a, b) in enumerate(zip(mine, yours, strict=False)) if not _same(a, b)]
    if not unequal:
        yield place, f"bits differ: sha256 {old['sha256']} is now {new.get('sha256')}"
        return
    bits = all(_numbers(mine[i], yours[i]) and _close(mine[i], yours[i]) for i in unequal)
    shown = "; ".join(f"[{i}] {mine[i]!r} is now {yours[i]!r}" for i in unequal[:5])
    more = f"; and {len(unequal) - 5} more" if len(unequal) > 5 else ""
    yield place, f"{'bits differ: ' if bits else ''}{shown}{more}"


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _same(a: Any, b: Any) -> bool:
    """NaN is the same as NaN, but 0 is not False and 1 not 1.0."""
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text) if len(text) <= 300 else f"{text[:300]!r}..."


def _diff(old: list[str], new: list[str]) -> str:
    lines = list(difflib.unified_diff(old, new, "recorded", "now", lineterm="", n=0))
    return "\n".join(f"    {line:.400}" for line in lines[2:])


# --- Command line ---------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("make", "check"))
    parser.add_argument("--only", action="append", choices=scenes.GROUPS)
    parser.add_argument("--skip", action="append", choices=scenes.GROUPS, default=[])
    given = parser.parse_args()
    groups = [g for g in given.only or scenes.GROUPS if g not in given.skip]
    if given.what == "make":
        known = json.loads(RECORD.read_text("utf-8")) if given.only and RECORD.exists() else {}
        text = json.dumps(known | make(groups), ensure_ascii=False, indent=0)
        RECORD.write_text(text + "\n", "utf-8")
        print(f"{RECORD}: {len(text.encode('utf-8')) / 1e6:.2f} MB")
        return 0
    recorded = json.loads(RECORD.read_text("utf-8"))
    if absent := [group for group in groups if group not in recorded]:
        parser.error(f"{RECORD.name} has no {', '.join(absent)}; run make first")
    found = list(differences({group: recorded[group] for group in groups}, make(groups)))
    for place, what in found:
        print(f"{place}: {what}")
    bits = sum(what.startswith("bits differ") for _, what in found)
    print(f"{len(found)} differences, {bits} of them only in bits; groups: {', '.join(groups)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
