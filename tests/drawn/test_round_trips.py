"""What is written is read back equal, labels give back their text, and gates are edits of weights,
whatever is drawn."""

import dataclasses
import itertools
import json
import math

import numpy as np
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from langheads.experiments.pruning.account import Pruning
from langheads.experiments.replies.files import Replies, summary_path
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.classes import HeadClasses
from langheads.heads.mask import HeadMask
from langheads.io.results import load_result, save
from langheads.model import gated, load, tokenizer_of
from langheads.text import read_texts
from langheads.text.display import display_tokens, word_starts
from langheads.view.attention.patterns import AttentionData, AttentionPatterns, ShownHead
from tests.drawn.test_readers import SHORT
from tests.models.zoo import w_o
from tests.unit.view.made_up_replies import make_pruned, make_replies
from tests.unit.view.made_up_results import make_mask
from tests.unit.view.made_up_run import PROVENANCE, make_scores

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)
HEADS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), unique=True, max_size=6)


def often(count, *strategies):
    """Drawn inputs, as many as are quick."""
    how = type(SHORT)(SHORT, max_examples=count)

    def decorate(test):
        return how(given(*strategies)(test))

    return decorate


def test_head_sets(tmp_path):
    @often(100, st.dictionaries(NAME.filter("general".__ne__), HEADS, max_size=4), HEADS)
    def check(specific, general):
        sets = {name: HeadSet(heads, (4, 6)) for name, heads in specific.items()}
        made = LanguageHeads(sets, HeadSet(general, (4, 6)), "m", {"name": "r"}, PROVENANCE)
        read = LanguageHeads.load(made.save(tmp_path / "heads.json"))
        assert read == made
        assert [list(heads) for heads in read.specific.values()] == [*specific.values()]

    check()


def test_masks(tmp_path):
    gate = st.floats(-1e30, 1e30)

    @often(100, st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 5)), gate, min_size=1))
    def check(gates):
        like = make_mask("en")
        made = HeadMask(
            HeadSet(list(gates), (4, 6)), tuple(gates.values()), "zh", "m", like.settings,
            like.losses, like.split, PROVENANCE,
        )  # fmt: skip
        read = HeadMask.load(made.save(tmp_path / "mask.json"))
        assert read == made
        expected = torch.ones(4, 6)
        for head, value in gates.items():
            expected[head] = value
        assert torch.equal(read.gates(), expected)

    check()


def test_classes(tmp_path):
    names = st.lists(NAME.filter("difference".__ne__), min_size=2, max_size=2, unique=True)
    value = st.floats(allow_infinity=False)
    rule = {"measure": "nll", "baseline": "zero", "level": 0.05, "min_drop": 0.0, "aligned": False,
            "examples": {}}  # fmt: skip

    @often(100, names, st.lists(HEADS, min_size=5, max_size=5), st.lists(value, min_size=1))
    def check(names, of_class, values):
        # A head is in one class.
        before = (HeadSet(itertools.chain(*of_class[:i]), (4, 6)) for i in range(5))
        first, second, *others = (
            HeadSet(heads, (4, 6)) - other for heads, other in zip(of_class, before, strict=True)
        )
        deltas = dict(zip([*names, "difference"], np.resize(values, (3, 3, 4, 6)), strict=True))
        made = HeadClasses(
            dict(zip(names, (first, second), strict=True)), *others, deltas, -1, "m", "nats", rule,
            PROVENANCE,
        )  # fmt: skip
        read = HeadClasses.load(made.save(tmp_path / "classes.json"))
        assert dataclasses.replace(read, deltas={}) == dataclasses.replace(made, deltas={})
        assert read.languages == tuple(names)
        assert read.deltas.keys() == deltas.keys()
        for name, of in deltas.items():
            np.testing.assert_array_equal(read.deltas[name], of)

    check()


def test_accounts_of_pruning(tmp_path):
    names = st.lists(NAME, min_size=2, max_size=3, unique=True)

    @often(100, names, st.floats(-1e9, 1e9), st.integers(0, 10**9), TEXT)
    def check(names, rise, controls, note):
        account = make_pruned(names, controls=controls) | {"note": note}
        loss = account["nats_per_byte"][names[0]]
        loss["rise"] = rise
        del loss["rise_low"]
        made = Pruning.of(account)
        read = Pruning.load(made.save(tmp_path / "pruned.json"))
        assert read.account == made.account == account
        assert (read.dropped, read.n_controls) == ((names[1],), controls)
        assert read.losses[names[0]]["rise"] == rise
        assert math.isnan(read.losses[names[0]]["rise_low"])
        np.testing.assert_equal(read.losses, made.losses)

    check()


