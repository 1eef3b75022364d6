"""A gate on a head does what it says, in every architecture: held to the weights without a hook."""

import sys

import pytest
import torch
from einops import repeat

from hooks.gate import logits_under_gate
from hooks.mean_baseline import mean_z as mean_z_of_one_head
from langheads.experiments.replies.generate import generate
from langheads.heads import HeadSet
from langheads.heads.mask import HeadMask
from langheads.io.errors import InputError, InterventionError
from langheads.model import gated, head_shape, mean_z
from tests.models.zoo import HEADS, NAMES, TEXTS, hugging_face, pad, projection, tokens_of, w_o


def heads_of(model):
    layers, heads = head_shape(model)
    return [(layer, head) for layer in range(layers) for head in range(heads)]


@torch.no_grad()
def logits_with_scaled_w_o(network, name, tokens, layer, head, factor):
    """Plain Hugging Face, no hook: one head's slice of W_O times a factor, then put back."""
    part = w_o(network, name, layer, head)
    before = part.clone()
    part.mul_(factor)
    try:
        return network(tokens).logits
    finally:
        part.copy_(before)


@pytest.mark.parametrize("name", NAMES)
def test_bridge_is_the_hugging_face_model(zoo, name):
    # In float64, where the order of sums, which differs from one processor to the next, is nothing.
    model, network = zoo.bridge(name, torch.float64), hugging_face(name, torch.float64)
    tokens, _ = pad(tokens_of(model))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), network(tokens).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gate_one_on_everything_changes_nothing(zoo, name):
    model = zoo.bridge(name)
    tokens, _ = pad(tokens_of(model))
    shape = head_shape(model)
    # Gates that want a gradient are multiplied in even where they are 1.
    every = [torch.ones(shape), torch.ones(shape, requires_grad=True)]
    every += [torch.ones(len(tokens), *shape), torch.ones(len(tokens), *shape, requires_grad=True)]
    with torch.no_grad():
        untouched = model(tokens)
        for gates in every:
            with gated(model, gates):
                assert torch.equal(model(tokens), untouched)


