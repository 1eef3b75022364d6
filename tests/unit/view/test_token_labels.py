"""Views of attention in five scripts and emoji, on the tokenizers that models have.

The demo's; byte-level with a token a byte; and two that sentencepiece itself trains, read as Llama
and T5 read theirs. The labels give back the text, and the weights of a word add up to 1.
"""

import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

import langheads
from langheads.view import show_attention
from tests.models.zoo import save_tokenizer
from tests.unit.view.test_attention import shown_data

TEXTS = {
    "zh": "猫在暖和的石头上睡觉，  然后\n回家。",
    "hi": "बिल्ली गर्म पत्थर पर सोती है।",
    "ar": "القِطّة نائمة، ١٢٣ و 45.",
    "th": "แมวนอนบนหินอุ่น น้ำ",
    "emoji": "👩‍👩‍👧‍👦 ok 🇩🇪🇫🇷 👍🏽 ❤️ e\u0301",
}
TRAINED_ON = [TEXTS["hi"], TEXTS["ar"], "The cat sleeps on the warm stone."] * 3
NAMES = ("demo", "byte-level", "sentencepiece BPE", "sentencepiece unigram")
HEADS = ["L0H1", "L1H3"]


def train_sentencepiece(folder, kind, reader):
    """What comes with a model that was trained with sentencepiece: its file, and who reads it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINED_ON), model_writer=written, model_type=kind, pad_id=3,
        vocab_size=320, byte_fallback=True, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    for name in ("tokenizer.model", "spiece.model"):
        (folder / name).write_bytes(written.getvalue())
    settings = {"tokenizer_class": reader, "bos_token": "<s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tiny_llama(vocab):
    """The same weights every time."""
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.5, attn_implementation="eager",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    torch.manual_seed(2)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    def around(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        network = tiny_llama(len(tokenizer))
        return TransformerBridge.boot_transformers(
            f"tiny/{Path(folder).name}", hf_model=network, tokenizer=tokenizer, device="cpu"
        )

    folders = {name: tmp_path_factory.mktemp(name.replace(" ", "-")) for name in NAMES[1:]}
    save_tokenizer(folders["byte-level"])
    train_sentencepiece(folders["sentencepiece BPE"], "bpe", "LlamaTokenizer")
    train_sentencepiece(folders["sentencepiece unigram"], "unigram", "T5Tokenizer")
    made = {name: around(folder) for name, folder in folders.items()}
    return made | {"demo": langheads.load("demo", device="cpu"), "folders": folders}


def characters_are_whole(label):
    first, last = label[0], label[-1]
    return (
        unicodedata.category(first)[0] != "M" and first not in "\u200d\u0e33" and last != "\u200d"
    )


@pytest.mark.parametrize("pooled", [False, True], ids=["units", "words"])
@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_labels_joined_are_the_text_and_rows_add_up_to_one(models, name, language, pooled):
    text = TEXTS[language]
    view = show_attention(
        models[name], text, HEADS, pool_words=pooled, bos=True, provenance=False
    )  # fmt: skip
    context = view.data.contexts[0]
    bos, *labels = context.tokens
    assert bos == "<bos>"
    assert "".join(labels) == text
    assert all(characters_are_whole(label) for label in labels)
    assert len(labels) > 1
    size = len(context.tokens)
    assert context.patterns.shape == (len(HEADS), size, size)
    assert (context.patterns >= 0).all()
    np.testing.assert_allclose(context.patterns.sum(axis=2), 1, rtol=0, atol=1e-6)
    # The page is given the same labels.
    (shown,) = shown_data(view.html())
    assert "".join(shown["contexts"][0]["tokens"][1:]) == text


@pytest.mark.parametrize("language", TEXTS)
def test_weights_of_a_unit_are_those_of_its_sentencepiece_tokens(models, language):
    """Against plain transformers, with units found by decoding sentencepiece's own pieces."""
    text, name = TEXTS[language], "sentencepiece BPE"
    model = models[name]
    own = sentencepiece.SentencePieceProcessor(
        model_file=str(models["folders"][name] / "tokenizer.model")
    )
    ids = [own.bos_id(), *own.encode(text)]
    with torch.no_grad():
        plain = tiny_llama(len(model.tokenizer))(
            torch.tensor([ids]), output_attentions=True
        ).attentions
    context = show_attention(
        model, text, HEADS, pool_words=False, bos=True, provenance=False
    ).data.contexts[0]
    # A unit ends where the pieces so far decode to what the labels so far say.
    wanted = np.cumsum([len(label.encode()) for label in context.tokens[1:]])
    ends, pieces = [1], b""
    for count, piece in enumerate(own.id_to_piece(i) for i in ids[1:]):
        is_byte = piece.startswith("<0x")
        pieces += bytes([int(piece[3:5], 16)]) if is_byte else piece.replace("▁", " ").encode()
        # Sentencepiece writes a space before the text.
        if len(pieces) - 1 in wanted:
            ends.append(2 + count)
    groups = list(zip([0, *ends], ends, strict=False))
    assert len(groups) == len(context.tokens)
    for (layer, head), shown in zip([(0, 1), (1, 3)], context.patterns, strict=True):
        tokens = plain[layer][0, head].double().numpy()
        for row, (first, last) in enumerate(groups):
            for column, (start, stop) in enumerate(groups):
                expected = tokens[first:last, start:stop].sum() / (last - first)
                assert shown[row, column] == pytest.approx(expected, abs=1e-5)
