"""The contrast rule against loops written out, a planted effect, and labels without an effect."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

import langheads
from langheads.demo import grammar
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.files import read_json
from langheads.model import DEMO, tokenize_languages
from langheads.scores.formulas import LAHIS, LAHIS_PAPER, TAYLOR
from langheads.scores.gradient import gate_gradients
from langheads.scores.score import stacked
from langheads.selection.contrast import contrast

SHAPE = (3, 4)
FORMULAS = {"lahis": LAHIS, "lahis-paper": LAHIS_PAPER, "taylor": TAYLOR}


def made_up(rng, docs=(30, 25, 40), planted=((1, 2), (2, 0), None)):
    """Gradients of three languages; a planted head is strong and mostly helpful in its own."""
    gradients = {}
    for language, n, head in zip(("en", "zh", "हिन्दी"), docs, planted, strict=True):
        g = rng.normal(-0.1, 0.3, size=(n, *SHAPE)) * rng.uniform(0.5, 2, size=(n, 1, 1))
        if head is not None:
            g[:, head[0], head[1]] -= 2.0
        gradients[language] = g
    return gradients


def shares_by_hand(gradients, score):
    values = np.array([FORMULAS[score].values(g) for g in gradients.values()])
    return np.array([v / np.abs(v).sum() for v in values])


@pytest.mark.parametrize("score", FORMULAS)
def test_shares_p_q_and_interval_by_hand(score):
    gradients = made_up(np.random.default_rng(0))
    found = contrast(
        gradients, FORMULAS[score], min_ratio=1.5, permutations=50, n_resamples=60, seed=3
    )
    share = shares_by_hand(gradients, score)
    others = np.array([np.delete(share, i, axis=0).mean(axis=0) for i in range(3)])
    np.testing.assert_allclose(found.share, share, rtol=1e-10)
    np.testing.assert_allclose(found.contrast, share - others, rtol=1e-8, atol=1e-12)

    # The same random numbers, in loops over languages instead of products of matrices.
    rng = np.random.default_rng(3)
    pooled = np.concatenate(list(gradients.values()))
    labels = np.repeat([0, 1, 2], [30, 25, 40])
    beyond = np.zeros((3, *SHAPE))
    for _ in range(50):
        permuted = rng.permutation(labels)
        mixed = shares_by_hand({i: pooled[permuted == i] for i in range(3)}, score)
        rest = np.array([np.delete(mixed, i, axis=0).mean(axis=0) for i in range(3)])
        beyond += mixed - rest >= share - others
    np.testing.assert_allclose(found.p, (1 + beyond) / 51)
    np.testing.assert_allclose(found.q, false_discovery_control(found.p.ravel()).reshape(3, *SHAPE))
    margins, contrasts = [], []
    for _ in range(60):
        drawn = {k: g[rng.integers(0, len(g), size=len(g))] for k, g in gradients.items()}
        resampled = shares_by_hand(drawn, score)
        rest = np.array([np.delete(resampled, i, axis=0).mean(axis=0) for i in range(3)])
        margins.append(resampled - 1.5 * np.maximum(rest, 0))
        contrasts.append(resampled - rest)
    np.testing.assert_allclose(found.low, np.quantile(margins, 0.025, axis=0), atol=1e-12)
    np.testing.assert_allclose(found.se, np.std(contrasts, axis=0, ddof=1), atol=1e-12)


@pytest.mark.parametrize("score", ["lahis", "lahis-paper"])
def test_planted_heads_are_found_and_no_others(score):
    found = contrast(made_up(np.random.default_rng(1)), FORMULAS[score], permutations=999)
    where = found.specific(0.05)
    assert {tuple(map(int, at)) for at in np.argwhere(where)} == {(0, 1, 2), (1, 2, 0)}


def test_few_claims_where_languages_do_not_differ():
    rng = np.random.default_rng(2)
    claims = [
        contrast(
            made_up(rng, planted=(None,) * 3),
            LAHIS,
            min_ratio=1.0,
            permutations=20 * 3 * 12,
            n_resamples=50,
            seed=seed,
        )
        .specific(0.05)
        .sum()
        for seed in range(40)
    ]
    # The test alone (min_ratio = 1): at most a chance of 0.05 a data set for any claim.
    assert np.count_nonzero(claims) <= 6


def test_a_head_that_all_are_better_off_without_is_nobodys():
    """A signed score: removing head L0H1 helps every language, en the least."""
    rng = np.random.default_rng(5)
    gradients = {}
    for language, size in (("en", 0.03), ("zh", 0.15), ("hi", 0.15)):
        g = rng.normal(scale=0.01, size=(30, *SHAPE)) - 0.05
        g[:, 0, 1] = size + rng.normal(scale=0.01, size=30)  # taylor is -g: negative
        gradients[language] = g
    found = contrast(gradients, TAYLOR, permutations=999)
    assert found.q[0, 0, 1] < 0.05
    assert (found.share[:, 0, 1] < 0).all()
    assert not found.specific(0.05)[:, 0, 1].any()


def test_too_few_permutations_are_told(caplog):
    gradients = made_up(np.random.default_rng(1))
    contrast(gradients, LAHIS, permutations=99, n_resamples=10)
    assert "99 permutations: the smallest p is 0.01" in caplog.text
    caplog.clear()
    tests = 3 * SHAPE[0] * SHAPE[1]
    contrast(gradients, LAHIS, permutations=20 * tests, n_resamples=10)
    assert caplog.text == ""


def test_one_language_cannot_be_contrasted():
    gradients = made_up(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"at least 2, .* found en \(30\)"):
        contrast({"en": gradients["en"]}, LAHIS)


@pytest.fixture(scope="module")
def demo_gradients():
    model = langheads.load("demo", device="cpu")
    texts = {language: grammar.documents(language, 60) for language in grammar.LANGUAGES}
    return {
        language: gate_gradients(model, documents)[0]
        for language, documents in tokenize_languages(model, texts).items()
    }


def test_finds_the_planted_heads_of_the_demo_model(demo_gradients):
    planted = {
        (i, layer, head)
        for i, language in enumerate(grammar.LANGUAGES)
        for layer, head in read_json(DEMO / "planted.json")["planted"][language]
    }
    found = contrast(demo_gradients, LAHIS, permutations=1999).specific(0.05)
    claimed = {tuple(map(int, at)) for at in np.argwhere(found)}
    assert len(claimed & planted) >= 0.9 * len(planted)
    assert len(claimed & planted) >= 0.9 * len(claimed)


def test_finds_nothing_in_the_demo_model_with_shuffled_labels(demo_gradients):
    pooled = np.concatenate(list(demo_gradients.values()))
    rng = np.random.default_rng(0)
    by_the_rule, by_the_test = 0, 0
    for seed in range(20):
        parts = np.split(rng.permutation(pooled), len(demo_gradients))
        shuffled = dict(zip(demo_gradients, parts, strict=True))
        # 336 tests: with fewer permutations than 20 a test no single false claim could be made.
        how = {"permutations": 6800, "n_resamples": 100, "seed": seed}
        found = contrast(shuffled, LAHIS, **how)
        by_the_rule += found.specific(0.05).sum()
        by_the_test += (found.q < 0.05).any()
    assert by_the_rule <= 1
    # The test alone, without the size that a claim must have as well: a chance of 0.05 a shuffle;
    # 5 or more of 20 would happen in 3 of 1000 such runs.
    assert by_the_test <= 4


def test_select_takes_them_by_falling_contrast():
    gradients = made_up(np.random.default_rng(1))
    model_free = stacked(list(gradients.values()))
    import xarray as xr

    values = np.array([LAHIS.values(g) for g in gradients.values()])
    scores = xr.Dataset(
        {"lahis": (("language", "layer", "head"), values)} | model_free,
        coords={"language": list(gradients)},
        attrs={"kind": "scores", "model": "made up"},
    )
    heads = langheads.select(scores, rule="contrast")
    assert heads.specific == {
        "en": HeadSet(["L1H2"], SHAPE),
        "zh": HeadSet(["L2H0"], SHAPE),
        "हिन्दी": HeadSet([], SHAPE),
    }
    assert not set(heads.general) & {(1, 2), (2, 0)}
    found = contrast(gradients, LAHIS)
    claim = heads.rule["claims"]["zh"]["L2H0"]
    assert list(heads.rule["claims"]["en"]) == ["L1H2"]
    for name in ("share", "contrast", "se", "low", "p", "q"):
        assert claim[name] == pytest.approx(getattr(found, name)[1, 2, 0], abs=1e-6)
    assert heads.rule["name"] == "contrast"
    with pytest.raises(InputError, match="needs every document's gradients"):
        langheads.select(scores.drop_vars("gradient"), rule="contrast")
