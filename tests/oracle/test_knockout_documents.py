"""Rises of single documents, and the certified top: each against bare hooks."""

import numpy as np
import pytest
import torch

from hooks.knockout import knock_out, total_nll
from langheads.io.errors import InputError
from langheads.scores.exact_knockout import knockout
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


def test_a_top_is_that_of_the_scan_and_what_was_run_is_exact(zoo, exact_softmax, caplog):
    model = zoo.bridge("llama-gqa", torch.float64)
    texts = {x: [f"{text} {n}" for n in range(10) for text in of] for x, of in LANGUAGES.items()}
    full = knockout(model, texts, bos=True, docs=None)
    found = knockout(model, texts, bos=True, docs=None, top=3, confidence=0.9)
    assert "top 3 of 12 heads: from 24 documents a language to the scan of all of them" in (
        caplog.text
    )
    run = np.isfinite(found.rise.values)
    np.testing.assert_allclose(found.rise.values[run], full.rise.values[run], atol=1e-5)
    np.testing.assert_array_equal(run.sum(axis=2), found.docs_run.values)
    for language in texts:
        at = {"language": language, "baseline": "zero"}
        lost = full.delta_nats_per_token.sel(at).values
        highest = lost >= np.sort(lost, axis=None)[-3]
        np.testing.assert_array_equal(found.top.sel(at).values == 1, highest)
        everywhere = found.docs_run.sel(at).values == full.docs.sel(language=language).item()
        for name in ("delta_nats_per_token", "delta_nats_per_byte"):
            value, low, high = (
                found[f"{name}{end}"].sel(at).values for end in ("", "_low", "_high")
            )
            assert np.isfinite(value).all()
            np.testing.assert_allclose(value[everywhere], full[name].sel(at).values[everywhere])
            assert ((low <= value) & (value <= high)).all()
    scan = 1 + 4 * (3 + 2 + 1) / 3
    assert found.attrs["forwards"] == pytest.approx(
        3 + sum(run[0, :, :, i].sum() * (3 - i) / 3 for i in range(3)) / int(full.docs.sum())
    )
    assert found.attrs["forwards"] <= 2 + scan


def test_a_top_of_fewer_documents_says_what_it_could_not_separate(zoo):
    texts = {"xx": [f"{text} {n}" for n in range(10) for text in TEXTS]}
    found = knockout(zoo.bridge("llama-gqa"), texts, docs=None, top=6, sample=16)
    assert found.docs_run.max() == 16
    assert (found.top == 1).sum() < 6
    assert (found.top == -1).sum() > 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"top": 0}, "top 0 of 12 heads asked for; at least 1, and fewer than all"),
        ({"top": 12}, "top 12 of 12 heads asked for; at least 1, and fewer than all"),
        (
            {"top": 1, "heads": ["L0H1"]},
            "top 1 of 1 heads asked for; at least 1, and fewer than all",
        ),
        ({"top": 2, "confidence": 1.0}, "confidence 1.0 asked for; it is between 0 and 1"),
        ({"heads": []}, "no heads asked for; give at least one, or leave heads out for all"),
    ],
)
def test_another_top_is_refused(zoo, asked, message):
    with pytest.raises(InputError) as error:
        knockout(zoo.bridge("llama-gqa"), LANGUAGES, **asked)
    assert str(error.value) == message
