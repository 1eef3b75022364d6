"""Each check of a checkpoint by itself, at its limits; folders are in test_hostile_folders."""

import json

import pytest
import torch
from safetensors.torch import save_file

from langheads.io.errors import ModelError
from langheads.model import checkpoint
from langheads.model.checkpoint import Whole, check_checkpoint, check_hub, stored_weights

INDEX = "model.safetensors.index.json"
SHAPES = {"layers.0.w": [4, 6], "layers.2.w": [6], "embed": [10, 4]}
RIGHT = {"hidden_size": 4, "vocab_size": 10, "num_hidden_layers": 3, "intermediate_size": 80}


def stored(folder, file="model.safetensors", shapes=SHAPES):
    weights = {name: torch.ones(shape) for name, shape in shapes.items()}
    save_file(weights, folder / file)
    return weights


def refusal(check, *of, **how):
    with pytest.raises(ModelError) as told:
        check(*of, **how)
    return str(told.value)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RIGHT))
    stored(tmp_path)
    return tmp_path


def test_a_folder_is_right_with_or_without_a_tokenizer(folder):
    check_checkpoint(str(folder), None)
    (folder / "tokenizer.json").write_text("{}")
    check_checkpoint(str(folder), None)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    # Without a configuration it is loading that says what is missing.
    check_checkpoint(str(folder), None)


def test_what_would_be_read_beside_the_weights_is_refused(folder):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"normalizer": {
        "type": "Replace", "pattern": {"String": "a"}, "content": "a" * 201,
    }}))  # fmt: skip
    told = refusal(check_checkpoint, str(folder), None)
    assert told == (
        f"tokenizer.json of {folder} has a normalizer that makes a text more than 100 times as long"
    )
    path.unlink()
    (folder / "config.json").write_text(json.dumps(RIGHT | {"a": {"transformers_weights": "x"}}))
    told = refusal(check_checkpoint, str(folder), None)
    assert told.startswith(f"config.json of {folder} says transformers_weights; only *.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    told = refusal(check_checkpoint, str(folder), None)
    assert told.startswith(f"{folder} holds an adapter that is not merged (adapter_config.json);")


@pytest.mark.parametrize("key", ["n_layer", "vocab_size", "head_dim", "n_ctx"])
@pytest.mark.parametrize(
    ("size", "right"),
    [(1, True), (10**8, True), (10**8 + 1, False), (0, False), ([1, 2], True), ([1, 0], False),
     (None, True), (2.0, False), (True, False), ("9" * 99, False)],
)  # fmt: skip
@pytest.mark.parametrize("inside", [False, True])
def test_sizes_are_whole_numbers(key, size, right, inside):
    config = {"text_config": {key: size}} if inside else {key: size}
    if right:
        checkpoint._check_values(config, "m")
        return
    assert refusal(checkpoint._check_values, config, "m") == (
        f"config.json of m: {key} is {repr(size)[:60]}, expected a whole number from 1 to 100000000"
    )


@pytest.mark.parametrize(
    ("number", "right"),
    [(1e-6, True), (1, True), (1e30, True), (1.1e30, False), (0, False), (-0.5, False),
     (float("nan"), False), (True, False), ("9" * 99, False), (None, True)],
)  # fmt: skip
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_numbers_are_above_0_wherever_they_stand(number, right, depth):
    config = {"rope_theta": number}
    for _ in range(depth):
        config = {"first": 1, "inner": config, "last": {}}
    if right:
        checkpoint._check_values(config, "m")
        return
    assert refusal(checkpoint._check_values, config, "m") == (
        f"config.json of m: rope_theta is {repr(number)[:60]}, expected a number above 0"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"num_hidden_layers": 4}, "num_hidden_layers 4, but it stores weights of 3 layers"),
        ({"n_layer": 2}, None),
        ({"hidden_size": 5}, "hidden_size 5, but it stores no weight of that width"),
        ({"vocab_size": 80}, "vocab_size 80, but it stores no weight of that width"),
        ({"intermediate_size": 81}, "intermediate_size 81, but it stores no weight wider than 10"),
        ({"num_experts": 80}, None),
        ({"num_experts": 81}, "num_experts 81, but it stores no weight wider than 10"),
        ({"n_ctx": 999, "max_position_embeddings": 999, "anything": 999}, None),
        ({"n_positions": 81}, "n_positions 81, but it stores no weight wider than 10"),
        ({"hidden_size": "4", "num_heads": 81}, "num_heads 81, but it stores no weight wider tha"),
        # A part's layers are among those that are stored, its widths anything up to eight times.
        ({"text_config": {"hidden_size": 5, "num_layers": 3}}, None),
        ({"text_config": {"num_layers": 4}}, "num_layers 4, but it stores weights of 3 layers"),
        ({"text_config": {"hidden_size": 81}}, "hidden_size 81, but it stores no weight wider"),
        ({"other": {"hidden_size": 81}}, None),
    ],
)
def test_sizes_are_those_of_the_weights(changes, told):
    check = checkpoint._check_against_weights
    if told is None:
        check(RIGHT | changes, "m", SHAPES)
        return
    assert refusal(check, RIGHT | changes, "m", SHAPES).startswith(f"config.json of m says {told}")


