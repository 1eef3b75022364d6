"""The self-test: every architecture passes, and each way of gating wrongly is caught."""

from contextlib import nullcontext

import pytest
import torch
from einops import rearrange

from langheads import load
from langheads.io.errors import ModelError
from langheads.model import describe, gates
from langheads.model import self_test as module
from langheads.model.identity import SELF_TESTS
from langheads.model.self_test import run_self_test
from tests.models.zoo import NAMES


def told(model):
    return describe(model)["self_test"]


def refusal(model, found):
    """The whole line, and that nothing is noted as passed."""
    with pytest.raises(ModelError) as error:
        run_self_test(model)
    kind = type(model.original_model).__name__
    assert str(error.value) == (
        f"self-test of {kind} failed: {found}; its results would be wrong (--no-self-test, "
        "self_test=False in Python, goes on all the same)"
    )
    assert told(model) == "not run"
    return True


def projecting(model, forward, layer=1):
    """Let a layer's W_O run as `forward(component, z)`."""
    o = model.blocks[layer].attn.o
    o.__dict__["forward"] = lambda z, *_: forward(o, z)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_passes_and_is_left_as_it_was(zoo, name):
    model = zoo.fresh(name)
    model.original_model.train()
    weights = {key: value.clone() for key, value in model.original_model.state_dict().items()}
    run_self_test(model)
    assert told(model) == "passed"
    assert model.original_model.training
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    assert not any(
        m._forward_pre_hooks for m in (b.attn.o.original_component for b in model.blocks)
    )
    for key, value in model.original_model.state_dict().items():
        assert torch.equal(value, weights[key])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_passes_in_other_dtypes(zoo, dtype):
    model = zoo.fresh("llama-gqa", dtype)
    run_self_test(model)
    assert told(model) == "passed"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_hook_after_w_o_is_caught(zoo, dtype, layer):
    model = zoo.fresh("llama-mha", dtype)
    projecting(model, lambda o, z: o.hook_in(o.original_component(z)), layer)
    assert refusal(model, "gates of all heads are not those of their slices of W_O")


def test_a_swapped_order_of_heads_in_a_grouped_model_is_caught(zoo):
    """First and last head stay where they are, so gates at 0 there are right."""

    def swapped(o, z):
        other = rearrange(z, "b p (group share d) -> b p (share group d)", group=2, share=2)
        back = o.hook_in(other)
        return o.original_component(
            rearrange(back, "b p (share group d) -> b p (group share d)", group=2, share=2)
        )

    model = projecting(zoo.fresh("llama-gqa"), swapped)
    assert refusal(model, "gates of all heads are not those of their slices of W_O")


def test_a_gate_that_is_applied_twice_is_caught(zoo, monkeypatch):
    """Gates of 0 and 1 are the same twice."""
    once = gates.on_every_hook_z

    def twice(model, change, **how):
        def both(layer, z):
            first = change(layer, z)
            return None if first is None else change(layer, first)

        return once(model, both, **how)

    monkeypatch.setattr(gates, "on_every_hook_z", twice)
    found = "gates of all heads are not those of their slices of W_O"
    assert refusal(zoo.fresh("llama-gqa"), found)


def test_a_hook_that_fires_twice_is_caught(zoo):
    model = zoo.fresh("llama-gqa")
    projecting(model, lambda o, z: o.original_component(o.hook_in(o.hook_in(z))))
    found = "hook_z fired in layers [0, 1, 1, 2] of one forward, expected each once and in order"
    assert refusal(model, found)


def test_a_gate_of_1_that_changes_something_is_caught(zoo, monkeypatch):
    once = gates.on_every_hook_z

    def rounded(model, change, **how):
        return once(model, lambda layer, z: change(layer, z).to(torch.bfloat16).to(z.dtype), **how)

    monkeypatch.setattr(gates, "on_every_hook_z", rounded)
    assert refusal(zoo.fresh("llama-gqa"), "gates of 1 change something")


def test_a_gate_of_0_that_leaves_something_is_caught(zoo, monkeypatch):
    """Only where a gate is 0 itself: a floor under the gates, say."""
    plain = gates.gated

    def floored(model, given, *args, **how):
        return plain(model, given.detach().clamp(min=0.25), *args, **how)

    monkeypatch.setattr(module, "gated", floored)
    assert refusal(zoo.fresh("llama-gqa"), "gate 0 of L0H0 is not its slice of W_O at zero")


@pytest.mark.parametrize("name", ["llama-gqa", "bloom", "gpt2"])
def test_left_padding_treated_wrongly_is_caught(zoo, name):
    model = zoo.fresh(name)

    def unmasked(network, args, kwargs):
        return args, kwargs | {"attention_mask": None}

    model.original_model.register_forward_pre_hook(unmasked, with_kwargs=True)
    assert refusal(model, "logits of a reply depend on its padding on the left")


def test_right_padding_that_is_seen_is_caught(zoo):
    model = zoo.fresh("llama-gqa")
    model.original_model.model.norm.register_forward_hook(
        lambda norm, args, out: out + 0.1 * out.mean(dim=1, keepdim=True)
    )
    assert refusal(model, "logits of a text depend on its padding on the right")


def test_dropout_is_caught(zoo, monkeypatch):
    found = "two forwards of the same tokens differ, as if dropout were on"
    always = zoo.fresh("llama-gqa")
    always.original_model.model.norm.register_forward_hook(
        lambda norm, args, out: torch.nn.functional.dropout(out, 0.1, training=True)
    )
    assert refusal(always, found)
    # A mode that is not put off.
    monkeypatch.setattr(module, "evaluating", lambda model: nullcontext())
    left = zoo.fresh("gpt2")
    left.original_model.train()
    assert refusal(left, found)


def test_it_runs_once_for_a_model_and_its_weights(zoo, monkeypatch):
    model, runs = zoo.fresh("llama-gqa"), []
    real = module._what_is_wrong
    monkeypatch.setattr(module, "_what_is_wrong", lambda of: runs.append(of) or real(of))
    assert told(model) == "not run"
    assert load(model) is model
    load(model)
    assert (len(runs), told(model)) == (1, "passed")
    with torch.no_grad():
        model.original_model.model.norm.weight.mul_(2)
    assert told(model) == "not run"
    load(model)
    assert (len(runs), told(model)) == (2, "passed")


def test_it_can_be_skipped_and_waits_for_hooks_to_go(zoo, monkeypatch):
    monkeypatch.setattr(module, "_what_is_wrong", lambda model: "all of it")
    model = zoo.fresh("llama-gqa")
    model.add_hook("blocks.1.attn.hook_z", lambda z, hook: 2 * z)
    load(model)
    assert told(model) == "not run"
    model.reset_hooks()
    load(model, self_test=False)
    assert told(model) == "skipped"
    # Asked for once, not again by every function that is given the model.
    load(model)
    assert told(model) == "skipped"
    with pytest.raises(ModelError, match="all of it"):
        load(model, self_test=True)
    SELF_TESTS.pop(model)
    assert refusal(model, "all of it")


def test_weights_that_are_no_numbers_are_left_to_what_measures(zoo):
    model = zoo.fresh("llama-gqa")
    with torch.no_grad():
        model.original_model.model.norm.weight.fill_(float("nan"))
    run_self_test(model)
    assert told(model) == "not run"
