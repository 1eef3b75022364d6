"""Results written from Python: no name that says of a file what it is not."""

import pytest

from langheads.experiments.pruning.account import Pruning
from langheads.experiments.replies.files import Replies
from langheads.io.errors import InputError
from tests.unit.view.made_up_replies import make_pruned, make_replies
from tests.unit.view.made_up_results import make_mask
from tests.unit.view.made_up_run import make_heads


def replies():
    records, document = make_replies(["en", "zh"])
    return Replies(records, document["summary"], document["provenance"])


@pytest.mark.parametrize(("make", "name", "own"), [
    (lambda: make_heads(["en"]), "heads.csv", ".json"),
    (lambda: make_mask("en"), "mask.nc", ".json"),
    (lambda: Pruning.of(make_pruned(["en", "zh"])), "pruned.jsonl", ".json"),
    (replies, "replies.json", ".jsonl"),
])  # fmt: skip
def test_a_suffix_that_lies_is_refused(tmp_path, make, name, own):
    with pytest.raises(InputError) as told:
        make().save(tmp_path / name)
    assert (
        str(told.value) == f"cannot write {tmp_path / name}: what is written is {own}; name it so"
    )
    assert not list(tmp_path.iterdir())