def test_results(tmp_path):
    value = st.floats(width=64)

    @often(20, st.lists(NAME, min_size=1, max_size=3, unique=True), st.lists(value, min_size=24))
    def check(languages, values):
        made = make_scores(languages)
        made["taylor"][0] = np.resize(values, (4, 6))
        made["heads"] = ("language", [f"{name} \u2400" for name in languages])
        read = load_result(save(made, tmp_path / "scores.nc"), "scores")
        xr.testing.assert_identical(read, made)

    check()


def test_replies(tmp_path):
    records, document = make_replies(["en", "zh"])

    @often(100, st.lists(TEXT, min_size=len(records), max_size=len(records)))
    def check(texts):
        said = [one | {"reply": text, "id": f"{n}{text}"} for n, (one, text) in
                enumerate(zip(records, texts, strict=True))]  # fmt: skip
        made = Replies(said, document["summary"], document["provenance"])
        read = Replies.load(summary_path(made.save(tmp_path / "r.jsonl")))
        assert (read.records, read.summary, read.provenance) == (
            said, document["summary"], document["provenance"],
        )  # fmt: skip

    check()


def test_attention(tmp_path):
    @often(100, st.lists(TEXT, min_size=1, max_size=5), st.integers(0, 2**32 - 1), TEXT)
    def check(tokens, seed, note):
        size = len(tokens)
        weights = np.tril(np.random.default_rng(seed).gamma(0.3, 1, (2, size, size)) + 1e-9)
        weights /= weights.sum(axis=2, keepdims=True)
        heads = (ShownHead("L0H1", "en", 0.5), ShownHead("L1H1"))
        context = AttentionPatterns("en", tuple(tokens), weights, (), note)
        made = AttentionData(heads, (context,), "lahis", PROVENANCE)
        read = AttentionData.load(made.save(tmp_path / "a.json"))
        assert (read.heads, read.score) == (heads, "lahis")
        (got,) = read.contexts
        assert (got.tokens, got.note) == (tuple(tokens), note)
        # Each value v is kept as round(255 sqrt(v)) / 255, squared.
        np.testing.assert_allclose(got.patterns, weights, atol=0.004)

    check()


def test_texts(tmp_path):
    @often(200, st.lists(TEXT, min_size=1, max_size=6), st.integers(0, 9))
    def check(texts, seed):
        if not any(text.replace("\ufeff", "").strip() for text in texts):
            return
        lines = [json.dumps({"text": text}, ensure_ascii=bool(seed % 2)) for text in texts]
        (tmp_path / "en.jsonl").write_text("\n".join(lines), "utf-8")
        read = read_texts(tmp_path, seed=seed)
        assert read.texts == read_texts({"en": texts}, seed=seed).texts
        assert set(read.texts["en"]) <= set(texts)

    check()


def test_labels_joined_give_the_text(zoo, tmp_path):
    tiny = load(zoo.save("llama-gqa", tmp_path))

    @often(300, TEXT.filter(bool), st.booleans())
    def check(text, bos):
        shown = display_tokens(tokenizer_of(tiny), text, bos=bos, max_tokens=10_000)
        for labels in (shown.labels, shown.joined(word_starts(shown)).labels):
            assert "".join(labels) == "<bos>" * bos + text

    check()


def test_gates_are_edits_of_weights(zoo, tmp_path):
    """A gate g is W_O of that head times g."""
    tiny, layers, heads = load(zoo.save("llama-gqa", tmp_path)), 3, 4
    gate = st.floats(-4, 4, width=32)
    places = st.tuples(st.integers(0, layers - 1), st.integers(0, heads - 1))

    @often(40, st.dictionaries(places, gate, max_size=5), st.lists(st.integers(3, 258), min_size=2))
    def check(gates, tokens):
        batch = torch.tensor([tokens[:60]])
        full = torch.ones(layers, heads)
        slices = {at: w_o(tiny.original_model, "llama-gqa", *at) for at in gates}
        before = {at: part.clone() for at, part in slices.items()}
        for head, value in gates.items():
            full[head] = value
        with torch.no_grad(), gated(tiny, full):
            under = tiny(batch)
        try:
            for at, value in gates.items():
                slices[at].mul_(value)
            with torch.no_grad():
                edited = tiny(batch)
        finally:
            for at, part in before.items():
                slices[at].copy_(part)
        assert math.isfinite(float(under.sum()))
        torch.testing.assert_close(under, edited, atol=2e-5, rtol=1e-4)

    check()