@pytest.mark.parametrize("factor", [0.0, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_gate_is_a_factor_on_the_heads_slice_of_w_o(zoo, name, factor):
    model, network = zoo.bridge(name), hugging_face(name)
    documents = tokens_of(model, TEXTS[:2])
    tokens, real = pad(documents)
    heads = heads_of(model)
    with torch.no_grad():
        untouched = model(tokens)[real]
    expected = [logits_with_scaled_w_o(network, name, tokens, *h, factor) for h in heads]
    for head, logits in zip(heads, expected, strict=True):
        with torch.no_grad(), gated(model, [head], factor):
            library = model(tokens)
        torch.testing.assert_close(library[real], logits[real], rtol=0, atol=1e-5)
        bare = logits_under_gate(model, tokens, *head, m=factor)
        torch.testing.assert_close(library[real], bare[real], rtol=0, atol=1e-5)
        # Padding counts for nothing: alone, each document gives the same.
        for row, document in enumerate(documents):
            alone = logits_with_scaled_w_o(network, name, document[None], *head, factor)[0]
            torch.testing.assert_close(library[row, real[row]], alone, rtol=0, atol=1e-5)
        # Otherwise this test could not fail.
        assert (library[real] - untouched).abs().max() > 0.02 * untouched.std()

    # A gate of its own for every row: all heads, each with both documents, in one forward.
    gates = torch.ones(len(heads), len(tokens), *head_shape(model))
    for row, (layer, head) in enumerate(heads):
        gates[row, :, layer, head] = factor
    rows = repeat(tokens, "doc pos -> (head doc) pos", head=len(heads))
    with torch.no_grad(), gated(model, gates.flatten(end_dim=1)):
        together = model(rows).unflatten(0, (len(heads), len(tokens)))
    for logits, row in zip(expected, together, strict=True):
        torch.testing.assert_close(row[real], logits[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_mean_z_counts_every_real_token_once(zoo, name):
    model = zoo.bridge(name)
    documents = tokens_of(model)
    expected = torch.stack([mean_z_of_one_head(model, documents, *h) for h in heads_of(model)])
    expected = expected.unflatten(0, head_shape(model))
    for batch_tokens in (1, 100, 10_000):
        library = mean_z(model, documents, batch_tokens=batch_tokens)
        torch.testing.assert_close(library, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gate_zero_puts_the_baseline_in_the_heads_place(zoo, name):
    model, network = zoo.bridge(name), hugging_face(name)
    documents = tokens_of(model)
    tokens, real = pad(documents[:2])
    mean = mean_z(model, documents)
    for layer, head in heads_of(model):
        with torch.no_grad(), gated(model, [(layer, head)], 0.0, baseline=mean):
            library = model(tokens)
        bare = logits_under_gate(
            model,
            tokens,
            layer,
            head,
            baseline=mean_z_of_one_head(model, documents, layer, head),
        )
        torch.testing.assert_close(library[real], bare[real], rtol=0, atol=1e-5)
        # Without a hook: the head's slice of W_O is gone, what it did to the mean is in the bias.
        module = projection(network, name, layer)
        bias, shift = module.bias, mean[layer, head] @ w_o(network, name, layer, head)
        module.bias = torch.nn.Parameter(shift if bias is None else bias.data + shift)
        by_weights = logits_with_scaled_w_o(network, name, tokens, layer, head, 0.0)
        module.bias = bias
        torch.testing.assert_close(library[real], by_weights[real], rtol=0, atol=2e-5)
        zero = logits_under_gate(model, tokens, layer, head)
        assert (library[real] - zero[real]).abs().max() > 1e-3 * zero[real].std()


def test_the_mean_of_z_collects_no_gradient(zoo):
    model = zoo.fresh("llama-gqa")
    assert any(weight.requires_grad for weight in model.original_model.parameters())
    assert not mean_z(model, tokens_of(model)[:1]).requires_grad


def test_there_is_no_mean_of_nothing(zoo):
    with pytest.raises(InputError, match=r"^a mean of z of no documents asked for; give at least"):
        mean_z(zoo.bridge("llama-gqa"), [])


def test_baseline_of_a_half_open_gate_is_mixed_in(zoo):
    model = zoo.bridge("llama-gqa")
    documents = tokens_of(model)
    mean = mean_z(model, documents)
    baseline = mean_z_of_one_head(model, documents, 1, 2)
    tokens, _ = pad(documents[:1])
    with torch.no_grad(), gated(model, ["L1H2"], 0.25, baseline=mean):
        library = model(tokens)
    bare = logits_under_gate(model, tokens, 1, 2, m=0.25, baseline=baseline)
    torch.testing.assert_close(library, bare, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_gates_that_are_no_numbers(zoo, wrong):
    model = zoo.bridge("llama-gqa")
    gates = torch.ones(2, *head_shape(model))
    gates[1, 2, 3] = wrong
    # The first is named.
    more = gates.clone()
    more[1, 2, 1] = wrong
    with pytest.raises(InputError, match=r"^the gate of L2H1 is"), gated(model, more):
        pass
    for of in (gates, gates[1]):
        message = f"the gate of L2H3 is {wrong}; gates must be finite"
        with pytest.raises(InputError, match=message), gated(model, of):
            pass
    with pytest.raises(InputError, match=f"L1H0 is {wrong}"), gated(model, ["L1H0"], wrong):
        pass
    for much in (1e300, -1e39):
        with pytest.raises(InputError, match=r"L1H0 is .*finite"), gated(model, ["L1H0"], much):
            pass
    with pytest.raises(InputError, match="L2H3"):
        generate(model, TEXTS[:2], gates=gates, max_new_tokens=1, batch_tokens=1)


def test_a_learned_mask_is_its_gates(zoo):
    model = zoo.bridge("llama-gqa")
    heads = HeadSet(["L0H1", "L2H3"], head_shape(model))
    mask = HeadMask(heads, (2.5, 0.0), "en", "tiny", {}, {}, {}, {})
    gates = torch.ones(head_shape(model))
    gates[0, 1], gates[2, 3] = 2.5, 0.0
    tokens, _ = pad(tokens_of(model))
    with torch.no_grad(), gated(model, gates):
        expected = model(tokens)
    with torch.no_grad(), gated(model, mask):
        assert torch.equal(model(tokens), expected)
    replies = [generate(model, TEXTS, gates=of, max_new_tokens=8) for of in (mask, gates, None)]
    assert replies[0] == replies[1] != replies[2]


def test_all_heads_of_a_layer_off_is_the_layer_without_attention(zoo):
    model, network = zoo.bridge("llama-gqa"), hugging_face("llama-gqa")
    tokens, real = pad(tokens_of(model))
    with torch.no_grad(), gated(model, [(1, head) for head in range(HEADS)]):
        library = model(tokens)
    projection(network, "llama-gqa", 1).weight.data.zero_()
    with torch.no_grad():
        expected = network(tokens).logits
    torch.testing.assert_close(library[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_the_same_gate_on_all_heads_of_a_layer(zoo, factor):
    model, network = zoo.bridge("llama-gqa"), hugging_face("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    gates = torch.ones(head_shape(model))
    gates[1] = factor
    projection(network, "llama-gqa", 1).weight.data.mul_(factor)
    with torch.no_grad(), gated(model, gates):
        torch.testing.assert_close(model(tokens), network(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (2, 4), (4, 4), (4,), (1, 2, 3, 4), (2, 3, 5)])
@pytest.mark.usefixtures("untyped")
def test_gates_are_of_every_head_and_perhaps_of_every_row(zoo, shape):
    model = zoo.bridge("llama-gqa")
    with pytest.raises(InputError) as told, gated(model, torch.ones(shape)):
        pass
    assert str(told.value) == (f"gates of shape {list(shape)}, expected [3, 4] or [batch, 3, 4]")


def test_gates_of_one_row_are_not_those_of_two(zoo):
    model = zoo.bridge("llama-gqa")
    gates = torch.full((1, 3, 4), 0.5)
    with pytest.raises(InterventionError) as told, gated(model, gates):
        model(torch.ones(2, 5, dtype=torch.long))
    assert str(told.value) == (
        "hook_z of layer 0 is [2, 5, 4, 8], gates expect [1, pos, 4, d_head]"
    )


def test_the_mean_of_z_is_what_every_shard_needs_first(zoo, monkeypatch):
    """On another kind of machine the last bits may be others, and parts are named by them."""
    asked, model = [], zoo.bridge("llama-gqa")
    monkeypatch.setattr(
        sys.modules["langheads.model.gates"],
        "kept_as_one",
        lambda of, work, tokens, make, **how: asked.append((work, how)) or make([0]),
    )
    mean_z(model, tokens_of(model)[:1], batch_tokens=77)
    assert asked == [(["mean z", 77], {"by_all": True})]


@pytest.mark.parametrize("shape", [(3, 3, 8), (2, 4, 8), (4, 4, 8), (3, 4), (3, 4, 8, 1)])
@pytest.mark.usefixtures("untyped")
def test_a_baseline_is_of_every_head(zoo, shape):
    model = zoo.bridge("llama-gqa")
    with pytest.raises(InputError) as told, gated(model, ["L0H1"], baseline=torch.ones(shape)):
        pass
    assert str(told.value) == f"baseline of shape {list(shape)}, expected [3, 4, d_head]"


@pytest.mark.parametrize(
    ("first", "gate"), [(-1, 1.0), (3, 1.0), (4, 1.0), (2, 0.0), (2, 3.0), (2, -1.0)]
)
def test_layers_that_do_not_run_have_no_gates(zoo, first, gate):
    gates = torch.ones(3, 4)
    gates[1, 0] = gate
    with (
        pytest.raises(InputError) as told,
        gated(zoo.bridge("llama-gqa"), gates, first_layer=first),
    ):
        pass
    assert str(told.value) == (
        f"gates of layers before first_layer {first} must be 1: they do not run"
    )


@pytest.mark.parametrize("first", [0, 1, 2])
def test_gates_of_layers_that_run_are_those_without_a_first_layer(zoo, first):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    with torch.no_grad(), gated(model, ["L2H1"], 0.0):
        expected = model(tokens)
    with torch.no_grad(), gated(model, ["L2H1"], 0.0, first_layer=first):
        assert torch.equal(model(tokens), expected)


def test_gates_in_gates_multiply(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    with torch.no_grad(), gated(model, ["L0H1"], 2.0), gated(model, ["L0H1", "L2H3"], 1.5):
        both = model(tokens)
    network = hugging_face("llama-gqa")
    w_o(network, "llama-gqa", 0, 1).mul_(3.0)
    w_o(network, "llama-gqa", 2, 3).mul_(1.5)
    with torch.no_grad():
        torch.testing.assert_close(both, network(tokens).logits, rtol=0, atol=1e-5)
    assert head_shape(model) == (3, HEADS)
