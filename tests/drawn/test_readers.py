"""Every reader, on files that were right until something happened to them: what cannot be read is
refused in one line, in bounded time and memory, and nothing is written."""

import json
import os
import time
import warnings
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langheads.experiments.pruning.account import Pruning
from langheads.experiments.replies.files import Replies
from langheads.heads import LanguageHeads, planted_of, read_planted
from langheads.heads.classes import HeadClasses
from langheads.heads.mask import HeadMask
from langheads.io.errors import LangheadsError
from langheads.io.netcdf import with_checksum
from langheads.io.results import load_result, save
from langheads.selection.classify import classify
from langheads.text import read_questions, read_texts
from langheads.text.prompts import read_prompts, read_requests
from langheads.text.templates import BUILT_IN, read_templates
from langheads.view.attention.patterns import AttentionData
from tests.child import end_after, in_child, only_so_much_more
from tests.drawn.mutate import HOW, damaged, files
from tests.unit.view.made_up_replies import make_pruned, make_replies, write_replies
from tests.unit.view.made_up_results import make_mask, make_task, make_view
from tests.unit.view.made_up_run import make_heads, make_scores

ALL = list(HealthCheck)
SHORT = settings(
    max_examples=500, derandomize=True, database=None, deadline=None, suppress_health_check=ALL
)
LONG = settings(max_examples=10_000, database=None, deadline=None, suppress_health_check=ALL)


class Reader(NamedTuple):
    """The name of a file, how a right one is made, and what reads it."""

    file: str
    make: object
    read: object


def lines(*records):
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return lambda path: path.write_text(text, "utf-8")


def beside(read):
    return lambda path: read(path.parent)


def write_parquet(path):
    texts = pa.array(["one", "zwei", "ثلاثة", None][:3])
    when = pa.array([1, 2, 3], pa.timestamp("ns"))
    parquet.write_table(pa.table({"text": texts, "when": when}), path)


def write_both(path):
    write_replies(path.parent, *make_replies(["en", "zh"]))


EXAMPLE = {"context": "the cat is black", "question": "what?", "answers": ["black"]}
SQUAD = {"context": "c", "question": "q", "answers": {"text": ["d"]}, "id": 7}
READERS = {
    "texts": Reader(
        "en.jsonl",
        lines({"text": "one", "id": "a"}, {"text": "zwei", "id": 4}, {"text": "ثلاثة"}),
        beside(read_texts),
    ),
    "plain texts": Reader(
        "zh.txt", lambda path: path.write_text("猫\n\n犬 \ufeff\n", "utf-8"), beside(read_texts)
    ),
    "parquet": Reader("en.parquet", write_parquet, beside(read_texts)),
    "requests": Reader(
        "p.jsonl", lines({"prompt": "a", "language": "en", "id": 1}, {"prompt": "b"}), read_requests
    ),
    "prompts": Reader(
        "p.jsonl",
        lines({"prompt": "a", "answer": "b", "wrong": "c", "corrupt": "d", "language": "en"}),
        read_prompts,
    ),
    "questions": Reader("en.jsonl", lines(EXAMPLE, SQUAD), beside(read_questions)),
    "templates": Reader(
        "de.jsonl",
        lambda path: path.write_bytes((BUILT_IN / "de.jsonl").read_bytes()),
        beside(read_templates),
    ),
    "head set": Reader("heads.json", make_heads(["en", "zh"]).save, LanguageHeads.load),
    "classes": Reader(
        "classes.json",
        lambda path: classify(make_task(["en", "zh"]), ("en", "zh")).save(path),
        HeadClasses.load,
    ),
    "mask": Reader("mask.json", make_mask("en").save, HeadMask.load),
    "planted": Reader(
        "planted.json",
        lines({"planted": {"en": [[0, 1], [2, 3]]}, "decoys": {"en": [[1, 1]]}, "model": "demo"}),
        lambda path: (planted_of(path, {}, (4, 6)), read_planted(path, (4, 6))),
    ),
    "attention": Reader("attention.json", make_view(["en", "zh"]).save, AttentionData.load),
    "pruned": Reader("pruned.json", lines(make_pruned(["en", "zh"])), Pruning.load),
    "replies": Reader("replies.summary.json", write_both, Replies.load),
    "lines of replies": Reader(
        "replies.jsonl",
        write_both,
        lambda path: Replies.load(path.with_name("replies.summary.json")),
    ),
    "netCDF": Reader("scores.nc", lambda path: save(make_scores(["en"]), path), load_result),
}


def taken(path):
    """What a reader gives is what those who show it take apart."""
    for name in ("numbers", "random", "untouched", "exchanges", "steering", "mask", "counts"):
        getattr(path, name, None)


def hold(reader, folder, how, mutated):
    """Reads what becomes of the file; only `LangheadsError` may come of it. Messages of what was
    refused. What ends or hangs the process is left in the folder."""
    path = folder / reader.file
    reader.make(path)
    # Replies are not told by their hash that they were changed.
    for summary in folder.glob("*.summary.json"):
        document = json.loads(summary.read_text("utf-8"))
        summary.write_text(json.dumps({k: v for k, v in document.items() if "sha" not in k}))
    there = sorted(os.listdir(folder))
    (refused, count), _ = in_child(read_all, reader, path, how, mutated(path.read_bytes()))
    print(f"{reader.file}: {count} drawn, {len(refused)} refused, {count - len(refused)} read")
    assert all("\n" not in message and len(message) < 1000 for message in refused)
    assert sorted(os.listdir(folder)) == there
    return refused


