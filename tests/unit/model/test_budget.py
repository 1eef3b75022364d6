"""Tokens of a batch: from shapes and whole memory alone, the same for all processes of a run."""

import pytest
import torch

from langheads.io.errors import InterventionError
from langheads.io.estimate import estimated
from langheads.io.parts import kept_in_parts
from langheads.model import (
    budget,
    checkpointing,
    describe,
    gated,
    token_budget,
    tokenize_languages,
)
from langheads.scores.gradient import gate_gradients


@pytest.fixture
def card(monkeypatch, tiny):
    """Pretends that the tiny model is on a card on which, beside its weights, so many tokens fit
    for a backward pass."""
    weights = sum(of.nbytes for of in tiny.original_model.parameters())

    def of(tokens):
        total = round((weights + 2 * tokens * budget.kept_of_a_token(tiny)) / 0.9)
        monkeypatch.setattr(budget, "_memory", lambda model: total)

    return of


def test_what_blocks_keep_is_what_the_first_one_counts(tiny, texts, monkeypatch):
    counted, real = [], checkpointing.blocks_to_cut
    tokens = []

    def blocks_to_cut(blocks, kept, room):
        counted.append(kept)
        return real(blocks, kept, room)

    monkeypatch.setattr(checkpointing, "blocks_to_cut", blocks_to_cut)
    (documents,) = tokenize_languages(tiny, {"en": texts["en"][:1]}, max_tokens=40).values()
    tokens = len(documents.tokens[0])
    gate_gradients(tiny, documents)
    # One of three blocks.
    assert counted[-1].dear == tokens * budget.kept_of_a_token(tiny) / 3


@pytest.mark.parametrize(
    ("fit", "expected"), [(5000, 4096), (10**6, 16384), (1023, 1024), (-(10**6), 1024)]
)
def test_whole_memory_decides_and_not_what_is_free(tiny, card, fit, expected):
    card(fit + 1)
    assert token_budget(tiny, "auto") == expected
    assert token_budget(tiny, 300) == 300
    assert describe(tiny)["auto_batch_tokens"] == str(expected)


def test_a_cpu_has_the_same_whatever_its_memory(tiny):
    assert token_budget(tiny, "auto") == 1024
    assert "auto_batch_tokens" not in describe(tiny)


def test_a_run_goes_on_as_it_began_on_another_card(tiny, card, tmp_path):
    card(5000)
    with kept_in_parts(tmp_path / "parts", shard=(1, 2)):
        assert token_budget(tiny, "auto") == 4096
    card(9000)
    with kept_in_parts(tmp_path / "parts"):
        assert token_budget(tiny, "auto") == 4096
    with estimated():
        assert token_budget(tiny, "auto") == 8192
    assert token_budget(tiny, "auto") == 8192


def test_a_run_that_measured_nothing_leaves_nothing(tiny, card, tmp_path):
    card(5000)
    folder = tmp_path / "parts"
    with kept_in_parts(folder):
        token_budget(tiny, "auto")
        assert len(list(folder.iterdir())) == 2
    assert not folder.exists()


def test_gates_that_never_fired_are_told_though_a_part_was_read(tiny, card, tmp_path):
    card(5000)
    for _ in range(2):
        with kept_in_parts(tmp_path, shard=(0, 2)) as parts:
            with pytest.raises(InterventionError) as told, gated(tiny, ["L0H1"]):
                token_budget(tiny, "auto")
            assert str(told.value) == (
                "gates were set, but hook_z did not fire: no forward of the model ran under them"
            )
    assert (parts.found, parts.made) == (1, 0)


def test_memory_of_a_card_is_all_that_it_has(tiny, monkeypatch):
    class Properties:
        total_memory = 24 * 2**30

    class Weight:
        device = torch.device("cuda:0")

    monkeypatch.setattr(tiny.cfg, "device", "cuda:0")
    monkeypatch.setattr(tiny.original_model, "parameters", lambda: iter([Weight(), Weight()]))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card: Properties)
    assert budget._memory(tiny) == 24 * 2**30
