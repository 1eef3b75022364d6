"""The account of a pruned model: found in its folder, drawn and told as the file has it."""

import json

import numpy as np
import pytest

from langheads.experiments.pruning.account import Pruning
from langheads.io.errors import InputError
from langheads.io.results import save
from langheads.view import pruned_losses, report
from langheads.view.contents import RunFolder
from langheads.view.folder import read_run
from langheads.view.kinds import KINDS
from tests.unit.view.made_up_replies import make_pruned
from tests.unit.view.made_up_results import make_knockout
from tests.unit.view.test_report import Page

LANGUAGES = ["en", "zh", "हिन्दी"]
HOSTILE = "<b>x</b> %{y}"


def written(folder, account):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pruned.json"
    path.write_text(json.dumps(account), "utf-8")
    return path


def test_the_dropped_language_comes_first_beside_random_heads(tmp_path):
    figure = pruned_losses(Pruning.load(written(tmp_path, make_pruned(LANGUAGES))))
    random, removed = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["zh (dropped)", "en", "हिन्दी"]
    assert list(removed.x) == [0.3, 0.0, 0.002]
    np.testing.assert_allclose(np.array(removed.x) + removed.error_x.array, [0.31, 0.01, 0.012])
    np.testing.assert_allclose(np.array(removed.x) - removed.error_x.arrayminus,
                               [0.29, -0.01, -0.008])  # fmt: skip
    assert list(random.x) == [0.02] * 3
    np.testing.assert_allclose(np.array(random.x) + random.error_x.array, [0.06] * 3)
    np.testing.assert_allclose(np.array(random.x) - random.error_x.arrayminus, [0.005] * 3)
    # Beside each other, not on each other, and told apart by fill as well as colour.
    assert (np.round(removed.y) == np.round(random.y)).all()
    assert (np.array(removed.y) < random.y).all()
    assert random.marker.symbol == "circle-open"
    assert "20 random head sets" in random.name
    hover = "+0.3000 (+0.2900 to +0.3100) nats per byte<br>random heads +0.0200 (+0.0050 to +0.0600"
    assert hover in removed.text[0]
    assert "p = 0.048" in removed.text[0]


def test_p_of_too_few_random_sets_cannot_tell(tmp_path):
    """Of 7 sets no p is below 1 / 8."""
    account = make_pruned(LANGUAGES, controls=7)
    for loss in account["nats_per_byte"].values():
        loss["control_p"] = 0.125
    pruning = Pruning.load(written(tmp_path, account))
    _, removed = pruned_losses(pruning).data
    assert all(text.endswith(", p = cannot tell (≥ 0.125)") for text in removed.text)
    table, _ = KINDS["pruned"].tables(pruning, RunFolder())
    assert [row[-1] for row in table.rows] == ["cannot tell (≥ 0.125)"] * 3


def test_an_old_account_is_drawn_without_random_heads(tmp_path):
    account = make_pruned(LANGUAGES, controls=0)
    del account["controls"]
    account["nats_per_byte"]["en"] |= {"rise_low": None, "rise_high": None}
    pruning = Pruning.load(written(tmp_path, account))
    (removed,) = pruned_losses(pruning).data
    assert list(removed.y) == [0, 1, 2]
    assert "random" not in removed.text[0]
    table, _ = list(KINDS["pruned"].tables(pruning, RunFolder()))
    assert len(table.header) == 5
    assert table.rows[0] == ["en", "0.5000", "0.5000", "0.0000", "0.00"]
    assert table.rows[1][1:] == ["0.5000", "0.8000", "0.3000 (0.2900 to 0.3100)", "60.00"]
    del account["nats_per_byte"]
    pruning = Pruning.load(written(tmp_path, account))
    assert list(KINDS["pruned"].pictures(pruning, RunFolder())) == []
    assert len(list(KINDS["pruned"].tables(pruning, RunFolder()))) == 1
    assert "was not measured" in next(iter(KINDS["pruned"].summary(pruning, RunFolder())))
    with pytest.raises(InputError, match="nothing was measured"):
        pruned_losses(pruning)


