"""What bfloat16 cannot see is told in results, on the page and after the run."""

import numpy as np
import pytest
import torch

import langheads
from langheads.cli.tell import lines_about
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.results import rounding_words
from langheads.view.contents import RunFolder
from langheads.view.kinds import KINDS


@pytest.fixture(scope="module")
def results(zoo, texts):
    model = zoo.bridge("llama-gqa", torch.bfloat16)
    some = {language: texts[language][:8] for language in ("en", "zh")}
    off = {"en": HeadSet(["L1H2"], (3, 4)), "zh": HeadSet(["L0H1"], (3, 4))}
    heads = LanguageHeads(off, HeadSet([], (3, 4)), "tiny")
    return [
        langheads.score(model, some, docs=2),
        langheads.knockout(model, some, docs=2, heads=["L1H2"]),
        langheads.ablate(model, heads, some, docs=2, n_controls=2),
    ]


def test_every_result_of_losses_says_what_is_rounding(results, tiny, texts):
    for result in results:
        expected = 0.05 / np.sqrt(result.tokens)
        np.testing.assert_allclose(result.rounding.values, expected.values)
    assert "rounding" not in langheads.score(tiny, {"en": texts["en"]}, docs=2)


def test_it_stands_beside_what_it_is_about(results):
    for result in results:
        # However small they are in this model.
        lost = result.assign(rounding=result.rounding * 1e6)
        told = rounding_words(lost)
        assert told.endswith("; float32 would show them.")
        tables = KINDS[result.attrs["kind"]].tables(lost, RunFolder())
        assert any(told in table.caption for table in tables)
        assert told in lines_about(lost)
        seen = result.assign(rounding=result.rounding * 0)
        tables = KINDS[result.attrs["kind"]].tables(seen, RunFolder())
        assert not any(
            "rounding" in text for text in [*lines_about(seen), *(t.caption for t in tables)]
        )


@pytest.mark.slow
def test_the_error_of_bfloat16_is_what_results_say():
    from langheads.demo import grammar

    text, how = {"en": grammar.documents("en", 32)}, {"docs": 32, "max_tokens": 64}
    wide, narrow = (
        langheads.knockout(langheads.load("demo", dtype=dtype, device="cpu"), text, **how)
        for dtype in ("float32", "bfloat16")
    )
    error = np.sqrt(((narrow - wide).delta_nats_per_token ** 2).mean())
    # Twice the error, of logits between 8 and 16.
    assert 0.4 < narrow.rounding / error / 2 < 2.5
