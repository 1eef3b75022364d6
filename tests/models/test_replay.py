"""Forwards that start at a later block give the losses of full forwards, in every architecture."""

import pytest
import torch
from einops import repeat

from langheads.io.errors import InputError, InterventionError
from langheads.model import captured_block_inputs, document_nll, gated, head_shape, starting_at
from tests.models.zoo import NAMES, pad, tokens_of


@pytest.mark.parametrize("name", NAMES)
def test_starting_later_changes_nothing(zoo, name):
    model = zoo.bridge(name)
    tokens, real = pad(tokens_of(model))
    lengths = real.sum(dim=1)
    layers, heads = head_shape(model)
    baseline = torch.randn(layers, heads, model.cfg.d_head)
    ran = []
    for layer in range(layers):
        model.blocks[layer].attn.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    with torch.no_grad():
        with captured_block_inputs(model) as inputs:
            untouched = document_nll(model, tokens, lengths)
        for layer in range(layers):
            gates = torch.ones(layers, heads)
            gates[layer, 1] = 0.0
            with gated(model, gates, baseline=baseline):
                full = document_nll(model, tokens, lengths)
            ran.clear()
            with (
                starting_at(model, inputs, layer),
                gated(model, gates, baseline=baseline, first_layer=layer),
            ):
                replayed = document_nll(model, tokens, lengths)
            assert ran == list(range(layer, layers))
            assert torch.equal(replayed, full)
            assert not torch.allclose(full, untouched, atol=1e-3)
            # Twice the batch: the first copy under gates, the second untouched.
            both = torch.stack([gates, torch.ones_like(gates)])
            with (
                starting_at(model, inputs, layer, copies=2),
                gated(
                    model,
                    repeat(both, "copy l h -> (copy doc) l h", doc=len(tokens)),
                    baseline=baseline,
                    first_layer=layer,
                ),
            ):
                copies = document_nll(model, tokens.repeat(2, 1), lengths.repeat(2))
            torch.testing.assert_close(copies, torch.cat([full, untouched]), rtol=1e-5, atol=1e-4)
        # Blocks are whole again, also after an exception.
        with pytest.raises(RuntimeError, match="on purpose"), starting_at(model, inputs, 1):
            raise RuntimeError("on purpose")
        assert torch.equal(document_nll(model, tokens, lengths), untouched)
    for layer in range(layers):
        model.blocks[layer].attn._forward_hooks.clear()


def test_what_stands_on_a_block_is_done_once_and_put_back(zoo):
    """Hooks of torch that change what a block takes and gives, and a forward of the user's."""
    model = zoo.fresh("llama-gqa")
    tokens, real = pad(tokens_of(model))
    lengths = real.sum(dim=1)
    added = torch.linspace(-1, 1, 32)

    def more(of):
        return (of[0] + added, *of[1:]) if isinstance(of, tuple) else of + added

    model.blocks[0].register_forward_hook(lambda block, given, output: more(output))
    model.blocks[1].register_forward_pre_hook(lambda block, given: more(given))
    run = model.blocks[1].forward
    model.blocks[1].__dict__["forward"] = lambda *args, **kwargs: more(run(*args, **kwargs))
    with torch.no_grad():
        with captured_block_inputs(model) as inputs:
            full = document_nll(model, tokens, lengths)
        for layer in range(3):
            with starting_at(model, inputs, layer):
                assert torch.equal(document_nll(model, tokens, lengths), full), layer
        assert torch.equal(document_nll(model, tokens, lengths), full)


def test_gates_of_blocks_that_do_not_run_are_refused(zoo):
    model = zoo.bridge("llama-gqa")
    gates = torch.ones(head_shape(model))
    gates[0, 0] = 0
    with (
        pytest.raises(InputError, match="first_layer 1 must be 1"),
        gated(model, gates, first_layer=1),
    ):
        pass


@torch.no_grad()
def run_twice(model):
    tokens = torch.ones(1, 4, dtype=torch.long)
    with captured_block_inputs(model):
        model(tokens, return_type=None)
        model(tokens, return_type=None)


def test_two_forwards_are_not_one(zoo):
    with pytest.raises(InterventionError, match="6 blocks ran where one forward of 3"):
        run_twice(zoo.bridge("llama-gqa"))
