"""Rises of single documents, and the screen: each against bare hooks."""

import logging

import numpy as np
import pytest
import torch

from hooks.knockout import knock_out, total_nll
from hooks.taylor import taylor
from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.scores.exact_knockout import knockout
from langheads.scores.score import score
from tests.models.zoo import TEXTS

# Different numbers of documents, which pads the variable.
LANGUAGES = {"xx": TEXTS, "zh": (TEXTS[1], "狗在跑。", "好。")}


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_rise_of_every_document(zoo, exact_softmax, batch_tokens):
    model = zoo.bridge("llama-gqa", torch.float64)
    found = knockout(model, LANGUAGES, heads=["L1H2"], batch_tokens=batch_tokens, bos=True)
    for language, texts in LANGUAGES.items():
        at = found.sel(language=language, baseline="zero")
        expected = {}
        for text in texts:
            tokens = model.to_tokens(text, prepend_bos=True)
            with torch.no_grad():
                rise = -total_nll(model, tokens)
                with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", knock_out(2))]):
                    rise += total_nll(model, tokens)
            expected[len(text.encode()), tokens.shape[1] - 1] = float(rise)
        sizes = list(zip(at.doc_bytes.values.tolist(), at.doc_tokens.values.tolist(), strict=True))
        rises = at.rise.sel(layer=1, head=2).values
        assert dict(zip(sizes[: len(texts)], rises[: len(texts)], strict=True)) == {
            size: pytest.approx(rise, rel=1e-5) for size, rise in expected.items()
        }
        assert np.isnan(rises[len(texts) :]).all()
        assert set(sizes[len(texts) :]) <= {(0, 0)}
        ratio = np.nansum(rises) / at.doc_bytes.values.sum()
        assert at.delta_nats_per_byte.sel(layer=1, head=2).item() == pytest.approx(ratio, rel=1e-5)
    assert np.isfinite(found.rise).sum() == len(TEXTS) + 3


def test_a_screen_keeps_what_the_gradient_score_ranks_highest_in_any_language(zoo, caplog):
    model = zoo.bridge("llama-gqa")
    with caplog.at_level(logging.WARNING, logger="langheads"):
        found = knockout(model, LANGUAGES, screen="taylor:0.2", bos=True)
    kept = set()
    for texts in LANGUAGES.values():
        scores = {
            Head(layer, head): np.mean(
                [
                    taylor(model, model.to_tokens(t, prepend_bos=True)[0], layer, head).item()
                    for t in texts
                ]
            )
            for layer in range(3)
            for head in range(4)
        }
        # A fifth of 12 heads is 2.4; begun heads count.
        kept |= set(sorted(scores, key=scores.get)[-3:])
    assert 3 < len(kept) < 6
    finite = np.isfinite(found.delta_nats_per_byte.values).all(axis=(0, 1))
    assert {Head(*map(int, at)) for at in np.argwhere(finite)} == kept
    assert np.isfinite(found.delta_nats_per_byte.values).sum() == 2 * len(kept)
    left_out = HeadSet(found.attrs["screened_out"].split(), (3, 4))
    assert set(left_out) == {Head(*map(int, at)) for at in np.argwhere(~finite)}
    assert found.attrs["screen"] == "taylor:0.2"
    said = f"{len(kept)} of 12 heads are knocked out, {12 - len(kept)} are left out"
    assert said in caplog.text
    # What is measured is what it is without the screen.
    full = knockout(model, LANGUAGES, bos=True)
    np.testing.assert_allclose(
        found.rise.values[..., finite], full.rise.values[..., finite], atol=1e-5
    )
    assert "screen" not in full.attrs


@pytest.mark.parametrize("method", ["lahis", "output-norm"])
def test_the_screen_is_the_score_of_that_name(zoo, method):
    model = zoo.bridge("llama-gqa")
    texts = {"xx": TEXTS}
    found = knockout(model, texts, screen=f"{method}:0.25", bos=True)
    scores = score(model, texts, method=method, bos=True)[method.replace("-", "_")].values[0]
    highest = scores >= np.sort(scores, axis=None)[-3]
    np.testing.assert_array_equal(np.isfinite(found.delta_nats_per_byte.values[0, 0]), highest)


@pytest.mark.parametrize(
    "screen", ["taylor", "taylor:0", "taylor:1.5", "taylor:x", "x:0.1", "lahis-sequential:0.1"]
)
def test_another_screen_is_refused(zoo, screen):
    with pytest.raises(InputError, match=r"allowed is METHOD:SHARE.* such as taylor:0\.1"):
        knockout(zoo.bridge("llama-gqa"), LANGUAGES, screen=screen)


def test_heads_and_screen_are_refused_together(zoo):
    with pytest.raises(InputError, match="heads and screen were both given; give one"):
        knockout(zoo.bridge("llama-gqa"), LANGUAGES, screen="taylor:0.1", heads=["L0H1"])
    with pytest.raises(InputError, match="no heads asked for"):
        knockout(zoo.bridge("llama-gqa"), LANGUAGES, heads=[])


def test_the_smallest_share_is_one_head_a_language(zoo):
    texts = dict(list(LANGUAGES.items())[:1])
    found = knockout(zoo.bridge("llama-gqa"), texts, screen="taylor:1e-320", bos=True)
    assert int(np.isfinite(found.delta_nats_per_byte).sum()) == 1
