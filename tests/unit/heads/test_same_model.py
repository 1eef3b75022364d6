"""Two models are told apart by what is stored with their results."""

import pytest

from langheads.heads.same_model import require_same_model
from langheads.io.errors import ProvenanceError

MODEL = {
    "model": "tiny/llama",
    "revision": "",
    "weight_hash": "a" * 64,
    "tokenizer_hash": "b" * 64,
    "dtype": "float32",
    "device": "cpu",
}


def test_the_same_model_under_another_name_is_the_same_model():
    require_same_model("the head set", MODEL, MODEL | {"model": "other", "dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_hash": "c" * 64}, "the head set was made with weights cccccccccccc of model B, "
         "but this is weights aaaaaaaaaaaa of tiny/llama"),
        ({"tokenizer_hash": "c" * 64}, "with tokenizer cccccccccccc of model B, but this is "
         "tokenizer bbbbbbbbbbbb of tiny/llama"),
        ({"revision": "main"}, "with revision main of model B, but this is revision unknown"),
    ],
)  # fmt: skip
def test_another_model_is_refused_with_both_names(change, message):
    with pytest.raises(ProvenanceError, match=message):
        require_same_model("the head set", MODEL, MODEL | {"model": "B"} | change)


def test_a_result_without_provenance_is_of_another_model():
    with pytest.raises(ProvenanceError, match="weights unknown of model unknown"):
        require_same_model("the head set", MODEL, {})


def test_weights_rounded_otherwise_are_the_same_and_another_configuration_is_not():
    """Whichever of the two is the wider."""
    exact, rounded = MODEL | {"exact_weight_hash": "e" * 64}, {"exact_weight_hash": "f" * 64}
    for dtype in ("bfloat16", "float64"):
        other = exact | rounded | {"dtype": dtype}
        require_same_model("the head set", exact, other)
        for key, label in (("config_hash", "configuration"), ("model_type", "architecture")):
            with pytest.raises(ProvenanceError, match=f"made with {label} bb of"):
                require_same_model("the head set", exact | {key: "aa"}, other | {key: "bb"})


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_what_numbers_weights_are_stored_in_is_told(dtype, caplog):
    require_same_model("the head set", MODEL, MODEL | {"dtype": dtype})
    assert caplog.messages == [f"the head set was made in {dtype}, but this is float32"]
    packed = MODEL | {"quantization": "int8"}
    require_same_model("the head set", packed, packed)
    require_same_model("the head set", MODEL, packed | {"dtype": ""})
    require_same_model("the head set", {**MODEL, "dtype": ""}, MODEL)
    assert caplog.messages[1:] == ["the head set was made in int8, but this is float32"]


def test_another_tokenizer_of_a_model_of_the_hub_is_refused():
    """Of such a model the weights need not be known, all else must be."""
    ours = MODEL | {"revision": "main"}
    require_same_model("the head set", ours, ours | {"weight_hash": ""})
    with pytest.raises(ProvenanceError, match="with tokenizer unknown of model tiny/llama, but"):
        require_same_model("the head set", ours, ours | {"tokenizer_hash": ""})


@pytest.mark.parametrize("earlier", [0, 1])
def test_what_earlier_versions_did_not_say_is_told(earlier, caplog):
    both = [MODEL, MODEL | {"exact_weight_hash": "e" * 64, "config_hash": "aa"}]
    require_same_model("the head set", both[earlier], both[1 - earlier])
    assert caplog.messages == [
        "the head set or this is of an earlier version of langheads: whether the exact weights and "
        "the configuration are the same could not be checked"
    ]


def test_what_is_of_other_weights_is_taken_where_that_was_asked_for(caplog):
    """One word on it, and by the model at hand alone: what a result says is no permission."""
    other = MODEL | {"weight_hash": "", "tokenizer_hash": "c" * 64, "dtype": "float64"}
    require_same_model("the head set", MODEL | {"other_weights": "taken"}, other)
    assert caplog.messages == [
        "the head set was made with weights unknown of model tiny/llama, but this is weights "
        "aaaaaaaaaaaa of tiny/llama; it is used all the same, as asked for"
    ]
    with pytest.raises(ProvenanceError) as told:
        require_same_model("the head set", MODEL, other | {"other_weights": "taken"})
    assert str(told.value).endswith(" of tiny/llama; make it again with this model")
