"""Work in parts: the same bits however it was cut, killed, shared or damaged; nothing foreign."""

import errno
import json
import math
import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import langheads
from langheads.experiments.replies.off_target import off_target
from langheads.experiments.replies.switching import switch_rates
from langheads.heads import HeadSet, LanguageHeads
from langheads.io import part_file
from langheads.io.cost import in_words
from langheads.io.digest import digest
from langheads.io.errors import InputError, LangheadsError
from langheads.io.estimate import estimated
from langheads.io.parts import Waiting, kept_in_parts, together
from langheads.io.shards import in_parts
from langheads.model import load
from langheads.scores.registry import SCORES, Pass, Score
from langheads.text import Rules, read_texts

SHAPE = (3, 4)
HEADS = {"en": ["L0H1", "L2H3"], "zh": ["L1H0"], "hi": ["L1H2"]}
PROMPTS = {"zh": ["猫在", "石头", "a"], "en": ["the", "cat", "sleeps"]}
QUESTIONS = {
    language: [
        {
            "context": f"{word} {i} {word}",
            "question": f"{word}?",
            "answers": [f"{word} {i}"],
            "id": i,
        }
        for i in range(4)
    ]
    for language, word in (("en", "cat"), ("zh", "猫"))
}


class ByCodePoint:
    """A language by the last code point of the text."""

    name = "by code point"
    languages = ("en", "zh", "hi")

    def __call__(self, text):
        return self.languages[(ord(text[-1]) if text else 0) % 3], 0.9


def heads_of(shape=SHAPE):
    return LanguageHeads({k: HeadSet(v, shape) for k, v in HEADS.items()}, HeadSet([], shape), "m")


SMALL = {"docs": 4, "batch_tokens": 150, "languages": ["en", "zh"]}
VERBS = {
    "score": lambda m, t: langheads.score(
        m, t, method=["lahis", "quadrature", "lahis-sequential", "grad-act", "entropy"], **SMALL
    ),
    "knockout": lambda m, t: langheads.knockout(m, t, baseline=["zero", "mean"], **SMALL),
    "sampled": lambda m, t: langheads.knockout(m, t, sample=10, docs=12, batch_tokens=150),
    "top": lambda m, t: langheads.knockout(m, t, top=2, docs=12, batch_tokens=150),
    "knockout-task": lambda m, t: langheads.knockout_task(
        m, QUESTIONS, measure=["answer-logprob", "f1"], max_new_tokens=3, batch_tokens=150
    ),
    "ablate": lambda m, t: langheads.ablate(
        m, heads_of(), t, n_controls=4, baseline=["zero", "mean"], **SMALL
    ),
    "generate": lambda m, t: langheads.generate_replies(
        m, [{"prompt": p, "language": "en"} for p in PROMPTS["en"]], heads=heads_of(),
        text=read_texts(t),
        gate={"zh": 0.5}, steer={"zh-en": 1.0}, candidates=["en", "zh", "hi"], n_controls=2,
        compare=True, max_new_tokens=4, temperature=1.0, batch_tokens=20,
    ),
    "off_target": lambda m, t: off_target(
        m, heads_of(), PROMPTS, ByCodePoint(), texts=t, n_controls=2, max_new_tokens=3,
        rules=Rules(min_words=1, lines="none", empty="wrong"), n_resamples=20, batch_tokens=20,
    ),
    "switch_rates": lambda m, t: switch_rates(m, PROMPTS, ByCodePoint(), max_new_tokens=3),
    "evaluate-qa": lambda m, t: langheads.evaluate_qa(
        m, QUESTIONS, gates={"half": torch.full(SHAPE, 0.5)}, language="zh", max_new_tokens=3,
        n_resamples=20, batch_tokens=150,
    ),
}  # fmt: skip


def result_of(found):
    """Values and words of any verb's result, without what says when it was made."""
    if isinstance(found, xr.Dataset):
        return {
            name: of.values.tolist() if of.dtype.kind in "OU" else of.values.tobytes()
            for name, of in found.variables.items()
        }
    return found.records, found.summary


def plain(model, texts, verb):
    return result_of(VERBS[verb](model, texts))


@pytest.fixture
def work(tiny, texts):
    """One that takes many parts."""
    return lambda: VERBS["score"](tiny, texts)


