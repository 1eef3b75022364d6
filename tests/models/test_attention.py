"""Fused attention: used where it is equal to eager attention, and put back afterwards."""

import pytest
import torch

from langheads.model import head_shape
from langheads.model.fused_attention import fused_attention
from tests.models.zoo import NAMES, pad, tokens_of

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

    with (
        model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", fails)]),
        pytest.raises(ZeroDivisionError),
        fused_attention(model),
    ):
        pass
    with fused_attention(model) as fused:
        assert fused
