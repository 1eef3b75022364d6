"""Sampled knock-out on a tiny model: what is run is exact, what foretells it is known of all."""

import logging

import numpy as np
import pytest
import torch
import xarray as xr

from hooks.taylor import taylor
from langheads.experiments.benchmark.compare import compare
from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.results import load_result, save
from langheads.model import document_nll, gated, head_shape, tokenize_languages
from langheads.scores.exact_knockout import knockout
from langheads.scores.sampled_knockout import estimate, first_order
from langheads.scores.scan import knockout_nll
from langheads.scores.score import score
from langheads.selection.classify import classify
from langheads.view import score_against_knockout
from langheads.view.contents import RunFolder
from langheads.view.kinds import KINDS
from tests.models.zoo import TEXTS

LANGUAGES = {
    "xx": [f"{text} {i} {'again ' * (i % 3)}" for i, text in enumerate(TEXTS * 4)],
    "zh": [*TEXTS[:3]],
}
HOW = {"bos": True, "seed": 3}
UNITS = ("delta_nats_per_byte", "delta_nats_per_token")


@pytest.fixture(scope="module")
def model(zoo):
    return zoo.bridge("llama-gqa")


@pytest.fixture(scope="module")
def sampled(model):
    return knockout(model, LANGUAGES, sample=12, baseline=("zero", "mean"), **HOW)


@pytest.fixture(scope="module")
def full(model):
    return knockout(model, LANGUAGES, baseline=("zero", "mean"), **HOW)


def test_documents_that_are_run_have_the_values_of_the_scan(model, sampled, full, tmp_path):
    run = sampled.sampled.sel(language="xx").values
    assert [(run == kind).sum() for kind in (0, 1)] == [8, 12]
    rise = sampled.rise.sel(language="xx")
    np.testing.assert_allclose(
        rise.values[:, run > 0], full.rise.sel(language="xx").values[:, run > 0], atol=5e-5
    )
    assert np.isnan(rise.values[:, run == 0]).all()
    np.testing.assert_allclose(sampled.nats_per_byte, full.nats_per_byte, rtol=1e-5)
    assert sampled.attrs["sample"] == 12
    # 23 documents, 15 run; heads of 3 layers of 4: 1 + 4 (1 + 2 + 3) / 3 forwards a scan.
    assert sampled.forwards == pytest.approx(2 * (2 + 9 * 15 / 23))
    save(sampled, tmp_path / "knockout.nc")
    assert (load_result(tmp_path / "knockout.nc", "knockout").sampled == sampled.sampled).all()


def test_a_language_with_fewer_documents_is_exact(sampled, full):
    for name in UNITS:
        for end in ("", "_low", "_high", "_se"):
            wanted = full[f"{name}_se" if end == "_se" else name].sel(language="zh")
            np.testing.assert_allclose(sampled[name + end].sel(language="zh"), wanted, atol=1e-6)
    assert sampled.sampled.sel(language="zh").values.tolist() == [1] * 3 + [0] * 17


def test_effects_are_those_of_the_estimator_under_each_baseline(model, sampled, full):
    """With first-order estimates of a hook's making, and the rises that the file holds."""
    flag = sampled.sampled.sel(language="xx").values
    documents = tokenize_languages(
        model, {"xx": _in_order(LANGUAGES["xx"], sampled, model)}, bos=True, max_tokens=2048
    )["xx"]
    x = np.array(
        [
            [
                taylor(model, tokens, layer, head).item() * (len(tokens) - 1)
                for layer in range(3)
                for head in range(4)
            ]
            for tokens in documents.tokens
        ]
    )
    rise = sampled.rise.sel(language="xx", baseline="zero").values.reshape(20, -1).astype(float)
    length = np.broadcast_to(documents.n_predicted[:, None], x.shape)
    of_all = np.stack([x, length])
    found = estimate(rise, of_all, np.flatnonzero(flag)).per(documents.n_bytes)
    at = sampled.sel(language="xx", baseline="zero")
    for end, wanted in zip(("", "_se", "_low", "_high"), found, strict=True):
        np.testing.assert_allclose(
            at["delta_nats_per_byte" + end].values.ravel(), wanted, rtol=2e-3, atol=2e-6
        )
    bytes_a_token = sampled.doc_bytes.sum("doc") / sampled.doc_tokens.sum("doc")
    for end in ("", "_low", "_high"):
        np.testing.assert_allclose(
            sampled["delta_nats_per_token" + end],
            sampled["delta_nats_per_byte" + end] * bytes_a_token,
        )
    truth = full.delta_nats_per_byte
    inside = sampled.delta_nats_per_byte_low <= truth
    inside &= truth <= sampled.delta_nats_per_byte_high
    assert inside.sel(language="xx").mean() > 0.7


