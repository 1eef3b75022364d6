"""Losses and gate gradients of padded batches are those of the documents one at a time."""

import numpy as np
import pytest
import torch

from hooks.lahis import gate_gradient
from langheads.model import document_nll, head_shape, map_documents
from langheads.model.nll import token_nll
from langheads.scores.gradient import gate_gradients
from langheads.text import Documents
from tests.models.zoo import NAMES, TEXTS, hugging_face, pad, tokens_of, w_o


def documents_of(model, texts=TEXTS):
    n_bytes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    return Documents("xx", tuple(tokens_of(model, texts)), n_bytes, 0, True, 64)


def nll_by_hand(network, tokens):
    """Summed NLL of one document, from plain Hugging Face, a token at a time."""
    with torch.no_grad():
        probabilities = network(tokens[None]).logits[0].double().softmax(dim=-1)
    return -sum(float(probabilities[p - 1, t].log()) for p, t in enumerate(tokens) if p > 0)


@pytest.mark.parametrize("name", NAMES)
def test_padded_losses_are_those_of_single_documents(zoo, name):
    model, network = zoo.bridge(name), hugging_face(name)
    documents = documents_of(model)
    expected = [nll_by_hand(network, tokens) for tokens in documents.tokens]
    lengths = torch.tensor([len(tokens) for tokens in documents.tokens])
    for padding in (0, 200):
        with torch.no_grad():
            batch = document_nll(model, pad(documents.tokens, padding)[0], lengths)
        np.testing.assert_allclose(batch.numpy(), expected, rtol=1e-5)
    for batch_tokens in (1, 100, 10_000):
        rows = map_documents(
            model,
            documents,
            lambda tokens, lengths: document_nll(model, tokens, lengths).detach(),
            batch_tokens=batch_tokens,
        )
        np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-5)
    # Documents differ, so an order mixed up would show.
    assert np.diff(np.sort(expected)).min() > 1


def test_losses_from_a_start_on_are_those_of_the_tokens_after_it(zoo):
    model, network = zoo.bridge("llama-gqa"), hugging_face("llama-gqa")
    documents = tokens_of(model)
    tokens, real = pad(documents, 200)
    lengths = real.sum(dim=1)
    starts = torch.tensor([1, 2, 5, len(documents[3]) - 1, len(documents[4])])
    with torch.no_grad():
        each = token_nll(model, tokens, lengths)
        found = document_nll(model, tokens, lengths, starts)
    assert each.shape == (len(tokens), tokens.shape[1] - 1)
    for row, (document, start) in enumerate(zip(documents, starts.tolist(), strict=True)):
        before = nll_by_hand(network, document[:start])
        assert found[row].item() == pytest.approx(nll_by_hand(network, document) - before, abs=1e-4)
        assert each[row, : len(document) - 1].min() > 0
        assert not each[row, len(document) - 1 :].any()


@pytest.mark.parametrize("name", NAMES)
def test_gate_gradients_of_a_batch_are_those_of_single_documents(zoo, name, exact_softmax):
    exact = zoo.bridge(name, torch.float64)
    layers, heads = head_shape(exact)
    documents = documents_of(exact)
    expected = np.array(
        [
            [
                [gate_gradient(exact, t, la, he).item() for he in range(heads)]
                for la in range(layers)
            ]
            for t in documents.tokens
        ]
    )
    # A gradient of 0 everywhere, or one that is the same in all documents, would prove little.
    size = np.abs(expected).max(axis=(1, 2), keepdims=True)
    assert (np.abs(expected) > 1e-4 * size).all()
    assert (np.ptp(expected, axis=0) > 0.1 * size.min()).all()
    for batch_tokens in (1, 10_000):
        gradients, nll = gate_gradients(exact, documents, batch_tokens=batch_tokens)
        np.testing.assert_allclose(gradients, expected, rtol=0, atol=1e-8)
    by_hand = [nll_by_hand(hugging_face(name), t) / (len(t) - 1) for t in documents.tokens]
    np.testing.assert_allclose(nll, by_hand, rtol=1e-5)

    single = zoo.bridge(name, torch.float32)
    for batch_tokens in (1, 10_000):
        gradients, _ = gate_gradients(single, documents, batch_tokens=batch_tokens)
        assert (np.abs(gradients - expected) <= 1e-4 * size).all()


@pytest.mark.parametrize("name", NAMES)
def test_gate_gradients_are_those_of_w_o(zoo, name, exact_softmax):
    """No hook: a gate scales its head's slice of W_O, so dm is the sum of slice times gradient."""
    model, network = zoo.bridge(name, torch.float64), hugging_face(name, torch.float64)
    layers, heads = head_shape(model)
    documents = documents_of(model)
    gradients, _ = gate_gradients(model, documents)
    for row, tokens in enumerate(documents.tokens):
        network.zero_grad()
        logits = network(tokens[None]).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, tokens[1:]).backward()
        for layer in range(layers):
            for head in range(heads):
                part = w_o(network, name, layer, head)
                slope = w_o(network, name, layer, head, gradient=True)
                assert abs(gradients[row, layer, head] - float((part * slope).sum())) < 1e-8