def test_accounts_are_found_in_the_folder_and_one_level_below(tmp_path):
    written(tmp_path, make_pruned(LANGUAGES))
    written(tmp_path / "without-zh", make_pruned(LANGUAGES))
    written(tmp_path / ".unfinished", make_pruned(LANGUAGES))
    written(tmp_path / "a" / "b", make_pruned(LANGUAGES))
    written(tmp_path / "theirs", {"kind": "something else"})
    run = read_run(tmp_path)
    assert list(run.of("pruned")) == ["pruned.json", "without-zh/pruned.json"]
    assert list(run.reasons) == ["theirs/pruned.json"]
    page = Page(report(tmp_path).read_text("utf-8"))
    assert "Pruned model: without-zh/pruned.json" in page.text
    said = (
        "Pruned of the heads of zh: 2 heads, 0 of them cut out and 2 zeroed; ΔNLL in nats per "
        "byte: zh 0.3000 (0.2900 to 0.3100), random heads 0.0200; most of the others "
        "\u2068हिन्दी\u2069 0.0020 (−0.0080 to 0.0120), random heads 0.0200."
    )
    assert said in page.text
    table = page.table("language", "before", "after")
    assert table[2][-2:] == ["0.0200 (0.0050 to 0.0600)", "0.048"]
    removed = dict(page.table("what", "value")[1:])
    assert removed["heads zeroed in place"] == "2: L1H1 L2H0"
    assert removed["also heads of, and not to be dropped"] == "en: L2H0"


def test_what_is_broken_is_refused_and_what_is_of_another_model_left_out(tmp_path):
    account = make_pruned(LANGUAGES)
    account["nats_per_byte"]["zh"]["rise"] = "much"
    with pytest.raises(
        InputError,
        match=r"pruned\.json is not an account of prune: nats_per_byte\.zh\.rise is .much.,",
    ):
        report(written(tmp_path / "one", account).parent)
    with pytest.raises(InputError, match=r"pruned\.json is not an account of prune"):
        Pruning.load(written(tmp_path / "two", {"kind": "heads"}))
    run = tmp_path / "three"
    written(run / "without", make_pruned(LANGUAGES, weight_hash="ef" * 32))
    save(make_knockout(LANGUAGES), run / "knockout.nc")
    found = read_run(run)
    assert list(found.results) == ["knockout"]
    told = "of another model: without/pruned.json was made with weights efef"
    assert told in found.reasons["without/pruned.json"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        # A text was counted as if each letter were a head.
        ({"removed": "abc"}, "removed is 'abc', expected a list"),
        (
            {"removed": ["L1H1", "L99H99"], "zeroed": ["L1H1", "L99H99"]},
            "head L99H99 asked for, but the model has 4 layers of 6 heads, L0H0 to L3H5",
        ),
        ({"zeroed": ["L1H1"]}, "each head removed must be cut or zeroed, once"),
        ({"cut": ["L1H1"]}, "each head removed must be cut or zeroed, once"),
        ({"removed": ["L1H1", "L2H0"] * 2}, "each head removed must be cut or zeroed, once"),
        ({"parameters_zeroed": -5}, "parameters_zeroed is -5, expected a whole number from 0"),
        ({"bytes_saved": 2**60}, f"bytes_saved is {2**60}, expected a whole number from 0"),
        ({"logits_differ_by": "x"}, "logits_differ_by is 'x', expected a number"),
        ({"shape": "x"}, "shape is 'x', expected two whole numbers from 1"),
        ({"p": 7.0}, "nats_per_byte.en.control_p is 7.0, expected a number from 0 to 1"),
    ],
)
def test_an_account_that_was_changed_by_hand_is_told_of(tmp_path, changes, why):
    account = make_pruned(LANGUAGES) | {k: v for k, v in changes.items() if k != "p"}
    if "p" in changes:
        account["nats_per_byte"]["en"]["control_p"] = changes["p"]
    path = written(tmp_path, account)
    with pytest.raises(InputError) as told:
        Pruning.load(path)
    assert str(told.value) == f"{path} is not an account of prune: {why}"


def test_names_are_shown_literally(tmp_path):
    account = make_pruned(["en", HOSTILE], model=HOSTILE)
    figure = pruned_losses(Pruning.load(written(tmp_path, account)))
    for text in (
        figure.layout.title.text,
        figure.layout.title.subtitle.text,
        figure.layout.yaxis.ticktext[0],
        figure.data[1].text[0],
    ):
        assert "&lt;b&gt;x" in text
        assert "%{y}" not in text
