"""Replies under gates, in every architecture: held to plain Hugging Face and to a bare loop."""

import pytest
import torch

import langheads
from hooks.scale import write
from langheads.experiments.replies.generate import generate, prompt_tokens
from langheads.io.errors import NonFiniteError
from langheads.model import gated, head_shape, mean_z, steered
from tests.models.zoo import EOS, HEADS, NAMES, TEXTS, hugging_face, w_o

NEW = 8


def tokens(replies):
    return [reply.tokens for reply in replies]


@torch.no_grad()
def by_hugging_face(network, rows, n=NEW, end=EOS):
    """Plain `transformers`, one prompt at a time: the new tokens up to the first end."""
    found = []
    for row in rows:
        grown = network.generate(
            row[None],
            attention_mask=torch.ones_like(row)[None],
            max_new_tokens=n,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=0,
        )
        new = grown[0, len(row) :].tolist()
        found.append(tuple(new[: new.index(end) + 1] if end in new else new))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_equals_plain_hugging_face(zoo, name):
    """Batched with padding, by ones, with and without cache, under gates of 1: all the same."""
    model = zoo.bridge(name)
    rows = prompt_tokens(model, TEXTS, max_new_tokens=NEW, bos=True)
    expected = by_hugging_face(hugging_face(name), rows)
    ones = torch.ones(len(TEXTS), *head_shape(model))
    common = {"max_new_tokens": NEW, "bos": True}
    # A budget that one batch just meets, so that all prompts but the first are padded.
    together = len(TEXTS) * (max(map(len, rows)) + NEW)
    assert tokens(generate(model, TEXTS, batch_tokens=together, **common)) == expected
    assert tokens(generate(model, TEXTS, batch_tokens=1, **common)) == expected
    assert tokens(generate(model, TEXTS, use_cache=False, **common)) == expected
    assert tokens(generate(model, TEXTS, gates=ones, **common)) == expected
    # Otherwise this test could not fail.
    assert len({token for reply in expected for token in reply}) > 3


@pytest.mark.parametrize("name", NAMES)
def test_a_gate_of_its_own_for_every_prompt(zoo, name):
    """Against plain Hugging Face with the head's slice of W_O scaled, and against a bare hook."""
    model, network = zoo.bridge(name), hugging_face(name)
    layers, heads = head_shape(model)
    places = [(layer, head) for layer in range(layers) for head in range(heads)][-5:]
    gates = torch.ones(len(TEXTS), layers, heads)
    rows = prompt_tokens(model, TEXTS, max_new_tokens=NEW, bos=True)
    expected = []
    for i, (layer, head) in enumerate(places):
        factor = 3.0 if i % 2 else 0.0
        gates[i, layer, head] = factor
        part = w_o(network, name, layer, head)
        before = part.clone()
        part.mul_(factor)
        expected += by_hugging_face(network, [rows[i]])
        part.copy_(before)
        bare = tuple(write(model, rows[i][None], layer, head, m=factor, n=NEW).tolist())
        assert expected[-1] == bare[: len(expected[-1])]
    for use_cache in (True, False):
        found = generate(
            model, TEXTS, gates=gates, max_new_tokens=NEW, bos=True, use_cache=use_cache
        )
        assert tokens(found) == expected
    by_ones = generate(model, TEXTS, gates=gates, max_new_tokens=NEW, bos=True, batch_tokens=1)
    assert tokens(by_ones) == expected


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gemma3"])
def test_heads_off_change_some_reply(zoo, name):
    """The gates above would be worth nothing if no reply depended on them."""
    model = zoo.bridge(name)
    untouched = generate(model, TEXTS, max_new_tokens=NEW, bos=True)
    off = generate(model, TEXTS, gates=[(0, h) for h in range(HEADS)], max_new_tokens=NEW, bos=True)
    assert tokens(off) != tokens(untouched)


def test_mean_baseline_reaches_the_replies(zoo):
    model = zoo.bridge("llama-gqa")
    rows = prompt_tokens(model, TEXTS, max_new_tokens=NEW, bos=True)
    mean = mean_z(model, rows)
    off = [(1, h) for h in range(HEADS)]
    found = generate(model, TEXTS, gates=off, baseline=mean, max_new_tokens=NEW, bos=True)
    for row, reply in zip(rows, found, strict=True):
        text = row[None]
        for token in reply.tokens:
            with torch.no_grad(), gated(model, off, 0.0, baseline=mean):
                assert int(model(text)[0, -1].argmax()) == token
            text = torch.cat([text, torch.tensor([[token]])], dim=1)


def test_a_shift_goes_around_it(zoo):
    model = zoo.bridge("gemma2")
    direction = torch.randn(*head_shape(model), 12)
    with steered(model, ["L1H2"], direction, 4.0):
        found = generate(model, TEXTS, max_new_tokens=NEW, bos=True)
        without_cache = generate(model, TEXTS, max_new_tokens=NEW, bos=True, use_cache=False)
    assert found == without_cache
    assert tokens(found) != tokens(generate(model, TEXTS, max_new_tokens=NEW, bos=True))


