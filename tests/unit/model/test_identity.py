"""Which model it is: what makes it another one, and who asks."""

import hashlib
import json
import logging

import numpy as np
import pytest
import torch
import xarray as xr

import langheads
from langheads.heads import HeadSet, LanguageHeads, planted_of
from langheads.heads.mask import HeadMask
from langheads.heads.same_model import require_same_model
from langheads.io.errors import ProvenanceError
from langheads.model import DEMO, EMBEDDED, describe, gated, identity, load
from tests.models.zoo import SPECS, hugging_face


@pytest.fixture
def model(zoo):
    return zoo.fresh("llama-gqa")


@pytest.fixture
def before(model):
    return describe(model)


def refused(model, before, label):
    with pytest.raises(ProvenanceError, match=f"the heads was made with {label} "):
        require_same_model("the heads", describe(model), before)


def test_a_thousandth_on_one_weight_is_another_model(model):
    weight = model.original_model.model.norm.weight
    weight.data[3] = 1.0
    before = describe(model)
    weight.data[3] = 1.001
    # So small that it is lost in bfloat16.
    assert describe(model)["weight_hash"] == before["weight_hash"]
    refused(model, before, "exact weights")


def test_weights_of_a_hub_model_that_were_changed_in_memory_are_another_model(model):
    model.original_model.config._commit_hash = "c0ffee"
    before = describe(model)
    model.original_model.model.norm.weight.data.mul_(2)
    assert describe(model)["revision"] == before["revision"] == "c0ffee"
    refused(model, before, "weights")


def test_weights_are_read_once_for_a_mask_that_is_opened_often(model, before, monkeypatch):
    mask = HeadMask(HeadSet(["L0H1"], (3, 4)), (0.5,), "en", "m", {}, {}, {}, before)
    read, hashes = [], identity._weight_hashes
    monkeypatch.setattr(identity, "_weight_hashes", lambda of: read.append(1) or hashes(of))

    def run():
        with torch.no_grad(), gated(model, mask):
            model(torch.tensor([[1, 2]]))

    for _ in range(3):
        run()
    # `before` has read them.
    assert len(read) == 0
    assert describe(model) == before
    assert len(read) == 1
    weight = model.original_model.model.norm.weight
    refused = "the mask was made with weights "
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(ProvenanceError, match=refused):
        run()
    with torch.no_grad():
        weight.div_(2)
    run()
    assert len(read) == 3
    del identity._HASHED[model]
    run()
    run()
    assert len(read) == 4
    # Which torch does not count.
    weight.data.mul_(2)
    with pytest.raises(ProvenanceError, match=refused):
        run()


def columns_to_zero(weight):
    weight[:, 80:96] = 0


def two_heads_swapped(weight):
    weight[:] = torch.cat([weight[:, 16:32], weight[:, :16], weight[:, 32:]], 1)


def signs_of_every_second(weight):
    weight[:, 1::2] *= -1


def one_number(weight):
    weight[7, 91] = torch.nextafter(weight[7, 91], torch.tensor(9.0))


def test_weights_edited_by_hand_are_read_again():
    model = load("demo")
    weight = model.original_model.model.layers[1].self_attn.o_proj.weight
    for edit in (two_heads_swapped, signs_of_every_second, one_number, columns_to_zero):
        before = identity.described_before(model)
        identity.SELF_TESTS[model] = "passed", identity.weights_in_memory(model)
        assert describe(model) == before | {"self_test": "passed"}
        edit(weight.data)
        again, now = identity.described_before(model), describe(model)
        assert now["exact_weight_hash"] != before["exact_weight_hash"]
        assert now["self_test"] == "not run", edit
        assert again | {"self_test": "not run"} == now, edit


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(()),
        torch.ones(3),
        torch.ones(2, 3, 5),
        torch.ones(2, 7, dtype=torch.bfloat16),
        torch.ones(9)[1:],
        torch.ones(4, 6).T,
        torch.ones(3, 3, dtype=torch.uint8),
    ],
)
def test_no_number_of_any_tensor_is_passed_over(tensor):
    seen = {tuple(identity._bit_sums(tensor))}
    for at in np.ndindex(*tensor.shape):
        changed = tensor.clone()
        changed[at] = 2
        seen.add(tuple(identity._bit_sums(changed)))
    assert len(seen) == 1 + tensor.numel()


