"""Scores from activations, against bare hooks, plain transformers and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from hooks.output_norm import gradient_activation, output_norm
from langheads.model import head_shape, tokenize_languages
from langheads.scores import activation
from langheads.scores.score import score
from tests.models.zoo import NAMES, TEXTS, hugging_face, projection, tokens_of, w_o
from tests.oracle.texts import TEXTS as BY_LANGUAGE


@pytest.mark.usefixtures("exact_softmax")
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_equal_to_the_bare_hooks(zoo, batch_tokens):
    model = zoo.bridge("llama-gqa", torch.float64)
    documents = tokenize_languages(model, {"xx": TEXTS}, bos=True)["xx"]
    norms = activation.output_norms(model, documents, batch_tokens=batch_tokens)
    products = activation.gradient_activations(model, documents, batch_tokens=batch_tokens)
    for i, tokens in enumerate(tokens_of(model, TEXTS)):
        for layer, head in [(0, 0), (1, 2), (2, 3)]:
            assert norms[i, layer, head] == pytest.approx(
                output_norm(model, tokens, layer, head).item(), rel=1e-6
            )
            assert products[i, layer, head] == pytest.approx(
                gradient_activation(model, tokens, layer, head).item(), rel=1e-5
            )


@pytest.mark.parametrize("name", NAMES)
def test_output_norm_by_the_weights_of_plain_transformers(zoo, name):
    model, network = zoo.bridge(name), hugging_face(name)
    tokens = tokens_of(model, TEXTS[:1])[0]
    seen = {}
    for layer in range(head_shape(model)[0]):
        projection(network, name, layer).register_forward_pre_hook(
            lambda module, args, layer=layer: seen.update({layer: args[0][0]})
        )
    with torch.no_grad():
        network(tokens[None])
    documents = tokenize_languages(model, {"xx": TEXTS[:1]}, bos=True)["xx"]
    norms = activation.output_norms(model, documents)[0]
    heads = head_shape(model)[1]
    for layer, z in seen.items():
        for head, part in enumerate(z.chunk(heads, dim=-1)):
            written = part @ w_o(network, name, layer, head)
            assert norms[layer, head] == pytest.approx(float(written.norm(dim=-1).mean()), rel=1e-4)


def test_entropy_by_scipy():
    rng = np.random.default_rng(0)
    norms = {x: rng.random((2, 3)) for x in ("en", "zh", "hi")}
    found = activation.activation_entropy(norms)
    stacked = np.stack(list(norms.values()))
    missing = np.log(3) - entropy(stacked, axis=0)
    for i, language in enumerate(norms):
        np.testing.assert_allclose(
            found[language], stacked[i] / stacked.sum(axis=0) * missing, rtol=1e-12
        )
    # One language alone uses the head: all of log 3 is its own.
    alone = activation.activation_entropy(
        {"en": np.ones((1, 1)), "zh": np.zeros((1, 1)), "hi": np.zeros((1, 1))}
    )
    assert alone["en"].item() == pytest.approx(np.log(3))
    assert alone["zh"].item() == 0


def test_scores_of_all_methods_stand_in_one_file(zoo):
    model = zoo.bridge("llama-gqa")
    methods = ["quadrature", "grad-act", "output-norm", "entropy", "random", "taylor"]
    found = score(model, BY_LANGUAGE, method=methods, bos=True, seed=5)
    documents = tokenize_languages(model, {x: list(BY_LANGUAGE[x]) for x in BY_LANGUAGE}, bos=True)
    norms = {x: activation.output_norms(model, d) for x, d in documents.items()}
    for language, rows in norms.items():
        np.testing.assert_allclose(
            found.output_norm.sel(language=language), rows.mean(axis=0), rtol=1e-5
        )
        np.testing.assert_allclose(
            found.output_norm_se.sel(language=language),
            rows.std(axis=0, ddof=1) / np.sqrt(len(rows)),
            rtol=1e-4,
        )
    expected = activation.activation_entropy({x: rows.mean(axis=0) for x, rows in norms.items()})
    np.testing.assert_allclose(found.entropy.sel(language="hi"), expected["hi"], rtol=1e-4)
    again = score(model, BY_LANGUAGE, method=["random", "quadrature"], bos=True, seed=5)
    np.testing.assert_array_equal(found.random, again.random)
    np.testing.assert_array_equal(found.quadrature, again.quadrature)
    assert len(np.unique(found.random)) == found.random.size
    assert found.quadrature.attrs["units"] == "nats per token"
