"""One name is no list of names."""

import re

import pytest

from langheads.experiments.replies.plan import NamedIntervention
from langheads.io.arguments import asked_name
from langheads.io.errors import InputError
from langheads.text.identify import detector


@pytest.mark.parametrize("given", [["mean"], ("zero", "mean"), {"mean": 1}, None, 0, "", "median"])
def test_what_is_not_one_name_that_there_is(given):
    message = f"baseline {given!r} asked for; the file has zero, mean"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        asked_name("baseline", given, {"zero": 1, "mean": 2}, "the file has")


@pytest.mark.usefixtures("untyped")
def test_a_list_of_one_baseline_is_not_taken_for_zero():
    for baseline in (["mean"], ("zero", "mean"), None):
        asked = NamedIntervention(None, {"de": 0.0}, {}, baseline, None)
        with pytest.raises(InputError, match=r"asked for; allowed are zero, mean"):
            asked.check()


@pytest.mark.usefixtures("untyped")
def test_no_detector_is_none_that_there_is():
    with pytest.raises(InputError, match="detector None asked for; allowed are py3langid"):
        detector(None)
