"""The quadrature score: its formula by hand, where it is exact, and what it estimates."""

import sys

import numpy as np
import pytest
import torch
from scipy.optimize import differential_evolution
from scipy.stats import norm, spearmanr

import langheads
from hooks.quadrature import estimated_rise, gradient_at
from langheads.demo import grammar
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.model import head_shape, tokenize_languages
from langheads.scores.gradient import gate_gradients
from langheads.scores.quadrature import quadrature, shrunk
from langheads.scores.scan import knockout_nll
from langheads.stats import paired_ratio, standard_error
from langheads.text import Documents
from tests.oracle.texts import TEXTS

module = sys.modules["langheads.scores.quadrature"]


@pytest.mark.usefixtures("exact_softmax")
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_the_formula_by_hand(zoo, batch_tokens):
    """Every gradient again by a bare hook, one document and one head at a time."""
    model = zoo.bridge("llama-gqa", torch.float64)
    shape = head_shape(model)
    documents = tokenize_languages(model, {"en": TEXTS["en"]}, bos=True)["en"]
    g, _ = gate_gradients(model, documents)
    rows = quadrature(model, documents, g, seed=4, shrink=False, batch_tokens=batch_tokens)
    rng = np.random.default_rng(4)
    drawn = [module._draw(len(documents), shape, rng) for _ in range(3)]
    size = documents.n_predicted / documents.n_predicted.mean()
    ones = torch.ones(shape, dtype=torch.float64)
    for layer, head in [(0, 1), (1, 3), (2, 0)]:
        inside, outside, at_one, of_each = [], [], [], []
        for i, tokens in enumerate(documents.tokens):
            first = float(gradient_at(model, tokens, layer, head, ones))
            at_one.append(size[i] * first)
            for one in drawn:
                gates = torch.from_numpy(np.where(one[i], 1 / 3, 1.0))
                y = size[i] * (float(gradient_at(model, tokens, layer, head, gates)) - first)
                (inside if one[i, layer, head] else outside).append(y)
                of_each.append((i, one[i, layer, head], y))
        change = np.mean(inside) - np.mean(outside)
        expected = -(np.mean(at_one) + 0.75 * change)
        assert rows[:, layer, head].mean() == pytest.approx(expected, rel=1e-8)
        # A document adds to both means what it is off by, and a long one to their unit as well.
        added = np.zeros(len(documents))
        for i, drawn_here, y in of_each:
            added[i] += (
                (y - np.mean(inside)) / len(inside)
                if drawn_here
                else (np.mean(outside) - y) / len(outside)
            )
        each = -(np.array(at_one) + 0.75 * (change + len(documents) * added))
        each -= (size - 1) * expected
        np.testing.assert_allclose(rows[:, layer, head], each, rtol=1e-6, atol=1e-12)


def test_every_head_is_drawn_equally_often_and_alone():
    drawn = module._draw(4000, (3, 8), np.random.default_rng(0))
    assert (drawn.sum(axis=0) == 500).all()
    # One head of a layer would leave no documents outside, many of them none inside.
    assert (module._draw(5, (2, 1), np.random.default_rng(0)).sum(axis=0) == 4).all()
    assert (module._draw(3, (2, 9), np.random.default_rng(0)).sum(axis=0) == 1).all()
    # Of 11 documents a quarter is 2.75.
    assert (module._draw(11, (2, 4), np.random.default_rng(0)).sum(axis=0) == 3).all()
    together = np.corrcoef(drawn.reshape(4000, -1).T)
    np.fill_diagonal(together, 0)
    assert np.abs(together).max() < 5 / np.sqrt(4000)


