"""Folders that are not the model they seem to be: each is refused in one line, in 10 seconds and 2
GB, and no code in them runs."""

import json
import pickle
import re
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from langheads.io.errors import LangheadsError, ModelError
from langheads.model import load
from langheads.model.checkpoint import Whole, check_checkpoint
from tests.child import in_child

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


def rules(*parts, of="normalizer"):
    """Rules for texts, or for what stands for tokens, in the place of those of the tokenizer."""

    def make(folder):
        found = json.loads((folder / "tokenizer.json").read_text())
        found[of] = {"type": "Sequence", f"{of}s": list(parts)}
        (folder / "tokenizer.json").write_text(json.dumps(found))

    return make


def replace(text, by, kind="String"):
    return {"type": "Replace", "pattern": {kind: text}, "content": by}


OTHER_KINDS = {
    "mixtral": {"num_local_experts": 2, "architectures": ["MixtralForCausalLM"]},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "architectures": ["OPTForCausalLM"]},
    "gptj": {
        "n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4,
        "architectures": ["GPTJForCausalLM"],
    },
}  # fmt: skip


def as_another(kind, **changes):
    """The configuration of another kind, whose sizes are those of the weights but for some."""
    return config(model_type=kind, **OTHER_KINDS[kind] | changes)


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
    "three deleted": (
        weights(lambda s: {k: v for k, v in s.items() if not k.startswith("model.layers.1.mlp")}),
        r"are missing: ([a-z0-9._]+_proj\.weight(, )?){3}; the model would not be",
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
    "1e9 layers": (
        config(num_hidden_layers=10**9),
        "layers is 1000000000, expected a whole",
    ),
    "1e8 layers": (config(num_hidden_layers=10**8), "but it stores weights of 3 layers"),
    "wide": (config(hidden_size=65536), "hidden_size 65536, but it stores no weight of that width"),
    "wide inside": (config(intermediate_size=10**7), "no weight wider than 259"),
    "vocabulary": (config(vocab_size=300), "vocab_size 300, but it stores no weight of that"),
    "no weights": (weights(lambda s: {}), "says head_dim 8, but it stores no weight wider than 0$"),
    "no layers": (
        config(num_hidden_layers=0),
        "layers is 0, expected a whole number from 1",
    ),
    "negative heads": (config(num_attention_heads=-4), "heads is -4, expected a whole number"),
    "layers as text": (config(num_hidden_layers="three"), "layers is 'three', expected a whole"),
    "layers as a fraction": (config(num_hidden_layers=2.5), "layers is 2.5, expected a whole"),
    "size as a truth": (config(hidden_size=True), "hidden_size is True, expected a whole number"),
    "heads that do not divide": (config(num_key_value_heads=3), "cannot load|weights|model folder"),
    "epsilon as text": (
        config(rms_norm_eps="small"),
        ": rms_norm_eps is 'small', expected a number above 0",
    ),
    "rope as a list": (config(rope_parameters=[1]), "cannot load|is not a model folder"),
    "activation unknown": (config(hidden_act="no_such"), "cannot load|is not a model folder"),
    "architectures a number": (config(architectures=7), "cannot load|is not a model folder"),
    "architectures a list": (config(architectures=[["x"]]), "cannot load|is not a model folder"),
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
    "experts": (
        as_another("mixtral", num_local_experts=10**5),
        "_experts 100000, but it stores no",
    ),
    "some experts": (
        as_another("mixtral", num_local_experts=2000),
        r"makes a model of 2\.8e\+07 numbers as weights, but it stores 4e\+04",
    ),
    "positions": (
        as_another("opt", max_position_embeddings=10**8),
        r"makes a model of 3\.2e\+09 numbers as weights, but it stores 4e\+04",
    ),
    "masks of positions": (as_another("gptj", n_positions=8000), "no weight wider than 259"),
    "texts doubled": (
        rules(*[replace("a", "aa")] * 40),
        r"has a normalizer that makes a text more than 100 times as long",
    ),
    "any letter doubled": (rules(*[replace("([^ ])", "xx", "Regex")] * 23), "has a normalizer tha"),
    "bytes doubled": (rules(*[{"type": "ByteLevel"}] * 23), "has a normalizer that makes"),
    "a letter a book": (rules(replace("a", "book" * 10**6)), "has a normalizer that makes"),
    "rules in rules": (
        rules({"type": "Sequence", "normalizers": [replace("q", "qq")] * 30}),
        "has a normalizer that makes",
    ),
    "a rule that never ends": (
        rules(replace("([a-z]+)+$", "x", "Regex"), replace("[", "x", "Regex")),
        r"has a normalizer that fails on a short text \(.+\)$",
    ),
    "tokens doubled": (
        rules(*[replace("a", "aa")] * 40, of="decoder"),
        r"has a decoder that makes a text more than 100 times as long",
    ),
    "tokenizer no JSON": (written("tokenizer.json", b"{"), "cannot load model"),
}


