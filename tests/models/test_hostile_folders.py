"""Folders that are not the model they seem to be: each is refused in one line, in seconds, and no
code in them runs."""

import json
import pickle
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from langheads.io.errors import LangheadsError, ModelError
from langheads.model import load

INDEX = "model.safetensors.index.json"
O_PROJ = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture(scope="module")
def good(zoo, tmp_path_factory):
    return zoo.save("llama-gqa", tmp_path_factory.mktemp("hostile") / "good")


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


class Marks:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def weights(change):
    def make(folder):
        stored = change(load_file(folder / "model.safetensors"))
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})

    return make


def without(key):
    return weights(lambda stored: {k: v for k, v in stored.items() if k != key})


def config(**changes):
    def make(folder):
        of = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(of | changes))

    return make


def index(**listed):
    """An index in place of the weights, which stay as a decoy under another name."""

    def make(folder):
        (folder / "model.safetensors").rename(folder / "decoy.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
        # Under every name that a pickle may have.
        for name in ("weights.bin", "pytorch_model.bin", "adapter_model.bin", "x.safetensors"):
            with (folder / name).open("wb") as file:
                pickle.dump(Marks(folder / "ran"), file)

    return make


def written(name, content):
    def make(folder):
        (folder / name).write_bytes(content)

    return make


def pickle_beside_a_decoy(folder):
    """Weights that are good, and an index of the same ones pickled."""
    stored = load_file(folder / "model.safetensors")
    torch.save(stored | {O_PROJ: torch.zeros_like(stored[O_PROJ])}, folder / "weights.bin")
    listed = dict.fromkeys(stored, "weights.bin")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def both(*made):
    def make(folder):
        for each in made:
            each(folder)

    return make


def more_tokens(folder):
    of = json.loads((folder / "tokenizer.json").read_text())
    of["model"]["vocab"]["beyond"] = 259
    (folder / "tokenizer.json").write_text(json.dumps(of))


def only_decoy(folder):
    index()(folder)
    (folder / INDEX).unlink()


def linked_above(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {O_PROJ: "../model.safetensors"}}))


