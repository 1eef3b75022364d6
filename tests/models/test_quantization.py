"""Weights of 4 and 8 bits, held to the same weights rounded by hand."""

import json
import sys

import pytest
import torch

import langheads
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.same_model import require_same_model
from langheads.io.errors import InputError, ModelError, ProvenanceError
from langheads.model import describe, gated, load
from tests.models.zoo import TEXTS, hugging_face, projection, tokens_of, w_o

# Quantiles of a normal distribution, from -1 to 1 with 0 among them (arXiv 2305.14314, appendix E).
NF4 = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
     0.7229568362236023, 1.0]
)  # fmt: skip
TEXT = {"en": [TEXTS[0], TEXTS[4] * 3], "zh": [TEXTS[1], TEXTS[3]]}


def rounded(weight, width):
    """Rows of a linear layer [out, in] as so many bits hold them."""
    if width == "8bit":
        half = weight.half().float()
        largest = half.abs().amax(dim=1, keepdim=True)
        return (half * (127 / largest)).round() * largest / 127
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    nearest = (blocks / scale - NF4[:, None, None]).abs().argmin(dim=0)
    return (NF4[nearest] * scale).reshape(weight.shape)


def by_hand(name, width):
    """The plain network with its linear layers but the unembedding rounded."""
    network = hugging_face(name)
    for path, module in network.named_modules():
        if path != "lm_head" and type(module).__name__ in ("Linear", "Conv1D"):
            transposed = type(module).__name__ == "Conv1D"
            weight = module.weight.data.T.contiguous() if transposed else module.weight.data
            found = rounded(weight, width)
            module.weight.data = found.T.contiguous() if transposed else found
    return network


@pytest.fixture(scope="module")
def folder(zoo, tmp_path_factory):
    return {
        name: zoo.save(name, tmp_path_factory.mktemp(name))
        for name in ("llama-gqa", "cohere", "gpt2")
    }


@pytest.fixture(scope="module")
def packed(folder):
    return {
        width: load(folder["llama-gqa"], quantize=width, device="cpu") for width in ("4bit", "8bit")
    }


@pytest.fixture(scope="module")
def whole(folder):
    return load(folder["llama-gqa"], device="cpu")


WIDTHS = pytest.mark.parametrize("width", ["4bit", "8bit"])


@WIDTHS
@pytest.mark.parametrize("name", ["llama-gqa", "cohere"])
def test_logits_and_gates_are_those_of_weights_rounded_by_hand(name, width, folder, packed):
    model = packed[width] if name == "llama-gqa" else load(folder[name], quantize=width)
    network = by_hand(name, width)
    w_o(network, name, 1, 2).zero_()
    tokens = tokens_of(model)[0][None]
    with torch.no_grad(), gated(model, ["L1H2"], 0.0):
        found, expected = model(tokens), network(tokens).logits
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    # Far from what they were.
    with torch.no_grad():
        before = hugging_face(name)(tokens).logits
    assert (found - before).abs().max() > 1e-3 * expected.abs().max()


@WIDTHS
def test_scores_are_those_of_weights_rounded_by_hand(width, packed, folder):
    network = by_hand("llama-gqa", width)
    network.config._name_or_path = str(folder["llama-gqa"])
    both = packed[width], load(network)
    found, expected = (langheads.score(of, TEXT, method=["lahis", "output-norm"]) for of in both)
    prompts = [{"prompt": "The cat", "answer": " a", "wrong": " b"}]
    direct = [langheads.attribute(of, prompts, measures="direct").direct for of in both]
    for ours, theirs in (
        (found.lahis, expected.lahis), (found.output_norm, expected.output_norm), direct,
    ):  # fmt: skip
        assert abs(ours - theirs).max() < 1e-4 * abs(theirs).max()
    kind = {"4bit": "nf4", "8bit": "int8"}[width]
    assert found.attrs["quantization"].startswith(f"{width} ({kind}, bitsandbytes ")
    assert "quantization" not in expected.attrs