def read_all(reader, path, how, contents):
    """In a child: nothing that was read takes 400 MB more than was there, or a minute."""
    refused, count = [], 0
    only_so_much_more(400)

    @how
    @given(contents)
    def read(content):
        nonlocal count
        count += 1
        # To cut a file that is there to nothing waits for the disk, milliseconds each.
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        started = time.process_time()
        end_after(60)
        try:
            taken(reader.read(path))
        except LangheadsError as error:
            refused.append(str(error))
        assert time.process_time() - started < 5

    read()
    return refused, count


# In formats where each part says how far off the next is, most else is refused at the first look.
BINARY = (*["flip", "over"] * 5, *HOW)


def with_its_checksum(content):
    """Damage before the checksum: of what was there, or of what is there now."""
    whole, tag, checksum = content.partition(b"\nlangheads sha256 ")
    return damaged(whole, BINARY).flatmap(
        lambda part: st.sampled_from([part + tag + checksum, with_checksum(part)])
    )


def without_checksum(content):
    """As an earlier version wrote netCDF."""
    return damaged(content.partition(b"\nlangheads sha256 ")[0], BINARY)


def mutated_by(name):
    how = {"plain texts": damaged, "netCDF": with_its_checksum, "parquet": without_checksum}
    return how.get(name, files)


# Read by a process of its own each, which takes 0.03 s.
QUICK = [name for name in READERS if name != "parquet"]


@pytest.mark.parametrize("name", QUICK)
def test_a_file_that_was_changed_is_read_or_refused(tmp_path, name):
    assert hold(READERS[name], tmp_path, SHORT, mutated_by(name))


def test_a_reader_that_takes_more_memory_than_a_file_can_need_is_seen(tmp_path):
    taking = READERS["mask"]._replace(read=lambda path: bytes(500 * 2**20))
    with pytest.raises(AssertionError, match="MemoryError"):
        hold(taking, tmp_path, settings(SHORT, max_examples=2), files)


def test_a_head_with_a_number_of_thousands_of_digits_is_told_shortly(tmp_path):
    path = tmp_path / "planted.json"
    path.write_text('{"planted": {"en": [[' + "9" * 4299 + ", 0]]}}")
    with pytest.raises(LangheadsError) as told:
        read_planted(path, (4, 6))
    assert str(told.value).startswith(f"{path} is not a list of planted heads")
    assert len(str(told.value)) < 1000


def test_random_heads_that_are_a_number_are_told(tmp_path):
    write_both(tmp_path / "replies.jsonl")
    path = tmp_path / "replies.summary.json"
    document = json.loads(path.read_text())
    document["summary"]["random_heads"] = 7
    path.write_text(json.dumps(document))
    with pytest.raises(LangheadsError) as told:
        Replies.load(path)
    assert str(told.value) == (
        f"{path} is not a summary of generate: summary.random_heads is 7, expected keys and values"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_files_that_were_changed(tmp_path, name):
    assert hold(READERS[name], tmp_path, LONG, mutated_by(name))


@pytest.mark.parametrize(
    "count", [40, pytest.param(500, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("name", ["netCDF", "parquet"])
def test_a_file_that_is_read_by_another_process(tmp_path, name, count):
    hold(READERS[name], tmp_path, settings(SHORT, max_examples=count), without_checksum)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
odd_attributes = st.dictionaries(
    texts.filter(lambda name: name.strip() and "/" not in name) | st.sampled_from(["kind", "seed"]),
    texts | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.lists(st.floats(), min_size=1),
    max_size=4,
)


@st.composite
def datasets(draw):
    """Anything that netCDF can hold, under a name of ours."""
    found = make_scores(draw(st.lists(texts.filter(bool), min_size=1, max_size=3)))
    kinds = ["<f4", "<f8", "<i8", "|u1", "|b1", "<U3", "S2", "<M8[ns]", "<m8[ns]"]
    for name in draw(st.lists(st.sampled_from(sorted(found.variables)), max_size=2)):
        how = draw(st.sampled_from(["gone", "kind", "dims", "attrs"]))
        if name not in found.variables:
            continue
        if how == "gone":
            found = found.drop_vars(name)
        elif how == "dims" and name in found.data_vars:
            found[name] = ((), 1.0)
        elif how == "attrs":
            found[name].attrs |= draw(odd_attributes)
            found[name].attrs |= draw(st.sampled_from([{}, {"units": "days since 1-1-1"}]))
        elif name in found.data_vars:
            size = found[name].shape
            found[name] = (found[name].dims, np.ones(size).astype(draw(st.sampled_from(kinds))))
    return found.assign_attrs(draw(odd_attributes))


def hold_drawn(folder, how):
    @how
    @given(datasets())
    def read(dataset):
        path = folder / "scores.nc"
        path.unlink(missing_ok=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save(dataset, path)
        except Exception:
            return  # not to be written, so not to be read
        try:
            found = load_result(path)
        except LangheadsError:
            return
        json.dumps(found.attrs, allow_nan=True)

    read()


def test_results_of_any_content(tmp_path):
    hold_drawn(tmp_path, settings(SHORT, max_examples=40))


@pytest.mark.slow
def test_results_of_any_content_often(tmp_path):
    hold_drawn(tmp_path, settings(LONG, max_examples=2000))