def refused(folder, changes):
    """Name of a change to a folder -> the line with which the folder is then refused; time and
    memory are those of a process of its own, which begins with what this one has."""

    def tried():
        found = {}
        for name, change in changes.items():
            change(folder)
            begun = time.process_time()
            try:
                load(folder, device="cpu")
            except LangheadsError as error:
                found[name] = type(error), str(error), time.process_time() - begun
        return found

    found, megabytes = in_child(tried)
    assert found.keys() == changes.keys()
    kinds, messages, seconds = zip(*found.values(), strict=True)
    assert set(kinds) == {ModelError}
    assert "\n" not in "".join(messages)
    assert max(seconds) < 10
    assert megabytes < 2000
    return dict(zip(found, messages, strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line_and_seconds(folder, case):
    make, message = REFUSED[case]
    assert re.search(message, refused(folder, {case: make})[case])
    assert not (folder / "ran").exists()


def test_constants_larger_than_the_weights_are_refused(folder):
    class OfMasks:
        @staticmethod
        def from_config(_):
            made = torch.nn.Linear(2, 2)
            made.register_buffer("mask", torch.empty(2**14, 2**13), persistent=False)
            return made

    with pytest.raises(ModelError) as told:
        Whole(OfMasks).from_pretrained(str(folder), config=None)
    said = "makes a model of 1.3e+08 numbers as constants, but it stores 4e+04"
    assert str(told.value) == f"config.json of {folder} {said}"


RIGHT = {
    "a long context, which nothing is as long as": config(max_position_embeddings=10**8),
    "many small rules": rules(*[replace(letter, letter * 3) for letter in "bcdefghij"]),
    "a picture of a space": rules(
        {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"), {"type": "NFKC"}
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_it_is_loaded_in_seconds(folder, case):
    RIGHT[case](folder)

    def loaded():
        begun = time.process_time()
        load(folder, device="cpu")
        return time.process_time() - begun

    seconds, megabytes = in_child(loaded)
    assert seconds < 10
    assert megabytes < 2000


ODD = {
    "text": "seven", "number as text": "3", "fraction": 2.5, "NaN": float("nan"),
    "infinite": float("inf"), "negative": -1, "zero": 0, "1e9": 10**9, "1e8": 10**8,
    "list": [1], "no list": [], "nested": {"a": [{"b": 1}]}, "null": None, "true": True,
    "false": False, "deep": json.loads("[" * 50 + "]" * 50), "huge": 10**400,
}  # fmt: skip


@pytest.mark.parametrize("key", [
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
    "head_dim", "intermediate_size",
])  # fmt: skip
def test_no_odd_size_is_taken(folder, key):
    changes = {name: config(**{key: value}) for name, value in ODD.items()}
    if key == "head_dim":
        # That of the other sizes, which is what is stored.
        changes.pop("null")(folder)
        load(folder, device="cpu")
    assert max(map(len, refused(folder, changes).values())) < 1000


@pytest.mark.parametrize("key", ["rope_theta", "factor", "rms_norm_eps", "rope_type"])
def test_no_odd_number_is_taken(folder, key):
    right = {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}
    fit = {"rope_type": ["null"]}.get(key, ["fraction", "1e8", "1e9"])
    changes = {
        name: config(rms_norm_eps=value)
        if key == "rms_norm_eps"
        else config(rope_parameters=right | {key: value})
        for name, value in ODD.items()
        if name not in {"null", *fit}
    }
    assert max(map(len, refused(folder, changes).values())) < 1000


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
    said = f"config.json of {folder}: rms_norm_eps is inf, expected a number above 0"
    assert str(told.value) == said


def test_sizes_are_those_of_the_parts_that_are_there(folder):
    config(vision_config=None, notes={"n_layer": -1})(folder)
    check_checkpoint(str(folder), None)
    config(vision_config={"n_layer": -1})(folder)
    with pytest.raises(ModelError) as told:
        check_checkpoint(str(folder), None)
    said = "n_layer is -1, expected a whole number from 1 to 100000000"
    assert str(told.value) == f"config.json of {folder}: {said}"


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
