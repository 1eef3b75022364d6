"""Fused attention: used where it is equal to eager attention, and put back afterwards."""

import sys
from functools import partial

import pytest
import torch
from transformer_lens.model_bridge.generalized_components import NormalizationBridge

from langheads.model import document_nll, gated, head_shape, map_documents
from langheads.model.fused_attention import _close, fused_attention
from tests.models.test_losses import documents_of
from tests.models.zoo import NAMES, pad, tokens_of

module = sys.modules["langheads.model.fused_attention"]
# Gemma-2's soft cap and GPT-2's wrapper keep it eager; BLOOM has no fused kernel of its own.
FUSED = set(NAMES) - {"gemma2", "gpt2", "bloom"}


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_runs_once_a_layer_and_gives_the_same_logits(zoo, name, monkeypatch):
    model = zoo.bridge(name)
    tokens, real = pad(tokens_of(model))
    calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(1)
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    with torch.no_grad():
        eager = model(tokens)
        assert not calls
        with fused_attention(model) as fused:
            calls.clear()
            logits = model(tokens)
        assert len(calls) == (head_shape(model)[0] if name in FUSED else 0)
        assert fused or name not in FUSED
        torch.testing.assert_close(logits[real], eager[real], rtol=1e-4, atol=1e-4)
        with pytest.raises(RuntimeError, match="on purpose"), fused_attention(model):
            raise RuntimeError("on purpose")
        calls.clear()
        assert torch.equal(model(tokens), eager)
        assert not calls


def test_a_hook_that_fails_at_first_use_does_not_cost_the_kernel(zoo):
    model = zoo.fresh("llama-gqa")

    def fails(z, hook):
        raise ZeroDivisionError

    tokens, _ = pad(tokens_of(model))
    hooks = model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", fails)])
    with hooks, fused_attention(model) as fused:
        assert fused
        with pytest.raises(ZeroDivisionError):
            model(tokens)
    with fused_attention(model) as fused:
        assert fused


@pytest.mark.parametrize("point", ["hook_pattern", "hook_rot_q", "q.hook_out"])
def test_a_hook_inside_attention_is_heard_after_the_kernel_was_trusted(zoo, point):
    model = zoo.fresh("llama-gqa")
    documents = documents_of(model)

    def losses():
        return map_documents(model, documents, partial(document_nll, model)).detach()

    without = losses()
    model.add_hook(f"blocks.1.attn.{point}", lambda value, hook: 0.5 * value)
    # By another route: one document after the other, and no word of langheads but the sum.
    expected = []
    with torch.no_grad():
        for tokens in documents.tokens:
            each = torch.log_softmax(model(tokens[None])[0, :-1].float(), dim=-1)
            expected.append(-each[torch.arange(len(each)), tokens[1:]].sum())
    with fused_attention(model) as fused:
        assert not fused
    torch.testing.assert_close(losses(), torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert (losses() - without).abs().max() > 1e-3
    model.reset_hooks()
    with fused_attention(model) as fused:
        assert fused
    assert torch.equal(losses(), without)


def test_a_hook_on_z_leaves_the_kernel(zoo):
    model = zoo.fresh("llama-gqa")
    model.add_hook("blocks.1.attn.hook_z", lambda value, hook: 0.5 * value)
    with fused_attention(model) as fused:
        assert fused


def test_a_model_is_checked_once_and_not_under_hooks_that_would_be_passed_by(zoo, monkeypatch):
    model, checks = zoo.fresh("llama-gqa"), []
    monkeypatch.setattr(module, "_equal_to_eager", lambda of: checks.append(of) or True)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", lambda value, hook: None)]):
        with fused_attention(model) as inside:
            assert not inside
        assert not checks
    for _ in range(2):
        with fused_attention(model) as inside:
            assert inside
        assert checks == [model]


def test_a_kernel_that_raises_is_not_trusted(zoo, monkeypatch, caplog):
    def raises(*args, **kwargs):
        raise NotImplementedError("there is none")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", raises)
    with caplog.at_level("INFO"), fused_attention(zoo.fresh("llama-gqa")) as inside:
        assert not inside
    assert caplog.messages == ["fused attention is not used: there is none"]


@pytest.mark.parametrize("scale", ["loss", "gradient"])
def test_a_kernel_that_differs_is_not_trusted(zoo, monkeypatch, scale, caplog):
    model = zoo.fresh("llama-gqa")
    kernel = torch.nn.functional.scaled_dot_product_attention

    def differs(query, key, value, *args, **kwargs):
        out = kernel(query, key, value, *args, **kwargs)
        # Values 1% off, or values as they should be with half of the gradient.
        return 1.01 * out if scale == "loss" else 0.5 * out + 0.5 * out.detach()

    caplog.set_level("INFO")
    with fused_attention(zoo.fresh("llama-gqa")) as fused:
        assert fused
    assert not caplog.messages
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", differs)
    with fused_attention(model) as fused:
        assert not fused
    told = "fused attention is not used: gate gradients differ from eager attention"
    assert caplog.messages == [told]


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_the_kernel_is_checked_without_the_gates_that_stand(zoo, monkeypatch, gate):
    """Under gates of 0 every kernel is equal."""
    model = zoo.fresh("llama-gqa")
    tokens, _ = pad(tokens_of(model))
    gates = torch.full(head_shape(model), gate)
    with torch.no_grad(), gated(model, gates):
        expected = model(tokens)
        with fused_attention(model) as fused:
            assert fused
            # The gates are heard again once the kernel was checked.
            torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-4)
    assert not any(point.has_hooks(including_permanent=False) for point in model.hook_dict.values())
    other = zoo.fresh("llama-gqa")
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: 1.3 * kernel(*args, **kwargs),
    )
    with gated(other, gates), fused_attention(other) as fused:
        assert not fused
        other(tokens)


