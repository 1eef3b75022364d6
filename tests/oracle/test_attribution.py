"""`attribute` against the bare hooks, TransformerLens' own tools, and sums worked out by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from transformer_lens.patching import generic_activation_patch
from transformer_lens.tools.analysis import direct_logit_attribution

from hooks.dla import dla
from hooks.grad_activation import grad_activation
from hooks.patching import patch
from langheads import attribute, load_result, save
from langheads.io.errors import InputError, InterventionError
from langheads.model import head_shape
from langheads.model.logit_attribution import last_positions, readout
from langheads.scores import patching
from langheads.scores.attribution_dataset import _ratio
from langheads.text.prompts import choice, read_prompts
from tests.models.zoo import TEXTS, tokens_of

# Languages of two, one and one prompts; the third has nothing to patch.
PROMPTS = [
    {"prompt": "A cat is", "answer": " an animal", "wrong": " a stone", "language": "en",
     "corrupt": "猫是"},
    {"prompt": "猫是", "answer": "动物", "wrong": "石头", "language": "zh",
     "clean": "狗是", "corrupt": "A very old dog is"},
    {"prompt": "The big dog is", "answer": " x", "wrong": " y", "language": "en",
     "corrupt": "Le chien est"},
    {"prompt": "Katze", "answer": "n", "wrong": "!", "language": "de"},
]  # fmt: skip


@pytest.fixture(scope="module")
def found(zoo):
    return attribute(zoo.bridge("llama-gqa", torch.float64), PROMPTS, bos=True)


def heads_of(model):
    layers, heads = head_shape(model)
    return [(layer, head) for layer in range(layers) for head in range(heads)]


def read_as(model, prompt, text):
    """Tokens ``[pos]``, answer and wrong token of a text followed by a prompt's answers."""
    found = choice(model.tokenizer, text, prompt, bos=True)
    return torch.tensor(found.tokens), found.answer, found.wrong


def test_each_prompt_equals_the_bare_hooks(zoo, found):
    model = zoo.bridge("llama-gqa", torch.float64)
    for i, prompt in enumerate(read_prompts(PROMPTS)):
        tokens, answer, wrong = read_as(model, prompt, prompt.prompt)
        assert found.read.values[i] == model.tokenizer.decode(tokens)
        with torch.no_grad():
            logits = model(tokens[None])[0, -1]
        assert found.logit_diff.values[i] == pytest.approx(
            float(logits[answer] - logits[wrong]), abs=1e-6
        )
        for layer, head in heads_of(model):
            bare = {
                "direct": dla(model, tokens, answer, wrong, layer, head),
                "gradient": grad_activation(model, tokens, answer, wrong, layer, head),
            }
            if prompt.corrupt is not None:
                clean, answer, wrong = read_as(model, prompt, prompt.clean)
                corrupt, *same = read_as(model, prompt, prompt.corrupt)
                assert same == [answer, wrong]
                bare["patching"] = patch(model, clean, corrupt, answer, wrong, layer, head)
            for measure, value in bare.items():
                library = found[f"{measure}_of_prompt"].values[i, layer, head]
                assert library == pytest.approx(float(value), rel=1e-4, abs=1e-5)
    assert not model.cfg.use_attn_result


def test_languages_are_means_and_ratios_of_their_prompts(found):
    of = {"en": [0, 2], "zh": [1], "de": [3]}
    assert list(found.language.values) == list(of)
    assert list(found.prompts.values) == [2, 1, 1]
    gap = (found.clean_diff - found.corrupt_diff).values
    for language, which in of.items():
        one = found.sel(language=language)
        for measure in ("direct", "gradient"):
            values = found[f"{measure}_of_prompt"].values[which]
            np.testing.assert_allclose(one[measure], values.mean(axis=0), rtol=1e-5, atol=1e-7)
            error = abs(values[0] - values[-1]) / 2 if len(which) == 2 else np.nan
            np.testing.assert_allclose(one[f"{measure}_se"], error, rtol=1e-5, atol=1e-7)
        rise = found.patching_of_prompt.values[which] * gap[which, None, None]
        if language == "de":
            assert one.patching.isnull().all()
        else:
            share = rise.sum(axis=0) / gap[which].sum()
            np.testing.assert_allclose(one.patching, share, rtol=1e-4, atol=1e-6)
    assert found.patching_se.sel(language="en").notnull().all()
    assert found.patching_se.sel(language="zh").isnull().all()


def test_error_of_a_ratio_is_the_spread_over_resampled_prompts():
    rng = np.random.default_rng(0)
    gap = rng.uniform(1, 3, 400)
    rise = (0.3 * gap + rng.normal(0, 0.5, 400))[:, None, None]
    share, error = _ratio(rise, gap, gap)
    draws = [rng.integers(0, 400, 400) for _ in range(1000)]
    spread = np.std([rise[d].sum() / gap[d].sum() for d in draws])
    assert share.item() == pytest.approx(0.3, abs=0.03)
    assert error.item() == pytest.approx(spread, rel=0.1)


