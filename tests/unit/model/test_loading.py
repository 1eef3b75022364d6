"""Loading a model, and what is refused at the door."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
import transformers
from huggingface_hub import HfApi
from huggingface_hub.utils import SafetensorsFileMetadata, TensorInfo
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge

import langheads
from langheads.io.errors import InputError, ModelError
from langheads.model import describe, head_shape, load, loading
from langheads.model.checkpoint import check_checkpoint, check_hub


def test_a_folder_is_loaded_with_the_weights_of_the_checkpoint(tiny, tiny_folder):
    weights = load_file(tiny_folder / "model.safetensors")
    o_proj = tiny.blocks[1].attn.o.original_component.weight
    assert torch.equal(o_proj, weights["model.layers.1.self_attn.o_proj.weight"])
    assert head_shape(tiny) == (3, 4)
    assert not tiny.original_model.training


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        (None, torch.float32),
        ("float64", torch.float64),
        ("bfloat16", torch.bfloat16),
        (torch.float16, torch.float16),
    ],
)
def test_the_dtype_is_the_one_asked_for(tiny_folder, asked, dtype):
    model = load(tiny_folder, dtype=asked, device="cpu")
    assert {p.dtype for p in model.original_model.parameters()} == {dtype}
    assert describe(model)["dtype"] == str(dtype).removeprefix("torch.")


def test_a_model_is_described_by_its_weights_and_tokenizer(tiny, tiny_folder, bare_folder):
    found = describe(tiny)
    assert found["model"] == str(tiny_folder)
    assert found["revision"] == ""
    assert found["device"] == "cpu"
    # The promised hash: SHA-256 over the names and bytes of the state dict as bfloat16.
    digest = hashlib.sha256()
    for name, tensor in sorted(tiny.original_model.state_dict().items()):
        rounded = tensor.to(torch.bfloat16).contiguous().view(torch.int16)
        digest.update(name.encode() + rounded.numpy().tobytes())
    assert found["weight_hash"] == digest.hexdigest()
    for dtype in ("float64", "bfloat16"):
        assert describe(load(tiny_folder, dtype=dtype))["weight_hash"] == found["weight_hash"]
    other = describe(load(bare_folder, device="cpu"))
    assert other["weight_hash"] == found["weight_hash"]
    assert other["tokenizer_hash"] != found["tokenizer_hash"]


def test_one_changed_weight_is_another_model(tiny, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed = describe(load(folder, device="cpu"))
    assert changed["weight_hash"] != describe(tiny)["weight_hash"]
    assert changed["tokenizer_hash"] == describe(tiny)["tokenizer_hash"]


def test_using_the_tokenizer_does_not_make_it_another_one(tiny):
    before = describe(tiny)["tokenizer_hash"]
    tiny.tokenizer(["a", "abc"], truncation=True, max_length=2, padding=True)
    assert describe(tiny)["tokenizer_hash"] == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' asked for; allowed are float32, float64, bfloat16"),
        ({"device": "gpu"}, "device 'gpu' asked for; allowed are cpu, cuda"),
        ({"device": "cuda:99"}, "device cuda:99 cannot be used here"),
        ({"device": "cpu", "device_map": "auto"}, "device and device_map were both given"),
    ],
)
def test_an_unknown_place_or_precision_is_told(tiny_folder, arguments, message):
    with pytest.raises(InputError, match=message):
        load(tiny_folder, **arguments)


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "~/none", "a/b/c"])
def test_a_missing_folder_is_told_without_looking_on_the_hub(monkeypatch, name):
    def look(*arguments, **keywords):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", look)
    with pytest.raises(ModelError, match=f"no model folder {name}"):
        load(name)


@pytest.mark.parametrize("name", ["none", "meta-llama/Llama-None"])
def test_a_missing_model_is_told(name):
    with pytest.raises(ModelError, match=f"no model {name}: not a local folder, and not on"):
        load(name)


def test_a_folder_of_something_else_is_told(tmp_path):
    with pytest.raises(ModelError, match="is not a model folder"):
        load(tmp_path)


def test_broken_weights_are_told(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot load model") as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_read(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors in .*pickled weights are not read"):
        load(folder)


def test_a_gated_model_is_told(monkeypatch):
    def from_pretrained(name, **keywords):
        raise OSError(
            f"You are trying to access a gated repo.\nMake sure to have access to it at "
            f"https://huggingface.co/{name}.\n401 Client Error."
        )

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    with pytest.raises(ModelError, match=r"model org/name is gated: accept its licence.*HF_TOKEN"):
        load("org/name")


def test_the_same_function_is_at_the_public_door():
    assert langheads.load is load


@pytest.mark.parametrize("files", [("pytorch_model.bin",), ("model.safetensors.index.json",)])
def test_pickled_weights_on_the_hub_are_not_downloaded(tiny_folder, monkeypatch, files):
    config = transformers.AutoConfig.from_pretrained(tiny_folder)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *a, **k: config)
    monkeypatch.setattr(
        "transformers.utils.has_file", lambda repo, name, revision=None: name in files
    )
    reached = ModelError("weights were asked for")

    def boot(*args, **kwargs):
        raise reached

    monkeypatch.setattr(TransformerBridge, "boot_transformers", boot)
    with pytest.raises(ModelError) as caught:
        load("someone/something")
    if files == ("pytorch_model.bin",):
        assert "no *.safetensors in someone/something; pickled weights" in str(caught.value)
    else:
        assert caught.value is reached


def on_the_hub(monkeypatch, tmp_path, **files):
    """Makes these JSON files the only ones that the Hub has of any model."""
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(
        "transformers.utils.cached_file",
        lambda repo, file, revision=None: next(map(str, tmp_path.glob(file)), None),
    )


def test_an_adapter_on_the_hub_is_refused(monkeypatch, tmp_path):
    on_the_hub(monkeypatch, tmp_path, adapter_config={"peft_type": "LORA"})
    with pytest.raises(ModelError) as caught:
        check_checkpoint("someone/adapter", None)
    assert str(caught.value) == (
        "someone/adapter holds an adapter that is not merged (adapter_config.json); merge it with "
        "peft's merge_and_unload and save the model with save_pretrained"
    )


def test_sizes_on_the_hub_are_held_to_the_headers_of_the_weights(monkeypatch, tmp_path):
    on_the_hub(monkeypatch, tmp_path, config={"num_hidden_layers": 10**6, "hidden_size": 8})
    monkeypatch.setattr("transformers.utils.has_file", lambda repo, name, revision=None: True)
    header = SafetensorsFileMetadata(
        metadata={}, tensors={"model.layers.1.w": TensorInfo("F32", [8, 8], (0, 256))}
    )
    monkeypatch.setattr(
        HfApi,
        "get_safetensors_metadata",
        lambda self, name, revision=None: SimpleNamespace(files_metadata={"m": header}),
    )
    with pytest.raises(ModelError) as caught:
        check_hub("someone/huge", None)
    assert str(caught.value) == (
        "config.json of someone/huge says num_hidden_layers 1000000, but it stores weights of 2 "
        "layers"
    )


def test_a_model_of_transformers_is_wrapped_as_it_is(tiny, tiny_folder):
    network = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    network.model.norm.weight.data.mul_(2)
    model = load(network)
    tokens = tiny.to_tokens("The cat sleeps.")
    with torch.no_grad():
        found, before = model(tokens), tiny(tokens)
    assert model.original_model is network
    # The final norm's gain is linear in the logits of a model without a soft cap.
    torch.testing.assert_close(found, 2 * before, rtol=1e-4, atol=1e-4)
    assert load(model) is model


@pytest.fixture
def unchecked_types():
    """As outside the tests, where types are not checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("given", [7, torch.nn.Linear(2, 2)])
