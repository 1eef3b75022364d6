"""Losses with heads off, what they are said to cost, and which texts are held out."""

import io
import sys

import numpy as np
import pytest
import torch
from tqdm.auto import tqdm

from langheads.experiments.held_out import (
    check_held_out,
    held_out,
    losses_by_language,
    losses_with_heads_off,
)
from langheads.heads import HeadSet
from langheads.io.errors import ProvenanceError
from langheads.text import read_texts
from tests.models.test_losses import documents_of, nll_by_hand
from tests.models.zoo import TEXTS, hugging_face, w_o

module = sys.modules["langheads.experiments.held_out"]
NAME, SHAPE = "llama-gqa", (3, 4)
OFF = [HeadSet(names, SHAPE) for names in (["L1H2"], ["L2H3", "L0H1"], ["L2H0"])]
CONDITIONS = [(heads, None) for heads in OFF]


@pytest.fixture
def few(zoo):
    return documents_of(zoo.bridge(NAME), TEXTS[:3])


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_losses_with_heads_off_are_those_without_their_slices_of_w_o(
    zoo, few, monkeypatch, at_once
):
    monkeypatch.setattr(module, "_CONDITIONS_A_PART", at_once)
    found = losses_by_language(zoo.bridge(NAME), {"xx": few}, CONDITIONS, 10_000, desc="off")
    expected = []
    for heads in ([], *OFF):
        network = hugging_face(NAME)
        for head in heads:
            w_o(network, NAME, head.layer, head.head).data.zero_()
        expected.append([nll_by_hand(network, tokens) for tokens in few.tokens])
    np.testing.assert_allclose(found["xx"], np.transpose(expected), rtol=1e-5)


@pytest.mark.parametrize("conditions", [[], CONDITIONS])
def test_a_bar_of_progress_ends_where_it_says(zoo, few, monkeypatch, conditions):
    bars = []

    def bar(**how):
        bars.append(tqdm(**how, disable=False, file=io.StringIO()))
        return bars[0]

    monkeypatch.setattr(module, "progress_bar", bar)
    documents = {"xx": few, "yy": few.only([0])}
    losses_by_language(zoo.bridge(NAME), documents, conditions, 10_000, desc="off")
    assert bars[0].total == 4 * (len(conditions) or 1)
    assert bars[0].n == bars[0].total


def test_conditions_cost_the_blocks_that_they_run_again(zoo, few, monkeypatch):
    told = []

    def measured(model, documents, measure, *, row, **how):
        told.append((row, how["cost"], how["updates"]))
        return torch.zeros(len(documents), *row)

    monkeypatch.setattr(module, "map_documents", measured)
    losses_with_heads_off(zoo.bridge(NAME), few, CONDITIONS, 10_000, tqdm(disable=True))
    # All blocks with nothing off, then two, all three, and the last.
    assert told == [((4,), pytest.approx(1 + 2 / 3 + 1 + 1 / 3), 3)]


def test_texts_are_aligned_as_for_the_scores_where_they_are_the_same_texts(zoo, texts):
    some = {language: texts[language] for language in ("en", "zh")}
    in_python = read_texts(some).source
    model = zoo.bridge(NAME)
    for text, aligned in ((in_python, True), ("a", False), ("z", False)):
        scored = {"aligned": 1, "text": text}
        assert held_out(model, scored, some, docs=2).corpus.aligned == aligned
    assert held_out(model, {"aligned": 1}, some, docs=2).corpus.aligned
    assert not held_out(model, {"aligned": 1}, some, docs=2, aligned=False).corpus.aligned
    assert not held_out(model, {}, some, docs=2).corpus.aligned


def test_documents_are_read_in_the_order_and_length_of_the_scores_by_default(zoo, texts):
    model, some = zoo.bridge(NAME), {"en": texts["en"]}
    assert held_out(model, {}, some, docs=2).texts == read_texts(some, seed=0).back(2)
    assert held_out(model, {"seed": 4}, some, docs=2).texts == read_texts(some, seed=4).back(2)
    asked = held_out(model, {"seed": 4, "max_tokens": 9}, some, docs=2, seed=1, max_tokens=7)
    assert asked.texts == read_texts(some, seed=1).back(2)
    assert asked.settings["max_tokens"] == 7


def test_scores_that_say_nothing_of_their_documents_cannot_tell():
    assert check_held_out({"en": ["a"]}, {"seed": 0}, allow_overlap=False) == -1


def test_ids_say_which_translations_were_scored(zoo, tmp_path):
    """Where the scores do not say that their texts were aligned."""
    for language in ("en", "zh"):
        lines = [f'{{"id": {i}, "text": "{language} text {i}"}}' for i in range(6)]
        (tmp_path / f"{language}.jsonl").write_text("\n".join(lines))
    marks = read_texts(tmp_path, languages=["en"], aligned=True).marks(2)
    scored = {"scored": f'{{"en": "{marks["en"]}"}}', "docs": 2, "seed": 0}
    how = {"languages": ["zh"], "aligned": True}
    model = zoo.bridge(NAME)
    assert held_out(model, scored, tmp_path, docs=4, **how).overlap == 0
    assert held_out(model, scored, tmp_path, docs=5, allow_overlap=True, **how).overlap == 1
    with pytest.raises(ProvenanceError):
        held_out(model, scored, tmp_path, docs=5, **how)
