"""Direct attribution, gradients and patching of heads, in every architecture."""

import pytest
import torch

from hooks.grad_activation import grad_activation
from hooks.patching import patch
from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.model import gated, head_shape
from langheads.model.fused_attention import fused_attention
from langheads.model.logit_attribution import PARTS, readout
from langheads.scores.attribution import _gradient
from langheads.scores.patching import logit_difference, patched_differences
from tests.models.zoo import NAMES, TEXTS, hugging_face, pad, projection, tokens_of, w_o

# The final norm, whether its weight is an offset from one, and whether it takes off the mean.
_FINAL = {
    "gpt-neox": ("gpt_neox.final_layer_norm", False, True),
    "bloom": ("transformer.ln_f", False, True),
    "gpt2": ("transformer.ln_f", False, True),
    "cohere": ("model.norm", False, True),
    "cohere2": ("model.norm", False, True),
    "gemma3": ("model.norm", True, False),
}
_LINEAR = [name for name in NAMES if name != "gemma2"]


def everyone(model):
    layers, heads = head_shape(model)
    return HeadSet([Head(i, h) for i in range(layers) for h in range(heads)], (layers, heads))


def answers(tokens):
    rows = torch.arange(len(tokens))
    return 20 + 7 * rows, 50 + 3 * rows


@torch.no_grad()
def by_plain_torch(network, name, document, answer, wrong, shape):
    """Direct attribution ``[layer, head]`` with no TransformerLens: inputs of modules, formulas."""
    path, offset, centred = _FINAL.get(name, ("model.norm", False, False))
    final = network.get_submodule(path)
    kept, handles = {}, []

    def keep(module, key):
        def before(module, args):
            kept[key] = args[0][0, -1]

        handles.append(module.register_forward_pre_hook(before))

    def scaled(norm, x, direction):
        """Row of the norm's Jacobian with its scale held, at x."""
        weight = norm.weight + 1 if offset else norm.weight
        x = x - x.mean() if centred else x
        eps = next(getattr(norm, k) for k in ("variance_epsilon", "eps") if hasattr(norm, k))
        before = weight * direction / (x.square().mean() + eps).sqrt()
        return before - before.mean() if centred else before

    keep(final, "end")
    for layer in range(shape[0]):
        keep(projection(network, name, layer), layer)
        if name in ("gemma3", "olmo2"):
            norm = network.model.layers[layer].post_attention_layernorm
            keep(norm, ("after", layer))
    logits = network(document[None]).logits[0, -1]
    for handle in handles:
        handle.remove()
    unembed = network.get_output_embeddings().weight
    direction = (unembed[answer] - unembed[wrong]) * getattr(network.config, "logit_scale", 1.0)
    direction = scaled(final, kept["end"], direction)
    found = torch.zeros(shape, dtype=logits.dtype)
    for layer in range(shape[0]):
        at = direction
        if ("after", layer) in kept:
            norm = network.model.layers[layer].post_attention_layernorm
            at = scaled(norm, kept["after", layer], direction)
        for head, z in enumerate(kept[layer].chunk(shape[1])):
            found[layer, head] = z @ w_o(network, name, layer, head) @ at
    return found, logits[answer] - logits[wrong]


@pytest.mark.parametrize("name", _LINEAR)
def test_direct_adds_up_and_equals_plain_torch(zoo, name):
    model, network = zoo.bridge(name, torch.float64), hugging_face(name, torch.float64)
    documents = tokens_of(model)
    tokens, real = pad(documents)
    answer, wrong = answers(tokens)
    with fused_attention(model):
        found = readout(model, tokens, real.sum(dim=1), answer, wrong)
    torch.testing.assert_close(found.parts.sum(dim=1), found.difference, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        found.heads.sum(dim=(1, 2)), found.parts[:, PARTS.index("heads")], rtol=0, atol=1e-12
    )
    for row, document in enumerate(documents):
        heads, difference = by_plain_torch(
            network, name, document, answer[row], wrong[row], head_shape(model)
        )
        # Norms of these models compute in float32 whatever they are given.
        torch.testing.assert_close(found.heads[row], heads, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.difference[row], difference, rtol=0, atol=1e-5)
    # Otherwise this test could not fail.
    assert found.heads.abs().amax() > 0.05 * found.difference.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama-gqa", "olmo2", "cohere", "bloom"])
