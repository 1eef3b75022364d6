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
