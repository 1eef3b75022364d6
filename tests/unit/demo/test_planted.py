"""The contract's bounds on the planted heads, recomputed with plain transformers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import langheads.demo
from langheads.demo import grammar

FOLDER = Path(langheads.demo.__file__).parent / "model"
PLANTED = json.loads((FOLDER / "planted.json").read_text(encoding="utf-8"))
DOCUMENTS = 30


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def rise(model, tokenizer):
    """Rise in nats per byte [heads of][text of], and nats per byte with nothing off."""
    texts = {  # the shorter ones of a hundred, for speed
        x: sorted(grammar.documents(x, 100, seed=7), key=len)[:DOCUMENTS] for x in grammar.LANGUAGES
    }
    rows = {x: sorted((tokenizer(text)["input_ids"] for text in texts[x]), key=len) for x in texts}

    @torch.inference_mode()
    def nats_per_byte(language):
        total = 0.0
        for i in range(0, DOCUMENTS, 15):
            batch = rows[language][i : i + 15]
            width = max(map(len, batch))
            ids = torch.tensor([row + [-100] * (width - len(row)) for row in batch])
            logits = model(ids.clamp(min=0), use_cache=False).logits
            total += torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
            ).item()
        return total / sum(len(text.encode("utf-8")) for text in texts[language])

    baseline = {x: nats_per_byte(x) for x in texts}
    matrix = {}
    for language, heads in PLANTED["planted"].items():
        weights = [block.self_attn.o_proj.weight for block in model.model.layers]
        before = [weight.detach().clone() for weight in weights]
        for layer, head in heads:
            weights[layer].data[:, head * 16 : head * 16 + 16] = 0
        matrix[language] = {x: nats_per_byte(x) - baseline[x] for x in texts}
        for weight, kept in zip(weights, before, strict=True):
            weight.data.copy_(kept)
    return matrix, baseline


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_planted_heads_carry_their_language_alone(rise, language):
    matrix, baseline = rise
    own = matrix[language][language]
    assert own / baseline[language] >= 0.05
    for other in set(grammar.LANGUAGES) - {language}:
        change = matrix[language][other]
        assert abs(change / baseline[other]) <= 0.005
        assert own >= 20 * abs(change)
        assert own / baseline[language] >= 20 * abs(change) / baseline[other]


@pytest.mark.parametrize("language", grammar.LANGUAGES)
def test_proof_on_file_is_what_comes_out(rise, language):
    matrix, baseline = rise
    proof = PLANTED["proof"][language]
    # other, shorter held-out documents, so about the same
    assert baseline[language] == pytest.approx(proof["nats_per_byte"], rel=0.15)
    assert matrix[language][language] / baseline[language] == pytest.approx(
        proof["own_rise"], rel=0.3
    )


def test_planted_list():
    assert PLANTED["format"] == 1
    assert PLANTED["model"] == "demo"
    assert PLANTED["shape"] == [4, 12]
    heads = [tuple(head) for language in grammar.LANGUAGES for head in PLANTED["planted"][language]]
    assert len(heads) == len(set(heads)) == 14
    assert [layer for layer, _ in heads] == [1, 2] * 7


def test_sizes():
    config = AutoConfig.from_pretrained(FOLDER)
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.num_key_value_heads < config.num_attention_heads
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(key) for key in weights.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert sum(tensor.numel() for tensor in tensors) <= 3_000_000
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_500_000


def test_tokenizer(tokenizer):
    assert tokenizer("")["input_ids"] == [1]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    for language in grammar.LANGUAGES:
        for text in grammar.documents(language, 20):
            ids = tokenizer(text)["input_ids"]
            assert ids[0] == 1
            assert 2 not in ids
            assert len(ids) <= tokenizer.model_max_length
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
