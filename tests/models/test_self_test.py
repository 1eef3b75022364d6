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


@pytest.mark.parametrize(("layer", "fired"), [(1, "0, 1, 1, 2"), (2, "0, 1, 2, 2")])
def test_a_hook_that_fires_twice_is_caught(zoo, layer, fired):
    model = zoo.fresh("llama-gqa")
    projecting(model, lambda o, z: o.original_component(o.hook_in(o.hook_in(z))), layer)
    found = f"hook_z fired in layers [{fired}] of one forward, expected each once and in order"
    assert refusal(model, found)


def off_by(model, *changes):
    """Let one logit of these forwards, the smallest of a row, be off by so much: the number of the
    forward, the row, and from all forwards so far and largest logit of the first, how much."""
    seen = []

    def change(module, given, logits):
        seen.append(logits.float().clone())
        for number, row, much in changes:
            if number == len(seen):
                at = logits[row, -1].abs().argmin()
                logits[row, -1, at] += much(seen, float(seen[0].abs().max()))

    model.unembed.original_component.register_forward_hook(change)
    return model


NOISE, GATED, SHORT, PADDED = 2, 3, 5, 7
EPS = torch.finfo(torch.float32).eps
CHANGES = "gates of 1 change something"
ALL = "gates of all heads are not those of their slices of W_O"


@pytest.mark.parametrize("times", [0.97, 1.03])
@pytest.mark.parametrize(
    ("noise", "number", "row", "limit", "found"),
    [
        (0, NOISE, 2, lambda seen, largest: 16 * EPS * largest,
         "two forwards of the same tokens differ, as if dropout were on"),
        (0, GATED, 0, lambda seen, largest: 1e-6 * largest, CHANGES),
        (10, GATED, 0, lambda seen, largest: (4 * 10 * EPS + 1e-6) * largest, CHANGES),
    ],
)  # fmt: skip
def test_what_differs_by_rounding_passes(zoo, times, noise, number, row, limit, found):
    """Sixteen times the precision between two forwards, of which gates may differ by four times,
    and a millionth."""
    model = off_by(
        zoo.fresh("llama-gqa"),
        (NOISE, 4, lambda seen, largest: noise * EPS * largest),
        (number, row, lambda seen, largest: times * limit(seen, largest)),
    )
    if times > 1:
        assert refusal(model, found)
    else:
        run_self_test(model)
        assert told(model) == "passed"


@pytest.mark.parametrize("times", [0.97, 1.03])
def test_gates_of_all_heads_are_right_to_a_hundredth_of_what_they_do(zoo, times):
    model = zoo.fresh("llama-gqa")
    with torch.no_grad():
        # What the same gates do, by hand: rows as the test makes them.
        tokens = (int(model.cfg.d_vocab) // 2 + 7 * torch.arange(8)).remainder(model.cfg.d_vocab)
        plain = model(tokens[None]).float()
        of_all = torch.linspace(0.5, 1.5, 12).reshape(3, 4)
        with gates.gated(model, of_all):
            done = float((model(tokens[None]).float() - plain).abs().max())
    off_by(
        model,
        (GATED, 1, lambda seen, largest: times * (0.01 * done + 1e-6 * largest)),
    )
    if times > 1:
        assert refusal(model, ALL)
    else:
        run_self_test(model)
        assert told(model) == "passed"


@pytest.mark.parametrize(
    ("dtype", "times"),
    [(torch.float32, 0.9996), (torch.float32, 1.0004), (torch.bfloat16, 0.8),
     (torch.bfloat16, 1.2)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("number", "row", "found"),
    [
        (SHORT, 0, "logits of a text depend on its padding on the right"),
        (PADDED, 1, "logits of a reply depend on its padding on the left"),
    ],
)
def test_padding_may_change_what_rounding_does(zoo, dtype, times, number, row, found):
    """A thousand times the precision, as a share of the spread of the logits; in 16 bits .05."""
    limit = times * min(1000 * max(torch.finfo(dtype).eps, EPS), 0.05)

    def much(seen, largest):
        of = seen[-1] if number == SHORT else seen[-2][0, -1]
        return limit * float((of - of.mean(dim=-1, keepdim=True)).norm())

    model = off_by(zoo.fresh("llama-gqa", dtype), (number, row, much))
    if times > 1:
        assert refusal(model, found)
    else:
        run_self_test(model)
        assert told(model) == "passed"


@pytest.mark.parametrize("end", [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_the_first_and_the_last_heads_are_tried_alone(zoo, monkeypatch, end):
    plain = gates.gated

    def floored(model, given, *args, **how):
        given = given.detach().clone()
        at = (slice(None), *end)
        # Where it is 0 itself, and nowhere else.
        given[at] = torch.where(given[at] == 0, 0.25, given[at])
        return plain(model, given, *args, **how)

    monkeypatch.setattr(module, "gated", floored)
    model = zoo.fresh("llama-gqa")
    assert refusal(model, f"gate 0 of L{end[0]}H{end[1]} is not its slice of W_O at zero")
    model.cfg.architecture = "OtherForCausalLM"
    with pytest.raises(ModelError, match=r"^self-test of OtherForCausalLM failed: gate 0 of L"):
        run_self_test(model)


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
