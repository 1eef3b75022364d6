"""Attention patterns against the bare hook, against plain transformers, and as distributions."""

import numpy as np
import pytest
import torch

from hooks.attention_pattern import attention_pattern, pooled
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.model import gated, head_shape
from langheads.model.attention_patterns import head_patterns
from langheads.model.fused_attention import fused_attention
from langheads.view import show_attention
from tests.models.zoo import TEXTS, hugging_face, tokens_of

NAMES = ("llama-gqa", "mistral-window", "gemma2", "qwen3", "bloom", "gpt2", "cohere")
HEADS = ["L1H3", "L0H2", "L1H0"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_bare_hook_and_plain_transformers(zoo, exact_softmax, name):
    model = zoo.bridge(name, torch.float64)
    heads = HeadSet(HEADS, head_shape(model))
    tokens = tokens_of(model)[0]
    found = head_patterns(model, tokens, heads)
    network = hugging_face(name, torch.float64)
    with torch.no_grad():
        plain = network(tokens[None], output_attentions=True).attentions
    for pattern, head in zip(found, heads, strict=True):
        bare = attention_pattern(model, tokens[None], *head).numpy()
        np.testing.assert_array_equal(pattern, bare)
        expected = plain[head.layer][0, head.head].numpy()
        np.testing.assert_allclose(pattern, expected, rtol=0, atol=1e-6)
        assert pattern.std() > 0.05
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-6)
    assert (np.triu(found, 1) == 0).all()


def test_the_view_pools_as_the_hook_does(zoo):
    """A token a byte: every character of Chinese is three tokens, shown as one unit."""
    model = zoo.bridge("llama-gqa", torch.float64)
    text = TEXTS[1]
    context = show_attention(model, text, HEADS, bos=True, provenance=False).data.contexts[0]
    assert context.tokens == ("<bos>", *text)
    tokens = model.to_tokens(text, prepend_bos=True)
    starts = [0, *range(1, tokens.shape[1], 3)]
    for pattern, head in zip(context.patterns, HeadSet(HEADS, (3, 4)), strict=True):
        bare = pooled(attention_pattern(model, tokens, *head), starts).numpy()
        np.testing.assert_allclose(pattern, bare, rtol=0, atol=1e-12)
    np.testing.assert_allclose(context.patterns.sum(axis=2), 1, atol=1e-6)


def test_before_and_after_a_gate(zoo):
    model = zoo.bridge("llama-gqa")
    view = show_attention(
        model, TEXTS[0], ["L2H1", "L0H2"], gates=["L0H2"], gate=3.0, bos=True, provenance=False
    )
    before, after = view.data.contexts
    tokens = model.to_tokens(TEXTS[0], prepend_bos=True)
    with gated(model, ["L0H2"], 3.0):
        bare = attention_pattern(model, tokens, 2, 1).numpy()
    np.testing.assert_allclose(after.patterns[0], bare, rtol=0, atol=1e-6)
    # Its own pattern lies before the gate; a later head's does not.
    np.testing.assert_array_equal(after.patterns[1], before.patterns[1])
    assert np.abs(after.patterns[0] - before.patterns[0]).max() > 0.01


def test_flags_and_hooks_are_as_before(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, heads = tokens_of(model)[0], HeadSet(HEADS, (3, 4))
    network = model.original_model
    expected = head_patterns(model, tokens, heads)
    network.set_attn_implementation("sdpa")
    try:
        found = head_patterns(model, tokens, heads)
        assert network.config._attn_implementation == "sdpa"
    finally:
        network.set_attn_implementation("eager")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    with fused_attention(model) as fused:
        assert fused
        found = head_patterns(model, tokens, heads)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert network.config._attn_implementation == "sdpa"
    assert network.config._attn_implementation == "eager"
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_heads_of_another_model_are_refused(zoo):
    model = zoo.bridge("llama-gqa")
    tokens = tokens_of(model)[0]
    with pytest.raises(InputError, match=r"of shape \(9, 9\) asked for; this one has \(3, 4\)"):
        head_patterns(model, tokens, HeadSet(["L8H8"], (9, 9)))
    with pytest.raises(InputError, match="at least one head is needed"):
        head_patterns(model, tokens, HeadSet([], (3, 4)))
