"""A score that is registered from outside the package is one like all others."""

import json
import sys

import numpy as np
import pytest
import torch

import langheads
from langheads.cli import main
from langheads.io.errors import InputError
from langheads.scores.registry import GRADIENT, LABELS, SCORES, Pass, Score, names, register

HOW = {"docs": 5, "max_tokens": 100}


def spread(languages):
    return {name: of.rows["gradient"].std(axis=0) for name, of in languages.items()}


def layers_and_lengths(of):
    """A row a document: the number of the layer times the document's tokens."""
    layers, heads = of.model.cfg.n_layers, of.model.cfg.n_heads
    lengths = np.array([len(tokens) for tokens in of.documents.tokens], dtype=float)
    of.settings["progress"].update(len(lengths))
    return {"length": lengths[:, None, None] * np.arange(layers)[:, None] * np.ones(heads)}


OURS = (
    Score("our-spread", "Spread of <b>our</b> gradients", "nats per token", (GRADIENT,), spread),
    Score("our-length", "Tokens times layer", "tokens", (Pass("length", 2, layers_and_lengths),)),
)


@pytest.fixture(scope="module")
def ours():
    for score in OURS:
        register(score)
    yield
    for score in OURS:
        del SCORES[score.name], LABELS[score.variable]


@pytest.fixture(scope="module")
def scores(ours, tiny, texts):
    return langheads.score(tiny, texts, method=["our-spread", "our-length"], **HOW)


def test_scores_hold_it(scores):
    gradients = scores.gradient.values.astype(float)
    np.testing.assert_allclose(scores.our_spread, gradients.std(axis=1), rtol=1e-5, atol=1e-9)
    assert "our_spread_se" not in scores
    assert scores.our_length.units == "tokens"
    # A pass of its own: mean over documents, with its standard error. Predicted tokens and one
    # more a document.
    mean = (scores.tokens + scores.docs) / scores.docs
    np.testing.assert_allclose(
        scores.our_length.isel(layer=2), 2 * mean.values[:, None] + np.zeros(4)
    )
    assert (scores.our_length_se.sel(layer=1) > 0).all()
    assert json.loads(scores.forward_equivalents) == {"our-spread": 2, "our-length": 2}
    assert list(json.loads(scores.seconds)) == ["gradient", "length"]


def test_errors_and_the_help_name_it(ours, tiny, texts, monkeypatch, capsys):
    with pytest.raises(InputError, match=r"allowed are lahis, .*, random, our-spread, our-length$"):
        langheads.score(tiny, texts, method="ours")
    monkeypatch.setattr(sys, "argv", ["langheads", "score", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    main()
    told = capsys.readouterr().out
    assert all(name in told for name in names())


def test_it_is_selected_by_and_compared(scores, tiny, texts, tmp_path):
    heads = langheads.select(scores, score="our-spread", quantile=0.5, share=0.2, general_at=3)
    assert heads.rule["score"] == "our-spread"
    langheads.save(scores, tmp_path / "scores.nc")
    langheads.save(langheads.knockout(tiny, texts, **HOW), tmp_path / "knockout.nc")
    found = langheads.compare(tmp_path)
    known = ["knockout", "our-spread", "our-length", "grad_abs", "top-3"]
    assert list(found.score.values) == known
    assert np.isfinite(found.spearman.sel(score="our-spread")).all()
    assert found.forwards.sel(score=["our-spread", "our-length"]).values.tolist() == [2, 2]


def test_the_report_shows_it_by_its_label(scores, tmp_path):
    langheads.save(scores, tmp_path / "scores.nc")
    page = langheads.report(tmp_path).read_text("utf-8")
    assert "Tokens times layer" in page
    assert "Spread of &lt;b&gt;our&lt;/b&gt; gradients" in page
    assert "<b>our</b>" not in page


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lahis", "'lahis' to be registered; that name is taken"),
        ("docs", "taken"),
        ("top-10", "taken"),
        ("sample-32", "taken"),
        ("knockout", "taken"),
        ("Ours", "lower-case words with hyphens"),
        ("our_score", "lower-case words with hyphens"),
        ("ours-se", "does not end in -se"),
    ],
)
def test_names_that_would_clash(name, message):
    with pytest.raises(InputError, match=message):
        register(Score(name, "Ours", "none"))
    assert "Ours" not in LABELS.values()


def test_nothing_else_in_a_scores_file_can_be_the_name_of_a_score(zoo, texts):
    """A score of that name would take its place, or be lost to it."""
    some = {language: texts[language][:4] for language in ("en", "zh")}
    found = langheads.score(zoo.bridge("llama-gqa", torch.bfloat16), some, docs=2)
    for name in {*found.variables, *found.dims} - {*LABELS, *(f"{of}_se" for of in LABELS)}:
        with pytest.raises(InputError, match="taken"):
            register(Score(name.replace("_", "-"), "Ours", "none"))
