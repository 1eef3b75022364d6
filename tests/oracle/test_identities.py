"""What must hold whatever the code looks like: finite differences, sums over heads, precision."""

import numpy as np
import pytest
import torch

from hooks.lahis import gate_gradient
from langheads.model import gated, head_shape
from langheads.scores.formulas import LAHIS, LAHIS_PAPER, TAYLOR
from langheads.scores.gradient import gate_gradients
from langheads.text import Documents
from tests.models.zoo import NAMES, hugging_face, pad, projection, tokens_of, w_o

TEXT = "The cat sleeps. 猫在睡觉"
pytestmark = pytest.mark.usefixtures("exact_softmax")


def as_documents(tokens):
    return Documents("xx", tuple(tokens), np.array([len(t) for t in tokens]), 0, True, 1024)


@torch.no_grad()
def loss_with_scaled_w_o(network, name, tokens, layer, head, gate):
    part = w_o(network, name, layer, head)
    before = part.clone()
    part.mul_(gate)
    logits = network(tokens[None]).logits
    part.copy_(before)
    return torch.nn.functional.cross_entropy(logits[0, :-1], tokens[1:]).item()


# RMS norms compute in float32 even in a float64 model, which a small difference divides by little.
@pytest.mark.parametrize(
    ("name", "step", "tolerance"),
    [
        ("gpt2", 1e-3, 1e-6),
        ("gpt-neox", 1e-3, 1e-6),
        ("bloom", 1e-3, 1e-6),
        ("llama-gqa", 1e-2, 1e-3),
    ],
)
def test_gradient_is_the_finite_difference_of_the_loss(zoo, name, step, tolerance):
    model, network = zoo.bridge(name, torch.float64), hugging_face(name, torch.float64)
    documents = as_documents(tokens_of(model, [TEXT, "Katze"]))
    gradients, _ = gate_gradients(model, documents)
    layers, heads = head_shape(model)
    for layer in range(layers):
        for head in range(heads):
            at = {
                k: loss_with_scaled_w_o(
                    network, name, documents.tokens[0], layer, head, 1 + k * step
                )
                for k in (-2, -1, 1, 2)
            }
            difference = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
            assert gradients[0, layer, head] == pytest.approx(difference, rel=tolerance)


# BLOOM adds the residual inside its attention module.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bloom"])
def test_heads_and_bias_add_up_to_the_attention_output(zoo, name):
    model, network = zoo.bridge(name, torch.float64), hugging_face(name, torch.float64)
    tokens, _ = pad(tokens_of(model, [TEXT, "Katze"]))
    layers, heads = head_shape(model)
    z, out, out_off = {}, {}, {}

    def keep(where):
        def hook_fn(value, hook):
            where[int(hook.name.split(".")[1])] = value

        return hook_fn

    def point(layer, where):
        return (f"blocks.{layer}.attn.hook_out", keep(where))

    with torch.no_grad():
        model.run_with_hooks(
            tokens,
            fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep(z)) for layer in range(layers)]
            + [point(layer, out) for layer in range(layers)],
        )
        # The last layer only: a head off there leaves the others' z as it was.
        with gated(model, [(layers - 1, 2)], 0.0):
            model.run_with_hooks(tokens, fwd_hooks=[point(layers - 1, out_off)])
    for layer in range(layers):
        results = [z[layer][:, :, h] @ w_o(network, name, layer, h) for h in range(heads)]
        bias = projection(network, name, layer).bias
        total = sum(results) + (0 if bias is None else bias.data)
        torch.testing.assert_close(out[layer], total, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        out_off[layers - 1], out[layers - 1] - results[2], rtol=0, atol=1e-10
    )
    assert results[2].abs().max() > 0.1


def test_gradients_of_a_bfloat16_model_are_summed_in_float32(zoo, monkeypatch):
    # Eager attention in the library too, so that only the sum differs.
    monkeypatch.setattr("langheads.model.fused_attention._equal_to_eager", lambda model: False)
    model = zoo.fresh("llama-gqa", torch.bfloat16)
    tokens = tokens_of(model, [TEXT * 8])[0]
    layers, heads = head_shape(model)
    gradients, _ = gate_gradients(model, as_documents([tokens]))
    narrow = torch.zeros(layers, heads)
    exact = torch.zeros(layers, heads, dtype=torch.float64)
    for layer in range(layers):
        kept = []

        def keep(z, hook, kept=kept):
            kept.append(z.detach().requires_grad_())
            return kept[0]

        logits = model.run_with_hooks(
            tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)]
        )
        nll = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[1:])
        (slope,) = torch.autograd.grad(nll, kept)
        z = kept[0].detach()
        exact[layer] = (z.double() * slope.double()).sum(dim=(0, 1, 3))
        for head in range(heads):
            total = torch.zeros((), dtype=torch.bfloat16)
            for term in (z * slope)[0, :, head].flatten():
                total = total + term
            narrow[layer, head] = total
    size = exact.abs().max()
    np.testing.assert_allclose(gradients[0], exact.numpy(), rtol=0, atol=1e-5 * float(size))
    # What a gate in bfloat16 would have given.
    assert (narrow.double() - exact).abs().max() > 1e-2 * size
    bare = gate_gradient(model, tokens, layers - 1, 1).item()
    assert gradients[0, layers - 1, 1] == pytest.approx(bare, rel=1e-4)


@pytest.mark.parametrize("formula", [LAHIS, LAHIS_PAPER, TAYLOR])
def test_a_thousand_equal_documents_do_not_stop_the_sum(formula):
    one = torch.ones(1000, dtype=torch.bfloat16)
    total = torch.zeros((), dtype=torch.bfloat16)
    for value in one:
        total = total + value
    assert total == 256
    gradients = -one.double().numpy().reshape(1000, 1, 1)
    assert formula.values(gradients).item() == 1.0