def test_what_is_no_model_is_told(unchecked_types, given):
    with pytest.raises(InputError, match=f"{type(given).__name__} given as a model; allowed are a"):
        load(given)


def test_a_model_of_nowhere_has_no_tokenizer():
    config = transformers.LlamaConfig(
        hidden_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=9, intermediate_size=8
    )
    with pytest.raises(InputError, match="was not loaded from anywhere has no tokenizer"):
        load(transformers.LlamaForCausalLM(config))


def test_settings_of_a_model_that_is_loaded_are_refused(tiny):
    with pytest.raises(InputError, match="is taken as it is: dtype, device"):
        load(tiny, dtype="float64")


def test_scores_take_a_name_and_a_model_of_transformers(tiny, tiny_folder):
    text = {"en": ["The cat sleeps.", "A dog runs."], "de": ["Die Katze.", "Ein Hund."]}
    expected = langheads.score(tiny, text, method="taylor")
    network = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder)
    for given in (str(tiny_folder), tiny_folder, network):
        found = langheads.score(given, text, method="taylor")
        assert found.taylor.equals(expected.taylor)


def test_an_unloaded_model_is_told_elsewhere(unchecked_types):
    with pytest.raises(InputError, match=r"str given as a model; langheads\.load it first"):
        langheads.knockout("demo", {"en": ["The cat sleeps."]})


def test_a_rank_of_torchrun_takes_its_own_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading._card_of_the_rank() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert loading._card_of_the_rank() == "cuda:3"
