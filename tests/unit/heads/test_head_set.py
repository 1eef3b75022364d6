"""Heads by name, their sets, and the file that keeps them."""

import itertools
import json

import numpy as np
import pytest
from scipy.stats import chisquare

from langheads.heads import (
    Head,
    HeadSet,
    LanguageHeads,
    as_head_set,
    read_planted,
    require_shape,
)
from langheads.io.errors import InputError, ProvenanceError

SHAPE = (4, 8)


def heads(*names, shape=SHAPE):
    return HeadSet(names, shape)


def test_a_name_is_read_and_printed():
    assert Head.parse(" L12H3 ") == (12, 3)
    assert str(Head(12, 3)) == "L12H3"


@pytest.mark.parametrize("name", ["", "L3", "H7", "3.7", "l3h7", "L-1H2", "L3H7 L1H0", "L3H7x"])
def test_what_is_not_a_name_is_refused(name):
    with pytest.raises(InputError, match="write layer and head like L3H7"):
        Head.parse(name)


def test_a_set_keeps_the_order_of_evidence_and_drops_repeats():
    three = HeadSet(["L3H7", (1, 0), Head(3, 7), (2, 5)], SHAPE)
    assert [tuple(h) for h in three] == [(3, 7), (1, 0), (2, 5)]
    assert str(three) == "L3H7 L1H0 L2H5"
    assert repr(three) == "HeadSet([L3H7, L1H0, L2H5], shape=(4, 8))"
    assert [tuple(h) for h in three.top(2)] == [(3, 7), (1, 0)]
    assert three.top(9) == three