def test_exact_where_the_loss_is_cubic_in_the_gates(zoo, monkeypatch):
    """A made-up loss: a cubic of every gate, and products of every two gates."""
    model = zoo.bridge("llama-gqa")
    layers, heads = shape = head_shape(model)
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, *shape))
    pairs = rng.normal(size=(layers, heads, layers, heads))
    pairs = pairs + pairs.transpose(2, 3, 0, 1)
    for layer, head in np.ndindex(shape):
        pairs[layer, head, layer, head] = 0
    count = 4000
    tokens = (torch.zeros(8, dtype=torch.long),) * count
    documents = Documents("xx", tokens, np.full(count, 8), 0, True, 8)

    def gradients(model, documents, *, at, **settings):
        return a + 2 * b * at + 3 * c * at**2 + np.einsum("lhkj,dkj->dlh", pairs, at), None

    monkeypatch.setattr(module, "gate_gradients", gradients)
    g, _ = gradients(model, documents, at=np.ones((count, *shape)))
    rows = quadrature(model, documents, g)
    # Removing a head takes its own cubic and its products with all others, which stay at 1.
    expected = -(a + b + c + pairs.sum(axis=(2, 3)))
    error = rows.std(axis=0, ddof=1) / np.sqrt(count)
    assert np.abs((rows.mean(axis=0) - expected) / error).max() < 5
    assert error.max() < 0.2


def test_standard_error_is_the_spread_over_draws(zoo, monkeypatch):
    """Documents that differ in their gradients at 1/3: the error, against many seeds."""
    model = zoo.bridge("llama-gqa")
    shape = head_shape(model)
    count = 60
    own = np.random.default_rng(0).normal(loc=2.0, size=(count, *shape))
    tokens = (torch.zeros(8, dtype=torch.long),) * count
    documents = Documents("xx", tokens, np.full(count, 8), 0, True, 8)

    def gradients(model, documents, *, at, **settings):
        return own * (at - 1), None

    monkeypatch.setattr(module, "gate_gradients", gradients)
    zero = np.zeros((count, *shape))
    rows = [quadrature(model, documents, zero, seed=seed) for seed in range(200)]
    spread = np.std([r.mean(axis=0) for r in rows], axis=0)
    error = np.mean([r.std(axis=0, ddof=1) / np.sqrt(count) for r in rows], axis=0)
    # The spread over draws alone leaves out that documents are a sample, too: 45 of the 60 differ.
    assert (error > 0.8 * spread).all()
    assert (error < 2.0 * spread).all()
    same = np.full((count, *shape), 2.0)
    own = same
    flat = quadrature(model, documents, zero)
    assert flat.std(axis=0).max() < 1e-12


def test_without_curvature_the_standard_error_is_that_of_a_ratio(zoo, monkeypatch):
    """Documents of many lengths: what first order alone has as nats over tokens."""
    model = zoo.bridge("llama-gqa")
    documents = Documents.of_rows("xx", [[1] * length for length in range(2, 32)])
    tokens = documents.n_predicted
    g = np.random.default_rng(0).normal(1, 0.3, size=(30, *head_shape(model)))
    monkeypatch.setattr(module, "gate_gradients", lambda *args, **how: (g, None))
    rows = quadrature(model, documents, g)
    expected = paired_ratio(np.zeros(30), -g * tokens[:, None, None], tokens)
    np.testing.assert_allclose((rows.mean(axis=0), standard_error(rows)), expected)


@pytest.mark.slow
def test_standard_error_is_the_spread_over_resampled_documents(monkeypatch):
    """Documents of many lengths: the formula again on documents drawn with replacement."""
    model = langheads.load("demo")
    stories = iter(grammar.documents("en", 150, seed=3))
    texts = ["\n".join(next(stories) for _ in range(1 + i % 4)) for i in range(60)]
    documents = tokenize_languages(model, {"en": texts})["en"]
    g, _ = gate_gradients(model, documents)
    drawn, change = [], []

    def recorded(*args, at, **settings):
        found = gate_gradients(*args, at=at, **settings)
        drawn.append(at < 1)
        change.append(found[0] - g)
        return found

    monkeypatch.setattr(module, "gate_gradients", recorded)
    rows = quadrature(model, documents, g, shrink=False)
    inside, y = np.array(drawn), np.array(change)
    outside = ~inside

    def estimates(times):
        """Of documents that are in `times` ``[sample, doc]`` times; as many as there are."""
        mean_tokens = times @ documents.n_predicted / times.sum(axis=1)
        w = times * documents.n_predicted / mean_tokens[:, None]
        means = [
            np.einsum("sd,dlh->slh", w, (where * y).sum(axis=0))
            / np.einsum("sd,dlh->slh", times, where.sum(axis=0))
            for where in (inside, outside)
        ]
        first_order = np.einsum("sd,dlh->slh", w, g) / times.sum(axis=1)[:, None, None]
        return -(first_order + 0.75 * (means[0] - means[1]))

    np.testing.assert_allclose(rows.mean(axis=0), estimates(np.ones((1, 60)))[0], atol=1e-12)
    drawn_again = np.random.default_rng(0).integers(60, size=(600, 60))
    times = np.stack([np.bincount(picked, minlength=60) for picked in drawn_again]).astype(float)
    spread = np.std(estimates(times), axis=0)
    ratio = (standard_error(rows) / spread).ravel()
    strongest = np.argsort(-np.abs(rows.mean(axis=0)).ravel())[:6]
    assert np.abs(np.log(ratio[strongest])).max() < np.log(1.2)
    assert np.median(ratio) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("language", ["en", pytest.param("hi", marks=pytest.mark.slow)])