SLOW = ("sampled", "top", "off_target", "switch_rates", "knockout-task", "ablate", "evaluate-qa")


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=pytest.mark.slow) if v in SLOW else v for v in VERBS]
)
def test_shards_and_resumed_runs_give_the_bits_of_one_process(tiny, texts, tmp_path, verb):
    expected = plain(tiny, texts, verb)
    for number in (1, 3):
        folder, turns, waited, waiting = tmp_path / str(number), count(), 0, True
        while waiting:
            assert next(turns) < 8, "no round makes what another one waits for"
            for shard in range(1, number + 1):
                try:
                    found = in_parts(
                        lambda: VERBS[verb](tiny, texts), folder, shard=(shard, number), keep=True
                    )
                except Waiting:
                    waited += 1
                    continue
                assert result_of(found) == expected
                waiting = False
        assert (waited > 0) == (number > 1), "one shard did everything"
        # All is there: nothing is measured again.
        with kept_in_parts(folder) as parts:
            assert result_of(VERBS[verb](tiny, texts)) == expected
        assert parts.found > 1
        assert parts.made == 0


def test_transfer_by_shards(tiny, tmp_path):
    from tests.unit.experiments.test_transfer import TEMPLATE

    for language in ("en", "zh", "fr"):
        lines = "\n".join(map(json.dumps, TEMPLATE))
        (tmp_path / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    heads = LanguageHeads(
        {x: HeadSet(HEADS[x], SHAPE) for x in ("en", "zh")}, HeadSet([], SHAPE), "m"
    )

    def work():
        return langheads.transfer(
            tiny, heads, templates=tmp_path, n_occupations=2, n_controls=2, max_new_tokens=2
        )

    expected, waited = result_of(work()), 0
    for shard in (1, 2, 3, 1, 2, 3):
        try:
            found = in_parts(work, tmp_path / "parts", shard=(shard, 3))
        except Waiting:
            waited += 1
        else:
            break
    assert waited
    assert result_of(found) == expected
    assert not (tmp_path / "parts").exists()


def test_a_shard_does_all_of_its_own_that_waits_for_nothing(tiny, tmp_path):
    def work():
        langheads.knockout_task(
            tiny, QUESTIONS, measure=["answer-logprob", "f1"], max_new_tokens=1, heads=["L2H0"],
            batch_tokens=150, baseline=["zero"],
        )  # fmt: skip

    with kept_in_parts(tmp_path / "alone") as alone:
        work()
    made = []
    for shard in range(3):
        with kept_in_parts(tmp_path / str(shard), shard=(shard, 3)) as parts:
            with pytest.raises(Waiting):
                work()
            made.append(parts.made)
    assert sum(made) == alone.made > 3


def test_who_is_late_is_told(tiny, texts, tmp_path):
    def said(shard):
        with pytest.raises(Waiting) as waiting:
            in_parts(
                lambda: langheads.score(tiny, texts, method="lahis", docs=4, batch_tokens=150),
                tmp_path, shard=(shard, 3),
            )  # fmt: skip
        return str(waiting.value).partition(" are missing: ")[2]

    again = "give the same command again when they are there"
    assert said(1) == f"{again} (late: shards 2, 3)"
    assert said(3) == f"{again} (late: shards 2)"
    assert str(Waiting(20, range(1, 15))).endswith(
        "(late: shards 1, 2, 3, 4, 5, 6, 7, 8, 9 and more)"
    )


def test_rows_that_no_pass_gives_are_waited_for_by_no_shard(tiny, texts, tmp_path, monkeypatch):
    asks = Pass("asks", 1, lambda of: {"asked": of.rows["nobody's"]})
    monkeypatch.setitem(SCORES, "asks", Score("asks", "Asks", "none", (asks,)))
    message = "no pass before it gives nobody's; there are gradient, nll"

    def work():
        langheads.score(tiny, texts, method="asks", docs=2, batch_tokens=10_000, languages=["en"])

    with pytest.raises(InputError) as refused:
        work()
    assert str(refused.value) == message
    said = []
    for shard in (0, 1):
        with kept_in_parts(tmp_path, shard=(shard, 2)), pytest.raises(LangheadsError) as refused:
            work()
        said.append(str(refused.value))
    # Whoever has the gradients is not told to wait.
    assert message in said


def test_the_folder_is_not_listed_for_each_part(work, tmp_path, monkeypatch):
    listed, real = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, of: (listed.append(path), real(path, of))[1])
    folder = tmp_path / "parts"
    with kept_in_parts(folder) as parts:
        work()
    assert parts.made > 10
    assert listed.count(folder) < 5