REFUSED = {
    "one weight deleted": (without(O_PROJ), f"are missing: {O_PROJ};"),
    "one norm deleted": (
        without("model.norm.weight"),
        "are missing: model.norm.weight;",
    ),
    "head untied and deleted": (
        without("lm_head.weight"),
        "are missing: lm_head.weight;",
    ),
    "every name prefixed": (
        weights(lambda s: {f"base.{k}": v for k, v in s.items()}),
        r"are missing: lm_head.weight, model.embed_tokens.weight, .* more;",
    ),
    "a weight more": (weights(lambda s: s | {"model.extra": torch.ones(3)}), "model: model.extra;"),
    "another shape": (
        weights(lambda s: s | {O_PROJ: torch.ones(32, 31)}),
        f"of another shape than config.json says: {O_PROJ};",
    ),
    "fewer layers": (config(num_hidden_layers=2), r"not known to the model: model\.layers\.2\."),
    "more layers": (config(num_hidden_layers=4), "num_hidden_layers 4, but it stores weights of 3"),
    "1e9 layers": (config(num_hidden_layers=10**9), "num_hidden_layers 1000000000; a whole number"),
    "1e8 layers": (config(num_hidden_layers=10**8), "but it stores weights of 3 layers"),
    "wide": (config(hidden_size=65536), "hidden_size 65536, but it stores no weight of that width"),
    "wide inside": (config(intermediate_size=10**7), "no weight wider than 259"),
    "vocabulary": (config(vocab_size=300), "vocab_size 300, but it stores no weight of that"),
    "no layers": (config(num_hidden_layers=0), "num_hidden_layers 0; a whole number from 1"),
    "negative heads": (config(num_attention_heads=-4), "num_attention_heads -4; a whole number"),
    "layers as text": (config(num_hidden_layers="three"), "num_hidden_layers 'three'; a whole"),
    "layers as a fraction": (config(num_hidden_layers=2.5), "num_hidden_layers 2.5; a whole"),
    "size as a truth": (config(hidden_size=True), "hidden_size True; a whole number"),
    "heads that do not divide": (config(num_key_value_heads=3), "cannot load|weights|model folder"),
    "epsilon as text": (
        config(rms_norm_eps="small"),
        "says rms_norm_eps 'small'; a number above 0",
    ),
    "rope as a list": (config(rope_parameters=[1]), "cannot load|is not a model folder"),
    "activation unknown": (config(hidden_act="no_such"), "cannot load|is not a model folder"),
    "architectures a number": (config(architectures=7), "cannot load|is not a model folder"),
    "kind unknown": (config(model_type="nope"), "cannot load|is not a model folder"),
    "weights named": (config(transformers_weights="adapter_model.bin"), "only .*safetensors are r"),
    "pickle beside a decoy": (
        both(pickle_beside_a_decoy, config(transformers_weights=INDEX)),
        r"says transformers_weights; only \*\.safetensors are read, under their usual names "
        r"\(model.safetensors or those in model.safetensors.index.json\)$",
    ),
    "pickle under another key": (
        both(
            pickle_beside_a_decoy,
            config(attribute_map={"transformers_weights": "other"}, other=INDEX),
        ),
        "says transformers_weights; only ",
    ),
    "config a list": (written("config.json", b"[1]"), "config.json is no JSON object"),
    "config deep": (written("config.json", b"[" * 100_000), "config.json is no JSON object"),
    "config huge": (written("config.json", b" " * 11_000_000), "config.json is no JSON object"),
    "config not text": (written("config.json", b"\xff\xfe\x00"), "config.json is no JSON object"),
    "weights cut": (written("model.safetensors", b"\x10\0\0\0"), "cannot load model"),
    "header of 2^60": (written("model.safetensors", b"\0" * 7 + b"\x10{}"), "cannot load model"),
    "weights pickled": (
        written("model.safetensors", pickle.dumps({"a": 1})),
        "cannot load model .* model.safetensors: ",
    ),
    "only a decoy": (only_decoy, r"no \*\.safetensors in .* but decoy.*pickled weights are not"),
    "index of a pickle": (index(**{O_PROJ: "weights.bin"}), "names 'weights.bin'; pickled"),
    "index of a disguise": (index(**{O_PROJ: "x.safetensors"}), "cannot load model .*x.safetensor"),
    "index of a path": (linked_above, r"names '\.\./model.safetensors'"),
    "index of nothing": (index(), "lists no weights"),
    "index of no file": (index(a="gone.safetensors"), "names gone.safetensors, which is not there"),
    "index no JSON": (
        both(index(), written(INDEX, b"no")),
        "model.safetensors.index.json is no JSON object",
    ),
    "adapter": (written("adapter_config.json", b"{}"), "adapter that is not merged .*merge_and"),
    "tokenizer beyond": (more_tokens, "token 'beyond' with number 259, but the model has 259"),
    "tokenizer no JSON": (written("tokenizer.json", b"{"), "cannot load model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line_and_seconds(folder, case):
    make, message = REFUSED[case]
    make(folder)
    begun = time.process_time()
    with pytest.raises(LangheadsError, match=message) as error:
        load(folder, device="cpu")
    assert isinstance(error.value, ModelError)
    assert "\n" not in str(error.value)
    assert time.process_time() - begun < 10
    assert not (folder / "ran").exists()


ODD = {
    "text": "seven", "number as text": "3", "fraction": 2.5, "NaN": float("nan"),
    "infinite": float("inf"), "negative": -1, "zero": 0, "1e9": 10**9, "1e8": 10**8,
    "list": [1], "no list": [], "nested": {"a": [{"b": 1}]}, "null": None, "true": True,
    "false": False, "deep": json.loads("[" * 50 + "]" * 50), "huge": 10**400,
}  # fmt: skip


def refused_in_seconds(folder):
    started = time.process_time()
    with pytest.raises(ModelError) as told:
        load(folder, device="cpu")
    assert time.process_time() - started < 10
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize("key", [
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "head_dim", "intermediate_size",
])  # fmt: skip
def test_no_odd_size_is_taken(folder, key):
    for name, value in ODD.items():
        config(**{key: value})(folder)
        if (key, name) == ("head_dim", "null"):
            # That of the other sizes, which is what is stored.
            load(folder, device="cpu")
        else:
            refused_in_seconds(folder)


@pytest.mark.parametrize("key", ["rope_theta", "factor", "rms_norm_eps", "rope_type"])
def test_no_odd_number_is_taken(folder, key):
    right = {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}
    fit = {"rope_type": ["null"]}.get(key, ["fraction", "1e8", "1e9"])
    for name in ODD.keys() - {"null", *fit}:
        if key == "rms_norm_eps":
            config(rms_norm_eps=ODD[name])(folder)
        else:
            config(rope_parameters=right | {key: ODD[name]})(folder)
        refused_in_seconds(folder)


def test_it_is_said_what_is_wrong_with_a_value(folder):
    config(hidden_size=[1])(folder)
    with pytest.raises(ModelError) as told:
        load(folder, device="cpu")
    assert str(told.value) == (
        f"{folder} is not a model folder: Validation error for field 'hidden_size': "
        "TypeError: Field 'hidden_size' expected int, got list (value: [1])"
    )
    config(hidden_size=64, rms_norm_eps=float("inf"))(folder)
    with pytest.raises(ModelError) as told:
        load(folder, device="cpu")
    said = f"config.json of {folder} says rms_norm_eps inf; a number above 0 is needed"
    assert str(told.value) == said


def test_a_pickle_beside_the_weights_is_not_read(folder):
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Marks(folder / "ran"), file)
    load(folder, device="cpu")
    assert not (folder / "ran").exists()


def test_shards_are_one_model(folder, good):
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = {key: of for i, (key, of) in enumerate(stored.items()) if i % 2}
    save_file(first, folder / "a.safetensors", metadata={"format": "pt"})
    rest = {key: of for key, of in stored.items() if key not in first}
    save_file(rest, folder / "b.safetensors", metadata={"format": "pt"})
    listed = {key: "a.safetensors" if key in first else "b.safetensors" for key in stored}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    ours, theirs = load(folder, device="cpu"), load(good, device="cpu")
    state = theirs.original_model.state_dict()
    for key, tensor in ours.original_model.state_dict().items():
        assert torch.equal(tensor, state[key])


def test_a_tokenizer_of_another_size_or_bos_is_told(folder, caplog):
    stored = load_file(folder / "model.safetensors")
    for key in ("lm_head.weight", "model.embed_tokens.weight"):
        stored[key] = torch.cat([stored[key], torch.zeros(141, 32)])
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config(vocab_size=400, bos_token_id=7)(folder)
    load(folder, device="cpu")
    assert "the model has 400 tokens and its tokenizer 259: it may be that of" in caplog.text
    assert "config.json says bos_token_id 7, but <s> of the tokenizer has number 1" in caplog.text


def test_a_good_folder_is_loaded_without_a_word(good, caplog):
    load(good, device="cpu")
    assert not [record for record in caplog.records if record.name == "langheads"]
