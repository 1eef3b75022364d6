"""The count rule on tables small enough to do by hand."""

import json

import numpy as np
import pytest
import xarray as xr

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.sources import content_hash
from langheads.selection.count import select

# 2 layers of 5 heads. Upper 0.65 quantile of 10 values: position 0.65 * 9 = 5.85 of the sorted
# ones, so the 4 largest are above it.
SCORES = {
    "en": [[9, 8, 7, 6, 0], [1, 2, 3, 4, 5]],
    "zh": [[9, 0, 1, 2, 3], [8, 7, 6, 4, 5]],
    "hi": [[0, 9, 1, 2, 3], [8, 4, 5, 6, 7]],
}


def dataset(scores=SCORES, dtype=float, **more):
    names = list(scores)
    values = np.array([scores[name] for name in names], dtype=dtype)
    dims = ("language", "layer", "head")
    return xr.Dataset(
        {"lahis": (dims, values), "lahis_se": (dims, values), "taylor": (dims, -values)}
        | {key: (dims, np.array(value, dtype=dtype)) for key, value in more.items()},
        coords={"language": names},
        attrs={"kind": "scores", "format": np.int64(1), "model": "tiny", "seed": np.int64(3)},
    )


def names(heads):
    return str(heads).split()


def test_the_rule_by_hand():
    # Lists:  en L0H0 L0H1 L0H2 L0H3;  zh L0H0 L1H0 L1H1 L1H2;  hi L0H1 L1H0 L1H4 L1H3
    heads = select(dataset(), quantile=0.65, general_at=2, share=1.0)
    assert {k: names(v) for k, v in heads.specific.items()} == {
        "en": ["L0H2", "L0H3"],
        "zh": ["L1H1", "L1H2"],
        "hi": ["L1H4", "L1H3"],
    }
    assert set(names(heads.general)) == {"L0H0", "L0H1", "L1H0"}
    assert heads.shape == (2, 5)
    assert heads.rule == {
        "name": "count", "score": "lahis", "quantile": 0.65, "general_at": 2, "share": 1.0,
        "n": 10, "listed": {"en": 4, "zh": 4, "hi": 4},
    }  # fmt: skip
    assert heads.model == "tiny"
    made = heads.provenance.pop("made_from")
    assert json.loads(made) == {"scores": content_hash(dataset())}
    assert heads.provenance == {"kind": "scores", "format": 1, "model": "tiny", "seed": 3}
    assert type(heads.provenance["seed"]) is int


def test_general_are_heads_on_enough_lists():
    at = {
        n: names(select(dataset(), quantile=0.65, general_at=n, share=1.0).general)
        for n in (1, 2, 3)
    }
    assert len(at[1]) == 9
    assert at[1][:3] == at[2]
    assert at[3] == []
    everywhere = {name: [[5, 1, 0], [0, 0, 0]] for name in "abcd"}
    heads = select(dataset(everywhere), quantile=0.8, general_at=4)
    assert names(heads.general) == ["L0H0"]
    assert [len(s) for s in heads.specific.values()] == [0] * 4


def test_lists_are_cut_to_the_floor_of_the_share_after_the_general_heads_went():
    # A thousand-millionth below 3 is rounding, and less than that is not.
    near = (0.299_999_999_97, 3), (0.299_999_999_92, 2)
    for share, n in ((0.3, 3), (0.29, 2), (0.2, 2), (0.11, 1), *near):
        heads = select(dataset(), quantile=0.65, general_at=3, share=share)
        assert heads.rule["n"] == n
        assert names(heads.specific["hi"]) == ["L0H1", "L1H0", "L1H4"][:n]
    heads = select(dataset(), quantile=0.65, general_at=2, share=0.1)
    assert names(heads.specific["hi"]) == ["L1H4"]


def test_at_least_one_head_is_kept():
    heads = select(dataset(), quantile=0.65, share=0.02)
    assert heads.rule["n"] == 1
    assert [names(s) for s in heads.specific.values()] == [["L0H0"], ["L0H0"], ["L0H1"]]


def test_n_of_the_paper():
    flat = {"en": np.arange(32 * 32).reshape(32, 32)}
    heads = select(dataset(flat))
    assert heads.rule["n"] == 20
    assert heads.rule["listed"] == {"en": 41}
    assert names(heads.specific["en"]) == [f"L31H{31 - i}" for i in range(20)]