def test_a_sample_depends_on_its_seed_and_prompt_alone(zoo):
    model = zoo.bridge("llama-gqa")
    drawn = {
        (batch, cache): tokens(
            generate(
                model,
                TEXTS,
                max_new_tokens=NEW,
                bos=True,
                temperature=1.5,
                seed=3,
                batch_tokens=batch,
                use_cache=cache,
            )
        )
        for batch, cache in [(1, True), (4096, True), (4096, False)]
    }
    assert drawn[1, True] == drawn[4096, True] == drawn[4096, False]
    other = generate(model, TEXTS, max_new_tokens=NEW, bos=True, temperature=1.5, seed=4)
    assert tokens(other) != drawn[1, True]


def test_samples_follow_the_softmax(zoo):
    """The first token of 600 samples of one prompt, against softmax(logits / T)."""
    model = zoo.bridge("llama-gqa")
    many = generate(model, ["Katze"] * 600, max_new_tokens=1, bos=True, temperature=0.7)
    with torch.no_grad():
        logits = hugging_face("llama-gqa")(torch.tensor([many[0].prompt_tokens])).logits[0, -1]
    expected = (logits / 0.7).softmax(dim=0)
    drawn = torch.bincount(torch.tensor([r.tokens[0] for r in many]), minlength=len(expected))
    likely = expected.topk(3)
    error = (likely.values * (1 - likely.values) / 600).sqrt()
    assert ((drawn[likely.indices] / 600 - likely.values).abs() < 4 * error).all()
    assert likely.values[1] > 0.02


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gemma3", "bloom"])
def test_model_is_left_as_it_was(zoo, name):
    model = zoo.fresh(name)
    # Settings that a checkpoint may bring along, and that must play no part.
    model.original_model.generation_config.repetition_penalty = 5.0
    model.original_model.generation_config.do_sample = True
    before = model.original_model.config.to_dict(), model.original_model.generation_config
    settings = before[1].to_dict()
    weights = {k: v.clone() for k, v in model.original_model.state_dict().items()}
    rng = torch.get_rng_state()
    found = generate(model, TEXTS, gates=["L0H0"], max_new_tokens=NEW, bos=True)
    assert found == generate(zoo.bridge(name), TEXTS, gates=["L0H0"], max_new_tokens=NEW, bos=True)
    with pytest.raises(langheads.LangheadsError):
        generate(model, TEXTS, gates=torch.ones(2, *head_shape(model)), bos=True)
    assert model.original_model.config.to_dict() == before[0]
    assert model.original_model.generation_config is before[1]
    assert before[1].to_dict() == settings
    assert torch.equal(torch.get_rng_state(), rng)
    for key, value in model.original_model.state_dict().items():
        assert torch.equal(value, weights[key])
    assert not any(hook.fwd_hooks for hook in model.hook_dict.values())


def test_the_demo_model(demo_prompts):
    """Grouped queries, trained: every reply as by `transformers`, ended by the model itself."""
    from transformers import AutoModelForCausalLM

    from langheads.model import DEMO

    model = langheads.load("demo", device="cpu")
    network = AutoModelForCausalLM.from_pretrained(DEMO, attn_implementation="eager").eval()
    rows = prompt_tokens(model, demo_prompts, max_new_tokens=24)
    expected = by_hugging_face(network, rows, n=24)
    found = generate(model, demo_prompts, max_new_tokens=24)
    assert tokens(found) == expected
    assert tokens(generate(model, demo_prompts, max_new_tokens=24, use_cache=False)) == expected
    gates = torch.ones(len(demo_prompts), *head_shape(model))
    assert generate(model, demo_prompts, gates=gates, max_new_tokens=24, batch_tokens=1) == found
    assert all("<" not in reply.text for reply in found)


@pytest.fixture
def demo_prompts():
    from langheads.demo.grammar import replies

    return [f"- {turn['prompt']}\n-" for lang in ("en", "zh", "ar") for turn in replies(lang, 2)]


def test_logits_that_choose_nothing_are_refused(zoo):
    """The argmax of NaN is token 0, a reply like any other."""
    model = zoo.bridge("llama-gqa", torch.float16)
    with pytest.raises(NonFiniteError, match="logits of a reply are NaN or infinite"):
        generate(model, ["ab"], gates=["L0H1"], value=6e4, max_new_tokens=3)
    with (
        pytest.raises(NonFiniteError, match="logits of a reply"),
        gated(model, ["L0H1"], 6e4),
    ):
        generate(model, ["ab"], max_new_tokens=3)
    assert len(generate(model, ["ab"], max_new_tokens=3)[0].tokens) > 0
