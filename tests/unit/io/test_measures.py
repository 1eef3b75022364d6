"""The table of measures: names, units, and which of them are degeneration checks."""

from __future__ import annotations

import subprocess
import sys

from langheads.io.measures import MEASURES, TEXT_CHECKS, checks_in, labels, units
from langheads.text import degeneration_checks


def test_shares_are_told_of_what():
    assert units(["right", "repetition", "nll"], of="prompts") == {
        "right": "share of prompts",
        "repetition": "share of 4-grams",
        "nll": "nats per token",
    }
    assert units(["right"]) == {"right": "share"}
    assert labels(["prompt_copy"]) == {"prompt_copy": "copied prompt"}


def test_checks_come_in_the_order_of_the_table():
    assert checks_in(["nll", "delta_nll", "right", "empty", "unknown", "repetition"]) == [
        "repetition",
        "empty",
        "nll",
        "delta_nll",
    ]


def test_more_of_a_check_is_never_better():
    assert all(measure.better < 0 for measure in MEASURES.values() if measure.is_check)
    assert all(measure.is_check for measure in MEASURES.values() if measure.limit is not None)


def test_the_checks_of_a_text_are_in_the_table():
    found = degeneration_checks("a b a b", [1, 2, 1, 2, 1, 2], prompt=[1, 2, 1, 2])
    # Three 4-grams, the third is the first again, and both of that kind are in the prompt.
    assert tuple(found) == TEXT_CHECKS
    assert found == {"repetition": 1 - 2 / 3, "prompt_copy": 2 / 3, "empty": False}
    assert degeneration_checks(" \n", [], prompt=[1])["empty"] is True


def test_the_table_needs_neither_torch_nor_xarray():
    code = (
        "import sys, langheads.io.measures; "
        "print(*(name for name in ('torch', 'xarray', 'numpy') if name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