def test_direct_in_narrower_numbers(zoo, name, dtype):
    model = zoo.bridge(name, dtype)
    tokens, real = pad(tokens_of(model))
    answer, wrong = answers(tokens)
    found = readout(model, tokens, real.sum(dim=1), answer, wrong)
    exact = readout(zoo.bridge(name, torch.float64), tokens, real.sum(dim=1), answer, wrong)
    atol = (1e-5 if dtype == torch.float32 else 0.03) * exact.difference.abs().max().item()
    torch.testing.assert_close(found.heads.double(), exact.heads, rtol=0, atol=atol)
    torch.testing.assert_close(found.parts.double(), exact.parts, rtol=0, atol=2 * atol)


def test_direct_of_logits_behind_a_soft_cap_is_refused(zoo):
    model = zoo.bridge("gemma2")
    tokens, real = pad(tokens_of(model))
    with pytest.raises(InputError, match="soft cap of 30 follows its unembedding"):
        readout(model, tokens, real.sum(dim=1), *answers(tokens))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_a_finite_difference_of_the_gate_and_the_bare_hook(zoo, name):
    model = zoo.bridge(name, torch.float64)
    documents = tokens_of(model, TEXTS[1:3])
    tokens, real = pad(documents)
    answer, wrong = answers(tokens)
    lengths, shape = real.sum(dim=1), head_shape(model)
    found = _gradient(model, tokens, lengths, torch.stack([torch.arange(2), answer, wrong], dim=1))
    step, heads = 1e-2, list(everyone(model))
    # Every head with its gate a step up and a step down, in one batch.
    gates = torch.ones(2, len(heads), 2, *shape, dtype=torch.float64)
    for row, (layer, head) in enumerate(heads):
        gates[0, row, :, layer, head] += step
        gates[1, row, :, layer, head] -= step
    copies = 2 * len(heads)
    with torch.no_grad(), gated(model, gates.flatten(end_dim=2)):
        sides = logit_difference(
            model,
            tokens.repeat(copies, 1),
            *(each.repeat(copies) for each in (lengths, answer, wrong)),
        ).unflatten(0, (2, len(heads), 2))
    slope = (sides[0] - sides[1]).T / (2 * step)
    torch.testing.assert_close(found[:, 1:], slope, rtol=5e-3, atol=5e-4)
    for column, (layer, head) in enumerate(heads, start=1):
        row = column % 2
        bare = grad_activation(model, documents[row], answer[row], wrong[row], layer, head)
        torch.testing.assert_close(found[row, column], bare, rtol=0, atol=1e-5)
    assert found[:, 1:].abs().max() > 0.05 * found[:, 0].abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_patching_equals_the_bare_hook(zoo, name):
    """Two pairs of different length in one batch, in batches of one head and of all."""
    model = zoo.bridge(name)
    documents = tokens_of(model)
    clean, corrupt = [documents[0], documents[1]], [documents[4], documents[3]]
    (a, real_a), (b, real_b) = pad(clean), pad(corrupt)
    answer, wrong = answers(a)
    heads = everyone(model)
    bare = torch.tensor(
        [
            [patch(model, clean[i], corrupt[i], answer[i], wrong[i], *head) for head in heads]
            for i in range(2)
        ]
    )
    for budget in (1, 4096):
        found = patched_differences(
            model,
            (a, real_a.sum(dim=1)),
            (b, real_b.sum(dim=1)),
            answer,
            wrong,
            heads,
            budget=budget,
        )
        gap, rise = found[:, :1] - found[:, 1:2], found[:, 2:] - found[:, 1:2]
        torch.testing.assert_close(rise, bare * gap, rtol=0, atol=2e-5)
    assert rise.abs().max() > 0.05 * gap.abs().max()
