"""`demo-hard`: its planted heads and decoys, recomputed with plain transformers."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

import langheads
from langheads.demo import grammar
from langheads.model import EMBEDDED, describe, head_shape, tokenize_languages
from langheads.scores.gradient import gate_gradients

FOLDER = EMBEDDED["demo-hard"]
PLANTED = json.loads((FOLDER / "planted.json").read_text(encoding="utf-8"))
DOCUMENTS = 24


@pytest.fixture(scope="module")
def rise():
    """(layer, head), language -> relative rise in NLL of held-out text."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)

    @torch.inference_mode()
    def nll(language):
        total = 0.0
        for text in grammar.documents(language, DOCUMENTS, seed=11):
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            logits = model(ids, use_cache=False).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        return total

    nothing_off = {x: nll(x) for x in grammar.LANGUAGES}

    def rise(layer, head, language):
        weight = model.model.layers[layer].self_attn.o_proj.weight.data
        before = weight.clone()
        weight[:, head * 16 : head * 16 + 16] = 0
        off = nll(language)
        weight.copy_(before)
        return off / nothing_off[language] - 1

    return rise


def heads(kind):
    return [
        (language, *head) for language, of_language in PLANTED[kind].items() for head in of_language
    ]


@pytest.mark.parametrize(("language", "layer", "head"), heads("planted"))
def test_a_planted_head_matters_to_its_language(rise, language, layer, head):
    assert rise(layer, head, language) > 0.015
    # Of the others one is enough here; the card has them all.
    shared = [x for x, *where in heads("planted") if where == [layer, head]]
    other = next(x for x in grammar.LANGUAGES if x not in shared)
    assert abs(rise(layer, head, other)) < 0.005


@pytest.mark.parametrize(("language", "layer", "head"), heads("decoys"))
def test_a_decoy_has_a_large_gradient_and_little_else(rise, language, layer, head):
    assert abs(rise(layer, head, language)) < 0.005
    model = langheads.load("demo-hard")
    texts = {language: grammar.documents(language, DOCUMENTS, seed=11)}
    g, _ = gate_gradients(model, tokenize_languages(model, texts)[language])
    size = abs(g).mean(axis=0)
    assert (size > size[layer, head]).sum() < 10


def test_what_was_planted():
    assert PLANTED["model"] == "demo-hard"
    assert head_shape(langheads.load("demo-hard")) == tuple(PLANTED["shape"]) == (4, 12)
    assert describe(langheads.load("demo-hard"))["model"] == "demo-hard"
    # One head is shared, one language has none, the rest are graded.
    places = [tuple(where) for _, *where in heads("planted")]
    assert len(places) == len(set(places)) + 1
    assert PLANTED["planted"]["ar"] == []
    own = [row["rise"][row["languages"][0]] for row in PLANTED["alone"] if not row["decoy"]]
    assert max(own) > 10 * min(own)
    assert len(heads("decoys")) >= 2


def test_size():
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert sum(weights.get_tensor(key).numel() for key in weights.keys()) <= 3_000_000  # noqa: SIM118
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_500_000