def test_a_set_shows_its_first_sixteen_heads():
    for count, more in ((16, "]"), (17, ", … 1 more]"), (20, ", … 4 more]"), (32, ", … 16 more]")):
        some = HeadSet([(i % 4, i // 4) for i in range(count)], SHAPE)
        first = ", ".join(f"L{i % 4}H{i // 4}" for i in range(16))
        assert repr(some) == f"HeadSet([{first}{more}, shape=(4, 8))"


@pytest.mark.parametrize("item", [3, (1, 2, 3), (0.5, 1), None])
def test_what_is_no_pair_is_no_head(item):
    with pytest.raises(InputError) as told:
        HeadSet([item], SHAPE)
    assert str(told.value) == f"{item!r} is not a head; write L3H7, or (3, 7)"


def test_heads_are_ranked_by_falling_value():
    values = np.array([[1.0, np.nan, 3.0], [3.0, -1.0, 1.0]])
    ranked = HeadSet.ranked(values)
    # Equal values in the model's order, NaN last.
    assert str(ranked) == "L0H2 L1H0 L0H0 L1H2 L1H1 L0H1"
    assert ranked.shape == (2, 3)
    assert str(HeadSet.ranked(values, 2)) == "L0H2 L1H0"


def test_names_with_commas_or_spaces_are_taken_and_values_of_heads_are_not_dropped():
    assert str(HeadSet(" L1H0, L0H1 L2H2", SHAPE)) == "L1H0 L0H1 L2H2"
    with pytest.raises(InputError, match=r"^dict {'L0H1': 1.0} given for heads; write names like"):
        HeadSet({"L0H1": 1.0}, SHAPE)
    with pytest.raises(InputError, match=r"^int 3 given for heads; write names like"):
        HeadSet(3, SHAPE)


def test_algebra_is_that_of_sets_with_the_order_of_the_left_side():
    everything = [Head(layer, head) for layer in range(2) for head in range(3)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = (
            [everything[i] for i in rng.permutation(6)[: rng.integers(7)]] for _ in range(2)
        )
        a, b = HeadSet(left, (2, 3)), HeadSet(right, (2, 3))
        assert set(a | b) == set(left) | set(right)
        assert list(a & b) == [h for h in left if h in right]
        assert list(a - b) == [h for h in left if h not in right]
        assert set(a ^ b) == set(left) ^ set(right)
        assert (a <= b) == (set(left) <= set(right))
        assert (a == b) == (set(left) == set(right))
        assert a.isdisjoint(b) == set(left).isdisjoint(right)
        assert list(a | b)[: len(a)] == left
    assert a | ["L0H0"] == a | HeadSet(["L0H0"], (2, 3))


def test_equal_sets_hash_alike_whatever_their_order():
    assert heads("L0H1", "L2H3") == heads("L2H3", "L0H1")
    assert len({heads("L0H1", "L2H3"), heads("L2H3", "L0H1"), heads("L0H1")}) == 2


def test_membership_takes_heads_and_pairs():
    some = heads("L3H7")
    assert (3, 7) in some
    assert Head(3, 7) in some
    assert (7, 3) not in some
    assert "L3H7" not in some
    assert not heads()


@pytest.mark.parametrize("outside", ["L4H0", "L0H8", (-1, 0), (0, -1)])
def test_a_head_that_the_model_lacks_is_refused_by_name(outside):
    name = outside if isinstance(outside, str) else str(Head(*outside))
    with pytest.raises(InputError, match=f"head {name} asked for.*4 layers of 8 heads.*to L3H7"):
        heads("L0H0", outside)


@pytest.mark.parametrize("operation", ["__or__", "__and__", "__sub__", "__xor__"])
def test_sets_of_different_models_do_not_combine(operation):
    with pytest.raises(ProvenanceError, match=r"of 4 layers x 9 heads, .* has 4 x 8"):
        getattr(heads("L0H0"), operation)(heads("L0H0", shape=(4, 9)))


def test_gates_hold_the_value_at_the_heads_and_one_elsewhere():
    gates = heads("L1H2", "L3H0").gates(3.0)
    expected = np.array([[3.0 if (i, j) in [(1, 2), (3, 0)] else 1.0 for j in range(8)]
                         for i in range(4)])  # fmt: skip
    np.testing.assert_array_equal(gates, expected)
    assert gates.dtype == np.float32
    np.testing.assert_array_equal(heads().gates(), np.ones(SHAPE))


def test_per_layer_counts():
    assert heads("L1H0", "L3H7", "L1H2").per_layer() == (0, 2, 0, 1)


def test_matched_sets_keep_the_profile_and_are_fixed_by_the_seed():
    some = heads("L1H0", "L1H2", "L3H7", "L0H0", "L0H1", "L0H2")
    drawn = some.matched_sets(50, np.random.default_rng(3))
    assert {d.per_layer() for d in drawn} == {(3, 2, 0, 1)}
    assert drawn == some.matched_sets(50, np.random.default_rng(3))
    assert len(set(drawn)) == 50
    assert some not in drawn


def test_few_matched_sets_are_all_that_there_are(caplog):
    some = heads("L1H3")
    drawn = some.matched_sets(100, np.random.default_rng(0))
    assert sorted(map(str, drawn)) == [f"L1H{h}" for h in range(8) if h != 3]
    assert "100 random head sets asked for, but only 7 differ" in caplog.text
    two = heads("L1H3", "L1H4", "L2H0")
    every = {
        f"L1H{a} L1H{b} L2H{c}" for a, b in itertools.combinations(range(8), 2) for c in range(8)
    } - {"L1H3 L1H4 L2H0"}
    assert set(map(str, two.matched_sets(300, np.random.default_rng(0)))) == every
    whole = HeadSet([(0, h) for h in range(8)], (4, 8))
    assert whole.matched_sets(5, np.random.default_rng(0)) == []


def test_matched_sets_of_a_large_model_are_not_listed():
    """C(64, 32) ** 2 sets would not fit in any memory."""
    some = HeadSet([(layer, h) for layer in (0, 1) for h in range(32)], (2, 64))
    assert len(set(some.matched_sets(20, np.random.default_rng(0)))) == 20


@pytest.mark.parametrize("n", [3, 14])
def test_matched_sets_are_uniform_over_all_others(n):
    """Listed (27 others are at most 2 n) or drawn one by one (they are more)."""
    some = HeadSet(["L0H0", "L0H2"], (1, 8))
    rng = np.random.default_rng(0)
    drawn = [some.matched_sets(n, rng)[0] for _ in range(2700)]
    counts = [
        drawn.count(HeadSet([(0, a), (0, b)], (1, 8)))
        for a, b in itertools.combinations(range(8), 2)
        if (a, b) != (0, 2)
    ]
    assert sum(counts) == 2700
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("n", [3, 4, 5])
def test_sets_are_listed_where_others_are_at_most_twice_as_many_as_asked_for(n):
    """Eight others, in an order drawn at once; for three they are drawn one by one."""
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    HeadSet(["L0H0"], (1, 9)).matched_sets(n, rng)
    other.permutation(8)
    assert (rng.random() == other.random()) == (n >= 4)


def test_as_many_other_sets_as_asked_for_however_many():
    for n in (3, 60):
        sets = HeadSet(["L0H0"], (1, 400)).other_sets(n, np.random.default_rng(0))
        assert len(sets) == len(set(sets)) == n


def language_heads():
    return LanguageHeads(
        specific={"zh": heads("L3H7", "L1H0"), "en": heads()},
        general=heads("L0H0"),
        model="tiny",
        rule={"name": "count", "listed": {"zh": 3, "en": 1}},
        provenance={"seed": 3, "text": "texte/日本"},
    )


def test_the_file_is_read_back_as_it_was(tmp_path):
    written = language_heads()
    assert written.save(tmp_path / "h.json") == tmp_path / "h.json"
    read = LanguageHeads.load(tmp_path / "h.json")
    assert read == written
    assert list(read.specific["zh"]) == list(written.specific["zh"])
    assert read.shape == SHAPE


def test_the_file_has_the_promised_form(tmp_path):
    language_heads().save(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text("utf-8")) == {
        "format": 1,
        "model": "tiny",
        "shape": [4, 8],
        "specific": {"zh": [[3, 7], [1, 0]], "en": []},
        "general": [[0, 0]],
        "rule": {"name": "count", "listed": {"zh": 3, "en": 1}},
        "provenance": {"seed": 3, "text": "texte/日本"},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "not a head set of format 1"),
        (
            {"specific": {"general": [[0, 1]]}},
            "h.json is not a head set: a language cannot be named general: so are the general",
        ),
        ({"general": [[4, 0]]}, "h.json is not a head set: head L4H0 asked for"),
        ({"specific": {"zh": [[0, 99]]}}, "h.json is not a head set: head L0H99 asked for"),
        ({"specific": {"zh": [3]}}, "is not a head set"),
        ({"specific": {"zh": [[1, 2, 3]]}}, "is not a head set"),
        ({"specific": []}, "is not a head set"),
        ({"shape": [4]}, "is not a head set"),
        ({"shape": None}, "is not a head set"),
        ({"model": ...}, "is not a head set: model missing; found"),
        ({"model": {"a": 1}}, "is not a head set: model is {'a': 1}, expected a text"),
        (
            {"shape": [0, 0]},
            r"is not a head set: shape is \[0, 0\], expected two whole",
        ),
        ({"shape": [-1, 4]}, "is not a head set"),
        ({"shape": ["4", 8]}, "is not a head set"),
        ({"provenance": {"scored_up_to": "[" * 99_999}}, "scored_up_to: JSON that is nested too"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, change, message):
    path = language_heads().save(tmp_path / "h.json")
    document = json.loads(path.read_text("utf-8")) | change
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not ...}), "utf-8")
    with pytest.raises(InputError, match=message) as error:
        LanguageHeads.load(path)
    assert str(path) in str(error.value)


def test_a_list_is_not_a_head_set(tmp_path):
    (tmp_path / "h.json").write_text("[]")
    with pytest.raises(InputError, match="not a head set of format 1"):
        LanguageHeads.load(tmp_path / "h.json")


def test_other_sets_are_others_where_there_are_enough():
    heads = HeadSet(["L0H0", "L0H1", "L0H2", "L1H3"], (2, 4))
    sets = heads.other_sets(9, np.random.default_rng(0))
    # Layer 0 has one other head and lends two of three; layer 1 has three others.
    assert len(sets) == len(set(sets)) == 9
    for drawn in sets:
        assert drawn.per_layer() == (3, 1)
        assert len(drawn & heads) == 2
        assert (0, 3) in drawn
        assert (1, 3) not in drawn


def test_what_is_to_be_avoided_comes_last():
    heads, avoid = HeadSet(["L0H0", "L0H1"], (1, 4)), HeadSet(["L0H2"], (1, 4))
    sets = heads.other_sets(2, np.random.default_rng(0), avoid=[avoid])
    # One free head, then one of its own, and the avoided one never.
    assert {frozenset(map(str, some)) for some in sets} == {
        frozenset(["L0H3", "L0H0"]), frozenset(["L0H3", "L0H1"]),
    }  # fmt: skip


def test_no_more_sets_than_differ(caplog):
    whole = HeadSet([(0, 0), (0, 1)], (2, 2))
    assert whole.other_sets(3, np.random.default_rng(0)) == []
    assert "3 random head sets asked for, but only 0 differ from L0H0 L0H1" in caplog.text
    caplog.clear()
    assert len(HeadSet(["L0H0"], (1, 3)).other_sets(5, np.random.default_rng(0))) == 2
    assert "only 2 differ" in caplog.text
    caplog.clear()
    assert len(HeadSet(["L0H0"], (1, 3)).other_sets(2, np.random.default_rng(0))) == 2
    assert caplog.text == ""


def test_a_name_with_more_digits_than_python_reads():
    with pytest.raises(InputError, match=r"^'L9{58} is not a head; write layer and head"):
        Head.parse("L" + "9" * 5000 + "H0")


def test_heads_given_as_a_set_or_by_name_are_those_of_the_model():
    some = heads("L3H7", "L1H0")
    assert as_head_set(some, SHAPE) is some
    assert list(as_head_set(["L3H7", (1, 0)], SHAPE)) == list(some)
    with pytest.raises(InputError, match="head L4H0 asked for, but the model has 4 layers"):
        as_head_set(["L4H0"], SHAPE)
    told = " is for a model of 4 layers x 8 heads, but this one has 4 x 9"
    with pytest.raises(ProvenanceError, match="the head set" + told):
        as_head_set(some, (4, 9))
    require_shape("the mask a", SHAPE, SHAPE)
    with pytest.raises(ProvenanceError, match="the mask a" + told):
        require_shape("the mask a", SHAPE, (4, 9))


def test_planted_heads_are_read_with_their_shape(tmp_path):
    path = tmp_path / "planted.json"
    path.write_text('{"planted": {"en": [[0, 1]]}, "about": "three"}')
    assert read_planted(path, SHAPE) == {"planted": {"en": heads("L0H1")}, "decoys": {}}
    for content, told in (
        ("[]", r"planted\.json is not a list of planted heads \(planted\.json of"),
        ('{"planted": {"en": [[4, 1]]}}', "is not a list of planted heads: head L4H1 asked for"),
        ('{"decoys": {}}', "is not a list of planted heads: planted missing"),
        (
            '{"planted": {}, "decoys": {"en": 3}}',
            "is not a list of planted heads: decoys.en is 3, expected a li",
        ),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=told):
            read_planted(path, SHAPE)


def test_a_number_of_thousands_of_digits_does_not_fill_the_screen():
    with pytest.raises(InputError) as error:
        HeadSet([(int("9" * 4000), 0)], (4, 6))
    assert str(error.value) == f"head L{'9' * 992}…"