def test_what_a_model_is_used_for_is_not_kept_from_before(model):
    of_others = describe(model) | {"weight_hash": "0" * 64, "exact_weight_hash": "0" * 64}
    mask = HeadMask(HeadSet(["L0H1"], (3, 4)), (0.5,), "en", "m", {}, {}, {}, of_others)
    with (
        pytest.raises(ProvenanceError, match="the mask was made with weights 000"),
        gated(model, mask),
    ):
        pytest.fail("the block ran")
    load(model, other_weights=True)
    with torch.no_grad(), gated(model, mask):
        model(torch.tensor([[1, 2]]))
    assert identity.described_before(model)["other_weights"] == "taken"
    model.add_hook("blocks.1.attn.hook_pattern", lambda value, hook: None)
    assert identity.described_before(model)["hooks"] == "blocks.1.attn.hook_pattern"
    model.reset_hooks()
    assert "hooks" not in identity.described_before(model)


def test_equal_settings_of_two_architectures_are_two_models(zoo, tmp_path):
    folder = zoo.save("llama-gqa", tmp_path)
    llama = describe(load(folder, device="cpu"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    config |= {"sliding_window": None}
    (folder / "config.json").write_text(json.dumps(config))
    mistral = describe(load(folder, device="cpu"))
    assert llama["weight_hash"] == mistral["weight_hash"]
    assert {llama["model_type"], mistral["model_type"]} == {"llama", "mistral"}
    # Whatever else the two classes' defaults are.
    alike = mistral | {"config_hash": llama["config_hash"]}
    with pytest.raises(ProvenanceError) as error:
        require_same_model("the head set", llama, alike)
    name = llama["model"]
    assert str(error.value) == (
        f"the head set was made with architecture mistral of model {name}, but this is "
        f"architecture llama of {name}; make it again with this model"
    )
    # A file of an earlier version does not say it.
    require_same_model("the head set", llama, {k: v for k, v in llama.items() if k != "model_type"})


def test_another_rope_theta_is_another_model(zoo, tmp_path):
    folder = zoo.save("llama-gqa", tmp_path)
    before = describe(load(folder, device="cpu"))
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder, device="cpu")
    assert describe(model)["exact_weight_hash"] == before["exact_weight_hash"]
    refused(model, before, "configuration")


def test_the_configuration_is_that_of_the_same_model_however_it_is_loaded(zoo, tmp_path):
    folder = zoo.save("llama-gqa", tmp_path)
    ours = describe(load(folder, device="cpu", dtype="bfloat16"))
    network = type(hugging_face("llama-gqa")).from_pretrained(folder)
    theirs = describe(load(network))
    assert ours["config_hash"] == theirs["config_hash"]
    assert ours["weight_hash"] == theirs["weight_hash"]
    assert ours["exact_weight_hash"] == ours["weight_hash"] != theirs["exact_weight_hash"]


def test_hashes_differ_between_architectures(zoo):
    names = [name for name in SPECS if name.startswith("llama")]
    assert len({describe(zoo.bridge(name))["config_hash"] for name in names}) == len(names)


def test_a_configuration_without_defaults_is_told_by_all_of_it():
    class Config:
        def __init__(self, **settings):
            self.to_dict = lambda: settings

    class Needy(Config):
        def __init__(self, width, **settings):
            super().__init__(width=width, **settings)

    of = identity._config_hash
    assert of(Needy(3)) == of(Needy(3)) != of(Needy(4))
    assert of(Needy(3, _name="x", output_attentions=True, dtype="y")) == of(Needy(3))
    assert of(Config(width=3)) == of(Needy(3))
    assert of(Config(width=3, depth=2)) == of(Config(depth=2, width=3))


def test_a_model_is_called_by_where_it_was_loaded_from(model):
    config = model.original_model.config
    for path, name in (
        ("some/where", "some/where"),
        ("", model.cfg.model_name),
        (str(DEMO), "demo"),
    ):
        config._name_or_path = path
        assert describe(model)["model"] == name


def test_the_width_of_packed_weights_is_told(model, before, monkeypatch):
    assert "quantization" not in before
    monkeypatch.setattr(identity, "quantization_of", lambda of: "int8")
    assert describe(model) == before | {"quantization": "int8"}


def test_another_dtype_is_told(zoo, before, caplog):
    half = describe(zoo.fresh("llama-gqa", torch.bfloat16))
    require_same_model("the head set", half, before)
    assert "the head set was made in float32, but this is bfloat16" in caplog.text


def test_what_an_earlier_version_made_is_used_with_a_warning(before, caplog):
    old = {k: v for k, v in before.items() if k not in ("exact_weight_hash", "config_hash")}
    require_same_model("the head set", old, old)
    assert not caplog.records
    require_same_model("the head set", before, old)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "whether the exact weights and the configuration are the same" in caplog.text
    with pytest.raises(ProvenanceError, match="made with weights 000"):
        require_same_model("the head set", before, old | {"weight_hash": "0" * 64})
    # A model of the Hub was its revision only.
    hub = {"revision": "c0ffee"}
    require_same_model("the head set", before | hub, old | hub | {"weight_hash": ""})
    with pytest.raises(ProvenanceError, match="was made with tokenizer unknown"):
        require_same_model("the head set", before | hub, before | hub | {"tokenizer_hash": ""})


def test_hooks_that_stand_are_named(model, before):
    assert "hooks" not in before
    model.add_hook("blocks.1.attn.hook_pattern", lambda value, hook: None)
    assert describe(model)["hooks"] == "blocks.1.attn.hook_pattern"


class Plain:
    """A tokenizer that is not one of the library of tokenizers."""

    def __init__(self, **vocabulary):
        self.get_vocab = lambda: vocabulary


def test_any_tokenizer_is_told_by_its_vocabulary():
    of = identity._tokenizer_hash
    assert of(Plain(a=0, b=1)) == of(Plain(b=1, a=0)) != of(Plain(a=1, b=0))
    assert of(None) == hashlib.sha256(b"").hexdigest()


def test_hooks_of_torch_are_named(model, before):
    network = model.original_model
    # transformers sets hooks of its own then.
    network(torch.tensor([[1, 2]]), output_hidden_states=True, output_attentions=True)
    assert "hooks" not in describe(model)
    wide = network.model.layers[1].mlp.register_forward_hook(lambda *of: None)
    network.lm_head.register_full_backward_hook(lambda *of: None)
    model.blocks[0].attn.register_forward_pre_hook(lambda *of: None)
    assert describe(model)["hooks"] == "lm_head,model.layers.0.self_attn,model.layers.1.mlp"
    wide.remove()
    assert identity.described_before(model)["hooks"] == "lm_head,model.layers.0.self_attn"


def test_a_mask_of_another_model_is_refused(model, before):
    mask = HeadMask(HeadSet(["L0H1"], (3, 4)), (0.5,), "en", "m", {}, {}, {}, before)
    tokens = torch.tensor([[1, 5, 6]])
    with torch.no_grad(), gated(model, mask):
        model(tokens)
    model.original_model.model.norm.weight.data.mul_(2)
    with (
        pytest.raises(ProvenanceError, match="head mask the mask was made with weights"),
        gated(model, mask),
    ):
        pytest.fail("the block ran")


def test_attention_of_heads_of_another_model_is_refused(model, before):
    heads = LanguageHeads(
        {"en": HeadSet(["L0H1"], (3, 4))}, HeadSet([], (3, 4)), "m", provenance=before
    )
    scores = xr.Dataset(
        {"lahis": (("language", "layer", "head"), np.ones((1, 3, 4)), {"units": "nats"})},
        coords={"language": ["en"]},
        attrs=before,
    )
    langheads.show_attention(model, "The cat", heads, language="en")
    model.original_model.model.norm.weight.data.mul_(2)
    with pytest.raises(ProvenanceError, match="the head set was made with weights"):
        langheads.show_attention(model, "The cat", heads, language="en")
    with pytest.raises(ProvenanceError, match="the scores file was made with weights"):
        langheads.show_attention(model, "The cat", ["L0H1"], scores=scores)


def test_planted_heads_are_those_of_their_model(caplog):
    described = {name: describe(load(name)) for name in EMBEDDED}
    for name, folder in EMBEDDED.items():
        for other, of in described.items():
            assert planted_of(folder / "planted.json", of) == (name == other)
    assert not planted_of(DEMO / "planted.json", {"weight_hash": "0" * 64})
    assert not caplog.messages
    assert planted_of(DEMO / "planted.json", {})
    assert caplog.messages == [
        f"whether the heads of {DEMO / 'planted.json'} are of this model is unknown: it or the "
        "result has no weight_hash"
    ]


def test_scores_with_bos_proved_without_are_told(model, caplog):
    text = {name: [f"{name} {i} cat sleeps" for i in range(6)] for name in ("en", "de")}
    scores = langheads.score(model, text, docs=3, method="lahis")
    assert scores.attrs["bos"] == 1
    how = {"docs": 2, "steps": [1], "method": "lahis"}
    langheads.deletion(model, scores, text, **how)
    assert "BOS" not in caplog.text
    from langheads.experiments.held_out import held_out

    held_out(model, scores.attrs, text, docs=2, bos=False)
    assert "the heads were scored with BOS, and these documents are read without it" in caplog.text


def test_a_measurement_reads_the_weights_once(tiny, texts, tmp_path, monkeypatch):
    """Of a large model that takes many seconds; it was done for heads, mask and result each."""
    before = describe(tiny)
    heads = LanguageHeads(
        {"en": HeadSet(["L0H1"], (3, 4)), "zh": HeadSet(["L1H2"], (3, 4))},
        HeadSet([], (3, 4)),
        "tiny",
        provenance=before,
    )
    read = []
    hashes = identity._weight_hashes
    monkeypatch.setattr(identity, "_weight_hashes", lambda of: read.append(of) or hashes(of))
    proof = langheads.ablate(tiny, heads, texts, docs=1, n_controls=2, baseline="zero")
    assert {key: proof.attrs[key] for key in before} == before
    assert len(read) == 1
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the cat", "language": "en"}\n')
    replies = langheads.generate_replies(
        tiny, tmp_path / "prompts.jsonl", heads=heads, gate={"en": 0.0}, n_controls=1,
        max_new_tokens=2,
    )  # fmt: skip
    assert {key: replies.provenance[key] for key in before} == before
    assert len(read) == 2


def test_heads_and_masks_of_another_model_are_refused_wherever_gates_are_given(zoo, tmp_path):
    """`generate` and `gated`, with heads of languages and a mask of another model."""
    model, other = zoo.bridge("llama-gqa"), load("demo", device="cpu")
    one = HeadSet(["L0H1"], (3, 4))
    theirs = describe(other)
    heads = LanguageHeads({"en": one}, HeadSet([], (3, 4)), "demo", {"name": "by hand"}, theirs)
    mask = HeadMask(one, (0.5,), "en", "demo", {}, {}, {}, theirs)
    for gates in (heads, mask):
        keywords = {"language": "en"} if gates is heads else {}
        with pytest.raises(ProvenanceError, match="was made with weights"):
            langheads.generate(model, ["a"], gates=gates, max_new_tokens=1, **keywords)
        with (
            pytest.raises(ProvenanceError, match="was made with weights"),
            langheads.gated(model, gates, **keywords),
        ):
            pass
