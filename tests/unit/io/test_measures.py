"""The table of measures: names, units, and which of them are degeneration checks."""

from __future__ import annotations

import subprocess
import sys

from langheads.io.measures import MEASURES, TEXT_CHECKS, labels, units
from langheads.text import degeneration_checks


def test_shares_are_told_of_what():
    assert units(["right", "repetition", "nll"], of="prompts") == {
        "right": "share of prompts",
        "repetition": "share of 4-grams",
        "nll": "nats per token",
    }
    assert units(["right"]) == {"right": "share"}
    assert labels(["prompt_copy"]) == {"prompt_copy": "copied prompt"}


def test_more_of_a_check_is_never_better():
    assert all(of.better < 0 for of in MEASURES.values() if of.limit is not None)
    nll = ["reply_nll", "nll_per_token", "nll", "delta_nll", "delta_nll_per_token", "prompt_nll"]
    assert all(MEASURES[name].better < 0 for name in [*TEXT_CHECKS, *nll, "cost"])


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