class Stopped(BaseException):
    """As Ctrl-C and SIGTERM are."""


def stop_after(monkeypatch, parts):
    """The process ends when so many parts are written, with the next one measured."""
    real, written = part_file.write_part, count()

    def write(*given):
        if next(written) == parts:
            raise Stopped
        real(*given)

    monkeypatch.setattr(part_file, "write_part", write)


def test_stopped_anywhere_it_goes_on_with_one_part_again_at_most(work, tmp_path, monkeypatch):
    with kept_in_parts(tmp_path / "all") as parts:
        expected = result_of(work())
    total = parts.made
    assert total > 10
    for stop in (0, total // 2, total - 1):
        folder = tmp_path / str(stop)
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Stopped):
                in_parts(work, folder)
        assert len(list(folder.glob("*.part"))) == stop
        with kept_in_parts(folder) as parts:
            assert result_of(work()) == expected
        assert (parts.found, parts.made) == (stop, total - stop)


def test_damage_is_noticed_and_made_again(work, tmp_path):
    with kept_in_parts(tmp_path) as parts:
        expected = result_of(work())
    files = sorted(tmp_path.glob("*.part"))
    content = [file.read_bytes() for file in files[:5]]
    flipped = bytearray(content[0])
    flipped[len(flipped) // 2] ^= 1
    files[0].write_bytes(flipped)
    files[1].write_bytes(content[1][:-1])
    files[2].write_bytes(b"")
    # Whole, but another part's.
    files[3].write_bytes(content[4])
    with kept_in_parts(tmp_path) as parts:
        assert result_of(work()) == expected
    assert parts.made == 4


def test_another_model_takes_no_part_of_the_first(tiny_folder, texts, tmp_path):
    model = load(tiny_folder, device="cpu")

    def work():
        return VERBS["score"](model, texts)

    with kept_in_parts(tmp_path):
        work()
    with torch.no_grad():
        model.original_model.model.layers[1].mlp.up_proj.weight[0, 0] += 1.0
    expected = result_of(work())
    with kept_in_parts(tmp_path) as parts:
        assert result_of(work()) == expected
    assert parts.found == 0


def test_nothing_is_kept_under_a_hook_of_the_user(tiny, texts, tmp_path):
    with kept_in_parts(tmp_path):
        plain(tiny, texts, "score")
    doubled = [("blocks.0.hook_in", lambda value, hook: 2 * value)]
    with tiny.hooks(fwd_hooks=doubled), kept_in_parts(tmp_path) as parts:
        found = plain(tiny, texts, "score")
    with tiny.hooks(fwd_hooks=doubled):
        assert found == plain(tiny, texts, "score")
    assert parts.found == parts.made == 0


@pytest.mark.parametrize("what", ["precision", "settings"])
def test_parts_are_of_the_precision_and_the_settings_that_they_were_made_in(
    what, tiny_folder, texts, tmp_path
):
    model = load(tiny_folder, device="cpu")

    def work():
        return result_of(langheads.score(model, texts, docs=2, languages=["en"]))

    in_16_bits = torch.autocast("cpu", torch.bfloat16, enabled=what == "precision")
    with kept_in_parts(tmp_path), in_16_bits:
        first = work()
    if what == "settings":
        # Weights are as before.
        model.original_model.config.rms_norm_eps = 1.0
    with kept_in_parts(tmp_path) as parts:
        second = work()
    assert parts.found == 0
    assert (second == first) == (what == "settings")
    assert second == work()


def test_other_settings_are_refused_with_the_difference(work, tmp_path):
    folder = tmp_path / "parts"
    in_parts(work, folder, {"docs": 6, "seed": 0}, keep=True)
    with pytest.raises(InputError) as refused:
        in_parts(work, folder, {"docs": 7, "languages": ["en"], "seed": 0})
    assert str(refused.value) == (
        f"{folder} has parts of another run (docs was 6, is 7; languages was not given, is "
        "['en']); give what was given before, or --fresh to start over"
    )
    (folder / "settings.json").write_text("[1]")
    with pytest.raises(InputError, match=r"holds no settings; --fresh starts over$"):
        in_parts(work, folder, {"docs": 7})
    in_parts(work, folder, {"docs": 7}, fresh=True)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_with_one_line_and_is_gone_on_from(work, tmp_path, monkeypatch):
    expected, room, real = result_of(work()), count(), os.fsync

    def fsync(handle):
        if next(room) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(InputError) as refused:
            in_parts(work, tmp_path / "parts")
    assert str(refused.value).endswith(".part: No space left on device")
    assert result_of(in_parts(work, tmp_path / "parts")) == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((0, 3), "shard 0 of 3 asked for; shards are 1 to their number"),
        ((4, 3), "shard 4 of 3 asked for; shards are 1 to their number"),
    ],
)
def test_shards_that_there_are_not(shard, message, tmp_path):
    with pytest.raises(InputError) as refused:
        in_parts(lambda: 1, tmp_path / "parts", shard=shard)
    assert str(refused.value) == message
    assert in_parts(lambda: 1, tmp_path / "parts", shard=(1, 1)) == 1
    assert not list(tmp_path.iterdir())


