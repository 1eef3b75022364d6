"""Parts, their files and an estimate by hand-made rows, without a model; see test_shards.py."""

import hashlib
import os
import time
from importlib.metadata import version
from itertools import count
from pathlib import Path

import pytest
import torch

from langheads.io import digest
from langheads.io.digest import command_hash, spelled, versions
from langheads.io.errors import InputError
from langheads.io.estimate import estimated
from langheads.io.part_file import Piece, read_part, write_part
from langheads.io.parts import Parts, Waiting, active_parts, clock, kept_in_parts, spared
from langheads.io.shards import in_parts

ROWS = [torch.arange(6.0).reshape(2, 3), torch.full((1, 2), 0.1)]


def piece(number, name=None, *, what="nll", work="w", batches=4, tokens=10, cost=1, row=None):
    name = f"name {number}" if name is None else name
    return Piece(what, work, name, number, number, batches, 2, tokens, cost, row)


def rows_of(number):
    return lambda: [torch.tensor([float(number)]), torch.tensor([0.5])]


def equal(found, expected):
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


@pytest.fixture
def at(monkeypatch):
    """A clock that stands still but when a made row says how long it took."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def took(at, seconds, rows):
    def make():
        at[0] += seconds
        return rows

    return make


def test_a_part_is_read_as_it_was_written_or_not_at_all(tmp_path):
    path = tmp_path / "a.part"
    write_part(path, "its name", ROWS, 1.2345678)
    found, seconds = read_part(path, "its name")
    assert equal(found, ROWS)
    assert seconds == 1.234568
    for length in range(8):
        # The header is filled up to a multiple of 8 bytes.
        write_part(path, "n" * length, ROWS, 0.0)
        assert equal(read_part(path, "n" * length)[0], ROWS)
    whole = [torch.tensor([1, 2]), torch.tensor([-3])]
    write_part(path, "its name", whole, 0.0)
    assert equal(read_part(path, "its name")[0], whole)
    content = path.read_bytes()
    missing = (None, 0.0)
    assert read_part(path, "other name") == missing
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert read_part(path, "its name") == missing, f"byte {i}"
    path.write_bytes(content[:-1])
    assert read_part(path, "its name") == missing
    assert read_part(tmp_path, "its name") == read_part(tmp_path / "none", "its name") == missing


def test_parts_of_a_gradient_are_written_without_it(tmp_path):
    rows = [2 * torch.ones(2, requires_grad=True)]
    write_part(tmp_path / "a.part", "n", rows, 0.0)
    assert torch.equal(read_part(tmp_path / "a.part", "n")[0][0], torch.tensor([2.0, 2.0]))


def test_the_code_of_the_package_and_its_libraries_tell_runs_apart():
    assert versions().keys() == {"code", "langheads", "torch", "transformers", "transformer-lens"}
    assert versions()["torch"] == version("torch")


def test_settings_of_which_there_are_digests_are_spelled_in_one_order():
    assert spelled({"b": "\u00fc", "a": 1}) == '{\n "a": 1,\n "b": "\u00fc"\n}'
    assert spelled(None) == "{}"


def test_the_code_is_that_of_the_package_and_nothing_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "langheads"
    for name in ("b.py", "io/digest.py", "a.txt", "../beside.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    monkeypatch.setattr(digest, "__file__", str(package / "io/digest.py"))
    code = hashlib.sha256(b"b.pyio/digest.py").hexdigest()[:16]
    assert versions.__wrapped__()["code"] == code


def test_of_three_shards_each_makes_its_own_and_reads_the_others(tmp_path, at):
    for shard in range(3):
        parts = Parts(tmp_path, shard=shard, shards=3)
        parts.write_settings()
        for number in range(6):
            rows, made = parts.rows(piece(number), took(at, 2, rows_of(number)()))
            assert made == (number % 3 == shard)
            assert (rows is None) == (number % 3 > shard)
            assert rows is None or equal(rows, rows_of(number)())
        assert (parts.made, parts.found, parts.left) == (2, 2 * shard, 4 - 2 * shard)
        assert parts.late == set(range(shard + 2, 4))
        # What the parts took to make that it read.
        assert parts.seconds == 4 * shard
    # The batch's number stands in the file's name, counted within its measurement.
    assert sorted(path.name for path in tmp_path.glob("*.part")) == [
        f"w-{number:05d}-name {number}.part" for number in range(6)
    ]


def test_where_shards_begin_is_not_a_batch_number(tmp_path):
    """Measurements of one batch each are shared, too."""
    made = []
    for number in range(4):
        parts = Parts(tmp_path / str(number), shard=1, shards=2)
        parts.write_settings()
        one = Piece("nll", "w", f"n{number}", number, 0, 1, 2, 10, 1, None)
        made.append(parts.rows(one, rows_of(0))[1])
    assert made == [False, True, False, True]


def test_the_same_name_twice_in_a_run_is_never_shared(tmp_path):
    parts, turn = Parts(tmp_path), count()
    for expected in range(3):
        rows, made = parts.rows(piece(0), lambda: rows_of(next(turn))())
        assert made
        assert equal(rows, rows_of(expected)())
    assert (parts.made, parts.found, len(list(tmp_path.glob("*.part")))) == (1, 0, 1)
    again = Parts(tmp_path)
    assert equal(again.rows(piece(0), rows_of(9))[0], rows_of(0)())


def test_a_shard_whose_parts_were_taken_away_makes_none(tmp_path):
    parts = Parts(tmp_path, shard=0, shards=2)
    with pytest.raises(Waiting) as waits:
        parts.rows(piece(0), rows_of(0))
    assert waits.value.missing == 0
    with pytest.raises(Waiting):
        parts.shared(piece(0), rows_of(0))
    assert not list(tmp_path.iterdir())
    # By itself it goes on.
    assert Parts(tmp_path).rows(piece(0), rows_of(0))[1]


def test_whoever_makes_the_last_part_has_all_of_them(tmp_path):
    """The first shard makes its own while the second, which missed it, is at its own."""

    def both_made():
        Parts(tmp_path, shard=0, shards=2).rows(piece(0), rows_of(0))
        return rows_of(1)()

    def work():
        parts = active_parts()
        found = [parts.rows(piece(number), both_made)[0] for number in (0, 1)]
        if None in found:
            raise Waiting(1)
        return found

    found = in_parts(work, tmp_path, shard=(2, 2))
    assert [rows[0].item() for rows in found] == [0, 1]
    assert not tmp_path.exists()


def test_a_shard_leaves_no_part_after_another_process_has_finished(tmp_path):
    parts, made = tmp_path / "parts", []

    def ended():
        """The same command without a shard, given beside them, has made all and is done."""
        made.append(1)
        Parts(parts).remove()
        return rows_of(1)()

    def work():
        for number in (0, 2, 4):
            active_parts().rows(piece(number), ended if number == 2 else rows_of(number))

    with pytest.raises(Waiting):
        in_parts(work, parts, shard=(1, 2))
    assert made == [1]
    assert not parts.exists()


def test_rows_that_all_need_first_are_those_of_whoever_is_first(tmp_path):
    def late():
        """Another process is done while this one is at it."""
        Parts(tmp_path).shared(piece(0), rows_of(1))
        return rows_of(2)()

    assert equal(Parts(tmp_path).shared(piece(0), late), rows_of(1)())
    third = Parts(tmp_path)
    assert equal(third.shared(piece(0), rows_of(3)), rows_of(1)())
    assert (third.found, third.made) == (1, 0)
    assert [path.name for path in tmp_path.glob("*.part")] == ["w-all-name 0.part"]


def test_what_all_need_is_made_again_once_where_it_is_damaged(tmp_path):
    Parts(tmp_path).shared(piece(0), rows_of(1))
    (path,) = tmp_path.glob("*.part")
    path.write_bytes(path.read_bytes()[:-1])
    assert equal(Parts(tmp_path).shared(piece(0), rows_of(2)), rows_of(2)())
    third = Parts(tmp_path)
    assert equal(third.shared(piece(0), rows_of(3)), rows_of(2)())
    assert (third.found, third.made) == (1, 0)


def test_whoever_merges_does_not_make_what_all_need(tmp_path):
    def forwards():
        raise AssertionError("the mean of the reference documents was computed")

    with pytest.raises(Waiting) as told:
        in_parts(
            lambda: active_parts().shared(piece(0), forwards), tmp_path, shard=(1, 2), make=False
        )
    assert (told.value.missing, told.value.late) == (1, "1, 2")
    assert not list(tmp_path.glob("*.part"))


def test_whoever_merges_on_another_kind_of_machine_is_sent_back(tmp_path):
    with kept_in_parts(tmp_path, {"device": "cuda"}) as parts:
        parts.rows(piece(0), rows_of(0))
    how = "give what was given before, or --fresh to start over"
    for make, told in ((True, how), (False, "merge them as, and where, they were made")):
        with pytest.raises(InputError) as error:
            in_parts(lambda: None, tmp_path, {"device": "cpu"}, make=make)
        assert str(error.value) == (
            f"{tmp_path} has parts of another run (device was cuda, is cpu); {told}"
        )


@pytest.mark.parametrize("shard", [0, 1])
def test_any_shard_makes_what_all_need_and_whoever_merges_what_needs_no_forward(tmp_path, shard):
    parts = Parts(tmp_path, shard=shard, shards=2)
    parts.write_settings()
    assert equal(parts.shared(piece(0), rows_of(1)), rows_of(1)())
    merging = Parts(tmp_path, shard=-1, shards=2)
    assert equal(merging.shared(piece(1, tokens=0), rows_of(2)), rows_of(2)())
    assert [path.name for path in tmp_path.glob("*.all")] == ["w-all-name 1.all"]


def test_files_have_the_beginnings_of_their_digests_as_names(tmp_path):
    work, name = "abcdefghijklmnop", "0123456789" * 4
    Parts(tmp_path).rows(piece(7, name, work=work), rows_of(0))
    Parts(tmp_path).shared(piece(7, name, work=work), rows_of(0))
    cut = "01234567890123456789012345678901"
    assert sorted(path.name for path in tmp_path.glob("*.part")) == [
        f"abcdefghijkl-00007-{cut}.part", f"abcdefghijkl-all-{cut}.part",
    ]  # fmt: skip


def test_at_most_nine_shards_that_are_late_are_named():
    told = "this shard's parts are done; 7 that other shards make are missing: give the same "
    told += "command again when they are there"
    assert str(Waiting(7)) == told
    nine = "1, 2, 3, 4, 5, 6, 7, 8, 9"
    for late, named in ((8, nine[:-3]), (9, nine), (10, f"{nine} and more")):
        assert str(Waiting(7, set(range(late, 0, -1)))) == f"{told} (late: shards {named})"


def test_a_run_by_itself_says_what_it_was_asked_for_with_its_first_part(tmp_path):
    with kept_in_parts(tmp_path / "parts", {"a": 1}) as parts:
        assert not (tmp_path / "parts").exists()
        parts.rows(piece(0), rows_of(0))
        assert (tmp_path / "parts" / "settings.json").exists()
    assert len(os.listdir(tmp_path / "parts")) == 2


def test_starting_afresh_removes_the_parts_of_another_run_or_says_that_it_cannot(
    tmp_path, monkeypatch
):
    for settings, rows in (({"a": 1}, rows_of(0)), ({"a": 2}, rows_of(1))):
        with kept_in_parts(tmp_path, settings, fresh=True) as parts:
            assert equal(parts.rows(piece(0), rows)[0], rows())
            assert parts.made == 1
    monkeypatch.setattr(Parts, "remove", lambda parts: None)
    with pytest.raises(InputError) as told, kept_in_parts(tmp_path, fresh=True):
        pass
    assert str(told.value) == f"the parts in {tmp_path} cannot be removed; remove them by hand"


@pytest.mark.parametrize("shard", [0, 1, -1])
def test_parts_of_another_run_are_refused_with_what_to_do(tmp_path, shard):
    Parts(tmp_path, spelled({"a": 1, "b": 2, "c": 3})).write_settings()
    with pytest.raises(InputError) as told:
        Parts(tmp_path, spelled({"a": 1, "b": 3, "d": 4}), shard, 2).check()
    how = "give what was given before, or --fresh to start over"
    how = how if shard >= 0 else "merge them as, and where, they were made"
    assert str(told.value) == (
        f"{tmp_path} has parts of another run (b was 2, is 3; c was 3, is not given; "
        f"d was not given, is 4); {how}"
    )
    (tmp_path / "settings.json").write_text("[1]")
    with pytest.raises(InputError, match=r"settings\.json holds no settings; --fresh starts over$"):
        Parts(tmp_path).check()


def test_parts_are_removed_whatever_of_them_is_gone_already(tmp_path, monkeypatch):
    """Another process removes them at the same time, and was first with the settings and one."""
    parts, glob = Parts(tmp_path / "parts"), Path.glob
    for number in (0, 1):
        parts.rows(piece(number), rows_of(number))
    (parts.folder / "settings.json").unlink()
    monkeypatch.setattr(
        Path, "glob", lambda path, pattern: [path / "gone.part", *glob(path, pattern)]
    )
    parts.remove()
    assert not parts.folder.exists()


def test_seconds_that_were_this_process_own_in_a_round_before_are_counted_apart(tmp_path, at):
    for number in (0, 1):
        Parts(tmp_path).rows(piece(number), took(at, 5 + number, ROWS))
    again = Parts(tmp_path, mine={"name 1"})
    assert (again.made, again.found, again.left, again.again) == (0, 0, 0, 0)
    for number in (0, 1):
        again.rows(piece(number), None)
    assert (again.found, again.seconds, again.again) == (2, 11, 6)


def test_where_there_are_no_hard_links_what_all_need_is_kept_all_the_same(tmp_path, monkeypatch):
    def none(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", none)
    assert equal(Parts(tmp_path).shared(piece(0), rows_of(1)), rows_of(1)())
    assert equal(Parts(tmp_path).shared(piece(0), rows_of(2)), rows_of(1)())
    assert [path.name for path in tmp_path.glob("*.part")] == ["w-all-name 0.part"]


def test_time_and_work_that_a_run_is_spared(tmp_path, at):
    assert (active_parts(), spared(), clock()) == (None, 0, 100)
    Parts(tmp_path).rows(piece(0), took(at, 7, ROWS))
    with kept_in_parts(tmp_path, shard=(0, 2)) as parts:
        assert active_parts() is parts
        assert (spared(), clock()) == (0, 107)
        parts.rows(piece(0), rows_of(0))
        parts.rows(piece(1), rows_of(1))
        # One is read, one is left to another shard.
        assert (spared(), clock()) == (2, 114)
        assert parts.seconds == 7
    assert (active_parts(), spared(), clock()) == (None, 0, 107)


def test_a_run_of_its_own_leaves_no_empty_folder_and_a_shard_its_settings(tmp_path):
    folder = tmp_path / "parts"
    with kept_in_parts(folder, {"a": 1}, shard=(0, 2)):
        pass
    assert os.listdir(folder) == ["settings.json"]
    assert Parts(folder, (folder / "settings.json").read_text()).command_hash == command_hash(
        {"a": 1}
    )
    (folder / "estimate.json").write_text("{}")
    (folder / ".langheads.x.tmp").write_text("")
    with kept_in_parts(folder, {"a": 1}):
        pass
    assert not folder.exists()
    with kept_in_parts(folder, {"a": 1}) as parts:
        parts.rows(piece(0), rows_of(0))
    (folder / "notes.txt").write_text("of the user")
    parts.remove()
    assert os.listdir(folder) == ["notes.txt"]


def test_settings_that_go_while_they_are_looked_at_are_no_other_ones(tmp_path, monkeypatch):
    """Another shard has finished, and takes the parts away."""
    monkeypatch.setattr("pathlib.Path.exists", lambda path: True)
    assert Parts(tmp_path, "{}").check() is None


def test_a_setting_that_is_long_is_cut_where_it_differs(tmp_path):
    with kept_in_parts(tmp_path, {"a": "x" * 60, "b": "y" * 59}) as parts:
        parts.rows(piece(0), rows_of(0))
    with pytest.raises(InputError) as told, kept_in_parts(tmp_path, {"a": 1, "b": 1}):
        pass
    assert f"(a was {'x' * 57}..., is 1; b was {'y' * 59}, is 1)" in str(told.value)
    path = tmp_path / "settings.json"
    for spoil in (lambda: path.write_bytes(b"\xff"), path.mkdir):
        path.unlink()
        spoil()
        with pytest.raises(InputError) as told, kept_in_parts(tmp_path):
            pass
        assert str(told.value) == f"cannot read {path}; --fresh starts over"


def test_an_estimate_times_the_longest_and_the_middle_and_sums_by_tokens(at):
    """Batches of some tokens and forwards of each, the second shard of three."""
    ran = []
    with estimated((2, 3)) as estimate:
        for number, (tokens, cost) in enumerate([(10, 2), (20, 2), (22, 3), (60, 2), (50, 4)]):
            # A second for each forward of a token to warm up, then a tenth.
            seconds = tokens * cost * (1.0 if number == 0 else 0.1)
            one = piece(number, batches=5, tokens=tokens, cost=cost)
            run = lambda n=number, s=seconds: (ran.append(n), took(at, s, rows_of(n)())())[1]  # noqa: E731
            rows, made = active_parts().rows(one, run)
            assert not made
            assert len(rows) == 2
    # 22 is not more than 1.1 of 20; it is the one in the middle, but two had been timed.
    assert ran == [0, 1, 3]
    assert (estimate.batches, estimate.own) == ({"nll": 5}, {"nll": 2})
    assert estimate.found == 5
    assert estimate.probing == pytest.approx(20 + 4 + 12)
    assert estimate.predicted() == {"nll": pytest.approx((20 + 40 + 66 + 120 + 200) * 0.1)}
    assert estimate.predicted(own=True) == {"nll": pytest.approx((40 + 200) * 0.1)}


def test_an_estimate_times_the_middle_where_the_first_is_the_longest(at):
    ran = []
    with estimated() as estimate:
        for number in range(4):
            run = lambda n=number: (ran.append(n), took(at, 2.0 + n, rows_of(n)())())[1]  # noqa: E731
            rows, _ = estimate.rows(piece(number), run)
            # Of those that are not made, the rows of the last that was.
            assert equal(rows, rows_of(ran[-1])())
    assert ran == [0, 2]
    assert estimate.predicted() == {"nll": pytest.approx(40 * 4 / 10)}
    with estimated() as few:
        made = [few.rows(piece(i, batches=3), took(at, 1.0 + i, ROWS)) for i in range(3)]
    assert len(made) == 3
    assert few.predicted() == {"nll": pytest.approx(30 * 2 / 10)}
    # The one batch of another measurement of its kind.
    estimate.rows(piece(0, work="v", what="one", batches=1), took(at, 5, ROWS))
    for number, work in enumerate("abc"):
        measured = torch.arange(10.0).reshape(2, 5) - 4
        make = took(at, 5, [measured] * 2)
        rows, _ = estimate.rows(
            piece(0, str(number), work=work, what="one", batches=1, row=(2, 5)), make
        )
        assert rows[0].shape == (2, 5)
        # Made up in the end, of numbers that were measured.
        assert torch.isin(rows[0].float(), measured).all()
        assert torch.equal(rows[0].float(), measured) == (work == "a")
    assert estimate.batches["one"] == 4


def test_an_estimate_of_a_kind_has_two_batches_but_for_longer_ones(at):
    ran = []
    with estimated() as estimate:
        for number, tokens in enumerate([1, 2, 4, 1, 4, 1]):
            run = lambda n=number: (ran.append(n), took(at, 1.0, [torch.tensor([0.5])])())[1]  # noqa: E731
            estimate.rows(piece(number, batches=8, tokens=tokens), run)
        # Rows of other measurements, of a shape that is told or of that of the one row measured.
        for work, row in (("v", (3,)), ("u", None)):
            rows, _ = estimate.rows(piece(0, work, work=work, tokens=1, row=row), None)
            assert [of.tolist() for of in rows] == [[0.5] * (3 if row else 1)] * 2
    # The middle one, number 4, is no longer than those that were timed.
    assert ran == [0, 1, 2]


def test_rows_that_are_gone_through_one_by_one_are_estimated_from_two(at):
    at[0], seen = 1.0, []

    def make(some):
        seen.append(some)
        at[0] += 3
        return torch.zeros(len(some))

    with estimated((1, 3)) as estimate:
        assert len(estimate.at_once("replies", [4, 2, 6], make)) == 2
        assert len(estimate.at_once("more", [5], make)) == 1
    assert seen == [[0, 1], [0]]
    # Half a second a token, of twelve; a shard waits for it all.
    assert estimate.predicted() == {"replies": 6, "more": 3}
    assert estimate.predicted(own=True) == {"replies": 6, "more": 3}
    assert estimate.probing == 6
