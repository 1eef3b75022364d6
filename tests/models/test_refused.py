"""Models whose heads cannot be gated are refused when they are loaded, with the reason."""

import pytest

from langheads.io.errors import ModelError
from langheads.model import head_shape, load
from tests.models.zoo import NAMES


def test_a_model_without_attention_heads_is_refused(zoo, tmp_path):
    folder = zoo.save("mamba", tmp_path)
    with pytest.raises(ModelError, match="MambaForCausalLM has no layer with attention heads"):
        load(folder)


def test_a_model_that_sees_later_tokens_is_refused(zoo, tmp_path):
    with pytest.raises(ModelError, match="lets a token see later ones"):
        load(zoo.save("bert", tmp_path))


def test_a_model_with_other_heads_in_every_layer_is_refused(zoo, tmp_path):
    folder = zoo.save("laguna", tmp_path)
    with pytest.raises(ModelError, match="layers differ in their number of heads"):
        load(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_heads_is_loaded(zoo, tmp_path, name):
    import torch

    folder = zoo.save(name, tmp_path)
    model = load(folder)
    reference = zoo.bridge(name)
    assert head_shape(model) == head_shape(reference)
    tokens = reference.to_tokens("The cat sleeps.", prepend_bos=True)
    with torch.no_grad():
        assert torch.equal(model(tokens), reference(tokens))
