"""Scores against their bare twins in `hooks/`, in float64, one head and one document at a time."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import langheads
from hooks.lahis import gate_gradient, lahis, lahis_paper
from hooks.lahis_sequential import lahis_sequential as bare_sequential
from hooks.taylor import taylor
from langheads.model import head_shape
from langheads.scores.formulas import LAHIS
from langheads.scores.gradient import lahis_sequential
from langheads.scores.score import score
from langheads.text import Documents, read_texts
from tests.models.zoo import hugging_face, tokens_of, w_o
from tests.oracle.texts import TEXTS

NAME = "llama-gqa"
pytestmark = pytest.mark.usefixtures("exact_softmax")


@pytest.fixture(scope="module")
def model(zoo, exact_softmax):
    return zoo.bridge(NAME, torch.float64)


def test_the_hook_in_the_readme_gives_the_score_beside_it(model):
    page = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    by_hook, by_library = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    names = {"torch": torch, "cross_entropy": torch.nn.functional.cross_entropy, "model": model}
    names["documents"] = tokens_of(model, TEXTS["zh"])
    exec(by_hook, names)
    found = names["lahis"].item()
    assert 'langheads.score(model, "texts/")' in by_library
    scores = langheads.score(model, TEXTS)
    assert 'scores.lahis.sel(language="zh", layer=1, head=3)' in by_library
    assert found == pytest.approx(scores.lahis.sel(language="zh", layer=1, head=3).item(), rel=1e-6)


def each_head(model, measure):
    """``[layer, head]`` of a function of one head."""
    layers, heads = head_shape(model)
    return torch.stack(
        [torch.stack([measure(layer, head) for head in range(heads)]) for layer in range(layers)]
    )


@pytest.fixture(scope="module")
def gradients(model):
    """Language -> ``[doc, layer, head]`` by `hooks/lahis.py`, in the texts' order."""
    return {
        language: torch.stack(
            [
                each_head(model, lambda layer, head, t=t: gate_gradient(model, t, layer, head))
                for t in tokens_of(model, texts)
            ]
        )
        for language, texts in TEXTS.items()
    }


@pytest.fixture(scope="module")
def first_order(model):
    """``[language, layer, head]`` by `hooks/taylor.py`."""

    def mean_over(documents):
        return each_head(
            model,
            lambda layer, head: torch.stack(
                [taylor(model, tokens, layer, head) for tokens in documents]
            ).mean(),
        )

    return torch.stack([mean_over(tokens_of(model, texts)) for texts in TEXTS.values()]).numpy()


def by_hooks(model, gradients, formula):
    """``[language, layer, head]`` of a formula of one head's gradients ``[doc]``."""
    return torch.stack(
        [each_head(model, lambda layer, head, g=g: formula(g[:, layer, head])) for g in gradients]
    ).numpy()


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_scores_are_those_of_the_bare_hooks(model, gradients, first_order, batch_tokens, seed):
    # seed orders the documents, batch_tokens batches and pads them: neither may matter.
    scores = score(
        model,
        TEXTS,
        method=["lahis", "lahis-paper", "taylor"],
        seed=seed,
        batch_tokens=batch_tokens,
    )
    assert list(scores.language.values) == list(TEXTS)
    for name, formula in (
        ("lahis", lahis),
        ("lahis_paper", lahis_paper),
        ("grad_abs", lambda g: g.abs().mean()),
        ("helpful", lambda g: (g < 0).double().mean()),
    ):
        expected = by_hooks(model, gradients.values(), formula)
        np.testing.assert_allclose(scores[name].values, expected, rtol=1e-8, atol=1e-12)
        assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores.taylor.values, first_order, rtol=1e-8, atol=1e-12)
    # The variants are different things.
    assert np.abs(scores.lahis - scores.lahis_paper).max() > 0.01
    assert (scores.lahis_paper >= scores.taylor).all()
    assert scores.lahis.attrs["units"] == scores.taylor_se.attrs["units"] == "nats per token"


def test_counts_and_loss_are_those_of_the_texts(model):
    scores = score(model, TEXTS, method="taylor")
    network = hugging_face(NAME, torch.float64)
    for language, texts in TEXTS.items():
        here = scores.sel(language=language)
        # A token a byte, and BOS in front, which nothing predicts.
        n_bytes = sum(len(text.encode()) for text in texts)
        assert (here.docs, here.skipped, here.tokens, here.bytes) == (8, 0, n_bytes, n_bytes)
        nll = 0.0
        for tokens in tokens_of(model, texts):
            with torch.no_grad():
                log_p = network(tokens[None]).logits[0].log_softmax(dim=-1)
            nll -= sum(float(log_p[p, token]) for p, token in enumerate(tokens[1:]))
        np.testing.assert_allclose(here.nats_per_byte, nll / n_bytes, rtol=1e-7)


def test_float32_scores_are_the_float64_ones(zoo, model, gradients):
    single = zoo.bridge(NAME, torch.float32)
    for batch_tokens in (1, 100_000):
        scores = score(single, TEXTS, method=["lahis", "taylor"], batch_tokens=batch_tokens)
        for name, formula in (("lahis", lahis), ("taylor", lambda g: -g.mean())):
            expected = by_hooks(model, gradients.values(), formula)
            np.testing.assert_allclose(
                scores[name].values, expected, rtol=0, atol=1e-4 * np.abs(expected).max()
            )


def documents_of(model, texts):
    n_bytes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    return Documents("xx", tuple(tokens_of(model, texts)), n_bytes, 0, True, 64)


