"""Verbs that are stopped and given again, and shared by shards, as tests/unit/io/test_shards.py."""

import errno
import gc
import json
import os
import re
import resource
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import langheads
from langheads import pipeline
from langheads.cli import app, carry_out, parts, settings, tell
from langheads.experiments.replies.files import Replies
from langheads.io import part_file
from langheads.io.errors import InputError, LangheadsError
from langheads.io.estimate import Estimate
from langheads.io.part_file import Piece
from langheads.io.parts import Parts, Waiting, active_parts
from langheads.scores import gradient
from langheads.text import corpus, identify
from tests.unit.cli.ray_of_one import put_in
from tests.unit.cli.test_errors import verb  # noqa: F401 - a fixture

TOOK = r"took \d+ s; memory \d+\.\d\d GiB at most\n"


@pytest.fixture
def score(verb, tiny_folder, texts_folder, tmp_path):  # noqa: F811
    """`langheads score` into a file, with more options."""

    def run(name, *options):
        return verb(
            "score", tiny_folder, "--text", texts_folder, "--out", tmp_path / name, "--method",
            "lahis", "--docs", "4", "--device", "cpu", "--languages", "en,zh", "--batch-tokens",
            "100", *options,
        )  # fmt: skip

    return run


def values(path):
    found = langheads.load_result(path)
    return {name: found[name].values.tolist() for name in found.variables}


def test_the_same_command_does_what_is_missing_and_then_nothing(score, tmp_path, monkeypatch):
    assert score("all.nc")[0] == 0
    real, left = part_file.write_part, iter(range(2))

    def write(*given):
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(part_file, "write_part", write)
        code, _, told = score("s.nc")
    folder = tmp_path / "s.nc.parts"
    assert (code, told) == (
        130,
        "error: interrupted; nothing half-written was left; 2 finished parts are kept in "
        f"{folder}; give the same command again to go on\n",
    )
    assert sorted(os.listdir(tmp_path)) == ["all.nc", "s.nc.parts"]
    code, _, told = score("s.nc", "--seed", "1")
    assert (code, told) == (
        2,
        f"error: {folder} has parts of another run (seed was 0, is 1); give what was given "
        "before, or --fresh to start over\n",
    )
    code, said, told = score("s.nc")
    assert (code, said) == (0, f"{tmp_path / 's.nc'}\n")
    # Of the two parts that were there.
    assert re.fullmatch(TOOK.replace(";", r", \d s of it before or elsewhere;", 1), told)
    assert values(tmp_path / "s.nc") == values(tmp_path / "all.nc")
    assert sorted(os.listdir(tmp_path)) == ["all.nc", "s.nc"]

    def never(*_):
        raise AssertionError("it was measured again")

    with monkeypatch.context() as patch:
        patch.setattr(gradient, "document_nll", never)
        assert score("s.nc") == (
            0,
            f"{tmp_path / 's.nc'} is there, made by this same command; --fresh makes it again\n",
            "",
        )
        with pytest.raises(AssertionError, match="measured again"):
            score("s.nc", "--fresh")
    # Another setting makes another result, in the place of the first.
    assert score("s.nc", "--seed", "1")[0] == 0
    assert values(tmp_path / "s.nc") != values(tmp_path / "all.nc")


def test_parts_that_a_killed_run_left_beside_its_result_go(tiny, tmp_path, monkeypatch):
    def work():
        active_parts().rows(
            Piece("nll", "w", "n", 0, 0, 1, 1, 1, 1, None), lambda: [torch.zeros(1)]
        )

    def run(name):
        how = {"verb": name, "model": tiny, "out": str(tmp_path / "s.nc")}
        parts.run_model(partial(work), {}, lambda _: None, **how)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            run("score")
    monkeypatch.setattr(parts, "_made_by", lambda *_: True)
    # Those of another command stay.
    run("knockout")
    assert len(os.listdir(tmp_path / "s.nc.parts")) == 2
    run("score")
    assert not os.listdir(tmp_path)