@WIDTHS
def test_a_batch_changes_nothing_in_what_is_alone(width, packed):
    """LLM.int8() rounds by what else is in a batch."""
    rows = torch.stack([tokens[:6] for tokens in tokens_of(packed[width])[:4]])
    with torch.no_grad():
        alone, together = packed[width](rows[:1]), packed[width](rows)[:1]
    assert (alone - together).abs().max() < 1e-5 * alone.abs().max()


@WIDTHS
def test_it_is_the_same_model_in_other_numbers(width, packed, whole, caplog):
    ours, theirs = describe(packed[width]), describe(whole)
    same = ("weight_hash", "config_hash", "tokenizer_hash", "model_type", "dtype")
    assert [ours[key] for key in same] == [theirs[key] for key in same]
    assert ours["exact_weight_hash"] != theirs["exact_weight_hash"]
    assert ours["self_test"] == "passed" == describe(packed[width])["self_test"]
    require_same_model("the head set", ours, describe(packed[width]))
    assert not caplog.records
    require_same_model("the head set", ours, theirs)
    require_same_model("the head set", theirs, ours)
    told = ours["quantization"]
    assert [record.getMessage() for record in caplog.records] == [
        f"the head set was made in float32, but this is float32 {told}",
        f"the head set was made in float32 {told}, but this is float32",
    ]


@WIDTHS
def test_a_packed_number_that_is_changed_is_another_model(width, folder):
    model = load(folder["llama-gqa"], quantize=width, device="cpu")
    before = describe(model)
    weight = model.blocks[1].attn.o.original_component.weight.data
    weight.view(-1)[77] ^= 1
    now = describe(model)
    assert now["self_test"] == "not run"
    with pytest.raises(ProvenanceError, match="the heads was made with exact weights "):
        require_same_model("the heads", now, before)


@WIDTHS
def test_another_checkpoint_is_refused_however_it_is_packed(width, zoo, tmp_path, whole):
    folder = zoo.save("llama-gqa", tmp_path)
    network = hugging_face("llama-gqa")
    # So little that it packs to the same.
    projection(network, "llama-gqa", 1).weight.data[0, 0] *= 1.01
    network.save_pretrained(folder)
    other = describe(load(folder, quantize=width, device="cpu"))
    with pytest.raises(ProvenanceError, match="the head set was made with weights "):
        require_same_model("the head set", other, describe(whole))


def test_packed_weights_cannot_be_pruned(packed, tmp_path):
    heads = LanguageHeads({"zh": HeadSet(["L1H2"], (3, 4))}, HeadSet([], (3, 4)), "tiny")
    with pytest.raises(ModelError) as error:
        langheads.prune(packed["4bit"], heads, drop="zh", out=tmp_path / "out")
    assert str(error.value) == (
        "LlamaForCausalLM is quantised; heads are removed from unquantised weights only"
    )
    assert not (tmp_path / "out").exists()


def test_products_that_transformer_lens_has_to_split_are_refused(folder):
    with pytest.raises(ModelError) as error:
        load(folder["gpt2"], quantize="4bit", device="cpu")
    assert str(error.value).startswith(
        f"cannot load model {folder['gpt2']}: TransformerLens cannot split a fused QKV projection"
    )
    assert str(error.value).endswith(
        "; to be quantised, query, key and value weights must not be one matrix"
    )


def test_what_cannot_be_packed_is_refused(folder, whole, monkeypatch, tmp_path):
    at = folder["llama-gqa"]
    config = json.loads((at / "config.json").read_text())

    def said(of, **how):
        with pytest.raises(InputError) as error:
            load(of, **how)
        return str(error.value)

    assert said(at, quantize="2bit") == "quantize '2bit' asked for; allowed are 4bit, 8bit"
    assert said(at, quantize="4bit", dtype="float64") == (
        "quantize asked for in float64; allowed are float32, bfloat16, float16"
    )
    assert said(whole, quantize="4bit") == (
        "a model that is loaded is taken as it is: dtype, device, quantization and revision"
    )
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    other = tmp_path / "packed"
    other.mkdir()
    for path in at.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "config.json").write_text(json.dumps(config))
    assert said(other, quantize="4bit") == f"{other} is quantised already; load it without quantize"
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert said(at, quantize="8bit") == (
        "quantize 8bit needs bitsandbytes: pip install 'langheads[quantize]'"
    )