def test_without_weights_there_are_no_layers_and_no_widths():
    check = checkpoint._check_against_weights
    found = refusal(check, {"num_layers": 1}, "m", {})
    assert found == "config.json of m says num_layers 1, but it stores weights of 0 layers"
    found = refusal(check, {"num_heads": 1}, "m", {})
    assert found == "config.json of m says num_heads 1, but it stores no weight wider than 0"


def test_json_of_a_checkpoint_is_an_object_of_at_most_10_mb(tmp_path):
    path = tmp_path / "config.json"
    assert checkpoint._small_json(None, "m") == {}
    told = "m is not a model folder: config.json is no JSON object of at most 10 MB"
    for content in ("[1]", "{", "[" * 100_000, '{"a": 1}'.ljust(10_000_001)):
        path.write_text(content)
        assert refusal(checkpoint._small_json, path, "m") == told
    path.write_text('{"a": 1}'.ljust(10_000_000))
    assert checkpoint._small_json(path, "m") == {"a": 1}
    path.unlink()
    assert refusal(checkpoint._small_json, path, "m") == told


def test_which_files_the_weights_are_in(tmp_path):
    files, name = checkpoint._weight_files, f"no *.safetensors in {tmp_path}"
    more = (
        "; pickled weights are not read, save the model again with save_pretrained "
        "(model.safetensors)"
    )
    assert refusal(files, tmp_path) == f"{name}{more}"
    for file in "dcba":
        stored(tmp_path, f"{file}.safetensors")
    others = "a.safetensors, b.safetensors, c.safetensors"
    assert refusal(files, tmp_path) == f"{name} but {others}{more}"
    index = tmp_path / INDEX
    for listed in ({}, [1], None):
        index.write_text(json.dumps({"weight_map": listed}))
        assert refusal(files, tmp_path) == f"{index} lists no weights"
    for file in ("x" * 70 + ".bin", "../a.safetensors", "sub/a.safetensors"):
        index.write_text(json.dumps({"weight_map": {"w": file, "v": "a.safetensors"}}))
        assert refusal(files, tmp_path) == (
            f"{index} names {file[:60]!r}; pickled weights are not read, only *.safetensors "
            "beside it"
        )
    index.write_text(json.dumps({"weight_map": {"w": "gone.safetensors"}}))
    assert refusal(files, tmp_path) == f"{index} names gone.safetensors, which is not there"
    index.write_text(json.dumps({"weight_map": dict(zip("wvu", 2 * ["b.safetensors"] + [
        "a.safetensors"
    ], strict=True))}))  # fmt: skip
    expected = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    assert files(tmp_path) == expected
    assert checkpoint._shapes(expected, "m") == SHAPES
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    read = stored_weights(str(tmp_path), None)
    assert {name: list(make().shape) for name, make in read.items()} == SHAPES
    index.unlink()
    stored(tmp_path, shapes={"other": [3]})
    assert files(tmp_path) == [tmp_path / "model.safetensors"]
    assert list(stored_weights(str(tmp_path), None)) == ["other"]
    (tmp_path / "b.safetensors").write_bytes(b"\x10")
    for file in ("b.safetensors", "gone.safetensors"):
        told = refusal(checkpoint._shapes, [tmp_path / file], "m")
        assert told.startswith(f"cannot load model m: {file}: ")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository: its small files by name, and the shapes of its weights; or an error."""
    import huggingface_hub
    import transformers.utils

    files, shapes = {}, {}

    class Stored:
        shape = property(lambda of: of.of)

        def __init__(self, of):
            self.of = of

    class File:
        tensors = property(lambda of: {name: Stored(shape) for name, shape in shapes.items()})

    class Metadata:
        files_metadata = {"f": File()}  # noqa: RUF012

    def cached_file(name, file, revision):
        assert (name, revision) == ("who/m", "1")
        if file in files:
            (tmp_path / file).write_text(files[file])
            return str(tmp_path / file)
        return None

    def has_file(name, file, revision):
        assert (name, revision) == ("who/m", "1")
        if "down" in files:
            raise OSError
        return file in files

    def metadata(api, name, revision):
        assert (name, revision) == ("who/m", "1")
        if "down for shapes" in files:
            raise OSError
        return Metadata

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
    monkeypatch.setattr(transformers.utils, "has_file", has_file)
    monkeypatch.setattr(huggingface_hub.HfApi, "get_safetensors_metadata", metadata)
    return files, shapes


def test_what_is_on_the_hub_is_asked_for_its_shapes(hub, tmp_path):
    files, shapes = hub
    shapes |= SHAPES
    files |= {"config.json": json.dumps(RIGHT | {"hidden_size": 5}), "model.safetensors": ""}
    told = "config.json of who/m says hidden_size 5, but it stores no weight of that width"
    assert refusal(check_hub, "who/m", "1") == told
    # As without the network: loading then says what there is to say.
    for down in ("down", "down for shapes"):
        files[down] = ""
        check_hub("who/m", "1")
        del files[down]
    check_checkpoint("who/m", "1")
    # Beside the configuration in the cache nobody is asked.
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    stored(tmp_path, shapes={"w": [5, 10]})
    shapes.clear()
    del files["model.safetensors"]
    assert refusal(check_hub, "who/m", "1") == (
        "config.json of who/m says num_hidden_layers 3, but it stores weights of 0 layers"
    )
    check_hub(str(tmp_path), "1")


def test_what_is_pickled_on_the_hub_is_refused(hub):
    files, shapes = hub
    shapes |= SHAPES
    files["config.json"] = json.dumps(RIGHT)
    assert refusal(check_hub, "who/m", "1") == (
        "no *.safetensors in who/m; pickled weights are not read, save the model again with "
        "save_pretrained"
    )
    files[INDEX] = json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.bin"}})
    assert refusal(check_hub, "who/m", "1") == (
        f"{INDEX} of who/m names 'b.bin'; only *.safetensors are read"
    )
    # Of both it is the whole file that is read.
    files["model.safetensors"] = ""
    check_hub("who/m", "1")
    del files["model.safetensors"]
    for listed in ({"a": "a.safetensors"}, None):
        files[INDEX] = json.dumps({"weight_map": listed})
        check_hub("who/m", "1")


def test_files_of_the_hub_that_cannot_be_asked_for_are_none(hub, monkeypatch):
    import transformers.utils

    def down(*of, **how):
        raise RuntimeError

    monkeypatch.setattr(transformers.utils, "cached_file", down)
    assert checkpoint._file("who/m", "config.json", "1") is None


class Network(torch.nn.Linear):
    """What an auto class of transformers gives, and what it says that it met."""

    said = {}  # noqa: RUF012
    buffer = 0

    @classmethod
    def from_config(cls, config, **code):
        cls.code = code
        made = cls(*config.sizes, bias=False)
        made.register_buffer("mask", torch.empty(cls.buffer))
        return made

    @classmethod
    def from_pretrained(cls, name, **how):
        cls.how = how
        none = dict.fromkeys(("missing_keys", "mismatched_keys", "unexpected_keys"), ())
        return cls(2, 2), none | cls.said


class Config:
    def __init__(self, *sizes, **more):
        self.sizes = sizes
        self.__dict__.update(more)


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(Network, "said", {})
    return Whole(Network, dtype="d")


def test_transformers_is_asked_for_weights_in_safetensors_and_for_what_it_met(network, folder):
    config = Config(2, 2)
    network.from_pretrained(
        str(folder), config=config, trust_remote_code=True, revision="1", zone="x"
    )
    assert Network.how == {
        "output_loading_info": True, "use_safetensors": True, "ignore_mismatched_sizes": True,
        "config": config, "trust_remote_code": True, "revision": "1", "zone": "x", "dtype": "d",
    }  # fmt: skip
    assert Network.code == {"trust_remote_code": True}


def test_at_most_three_weights_that_are_not_in_their_place_are_named(network):
    for count, named in (
        (1, "w0"), (3, "w0, w1, w2"), (4, "w0, w1, w2 and 1 more"), (6, "w0, w1, w2 and 3 more"),
    ):  # fmt: skip
        for key, what in (
            ("missing_keys", "missing"),
            ("unexpected_keys", "not known to the model"),
        ):
            Network.said = {key: [f"w{i}" for i in reversed(range(count))]}
            assert refusal(network.from_pretrained, "who/m", config=None) == (
                f"weights of who/m are {what}: {named}; the model would not be the one that was "
                "saved"
            )
    Network.said = {"mismatched_keys": [("w", [2], [3])]}
    told = refusal(network.from_pretrained, "who/m", config=None)
    assert told.startswith("weights of who/m are of another shape than config.json says: w; the")
    Network.said = {"unexpected_keys": ["visual.w", "model.mtp.w"]}
    network.from_pretrained("who/m", config=None)


def test_a_model_has_at_most_twice_the_numbers_of_its_files(network, folder, monkeypatch):
    """Of 70 numbers; packed ones are at most two a byte."""
    size = (folder / "model.safetensors").stat().st_size
    packed = Config(4 * size, 1, quantization_config={})
    for config in (Config(140, 1), packed):
        network.from_pretrained(str(folder), config=config)
    for config, more, has in (
        (Config(141, 1), {}, "1.4e+02 numbers as weights, but it stores 70"),
        (Config(4 * size + 1, 1), {"quantization_config": {}}, "as weights, but it stores "),
    ):
        config.__dict__.update(more)
        told = refusal(network.from_pretrained, str(folder), config=config)
        assert told.startswith(f"config.json of {folder} makes a model of ")
        assert has in told
    for count, right in ((2**26 + 140, True), (2**26 + 141, False)):
        monkeypatch.setattr(Network, "buffer", count)
        if right:
            network.from_pretrained(str(folder), config=Config(2, 2))
        else:
            told = refusal(network.from_pretrained, str(folder), config=Config(2, 2))
            assert told.endswith("makes a model of 6.7e+07 numbers as constants, but it stores 70")