def test_parts_that_were_asked_to_stay_do_until_it_is_made_afresh(score, tmp_path):
    assert score("s.nc", "--keep-parts")[0] == 0
    kept = sorted(os.listdir(tmp_path / "s.nc.parts"))
    said = f"{tmp_path / 's.nc'} is there, made by this same command; --fresh makes it again\n"
    assert score("s.nc")[:2] == (0, said)
    assert sorted(os.listdir(tmp_path / "s.nc.parts")) == kept
    # Also where the result is made again, by a command that does not ask for it.
    (tmp_path / "s.nc").unlink()
    assert score("s.nc")[0] == 0
    assert sorted(os.listdir(tmp_path / "s.nc.parts")) == kept
    assert score("s.nc", "--fresh")[0] == 0
    assert os.listdir(tmp_path) == ["s.nc"]


def test_a_result_is_not_lost_where_a_full_disk_takes_no_mark(score, tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    assert score("s.nc", "--keep-parts")[0] == 0
    assert langheads.load_result(tmp_path / "s.nc").sizes["language"] > 0


def test_a_shard_waits_also_where_it_cannot_leave_what_it_was_given(tiny, tmp_path, monkeypatch):
    def waits():
        raise Waiting(1)

    def full(*_):
        raise InputError("cannot write: No space left on device")

    monkeypatch.setattr(parts, "write_text_atomically", full)
    how = {"verb": "score", "model": tiny, "out": str(tmp_path / "s.nc")}
    with pytest.raises(Waiting):
        parts.run_model(partial(waits), {"shard": "1/2"}, lambda _: None, **how)


def test_a_shard_whose_parts_were_taken_away_leaves_no_folder(tiny, tmp_path):
    folder = tmp_path / "s.nc.parts"

    def waits():
        Parts(folder).remove()
        raise Waiting(0)

    how = {"verb": "score", "model": tiny, "out": str(tmp_path / "s.nc")}
    with pytest.raises(Waiting):
        parts.run_model(partial(waits), {"shard": "1/2"}, lambda _: None, **how)
    assert not folder.exists()


def test_replies_beside_the_summary_of_another_command_are_made_again(tmp_path):
    def replies(text, made):
        record = {"id": "0", "prompt": "a", "wanted": None, "reply": text, "language": "en"}
        record |= {"confidence": 1.0, "right": None}
        kind = {"kind": "replies", "command_hash": made}
        Replies([record], {"replies": 1}, kind).save(tmp_path / "r.jsonl")

    replies("one", "first")
    summary = (tmp_path / "r.summary.json").read_text()
    assert parts._made_by("first", tmp_path / "r.jsonl")
    replies("two", "second")
    assert parts._made_by("second", tmp_path / "r.jsonl")
    # Its table is written from what is there.
    (table,) = tell.write_csv(parts._saved(tmp_path / "r.jsonl"), str(tmp_path / "r.jsonl"), None)
    assert "two" in table.read_text()
    # The second was killed before its summary was there.
    (tmp_path / "r.summary.json").write_text(summary)
    assert not parts._made_by("first", tmp_path / "r.jsonl")


def test_a_run_that_another_was_killed_in_is_made_again(tmp_path, monkeypatch):
    def load_result(path):
        return SimpleNamespace(attrs={"command_hash": path.read_text()})

    monkeypatch.setattr("langheads.io.results.load_result", load_result)
    files = [tmp_path / name for name in ("scores.nc", "ablation.nc", "report.html")]
    for file in files:
        assert not parts._made_by("first", tmp_path)
        file.write_text("first")
    assert parts._made_by("first", tmp_path)
    # Killed after the proof, and the page is that of `report`: no picture of attention, or an old.
    run = tmp_path.rename(tmp_path.with_name("run"))
    left, seen = tmp_path.with_name("run.parts"), run / "attention.json"
    left.mkdir()
    # What a dry run left is no part.
    (left / "estimate.json").touch()
    assert parts._made_by("first", run)
    (left / "w.part").touch()
    assert not parts._made_by("first", run)
    seen.touch()
    assert parts._made_by("first", run)
    os.utime(seen, (1, 1))
    assert not parts._made_by("first", run)
    shutil.rmtree(left)
    assert not parts._made_by("first", run)
    seen.unlink()
    run.rename(tmp_path)
    files[0].write_text("second")
    assert not parts._made_by("first", tmp_path)


def test_what_it_took_is_told_beside_what_a_dry_run_said(score, tmp_path):
    code, said, _ = score("s.nc", "--dry-run", "--shard", "2/2")
    assert code == 0
    batches = int(re.search(r"^gate gradients: (\d+) batches, ", said)[1])
    own = re.search(rf"^shard 2 of 2: (\d+) of {batches} batches, about \d+ s$", said, re.MULTILINE)
    # Of another command nothing was estimated.
    code, _, told = score("s.nc", "--seed", "1")
    assert code == 0
    assert re.fullmatch(TOOK, told)
    kept = langheads.load_result(tmp_path / "s.nc").attrs
    assert kept["took_seconds"] >= sum(json.loads(kept["seconds"]).values()) > 0
    at_most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert 0.1 < kept["peak_memory_gib"] <= at_most + 0.001
    said = float(re.search(r"memory (\S+) GiB", told)[1])
    assert kept["peak_memory_gib"] - 0.006 < said < at_most + 0.006
    assert not any(name.startswith("estimated") for name in kept)
    _, said, _ = score("s.nc", "--dry-run")
    time, memory = re.search(r"about (.*) in all; memory (\S+) GiB at most\n$", said).groups()
    # What the shard of that number makes.
    assert score("s.nc", "--shard", "2/2")[0] == os.EX_TEMPFAIL
    assert len(list((tmp_path / "s.nc.parts").glob("*.part"))) == int(own[1]) < batches
    assert score("s.nc")[2].endswith(f" GiB at most; estimated were {time} and {memory} GiB\n")
    kept = langheads.load_result(tmp_path / "s.nc").attrs
    assert f"{kept['estimated_memory_gib']:.2f}" == memory
    assert sorted(os.listdir(tmp_path)) == ["s.nc"]


def test_what_the_last_worker_of_ray_tells_is_told(score, tmp_path, monkeypatch):
    put_in(monkeypatch)
    monkeypatch.setattr(parts, "_tell_estimate", lambda *_: (83.0, 1.5))
    score("s.nc", "--dry-run")
    code, said, told = score("s.nc", "--on", "ray")
    assert (code, said) == (0, f"{tmp_path / 's.nc'}\n")
    took = TOOK.replace("; m", r", \d+ s of it before or elsewhere; m").removesuffix(r"\n")
    assert re.fullmatch(rf"{took}; estimated were 1 min 23 s and 1.50 GiB\n", told)
    assert langheads.load_result(tmp_path / "s.nc").attrs["took_before_seconds"] > 0
    assert sorted(os.listdir(tmp_path)) == ["s.nc"]


def test_garbage_is_looked_for_when_libraries_are_imported(score, monkeypatch):
    """Among a million objects of libraries, that is a quarter of the start-up."""
    seen, check, load = [], carry_out.check, langheads.load
    # These tests froze what they imported (tests/conftest.py); a user's process has not.
    gc.unfreeze()

    def told(function):
        def call(*given, **named):
            seen.append((gc.isenabled(), gc.get_freeze_count() > 0))
            return function(*given, **named)

        return call

    monkeypatch.setattr(carry_out, "check", told(check))
    monkeypatch.setattr(langheads, "load", told(load), raising=False)
    assert score("s.nc")[0] == 0
    assert seen == [(False, False), (True, True)]
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_garbage_is_looked_for_where_a_verb_loads_its_own_model(verb, tmp_path, monkeypatch):  # noqa: F811
    def demo(**_):
        raise LangheadsError(f"garbage is looked for: {gc.isenabled()}")

    monkeypatch.setattr(pipeline, "demo", demo)
    code, _, told = verb("demo", "--out", tmp_path / "demo")
    assert (code, told) == (2, "error: garbage is looked for: True\n")


def test_shards_write_the_result_together_or_it_is_merged(score, verb, tmp_path, monkeypatch):  # noqa: F811
    assert score("all.nc")[0] == 0
    out, folder = tmp_path / "s.nc", tmp_path / "s.nc.parts"
    code, _, told = score("s.nc", "--shard", "1/2")
    assert code == os.EX_TEMPFAIL
    assert "that other shards make are missing: give the same command again when" in told
    made = sorted(folder.glob("*.part"))
    code, said, told = verb("merge", out)
    missing = int(re.search(r"missing: (\d),", told)[1])
    assert (code, said, told) == (
        2, "", f"error: parts of {out} that are missing: {missing}, of shards 2; give those again\n"
    )  # fmt: skip
    assert sorted(folder.glob("*.part")) == made
    assert score("s.nc", "--shard", "2/2", "--keep-parts")[0] == 0
    assert values(out) == values(tmp_path / "all.nc")
    assert len(list(folder.glob("*.part"))) == len(made) + missing
    out.unlink()
    monkeypatch.setattr(gradient, "document_nll", None)
    assert verb("merge", out)[:2] == (0, f"{out}\n")
    assert values(out) == values(tmp_path / "all.nc")
    # A shard has asked for it.
    assert len(list(folder.glob("*.part"))) == len(made) + missing
    # A table is written from what is there, whatever was in its place.
    table = tmp_path / "s.csv"
    table.write_text("older")
    code, said, told = score("s.nc", "--csv")
    assert (code, told) == (0, f"{table}\n")
    assert said == f"{out} is there, made by this same command; --fresh makes it again\n"
    rows = langheads.to_dataframe(langheads.load_result(out))
    assert table.read_text() == rows.to_csv(index=False)


def test_what_a_shard_was_given_is_no_more_than_that(verb, tmp_path, monkeypatch):  # noqa: F811
    carried, path, out = [], tmp_path / "s.nc.parts" / "command.json", tmp_path / "s.nc"
    monkeypatch.setattr(app, "carry_out", lambda *given: carried.append(given))
    assert verb("merge", out) == (
        2, "", f"error: no {path}: no shard waits; give the command itself again\n"
    )  # fmt: skip
    # The last shard has merged them itself.
    out.touch()
    assert verb("merge", out) == (0, f"{out} is there, and no shard waits\n", "")
    out.unlink()
    path.parent.mkdir()
    told = {"verb": "score", "model": "m", "text": "t", "docs": "4", "out": "/etc/x"}
    told |= {"trust_remote_code": True, "on": "ray"}
    path.write_text(json.dumps(told))
    assert verb("merge", out) == (0, "", "")
    asked = {"model": "m", "text": "t", "docs": "4", "out": str(out), "merge": True}
    assert verb("merge", out, "--trust-remote-code") == (0, "", "")
    assert carried == [("score", asked), ("score", asked | {"trust_remote_code": True})]
    path.write_text(json.dumps(told | {"verb": "prune"}))
    assert verb("merge", out)[2] == (
        f"error: {path}: verb is 'prune', expected one of {', '.join(app.IN_PARTS)}\n"
    )
    path.write_text("[1]")
    assert verb("merge", out)[2] == f"error: {path}: it is [1], expected keys and values\n"
    for key, wrong, why in (
        ("model", None, "model: it is None, expected a text"),
        ("text", 7, "text: it is 7, expected a text"),
        ("docs", 4, "docs: it is 4, expected a text"),
        ("languages", 3, "languages: it is 3, expected a text"),
        ("bos", "no", "bos: it is 'no', expected true or false"),
    ):
        path.write_text(json.dumps({"verb": "score", "model": "m", "text": "t", key: wrong}))
        assert verb("merge", out)[2] == f"error: {path}: {why}\n"
    assert len(carried) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3"], "--shard '3': write which of how many, like 3/16"),
        (["--shard", "0/2"], "shard 0 of 2 asked for; shards are 1 to their number"),
        (["--shard", "1/2", "--fresh"],
         "fresh asked for with a shard, which would remove what others have done"),
    ],
)  # fmt: skip
def test_shards_that_cannot_be(score, tmp_path, options, message):
    assert score("s.nc", *options) == (2, "", f"error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_a_data_set_that_changed_is_another_setting(verb, tiny_folder, tmp_path, monkeypatch):  # noqa: F811
    texts = {"en": ["the cat sleeps", "the cat eats"]}
    monkeypatch.setattr(corpus, "read_hub", lambda name, wanted: texts)
    command = ["score", tiny_folder, "--text", "hf:somebody/cats", "--out", tmp_path / "s.nc"]
    command += ["--device", "cpu", "--method", "lahis"]
    assert verb(*command)[0] == 0
    before = langheads.load_result(tmp_path / "s.nc").nats_per_byte.item()
    assert verb(*command)[1].endswith("--fresh makes it again\n")
    texts["en"][0] = "the dog sleeps"
    assert verb(*command)[1] == f"{tmp_path / 's.nc'}\n"
    assert langheads.load_result(tmp_path / "s.nc").nats_per_byte.item() != before


def test_another_version_of_a_detector_is_another_setting(monkeypatch):
    asked = settings.asked({}, partial(langheads.generate_replies))
    assert asked == {"detector version": version("py3langid")}
    monkeypatch.setattr(identify, "version", lambda name: f"{name} 2")
    given = {"detector": "lingua", "out": "r.jsonl"}
    assert settings.asked(given, partial(langheads.generate_replies)) == {
        "detector": "lingua",
        "detector version": "lingua-language-detector 2",
    }
    assert settings.asked({}, partial(langheads.score)) == {}


def test_texts_that_changed_are_other_settings(verb, tiny_folder, tmp_path):  # noqa: F811
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "en.txt").write_text("the cat sleeps\nthe cat eats\n")
    command = ["score", tiny_folder, "--text", texts, "--out", tmp_path / "s.nc", "--device", "cpu"]
    command += ["--method", "lahis"]
    assert verb(*command)[0] == 0
    before = langheads.load_result(tmp_path / "s.nc").nats_per_byte.item()
    (texts / "en.txt").write_text("the dog sleeps\nthe cat eats\n")
    assert verb(*command)[1] == f"{tmp_path / 's.nc'}\n"
    assert langheads.load_result(tmp_path / "s.nc").nats_per_byte.item() != before
    assert np.isfinite(before)


def test_an_estimate_makes_up_rows_of_its_own_for_each_language_so_that_heads_are_found():
    """Of the same rows for all, every head that is found is general, and no proof is estimated."""
    measured = torch.tensor([[-1.0, 2.0, -3.0, 4.0, 5.0, -6.0, 7.0, -8.0]])
    estimate, rows = Estimate(), []
    for first in (0, 100, 200):
        for number in range(4):
            piece = Piece(
                "gradients", "w", f"{first}-{number}", first + number, number, 4, 3, 90, 1, (8,)
            )
            found, made = estimate.rows(piece, lambda: [measured[0]] * 3)
            assert not made
            rows.append(torch.stack(found))
    first, second, third = (torch.cat(rows[i : i + 4]) for i in (0, 4, 8))
    assert (first == measured).all()
    assert not (second == first).all()
    assert not (third == second).all()
    for of in (second, third):
        assert set(of.flatten().tolist()) <= set(measured.flatten().tolist())
        assert (of < 0).any()
        assert (of > 0).any()
