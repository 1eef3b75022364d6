"""Steering against its bare hook, against a bias worked out by hand, and its refusals."""

from contextlib import ExitStack

import pytest
import torch

from hooks.mean_baseline import mean_z as mean_z_of_one_head
from hooks.steering import logits_under_steering
from langheads.heads import HeadSet
from langheads.io.errors import InputError, InterventionError, ProvenanceError
from langheads.model import gated, head_shape, mean_z, steered
from tests.models.zoo import NAMES, hugging_face, pad, projection, tokens_of, w_o


def direction_between(model):
    tokens = tokens_of(model)
    return mean_z(model, tokens[:2]) - mean_z(model, tokens[2:])


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_bare_hook_and_a_bias_after_w_o(zoo, name):
    model, network = zoo.bridge(name), hugging_face(name)
    documents = tokens_of(model)
    tokens, real = pad(documents)
    direction = direction_between(model)
    layer, head = head_shape(model)[0] - 1, 2
    with torch.no_grad():
        untouched = model(tokens)[real]
        with steered(model, [(layer, head)], direction, 2.5):
            library = model(tokens)[real]
    own = mean_z_of_one_head(model, documents[:2], layer, head)
    own = own - mean_z_of_one_head(model, documents[2:], layer, head)
    bare = logits_under_steering(model, tokens, layer, head, own, a=2.5)[real]
    torch.testing.assert_close(library, bare, rtol=0, atol=2e-5)
    # Without a hook: the head's slice of W_O turns steering into a bias.
    module = projection(network, name, layer)
    bias = module.bias
    pushed = 2.5 * own @ w_o(network, name, layer, head)
    module.bias = torch.nn.Parameter(pushed if bias is None else bias.data + pushed)
    with torch.no_grad():
        torch.testing.assert_close(library, network(tokens).logits[real], rtol=0, atol=2e-5)
    # Otherwise this test could not fail.
    assert (library - untouched).abs().max() > 0.02 * untouched.std()


def test_with_a_gate_on_the_same_head_the_order_counts(zoo, exact_softmax):
    model = zoo.fresh("llama-gqa", torch.float64)
    tokens, real = pad(tokens_of(model))
    direction = direction_between(model)
    head = ["L1H2"]

    def logits(*blocks):
        with ExitStack() as stack, torch.no_grad():
            for block in blocks:
                stack.enter_context(block)
            return model(tokens)[real]

    def both(amount, gate):
        return steered(model, head, direction, amount), gated(model, head, gate)

    steering, gate = both(2.0, 3.0)
    gate_inside = logits(steering, gate)
    steering, gate = both(2.0, 3.0)
    gate_outside = logits(gate, steering)
    # m (z + a d) = m z + (m a) d
    steering, gate = both(6.0, 3.0)
    torch.testing.assert_close(gate_inside, logits(gate, steering), rtol=0, atol=1e-11)
    assert (gate_inside - gate_outside).abs().max() > 1e-4
    # A gate of 0 silences steering.
    steering, gate = both(2.0, 0.0)
    torch.testing.assert_close(logits(steering, gate), logits(both(2.0, 0.0)[1]), rtol=0, atol=0)


def test_in_float64_several_heads_and_back_again(zoo, exact_softmax):
    model = zoo.fresh("llama-gqa", torch.float64)
    documents = tokens_of(model)
    tokens, real = pad(documents)
    direction = direction_between(model)
    heads = HeadSet(["L0H1", "L2H3"], head_shape(model))
    with torch.no_grad():
        untouched = model(tokens)[real]
        with steered(model, heads, direction, 0.0):
            assert torch.equal(model(tokens)[real], untouched)
        with steered(model, heads, direction, 1.5), steered(model, heads, direction, -1.5):
            torch.testing.assert_close(model(tokens)[real], untouched, rtol=0, atol=1e-11)
        with steered(model, heads, direction, 1.5):
            both = model(tokens)[real]
        with (
            steered(model, ["L0H1"], direction, 1.5),
            steered(model, ["L2H3"], 3 * direction, 0.5),
        ):
            torch.testing.assert_close(model(tokens)[real], both, rtol=0, atol=1e-11)
    assert (both - untouched).abs().max() > 1e-3


def test_steering_by_what_is_missing_is_the_mean_baseline(zoo):
    """z of a head off, plus its mean: gate 0 with baseline mean."""
    model = zoo.bridge("cohere")
    tokens, _ = pad(tokens_of(model))
    mean = mean_z(model, tokens_of(model))
    with torch.no_grad():
        with gated(model, ["L1H0"], 0.0, baseline=mean):
            expected = model(tokens)
        with gated(model, ["L1H0"], 0.0), steered(model, ["L1H0"], mean):
            torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("heads", "shape", "message"),
    [
        (["L9H0"], (3, 4, 8), "head L9H0 asked for"),
        ([], (3, 4, 8), "no heads to steer"),
        (["L0H0"], (2, 4, 8), r"direction of shape \[2, 4, 8\], expected \[3, 4, d_head\]"),
        (
            HeadSet(["L0H0"], (5, 5)),
            (3, 4, 8),
            "a model of 5 layers x 5 heads, but this one has 3 x 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(zoo, heads, shape, message):
    model = zoo.bridge("llama-gqa")
    with (
        pytest.raises(ProvenanceError if "but this one" in message else InputError, match=message),
        steered(model, heads, torch.ones(shape)),
    ):
        pass


def test_steering_that_does_not_fire_is_told(zoo):
    model = zoo.bridge("llama-gqa")
    direction = torch.ones(3, 4, 8)
    with (
        pytest.raises(InterventionError, match="did not fire"),
        steered(model, ["L0H0"], direction),
    ):
        pass
    with (
        pytest.raises(InterventionError, match=r"layer 0 is .* directions expect"),
        steered(model, ["L0H0"], torch.ones(3, 4, 1)),
    ):
        model(torch.tensor([[1, 2]]))
    with (
        pytest.raises(InterventionError, match="stopped after layer 1 of 3"),
        steered(model, ["L0H0"], direction),
    ):
        model(torch.tensor([[1, 2]]), stop_at_layer=2)
    assert not any(hook.fwd_hooks for hook in model.hook_dict.values())


@pytest.mark.parametrize(("value", "amount"), [(1.0, float("nan")), (float("inf"), 1.0)])
def test_steering_that_is_no_number_is_refused(zoo, value, amount):
    model = zoo.bridge("llama-gqa")
    direction = torch.zeros(3, 4, 8)
    direction[1, 2] = value
    with (
        pytest.raises(InputError, match="values that are NaN or infinite"),
        steered(model, ["L1H2"], direction, amount),
    ):
        pass
    # Heads that are not chosen do not matter.
    with steered(model, ["L0H0"], direction, 1.0):
        model(model.to_tokens("ab"))