def gate_gradients_by_weights(network, tokens, gates):
    """Gradient at any gates without a hook: m scales a slice of W_O, so dm = <dW_O, W_O slice>."""
    heads = [(layer, head) for layer in range(gates.shape[0]) for head in range(gates.shape[1])]
    slices = {(layer, head): w_o(network, NAME, layer, head) for layer, head in heads}
    original = {head: part.clone() for head, part in slices.items()}
    for head, part in slices.items():
        part.mul_(gates[head])
    network.zero_grad()
    torch.nn.functional.cross_entropy(network(tokens[None]).logits[0, :-1], tokens[1:]).backward()
    gradient = np.zeros(gates.shape)
    for (layer, head), part in slices.items():
        slope = w_o(network, NAME, layer, head, gradient=True)
        gradient[layer, head] = (slope * original[layer, head]).sum()
        part.copy_(original[layer, head])
    return gradient


def sequential_by_weights(network, documents, shape):
    """The released script step by step: AdamW written out, gates on the weights."""
    m, first, second = np.ones(shape), np.zeros(shape), np.zeros(shape)
    size, helpful = [], []
    for step, tokens in enumerate(documents, start=1):
        g = gate_gradients_by_weights(network, tokens, m)
        size.append(np.abs(g * m))
        helpful.append(g * m < 0)
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        m = m * (1 - 1e-2 * 1e-2)
        m = m - 1e-2 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return 1000 * np.mean(size, axis=0) * np.mean(helpful, axis=0)


@pytest.mark.parametrize("language", TEXTS)
def test_sequential_is_the_script_step_by_step(model, language):
    network = hugging_face(NAME, torch.float64)
    maps = []
    for texts in (TEXTS[language], TEXTS[language][::-1]):
        documents = documents_of(model, texts)
        library = lahis_sequential(model, documents)
        by_weights = sequential_by_weights(network, documents.tokens, head_shape(model))
        np.testing.assert_allclose(library, by_weights, rtol=1e-6)
        bare = bare_sequential(model, documents.tokens).numpy()
        np.testing.assert_allclose(library, bare, rtol=1e-8)
        maps.append(library)
    # The order of documents matters here, and the steps do too.
    assert np.abs(maps[0] - maps[1]).max() > 1e-4 * np.abs(maps[0]).max()
    still = 1000 * by_hooks(
        model,
        [
            torch.stack(
                [
                    each_head(model, lambda layer, head, t=t: gate_gradient(model, t, layer, head))
                    for t in documents.tokens
                ]
            )
        ],
        lahis,
    )
    assert np.abs(maps[1] - still[0]).max() > 0.01 * still.max()


def test_sequential_scores_follow_the_order_of_the_corpus(model):
    for seed in (0, 1):
        scores = score(model, TEXTS, method="lahis-sequential", languages=["zh", "en"], seed=seed)
        for language, texts in read_texts(TEXTS, seed=seed).front(None).items():
            if language in ("zh", "en"):
                np.testing.assert_allclose(
                    scores.lahis_sequential.sel(language=language),
                    bare_sequential(model, tokens_of(model, texts)).numpy(),
                    rtol=1e-8,
                )
    assert scores.lahis_sequential.attrs["units"] == "1e-3 nats per token"
    assert "lahis_sequential_se" not in scores


def jackknife(values, gradients):
    """Standard error by leaving out one document at a time."""
    n = len(gradients)
    without = np.stack([values(np.delete(gradients, i, axis=0)) for i in range(n)])
    return np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))


def weighted_lahis(g, weights):
    """LAHIS of documents that count unequally; weights add up to 1."""
    return np.tensordot(weights, np.abs(g), 1) * np.tensordot(weights, g < 0, 1)


def infinitesimal_jackknife(g):
    """Standard error by counting one document a little more at a time."""
    n, little = len(g), 1e-6
    slopes = []
    for i in range(n):
        more = (1 - little) / n + little * (np.arange(n) == i)
        less = (1 + little) / n - little * (np.arange(n) == i)
        slopes.append((weighted_lahis(g, more) - weighted_lahis(g, less)) / (2 * little))
    return np.sqrt((np.array(slopes) ** 2).sum(axis=0) / (n * (n - 1)))


def test_standard_errors_of_the_dataset(model, gradients):
    scores = score(model, TEXTS, method=["lahis", "lahis-paper", "taylor"])
    for row, of_language in enumerate(gradients.values()):
        g = of_language.numpy()
        expected = infinitesimal_jackknife(g)
        np.testing.assert_allclose(scores.lahis_se[row], expected, rtol=1e-6, atol=1e-9)
        for name, terms in {"lahis_paper": np.where(g < 0, -g, 0), "taylor": -g}.items():
            expected = terms.std(axis=0, ddof=1) / np.sqrt(len(g))
            np.testing.assert_allclose(scores[f"{name}_se"][row], expected, rtol=1e-7, atol=1e-12)


def test_standard_error_of_lahis_is_that_of_the_jackknife():
    rng = np.random.default_rng(0)
    # Heads that never help, always do, and do now and then; skewed, as gradients are.
    centre = np.linspace(-4, 4, 12).reshape(3, 4)
    g = (rng.gamma(2.0, 1.0, size=(200, 3, 4)) - 2) * 0.7 + centre
    library = LAHIS.standard_error(g)
    expected = jackknife(
        lambda sample: weighted_lahis(sample, np.full(len(sample), 1 / len(sample))), g
    )
    never = ~(g < 0).any(axis=0)
    assert never.any()
    assert (g < 0).all(axis=0).any()
    assert (library[never] == 0).all()
    np.testing.assert_allclose(library[~never], expected[~never], rtol=0.1)
    assert np.isnan(LAHIS.standard_error(g[:1])).all()