def test_equal_scores_keep_the_order_of_the_model_and_the_quantile_itself_is_not_above():
    flat = {"en": [[1, 1, 2, 2], [2, 2, 0, 0]], "zh": [[1, 1, 1, 1], [1, 1, 1, 1]]}
    heads = select(dataset(flat), quantile=0.5, share=0.4)
    assert names(heads.specific["en"]) == ["L0H2", "L0H3", "L1H0"]
    assert heads.rule["listed"] == {"en": 4, "zh": 0}
    assert heads.specific["zh"] == HeadSet([], (2, 4))


def test_the_score_is_the_one_asked_for():
    taylor = {name: 10 - np.array(values) for name, values in SCORES.items()}
    by_hand = select(dataset(taylor), quantile=0.65, general_at=4, share=1.0)
    chosen = select(dataset(), score="taylor", quantile=0.65, general_at=4, share=1.0)
    assert chosen.specific == by_hand.specific
    assert chosen.rule["score"] == "taylor"
    paper = dataset(lahis_paper=[SCORES["hi"]] * 3)
    heads = select(paper, score="lahis-paper", general_at=4, quantile=0.65)
    assert names(heads.specific["en"]) == ["L0H1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "vote"}, "rule 'vote' asked for; allowed are count"),
        ({"score": "lahiss"}, "score 'lahiss' asked for; the file has lahis, taylor$"),
        ({"score": "lahis_se"}, "score 'lahis_se' asked for"),
        ({"quantile": 1.0}, "0 <= quantile < 1"),
        ({"quantile": -0.1}, "quantile -0.1"),
        ({"share": 0.0}, "0 < share <= 1"),
        ({"share": 1.1}, "share 1.1"),
        ({"general_at": 0}, "general_at >= 1"),
        ({"min_ratio": 0.9}, "min_ratio 0.9, .* allowed are min_ratio >= 1"),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"alpha": 1.0}, "0 < alpha < 1"),
        ({"alpha": 1.1}, "alpha 1.1"),
        ({"permutations": 0}, "permutations 0"),
    ],
)
def test_what_the_rule_cannot_do_is_told(arguments, message):
    with pytest.raises(InputError, match=message):
        select(dataset(), **arguments)


def test_parameters_at_their_ends_are_taken(caplog):
    ends = {"quantile": 0.0, "share": 1.0, "general_at": 3, "min_ratio": 1.0, "permutations": 1}
    heads = select(dataset(), **ends)
    # Nine of ten lie above the smallest; three of these are on every list.
    assert heads.rule["listed"] == {"en": 9, "zh": 9, "hi": 9}
    assert not caplog.text
    assert not select(dataset(), general_at=4).general
    assert caplog.messages == [
        "no head can be general: 3 languages, general heads are on at least 4 lists"
    ]


def test_another_result_is_refused():
    with pytest.raises(InputError, match="expected a scores file, found ablation"):
        select(dataset().assign_attrs(kind="ablation"))
    with pytest.raises(InputError, match="expected a scores file, found something else"):
        select(xr.Dataset())


def test_the_scores_are_not_modified():
    scores = dataset()
    before = scores.copy(deep=True)
    select(scores, quantile=0.65, general_at=2)
    xr.testing.assert_identical(scores, before)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_told(wrong):
    """Else the quantile would be NaN, and a language would seem to have no heads."""
    scores = dataset()
    scores.lahis[1, 0, 2] = scores.lahis[1, 1, 1] = wrong
    with pytest.raises(InputError, match="lahis of language zh is NaN or infinite for 2 heads"):
        select(scores)
    assert select(scores.isel(language=[0, 2]), quantile=0.65).specific["en"]


@pytest.mark.parametrize("min_ratio", [float("nan"), float("inf")])
def test_a_ratio_that_is_no_number(min_ratio):
    with pytest.raises(InputError, match=f"min_ratio {min_ratio}, .* allowed are"):
        select(dataset(), rule="contrast", min_ratio=min_ratio)


def test_the_top_of_the_raw_score_has_general_heads():
    """By hand: the two largest of each, shared ones too; none is called general."""
    heads = select(dataset(), rule="top", general_at=2, share=0.2)
    assert {k: names(v) for k, v in heads.specific.items()} == {
        "en": ["L0H0", "L0H1"],
        "zh": ["L0H0", "L1H0"],
        "hi": ["L0H1", "L1H0"],
    }
    assert not heads.general
    assert heads.rule == {"name": "top", "score": "lahis", "share": 0.2, "n": 2}


def test_a_score_of_another_tool_may_have_a_hyphen():
    of = {"my-own": list(SCORES.values())}
    assert select(dataset(**of), score="my-own").specific == select(dataset()).specific