def test_parts_add_up_and_the_file_keeps_everything(found, tmp_path):
    together = found.part.sum("part_of")
    np.testing.assert_allclose(together, found.logit_diff, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        found.direct_of_prompt.sum(("layer", "head")), found.part.sel(part_of="heads"), atol=1e-5
    )
    again = load_result(save(found, tmp_path / "attribution.nc"), "attribution")
    xr.testing.assert_identical(again.drop_attrs(), found.drop_attrs())
    assert again.attrs == found.attrs
    assert again.attrs["patched_position"] == "last"


def test_batches_and_chosen_heads_change_nothing(zoo, found):
    model = zoo.bridge("llama-gqa", torch.float64)
    some = attribute(model, PROMPTS, heads=["L1H2", "L0H3"], bos=True, batch_tokens=1)
    for name in ("direct", "gradient", "part", "clean_diff"):
        # Softmax and norms compute in float32 whatever they are given.
        np.testing.assert_allclose(some[name], found[name], rtol=0, atol=2e-5)
    patched = some.patching.sel(language="en").notnull()
    assert patched.sum() == 2
    for layer, head in ((1, 2), (0, 3)):
        np.testing.assert_allclose(
            some.patching[:, layer, head], found.patching[:, layer, head], rtol=1e-4, atol=1e-5
        )


def test_heads_are_patched_with_fewer_side_by_side_where_memory_runs_out(zoo, found, monkeypatch):
    """Prompts are not halved for it: one alone, with every head of a layer, is too much here."""
    difference, rows = patching.logit_difference, []

    def full(model, tokens, *args):
        rows.append(len(tokens))
        if len(tokens) > 2:
            raise MemoryError
        return difference(model, tokens, *args)

    monkeypatch.setattr(patching, "logit_difference", full)
    model = zoo.bridge("llama-gqa", torch.float64)
    some = attribute(model, PROMPTS[:1], bos=True, measures="patching", batch_tokens=512)
    assert max(rows) > 2
    np.testing.assert_allclose(
        some.patching_of_prompt[0], found.patching_of_prompt[0], rtol=1e-4, atol=1e-5
    )