def test_estimates_exact_knock_out_in_nats(language):
    """On the demo: one number for another, better than first order and than LAHIS."""
    model = langheads.load("demo")
    layers, heads = shape = head_shape(model)
    everyone = HeadSet([(x, y) for x in range(layers) for y in range(heads)], shape)
    # The shorter ones of a hundred, for speed.
    texts = {language: sorted(grammar.documents(language, 100, seed=3), key=len)[:36]}
    for documents in tokenize_languages(model, texts).values():
        g, _ = gate_gradients(model, documents)
        estimate = quadrature(model, documents, g).mean(axis=0).ravel()
        found = knockout_nll(model, documents, everyone)
        on, off = found[:, 0], found[:, 1:]
        exact = (off - on[:, None]).sum(axis=0) / documents.n_predicted.sum()
        first_order = -g.mean(axis=0).ravel()
        lahis = (np.abs(g).mean(axis=0) * (g < 0).mean(axis=0)).ravel()
        assert np.corrcoef(estimate, exact)[0, 1] > 0.95
        assert estimate @ exact / (exact @ exact) == pytest.approx(1, abs=0.25)
        rank = spearmanr(estimate, exact)[0]
        assert rank > spearmanr(first_order, exact)[0] + 0.2
        assert rank > spearmanr(lahis, exact)[0]


def test_the_bare_estimate_is_near_the_truth():
    """`hooks/quadrature.py` itself, one document, against the head gated to 0 by a bare hook."""
    model = langheads.load("demo")
    tokens = model.to_tokens(grammar.documents("en", 1)[0])[0]

    def nll(layer, head, m):
        def hook_fn(z, hook):
            z = z.clone()
            z[:, :, head] *= m
            return z

        logits = model.run_with_hooks(
            tokens[None], fwd_hooks=[(f"blocks.{layer}.attn.hook_z", hook_fn)]
        )
        return torch.nn.functional.cross_entropy(logits[0, :-1], tokens[1:])

    pairs = [(layer, head) for layer in (1, 2) for head in range(12)]
    with torch.no_grad():
        exact = np.array([float(nll(x, y, 0.0) - nll(x, y, 1.0)) for x, y in pairs])
    with torch.enable_grad():
        estimate = np.array([float(estimated_rise(model, tokens, x, y)) for x, y in pairs])
    assert np.corrcoef(exact, estimate)[0, 1] > 0.95
    assert np.abs(exact).max() > 0.1