def _in_order(texts, result, model):
    """The texts as the result has them."""
    from langheads.text import read_texts

    return read_texts({"xx": texts}, seed=HOW["seed"]).front(None)["xx"]


@pytest.mark.usefixtures("exact_softmax")
def test_first_order_under_a_mean_baseline_is_a_finite_difference(zoo):
    model = zoo.bridge("llama-gqa", torch.float64)
    documents = tokenize_languages(model, {"xx": TEXTS}, bos=True)["xx"]
    heads = HeadSet(["L0H1", "L2H3"], head_shape(model))
    baseline = torch.randn(*head_shape(model), model.cfg.d_head, dtype=torch.float64)
    ((zero, length), (mean, _)), nll = first_order(model, documents, heads, [None, baseline])
    np.testing.assert_array_equal(length, np.transpose([documents.n_predicted] * 2))
    np.testing.assert_allclose(nll, knockout_nll(model, documents, heads)[:, 0])
    assert np.abs(zero - mean).max() > 1
    for x, of in ((zero, None), (mean, baseline)):
        for i, tokens in enumerate(documents.tokens):
            for j, head in enumerate(heads):
                ends = []
                for gate in (1 - 1e-3, 1 + 1e-3):
                    with torch.no_grad(), gated(model, [head], gate, baseline=of):
                        loss = document_nll(model, tokens[None], torch.tensor([len(tokens)]))
                    ends.append(loss.item())
                assert x[i, j] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-2, abs=0.02)


def test_as_many_as_there_are_is_the_scan(model, full, caplog):
    with caplog.at_level(logging.WARNING, logger="langheads"):
        found = knockout(model, LANGUAGES, sample=20, baseline=("zero", "mean"), **HOW)
    assert "the full scan is made" in caplog.text
    assert "sample" not in found.attrs
    xr.testing.assert_allclose(found, full, atol=1e-6)


def test_too_few_are_refused_before_anything_is_run(model):
    with pytest.raises(
        InputError, match="draws 5 of the 20 documents of language xx; at least 8 are needed"
    ):
        knockout(model, LANGUAGES, sample=0.25, **HOW)


def test_some_heads(model, sampled):
    found = knockout(model, LANGUAGES, sample=12, heads=["L1H2"], **HOW)
    assert np.isfinite(found.delta_nats_per_byte_low).sum() == 2


def test_estimates_are_not_taken_for_exact(model, sampled, tmp_path):
    scores = score(model, LANGUAGES, **HOW)
    save(scores, tmp_path / "scores.nc")
    save(sampled, tmp_path / "knockout.nc")
    with pytest.raises(InputError, match="ran only a sample of the documents, and scores are held"):
        compare(tmp_path)
    with pytest.raises(InputError, match="ran only a sample of the documents, and classes need"):
        classify(sampled, ("xx", "zh"))
    with pytest.raises(InputError, match="ran only a sample of the documents; give one of all"):
        score_against_knockout(scores, sampled)
    run = RunFolder({"scores": {"scores.nc": scores}})
    said = list(KINDS["knockout"].summary(sampled, run))
    assert said[0] == (
        "The effects of heads are estimates: 15 of 23 documents were run without each head, the "
        "others stand in by their gradients and lengths."
    )
    assert said[1].startswith("Knock-out on a sample of the documents: the head that")
    assert len(said) == 2
    assert len(list(KINDS["knockout"].tables(sampled, run))) == 2
    titles = [of.figure.layout.title.text for of in KINDS["knockout"].pictures(sampled, run)]
    assert not any("Exact" in title for title in titles)
