"""Exact knock-out against one full forward a head, and against weights with W_O zeroed."""

import numpy as np
import pytest
import torch

from hooks.knockout import knock_out, total_nll
from hooks.knockout import knockout as one_by_one
from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.model import head_shape, mean_z, tokenize_languages
from langheads.scores.exact_knockout import knockout
from langheads.scores.scan import knockout_nll
from tests.models.zoo import TEXTS, hugging_face, tokens_of, w_o

NAMES = ("llama-gqa", "cohere", "gemma2", "bloom")


def everyone(model):
    layers, heads = head_shape(model)
    return HeadSet(
        [Head(layer, h) for layer in range(layers) for h in range(heads)], (layers, heads)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_equals_one_full_forward_a_head(zoo, name, batch_tokens):
    """Batches of one document and one head, of some, and of all heads of a layer side by side."""
    model = zoo.bridge(name)
    documents = tokenize_languages(model, {"xx": TEXTS}, bos=True)["xx"]
    heads = everyone(model)
    on, *off = knockout_nll(model, documents, heads, batch_tokens=batch_tokens).T
    off = np.stack(off, axis=1)
    for i, tokens in enumerate(documents.tokens):
        predicted = len(tokens) - 1
        expected = one_by_one(model, tokens[None], *heads.shape).flatten().numpy()
        np.testing.assert_allclose((off[i] - on[i]) / predicted, expected, rtol=0, atol=1e-5)
        with torch.no_grad():
            assert on[i] == pytest.approx(float(total_nll(model, tokens[None])), rel=1e-5)
        # Otherwise this test could not fail (Cohere scales its logits by 1/16).
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_equals_weights_with_the_slice_zeroed(zoo, name):
    model, network = zoo.bridge(name), hugging_face(name)
    documents = tokenize_languages(model, {"xx": TEXTS}, bos=True)["xx"]
    heads = everyone(model)
    off = knockout_nll(model, documents, heads, batch_tokens=4096)[:, 1:]
    for j, head in enumerate(heads):
        part = w_o(network, name, *head)
        before = part.clone()
        part.zero_()
        for i, tokens in enumerate(documents.tokens):
            with torch.no_grad():
                log_probs = network(tokens[None]).logits[0, :-1].log_softmax(dim=-1)
            nll = -log_probs.gather(-1, tokens[1:, None]).sum()
            assert off[i, j] / (len(tokens) - 1) == pytest.approx(
                float(nll) / (len(tokens) - 1), abs=1e-5
            )
        part.copy_(before)


def test_dataset_by_hand(zoo):
    """Both baselines, some heads only: ratios of sums, NaN where nothing was asked."""
    model = zoo.bridge("llama-gqa")
    texts = {"en": TEXTS[:1] + TEXTS[4:], "zh": (TEXTS[1], "狗在跑。", "好。")}
    found = knockout(model, texts, heads=["L2H1", "L0H3"], baseline=("zero", "mean"), bos=True)
    means = {
        language: mean_z(model, [model.to_tokens(t, prepend_bos=True)[0] for t in of_language])
        for language, of_language in texts.items()
    }
    baseline = (means["en"] + means["zh"]) / 2
    for language, of_language in texts.items():
        tokens = tokens_of(model, of_language)
        n_bytes = sum(len(text.encode()) for text in of_language)
        for layer, head in [(2, 1), (0, 3)]:
            for name, value in (("zero", 0.0), ("mean", baseline[layer, head])):
                rise = 0.0
                for document in tokens:
                    with torch.no_grad():
                        hook = (f"blocks.{layer}.attn.hook_z", knock_out(head, value))
                        with model.hooks(fwd_hooks=[hook]):
                            rise += float(total_nll(model, document[None]))
                        rise -= float(total_nll(model, document[None]))
                at = {"baseline": name, "language": language, "layer": layer, "head": head}
                assert found.delta_nats_per_byte.sel(at).item() == pytest.approx(
                    rise / n_bytes, abs=1e-5
                )
                assert found.delta_nats_per_token.sel(at).item() == pytest.approx(
                    rise / sum(len(t) - 1 for t in tokens), abs=1e-5
                )
                assert found.delta_nats_per_byte_se.sel(at).item() > 0
    assert np.isfinite(found.delta_nats_per_byte).sum() == 2 * 2 * 2
    assert found.attrs["kind"] == "knockout"


def test_the_loss_per_byte_where_tokens_are_fewer(zoo):
    """Without BOS two bytes of three are predicted of a first character, which counts whole."""
    model, texts = zoo.bridge("llama-gqa"), ("猫", "狗在跑。")
    found = knockout(model, {"zh": texts}, heads=["L0H0"], bos=False)
    tokens = [model.to_tokens(text, prepend_bos=False) for text in texts]
    with torch.no_grad():
        nll = sum(float(total_nll(model, of)) for of in tokens)
    assert found.nats_per_byte.item() == pytest.approx(nll / 15, rel=1e-5)
    assert sum(of.shape[1] - 1 for of in tokens) == 13


def test_unknown_baseline_is_refused(zoo):
    with pytest.raises(InputError, match="baseline median asked for; allowed are zero, mean"):
        knockout(zoo.bridge("llama-gqa"), {"en": TEXTS}, baseline="median")


def test_fewer_heads_at_once_when_memory_runs_out(zoo, monkeypatch, caplog):
    from langheads.scores import scan

    model = zoo.bridge("llama-gqa")
    documents = tokenize_languages(model, {"xx": TEXTS}, bos=True)["xx"]
    heads = everyone(model)
    expected = knockout_nll(model, documents, heads, batch_tokens=400)
    longest = max(len(tokens) for tokens in documents.tokens)
    real = scan.document_nll

    def small(model, tokens, lengths):
        if tokens.numel() > 2 * longest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried too much.")
        return real(model, tokens, lengths)

    monkeypatch.setattr(scan, "document_nll", small)
    found = knockout_nll(model, documents, heads, batch_tokens=400)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert "out of memory: going on with" in caplog.text