def test_shrinking_finds_its_two_numbers_and_brings_estimates_nearer_to_the_truth():
    """Drawn from its own model: beta 1.5, tau .3, errors of the size of the effects."""
    rng = np.random.default_rng(0)
    before, after, furthest = [], [], 0.0
    for _ in range(25):
        x = -rng.gamma(0.5, size=200)
        truth = 1.5 * x * (1 + 0.3 * rng.normal(size=200))
        se = rng.uniform(0.2, 1.0, size=200)
        a = truth + se * rng.normal(size=200)
        moved = shrunk(a, se, x)
        before.append(np.mean((a - truth) ** 2))
        after.append(np.mean((moved - truth) ** 2))
        furthest = max(furthest, np.abs((moved - a) / se).max())
        # Units of the loss and of the documents fall out.
        np.testing.assert_allclose(shrunk(1e-4 * a, 1e-4 * se, 1e3 * x), 1e-4 * moved, rtol=1e-3)
    assert np.mean(after) < 0.5 * np.mean(before)
    assert furthest <= 1 + 1e-9


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_estimates_are_moved_to_their_posterior_means(tau):
    """With the most likely of the two numbers by a search of another kind, over all of them."""
    rng = np.random.default_rng(3)
    x = -rng.gamma(1.0, size=30)
    x[:3] = 1, -1, 0
    se = rng.uniform(0.3, 2.0, size=30)
    a = 1.5 * x * (1 + tau * rng.normal(size=30)) + se * rng.normal(size=30)

    def unlikely(numbers):
        beta, log_tau = numbers
        return -norm.logpdf(
            a[x != 0], beta * x[x != 0], np.hypot(se, np.exp(log_tau) * beta * x)[x != 0]
        ).sum()

    found = differential_evolution(unlikely, [(-5, 5), (-8, 2)], seed=0, tol=1e-10)
    mean = found.x[0] * x
    # The nearer to either, the surer it is of the two.
    sure = np.square(np.exp(found.x[1]) * mean), np.square(se)
    posterior = np.average([a, mean], axis=0, weights=np.maximum(sure, 1e-300))
    expected = np.where(x == 0, a, np.clip(posterior, a - se, a + se))
    moved = shrunk(a, se, x)
    np.testing.assert_allclose(moved, expected, atol=2e-3)
    assert (np.abs(moved - a)[:2] > 0.01).all()
    # Of eight heads two numbers can be fitted.
    assert (shrunk(a[3:11], se[3:11], x[3:11]) != a[3:11]).any()
    np.testing.assert_array_equal(shrunk(a[3:10], se[3:10], x[3:10]), a[3:10])


def test_what_has_no_error_is_not_moved():
    x, a = np.linspace(-1, -0.1, 20), np.linspace(-2, 2, 20)
    np.testing.assert_array_equal(shrunk(a, np.zeros(20), x), a)
    se = np.where(np.arange(20) < 10, 0.0, 0.5)
    np.testing.assert_array_equal(shrunk(a, se, x)[:10], a[:10])
    np.testing.assert_array_equal(shrunk(a[:5], se[:5] + 1, x[:5]), a[:5])


def test_too_few_documents(zoo):
    model = zoo.bridge("llama-gqa")
    documents = tokenize_languages(model, {"en": TEXTS["en"][:1]}, bos=True)["en"]
    g, _ = gate_gradients(model, documents)
    with pytest.raises(InputError, match="at least 2 are needed, language en has 1"):
        quadrature(model, documents, g)
    two = tokenize_languages(model, {"en": TEXTS["en"][:2]}, bos=True)["en"]
    assert quadrature(model, two, gate_gradients(model, two)[0]).shape == (2, 3, 4)


def test_differences_are_shrunk_towards_the_size_of_the_gradients(zoo, monkeypatch):
    """By all but a tenth: rows then are those of a tenth of the difference."""
    model = zoo.bridge("llama-gqa")
    documents = tokenize_languages(model, {"en": TEXTS["en"]}, bos=True)["en"]
    g, _ = gate_gradients(model, documents)
    told = []
    monkeypatch.setattr(module, "shrunk", lambda a, se, x: told.append((a, se, x)) or 0.1 * a)
    plain, rows = (quadrature(model, documents, g, shrink=shrink) for shrink in (False, True))
    n = documents.n_predicted
    summed = g * n[:, None, None]
    first_order = -summed.mean(axis=0) / n.mean()
    difference = (first_order - plain.mean(axis=0)) / 0.75
    ((a, se, x),) = told
    np.testing.assert_allclose(a, difference.ravel(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(x, -(summed**2).mean(axis=0).ravel() / n.mean(), rtol=1e-6)
    assert (se > 0).all()
    expected = first_order - 0.75 * 0.1 * difference
    np.testing.assert_allclose(rows.mean(axis=0), expected, rtol=1e-6, atol=1e-9)


def test_few_documents_are_told(zoo, caplog):
    """Two for each of the four heads of a layer are enough."""
    model = zoo.bridge("llama-gqa")
    for count in (7, 8):
        documents = tokenize_languages(model, {"en": TEXTS["en"][:count]}, bos=True)["en"]
        g, _ = gate_gradients(model, documents)
        quadrature(model, documents, g)
    assert caplog.messages == [
        "quadrature on 7 documents of en: each of the 4 heads of a layer is drawn in few of them, "
        "so the estimate is noisy"
    ]
