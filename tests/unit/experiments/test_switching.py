"""Switch rates, head by head, against weights with the head's slice of W_O zeroed."""

import numpy as np
import pytest
import torch

from langheads.experiments.replies import switching
from langheads.experiments.replies.generate import generate
from langheads.experiments.replies.judge import reply_nll
from langheads.experiments.replies.switching import switch_rates
from langheads.heads import HeadSet
from langheads.io.errors import InputError, LangheadsError
from langheads.io.results import load_result, save
from tests.models.zoo import EOS, HEADS, hugging_face, w_o

PROMPTS = {"en": ["the cat", "a stone", "it rains"], "zh": ["猫在", "石头"]}
SETTINGS = {"max_new_tokens": 6}


class Halves:
    """Says en where a reply's first code point is even, zh where it is odd."""

    name = "halves"
    languages = ("en", "zh")

    def __call__(self, text):
        return ("en", "zh")[ord(text[0]) % 2 if text else 0], 0.8


@torch.no_grad()
def replies_of(network, tokenizer, rows):
    """Texts by plain `transformers`, greedy."""
    texts = []
    for row in rows:
        grown = network.generate(
            torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=0,
        )[0, len(row) :]
        texts.append(tokenizer.decode(grown, skip_special_tokens=True).rstrip("�"))
    return texts


def test_against_edited_weights(tiny, monkeypatch):
    monkeypatch.setattr(switching, "_ROWS", 10)  # several calls
    found = switch_rates(tiny, PROMPTS, Halves(), **SETTINGS)
    network = hugging_face("llama-gqa")
    detect, switched = Halves(), 0
    for language, prompts in PROMPTS.items():
        rows = [r.prompt_tokens for r in generate(tiny, prompts, max_new_tokens=1)]
        texts = replies_of(network, tiny.tokenizer, rows)
        before = [bool(t.strip()) and detect(t)[0] == language for t in texts]
        for layer in range(3):
            for head in range(HEADS):
                part = w_o(network, "llama-gqa", layer, head)
                kept = part.clone()
                part.zero_()
                texts = replies_of(network, tiny.tokenizer, rows)
                part.copy_(kept)
                after = [bool(t.strip()) and detect(t)[0] == language for t in texts]
                lost = sum(b and not a for b, a in zip(before, after, strict=True))
                won = sum(a and not b for b, a in zip(before, after, strict=True))
                here = found.sel(language=language).isel(layer=layer, head=head)
                assert here.switch_rate.item() == pytest.approx(lost / len(prompts))
                assert here.gain_rate.item() == pytest.approx(won / len(prompts))
                assert here.right.item() == pytest.approx(sum(after) / len(prompts))
                switched += lost + won
    # Otherwise this test could not fail.
    assert switched > 3
    np.testing.assert_allclose(
        found.right - found.right_before, found.gain_rate - found.switch_rate, atol=1e-12
    )


def test_degeneration_checks_of_one_head(tiny):
    found = switch_rates(tiny, PROMPTS, Halves(), heads=["L1H2"], controls=False, **SETTINGS)
    assert int(found.switch_rate.notnull().sum()) == len(PROMPTS)
    network = hugging_face("llama-gqa")
    part = w_o(network, "llama-gqa", 1, 2)
    kept = part.clone()
    for language, prompts in PROMPTS.items():
        old = generate(tiny, prompts, **SETTINGS)
        new = generate(tiny, prompts, gates=["L1H2"], **SETTINGS)
        here = found.sel(language=language, layer=1, head=2)
        change = reply_nll(tiny, new).mean() - reply_nll(tiny, old).mean()
        assert here.delta_nll.item() == pytest.approx(change, abs=1e-6)
        assert here.empty.item() == np.mean([not r.text.strip() for r in new])
        cost = []
        for reply in old:
            row = torch.tensor([reply.prompt_tokens + reply.tokens])
            for off in (True, False):
                part.copy_(torch.zeros_like(kept) if off else kept)
                with torch.no_grad():
                    log_probs = network(row).logits[0, :-1].log_softmax(dim=-1)
                picked = log_probs.gather(1, row[0, 1:, None])[-len(reply.tokens) :]
                cost.append((-1 if off else 1) * float(picked.mean()))
        assert here.cost.item() == pytest.approx(sum(cost) / len(old), abs=1e-5)
        assert abs(here.cost.item()) > 1e-3


def test_others_of_the_same_layers_are_tried_beside(tiny):
    every = switch_rates(tiny, PROMPTS, Halves(), **SETTINGS)
    assert bool((every.tried == 1).all())
    found = switch_rates(tiny, PROMPTS, Halves(), heads=["L1H2", "L1H0", "L2H3"], **SETTINGS)
    tried = found.tried.values
    assert {tuple(at) for at in np.argwhere(tried == 1)} == {(1, 2), (1, 0), (2, 3)}
    assert (tried == 0).sum(axis=1).tolist() == [0, 2, 1]
    np.testing.assert_array_equal(found.switch_rate.notnull().all("language"), tried >= 0)
    for name in ("switch_rate", "cost", "repetition"):
        np.testing.assert_allclose(
            found[name], every[name].where(found.tried >= 0), atol=1e-6, equal_nan=True
        )


def test_sound_follows_the_limits(tiny, tmp_path):
    some = {"heads": ["L0H1", "L1H0", "L2H3"], "controls": False, **SETTINGS}
    every = switch_rates(tiny, PROMPTS, Halves(), **some)
    limit = float(every.cost.median())
    found = switch_rates(
        tiny, PROMPTS, Halves(), max_cost=limit, max_repetition=1.0, max_empty=1.0, **some
    )
    tried = found.switch_rate.notnull()
    assert int(tried.sum()) == 6
    np.testing.assert_array_equal(found.sound, (every.cost <= limit).where(tried, -1))
    assert 0 < int((found.sound > 0).sum()) < 6
    read = load_result(save(found, tmp_path / "s.nc"), "switch-rate")
    assert read.identical(found)
    assert read.attrs["detector"] == "halves"


@pytest.mark.parametrize(
    ("prompts", "heads", "message"),
    [
        ({}, None, "no prompts"),
        ({"en": []}, None, "no prompts"),
        ({"fr": ["a"]}, None, "language fr is wanted, but the detector answers with en, zh only"),
        (PROMPTS, ["L5H0"], "head L5H0 asked for"),
        (PROMPTS, [], "no heads asked for"),
        (
            PROMPTS,
            HeadSet(["L0H0"], (2, 2)),
            "for a model of 2 layers x 2 heads, but this one has 3 x 4",
        ),
    ],
)
def test_refused(tiny, prompts, heads, message):
    with pytest.raises(LangheadsError, match=message):
        switch_rates(tiny, prompts, Halves(), heads=heads, **SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"min_confidence": float("nan")},
            "min_confidence nan asked for; it is a share from 0 to 1",
        ),
        ({"min_confidence": 1.5}, "min_confidence 1.5 asked for"),
        ({"seed": -1}, "seed -1 asked for; allowed are whole numbers from 0"),
    ],
)
def test_refused_settings(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        switch_rates(tiny, PROMPTS, Halves(), **(SETTINGS | changes))