def test_the_model_is_as_before_also_after_a_failure(zoo, monkeypatch):
    model = zoo.fresh("llama-gqa")
    tokens = tokens_of(model)[0][None]

    def state():
        with torch.no_grad():
            logits = model(tokens)
        hooked = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
        flags = [parameter.requires_grad for parameter in model.original_model.parameters()]
        return logits, hooked, flags, [block.forward.__name__ for block in model.blocks]

    before = state()
    attribute(model, PROMPTS, bos=True)
    after = [state()]
    last = "langheads.scores.patching.logit_difference"
    monkeypatch.setattr(last, lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attribute(model, PROMPTS, bos=True, measures="patching")
    after.append(state())
    for logits, *rest in after:
        assert torch.equal(logits, before[0])
        assert rest == list(before[1:])


def test_a_hook_point_that_does_not_fire_once_is_an_error(zoo):
    model = zoo.bridge("llama-gqa")
    tokens, lengths = tokens_of(model)[0][None], torch.tensor([3])

    def run(times):
        with last_positions(model, ["blocks.0.hook_mlp_out"], lengths):
            for _ in range(times):
                model(tokens)

    run(1)
    with pytest.raises(InterventionError, match="hook_mlp_out did not fire"):
        run(0)
    with pytest.raises(InterventionError, match="hook_mlp_out fired twice"):
        run(2)


@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window", "qwen3", "cohere", "bloom"])
def test_direct_equals_transformer_lens(zoo, name):
    """Its tool folds the norms first; value biases (BLOOM) then move from the heads, in both."""
    model = zoo.fresh(name, torch.float64)
    model.enable_compatibility_mode()
    for tokens in tokens_of(model, TEXTS[:2]):
        ours = readout(
            model,
            tokens[None],
            torch.tensor([len(tokens)]),
            torch.tensor([20]),
            torch.tensor([50]),
        )
        theirs = direct_logit_attribution(
            model,
            tokens[None],
            answer_tokens=torch.tensor([20]),
            incorrect_tokens=torch.tensor([50]),
            unit="head",
        ).attribution[:-1, 0]
        torch.testing.assert_close(ours.heads.flatten(), theirs.detach(), rtol=0, atol=1e-5)
        assert theirs.abs().max() > 1e-2


def test_patching_equals_transformer_lens_where_lengths_are_the_same(zoo):
    model = zoo.bridge("llama-gqa", torch.float64)
    pair = {"prompt": "A cat is", "answer": " x", "wrong": " y", "corrupt": "A dog is"}
    found = attribute(model, [pair], measures="patching", bos=True)
    (prompt,) = read_prompts([pair])
    clean, answer, wrong = read_as(model, prompt, prompt.clean)
    corrupt, *_ = read_as(model, prompt, "A dog is")

    def put(z, index, taken):
        z[:, -1, index[1]] = taken[:, -1, index[1]]
        return z

    with torch.no_grad():
        _, cache = model.run_with_cache(clean[None])
        patched = generic_activation_patch(
            model,
            corrupt[None],
            cache,
            lambda logits: logits[0, -1, answer] - logits[0, -1, wrong],
            put,
            "z",
            index_axis_names=["layer", "head"],
        )
    gap = (found.clean_diff - found.corrupt_diff).item()
    share = (patched.numpy() - found.corrupt_diff.item()) / gap
    np.testing.assert_allclose(found.patching_of_prompt[0], share, rtol=1e-4, atol=1e-5)
    assert abs(share).max() > 0.05


def test_last_heads_put_in_alone_change_only_what_they_write(zoo):
    """No hook: a head of the last layer of a model that has no MLP behind it is linear."""
    model = zoo.fresh("llama-gqa", torch.float64)
    model.original_model.model.layers[2].mlp.down_proj.weight.data.zero_()
    found = attribute(model, PROMPTS[:1], measures="direct", bos=True)
    (prompt,) = read_prompts(PROMPTS[:1])
    tokens, answer, wrong = read_as(model, prompt, prompt.prompt)
    network = model.original_model
    kept = []
    handle = network.model.norm.register_forward_pre_hook(
        lambda module, args: kept.append(args[0][0, -1])
    )
    w_o = network.model.layers[2].self_attn.o_proj.weight.data
    with torch.no_grad():
        before = network(tokens[None]).logits[0, -1]
        for head in range(4):
            part = w_o[:, 8 * head : 8 * head + 8].clone()
            w_o[:, 8 * head : 8 * head + 8] = 0
            after = network(tokens[None]).logits[0, -1]
            w_o[:, 8 * head : 8 * head + 8] = part
            # The final norm divides by another number when the head is gone.
            rms = [(x.square().mean() + 1e-6).sqrt() for x in (kept[0], kept[-1])]
            fall = (before - after * rms[1] / rms[0])[[answer, wrong]]
            assert found.direct_of_prompt[0, 2, head].item() == pytest.approx(
                float(fall[0] - fall[1]), abs=1e-5
            )
    handle.remove()


def test_prompts_that_agree_have_no_share(zoo):
    """Clean and corrupt differ at a place that no window reaches: D is the same in both runs."""
    model = zoo.bridge("mistral-window")
    pair = {"prompt": "A cat that sleeps", "answer": " x", "wrong": " y",
            "corrupt": "B cat that sleeps"}  # fmt: skip
    found = attribute(model, [pair], bos=True)
    assert found.clean_diff.item() == pytest.approx(found.corrupt_diff.item(), rel=1e-6)
    assert found.patching.isnull().all()
    assert found.patching_of_prompt.isnull().all()
    assert found.gradient.notnull().all()


@pytest.mark.parametrize(
    ("changed", "keywords", "message"),
    [
        ({}, {"measures": "dla"}, "measure dla asked for; allowed are direct, gradient, patching"),
        ({}, {"measures": []}, "measure none asked for"),
        ({}, {"measures": "patching"}, "no prompt has a corrupt"),
        ({}, {"heads": []}, "no heads asked for; give at least one, or leave heads out for all"),
        ({}, {"heads": ["L9H0"]}, "head L9H0 asked for, but the model has 3 layers of 4"),
        ({"wrong": " xy"}, {}, "prompt 1: .* no token in which they differ"),
        (
            {"prompt": "a" * 300},
            {},
            "prompt 1 has 302 tokens, more than the model's context of 256",
        ),
        ({"answer": "\u00e9", "wrong": "\u00e8", "corrupt": "B", "clean": "C"}, {}, None),
    ],
)
def test_bad_input_is_refused(zoo, changed, keywords, message):
    model = zoo.bridge("llama-gqa")
    prompts = [{"prompt": "A", "answer": " x", "wrong": " y"} | changed]
    if message is None:
        # Two characters that share their first byte: the model has read it when it chooses.
        found = attribute(model, prompts, bos=True)
        assert found.read.item() == "<s>A\ufffd"
        return
    with pytest.raises(InputError, match=message):
        attribute(model, prompts, bos=True, **keywords)


def test_a_final_soft_cap_is_refused_for_direct_only(zoo):
    model = zoo.bridge("gemma2")
    with pytest.raises(InputError, match="soft cap of 30"):
        attribute(model, PROMPTS, bos=True)
    rest = attribute(model, PROMPTS, measures=["gradient", "patching"], bos=True)
    assert "direct" not in rest
    assert rest.gradient.notnull().all()