def test_digests_tell_values_types_and_shapes_apart():
    six = np.arange(6)
    different = [
        None, 1, 1.0, True, "1", [1], [[1]], ["1", 2], ["12"], six, six.reshape(2, 3),
        six.astype(np.int32), torch.arange(6), torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16),
        {"a": 1}, {"a": 2}, ["ab", "c"], ["a", "bc"],
    ]  # fmt: skip
    assert len({digest(of) for of in different}) == len(different)
    assert digest(six.reshape(2, 3).T) == digest(six.reshape(2, 3).T.copy())
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(TypeError, match=r"^object has no digest$"):
        digest(object())


def test_what_waits_does_not_stop_the_rest():
    done = []

    def wait(missing):
        if missing:
            raise Waiting(missing)
        done.append(missing)

    def all_three():
        with together() as each:
            for missing in (2, 0, 3):
                with each:
                    wait(missing)

    with pytest.raises(Waiting, match="; 5 that other shards make are missing"):
        all_three()
    assert done == [0]
    with pytest.raises(ZeroDivisionError), together() as each, each:
        1 / 0  # noqa: B018


def test_an_estimate_runs_few_batches_of_a_kind_and_counts_all(tiny, texts, monkeypatch):
    from langheads.scores import gradient

    ran, real = [], gradient.document_nll

    def counted(model, tokens, lengths):
        ran.append(tokens.shape)
        return real(model, tokens, lengths)

    monkeypatch.setattr(gradient, "document_nll", counted)
    how = {"docs": 6, "batch_tokens": 150, "method": ["lahis"]}
    langheads.score(tiny, texts, **how)
    whole, batches = sum(map(math.prod, ran)), len(ran)
    longest = max(width for _, width in ran)
    ran.clear()
    with estimated() as estimate:
        found = langheads.score(tiny, texts, **how)
    assert len(ran) <= 4 < batches
    assert max(map(math.prod, ran)) >= longest / 1.1
    assert found.sizes["head"] == 4
    assert estimate.batches == {"gate gradients": batches}
    rate = estimate._times["gate gradients"][-1]
    assert estimate.predicted()["gate gradients"] == pytest.approx(whole * rate)


def test_an_estimate_counts_the_blocks_that_heads_run_again(tiny, texts):
    heads = ["L0H0", "L1H0", "L2H0", "L2H1"]
    with estimated() as estimate:
        langheads.knockout(tiny, texts, heads=heads, docs=2, batch_tokens=10_000)
    # Nothing off, then all three blocks, two, one and one of them.
    tokens = sum(2 * max(map(len, of)) for of in (tiny.to_tokens(texts[x][:2]) for x in texts))
    cost = 1 + (3 + 2 + 1 + 1) / 3
    assert estimate._sizes["knockout"] == pytest.approx(tokens * cost, rel=0.5)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (3661, "1 h 1 min")],
)
def test_times_in_words(seconds, told):
    assert in_words(seconds) == told