def test_losses_and_the_gradients_of_each_layer_must_agree():
    eps = torch.finfo(torch.float32).eps
    nll, gradient = torch.tensor([50.0, 20.0]), torch.ones(2, 3, 4)
    gradient[:, 0] *= 1000
    assert _close((nll, gradient), (nll, gradient), eps)
    # Of losses at most a hundred thousandth, whatever the gradients say.
    assert _close((nll + 4e-4, gradient), (nll, gradient), eps)
    for off in (1e-3, -1e-3):
        assert not _close((nll + torch.tensor([0, off]), gradient), (nll, gradient), eps)
    nothing = gradient.clone()
    nothing[:, 1] = 0
    assert _close((nll, nothing), (nll, nothing), eps)
    # Of no layer: the losses say nothing of attention.
    assert not _close((nll, 0 * gradient), (nll, 0 * gradient), eps)
    # Gradients by a thousand times the precision of the largest of their layer.
    for layer, largest in ((0, 1000), (2, 1)):
        for times, close in ((1000, True), (1001, False), (-1000, True), (-1001, False)):
            lost = gradient.clone()
            lost[0, layer, 1] += times * eps * largest
            assert _close((nll, lost), (nll, gradient), eps) == close
    # Losses at the limit itself are close.
    limit = 1e-5 * torch.tensor(50.0)
    assert _close(
        (torch.stack([limit, nll[0]]), gradient), (torch.tensor([0.0, 50]), gradient), eps
    )
    # In 16 bits their direction, in every layer.
    eps = torch.finfo(torch.bfloat16).eps
    assert _close((nll, 1.1 * gradient), (nll, gradient), eps)
    for off, close in ((1.031, True), (1.032, False), (0.969, True), (0.968, False)):
        assert _close((off * nll, gradient), (nll, gradient), eps) == close
    lost[:, 2] = torch.tensor([1.0, -1, 1, -1])
    assert not _close((nll, lost), (nll, gradient), eps)
    assert not _close((1.2 * nll, gradient), (nll, gradient), eps)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt-neox", "gemma3"])
def test_norms_are_computed_once_and_their_hooks_are_heard(zoo, name, monkeypatch):
    model = zoo.fresh(name)
    tokens, _ = pad(tokens_of(model))
    calls = []
    rsqrt = torch.rsqrt
    monkeypatch.setattr(torch, "rsqrt", lambda x: calls.append(1) or rsqrt(x))
    ones = [p for p in model.modules() if isinstance(p, NormalizationBridge)]
    at = ("ln_final.hook_normalized", lambda x, hook: seen.append(x.norm(dim=-1).mean()))
    seen = []
    with torch.no_grad():
        model(tokens)
        before = len(calls)
        with fused_attention(model):
            pass
        calls.clear()
        model(tokens)
        # As they were, once the block has ended.
        assert len(calls) == before
    with torch.no_grad(), fused_attention(model):
        calls.clear()
        logits = model(tokens)
        # Layer norm of PyTorch takes none.
        assert len(calls) == (0 if name == "gpt-neox" else len(ones))
        with model.hooks(fwd_hooks=[at]):
            assert torch.equal(model(tokens), logits)
    assert len(calls) == (1 if name == "gpt-neox" else 2 * len(ones) + 1)
    assert seen[0].item() == pytest.approx(32**0.5, rel=0.01)
