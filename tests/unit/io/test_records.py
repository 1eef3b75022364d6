"""JSON as declared records: what a value must be, and how a misfit is told."""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from langheads.io import records
from langheads.io.errors import InputError
from langheads.io.records import (
    Filled,
    From0,
    From1,
    Heads,
    Id,
    ModelName,
    Name,
    Number,
    Record,
    Saved,
    Seed,
    Shape,
    Text,
    holds,
    parse,
)


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        (Text, ["", "a"], [3, None, True], "a text"),
        (Filled, ["a"], ["", 3, None], "a text, not empty"),
        (Number, [1, -2.5, 0], ["1", True, math.nan, math.inf, None, 10**400], "a finite number"),
        (From0, [0, 10**400], [-1, 1.0, "1", True, None], "a whole number from 0"),
        (From1, [1], [0, 1.5], "a whole number from 1"),
        (Seed, [0, 2**32 - 1], [-1, 2**32], "a whole number from 0 to 4294967295"),
        (Shape, [[1, 2]], [[1], [0, 1], [1, 2, 3], ["1", 2], 3, None], "two whole numbers from 1"),
        (Id, ["a", 3], [True, None, 1.5, [1]], "a text or a whole number"),
    ],
)
def test_a_value_is_what_it_must_be(kind, good, bad, words):
    for value in good:
        assert parse(kind, value, "here") == (
            str(value) if kind is Id else tuple(value) if kind is Shape else value
        )
    for value in bad:
        with pytest.raises(InputError) as told:
            parse(kind, value, "here")
        assert str(told.value) == f"here: it is {value!r:.60}, expected {words}"


def test_what_fits_a_kind_is_found_out_once(monkeypatch):
    """It takes 0.2 ms, and a reader asks for each line."""
    kinds = []

    def adapter(kind, **settings):
        kinds.append(kind)
        return TypeAdapter(kind, **settings)

    monkeypatch.setattr(records, "TypeAdapter", adapter)
    kind = dict[str, tuple[Number, Filled]]
    for i in range(3):
        assert parse(kind, {"a": (i, "x")}, "here") == {"a": (i, "x")}
    assert kinds == [kind]


def test_names_of_models_may_be_paths_and_those_of_languages_may_not():
    for kind, most in ((Name, 200), (ModelName, 10_000)):
        assert parse(kind, "x" * most, "here") == "x" * most
        with pytest.raises(InputError) as told:
            parse(kind, "x" * (most + 1), "here")
        assert str(told.value) == f"here: is a name of {most + 1} characters, at most {most}"


class Inner(Record):
    gate: Number


class Outer(Record):
    name: Text
    inner: list[Inner] = []  # noqa: RUF012
    by_name: dict[str, Heads] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1], 'expected {"name"}, found [1]'),
        ({}, "name missing; found nothing"),
        ({"nam": 1, "x": 2}, "name missing; found nam, x"),
        ({"name": "a\ud800"}, "name has a lone surrogate at character 2"),
        ({"name": "a", "inner": {}}, "inner is {}, expected a list"),
        ({"name": "a", "inner": [3]}, "inner[0] is 3, expected keys and values"),
        (
            {"name": "a", "inner": [{"gate": 1}, {"gate": "1"}]},
            "inner[1].gate is '1', expected a finite number",
        ),
        ({"name": "a", "inner": [{}]}, "inner[0].gate missing; found nothing"),
        ({"name": "a", "by_name": 3}, "by_name is 3, expected keys and values"),
        (
            {"name": "a", "by_name": {"zh": [[0, 1], [0]]}},
            "by_name.zh[1] is [0], expected a head [layer, head]",
        ),
    ],
)
def test_a_misfit_is_told_with_its_key(given, told):
    with pytest.raises(InputError) as error:
        Outer.parse(given, "f.jsonl, line 3")
    assert str(error.value) == f"f.jsonl, line 3: {told}"


def test_other_keys_are_left_alone_and_absent_ones_filled_in():
    found = Outer.parse({"inner": [{"gate": 1, "note": 2}], "more": None}, "here", name="a")
    assert (found.name, found.inner) == ("a", [Inner(gate=1.0)])


def test_a_mapping_holds_what_it_must_and_stays_as_it_is():
    class Settings(TypedDict, total=False):
        docs: From1
        rate: Number

    class File(Record):
        settings: Annotated[dict[str, Any], holds(Settings)]

    kept = {"other": [None], "rate": 1, "docs": 3}
    found = File.parse({"settings": kept}, "here").settings
    assert json.dumps(found) == json.dumps(kept)
    with pytest.raises(InputError, match=r"here: settings\.docs is True, expected a whole num"):
        File.parse({"settings": {"docs": True}}, "here")


def test_null_is_absent_where_the_record_says_so():
    class Given(Outer):
        null_is_absent = True

    assert Given.parse({"name": "a", "inner": None}, "here").inner == []
    with pytest.raises(InputError, match="here: name missing; found inner"):
        Given.parse({"name": None, "inner": []}, "here")


class PairFile(Record):
    what: ClassVar[str] = "a pair"
    made: ClassVar[str] = "pair.json of nobody"

    format: Literal[1] = 1
    kind: Literal["pair"] = "pair"
    shape: Shape


@dataclass(frozen=True)
class Pair(Saved):
    shape: tuple[int, int]
    _record = PairFile

    @classmethod
    def _of(cls, record):
        if record.shape == (9, 9):
            raise InputError("too large")
        return cls(record.shape)


def test_what_is_saved_is_read_back(tmp_path):
    path = Pair((3, 4)).save(tmp_path / "pair.json")
    assert json.loads(path.read_text()) == {"format": 1, "kind": "pair", "shape": [3, 4]}
    assert Pair.load(path) == Pair((3, 4))
    with pytest.raises(ValueError, match="not JSON compliant"):
        Pair((3, math.nan)).save(path)
    assert Pair.load(path) == Pair((3, 4))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "is not a pair of format 1 (pair.json of nobody)"),
        ({"format": 1, "shape": [1, 1]}, "is not a pair of format 1 (pair.json of nobody)"),
        (
            {"format": 2, "kind": "pair", "shape": [1, 1]},
            "is not a pair of format 1 (pair.json of nobody)",
        ),
        ({"format": 1, "kind": "pair"}, "is not a pair: shape missing; found format, kind"),
        (
            {"format": 1, "kind": "pair", "shape": [0, 1]},
            "is not a pair: shape is [0, 1], expected two whole numbers from 1",
        ),
        ({"format": 1, "kind": "pair", "shape": [9, 9]}, "is not a pair: too large"),
    ],
)
def test_another_file_is_told(tmp_path, content, told):
    path = tmp_path / "pair.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        Pair.load(path)
    assert str(error.value) == f"{path} {told}"
