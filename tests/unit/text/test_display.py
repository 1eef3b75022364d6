"""Display units: whole characters, nothing lost, whatever the tokenizer cuts."""

import json
import unicodedata

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from langheads.io.errors import InputError
from langheads.model import DEMO
from langheads.text.display import display_tokens, word_starts

TEXTS = {
    "en": "The cat  sleeps.\n\tThe end ",
    "zh": "猫在暖和的石头上睡觉。",
    "hi": "बिल्ली गर्म पत्थर पर सोती है",
    "ar": "القطة نائمة، ١٢٣ و 45.",
    "th": "แมวนอนบนหินอุ่น น้ำ",
    "emoji": "👩‍👩‍👧‍👦 ok 🇩🇪🇫🇷 👍🏽 ❤️ e\u0301",
    "hostile": "</script>\0a\u202eb\ufeff\ufffd",
}
TRAINED_ON = [TEXTS["en"], TEXTS["hi"], TEXTS["ar"]] * 3
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def byte_level():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TRAINED_ON,
        trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False),
    )
    return backend


def metaspace():
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(
        TRAINED_ON,
        trainers.BpeTrainer(vocab_size=320, special_tokens=["<unk>", *BYTES], show_progress=False),
    )
    return backend


def llama():
    """The same pieces behind a normaliser that writes the spaces."""
    state = json.loads(metaspace().to_str()) | {"pre_tokenizer": None}
    backend = Tokenizer.from_str(json.dumps(state))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence(steps)
    return backend


@pytest.fixture(scope="module")
def tokenizers():
    made = {
        "byte-level": byte_level(),
        "byte-level, offsets without spaces": byte_level(),
        "metaspace": metaspace(),
        "llama": llama(),
    }
    from tokenizers import processors

    made["byte-level, offsets without spaces"].post_processor = processors.ByteLevel(
        trim_offsets=True
    )
    found = {
        name: transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
        for name, backend in made.items()
    }
    return found | {"demo": transformers.AutoTokenizer.from_pretrained(DEMO)}


NAMES = ("demo", "byte-level", "byte-level, offsets without spaces", "metaspace", "llama")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_the_text_in_whole_characters(tokenizers, name, text):
    bos = name == "demo"
    display = display_tokens(tokenizers[name], text, bos=bos, max_tokens=500)
    labels = display.labels[bos:]
    assert "".join(labels) == text == display.text
    assert display.labels[:bos] == ("<bos>",) * bos
    assert all(labels)
    for label in labels:
        # No label begins with a sign that needs a letter, or with half of a joined emoji.
        assert unicodedata.category(label[0])[0] != "M"
        assert label[0] not in "\u200d\u0e33"
        assert label[-1] != "\u200d"
    assert ("\ufffd" in "".join(labels)) == ("\ufffd" in text)
    # Every token is in one unit, in order.
    assert [i for start, stop in display.tokens for i in range(start, stop)] == [
        *range(len(display.ids))
    ]
    assert len(display.ids) == bos + len(
        tokenizers[name](text, add_special_tokens=False)["input_ids"]
    )


def test_units_are_as_small_as_characters_allow(tokenizers):
    display = display_tokens(tokenizers["demo"], TEXTS["emoji"], bos=False, max_tokens=500)
    shown = [label.strip() for label in display.labels if not label.isascii()]
    assert shown == ["👩‍👩‍👧‍👦", "🇩🇪", "🇫🇷", "👍🏽", "❤️", "e\u0301"]
    family = display.labels.index("👩‍👩‍👧‍👦")
    start, stop = display.tokens[family]
    alone = tokenizers["demo"]("👩‍👩‍👧‍👦", add_special_tokens=False)["input_ids"]
    assert list(display.ids[start:stop]) == alone
    assert len(alone) > 7
    display = display_tokens(tokenizers["demo"], "猫在睡", bos=False, max_tokens=9)
    assert display.labels == ("猫", "在", "睡")
    assert display.tokens == ((0, 2), (2, 3), (3, 4))
    display = display_tokens(tokenizers["byte-level"], "है x", bos=False, max_tokens=99)
    assert display.labels[0] == "है"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", ["zh", "hi", "emoji"])
def test_cut_anywhere_labels_begin_the_text(tokenizers, name, language):
    text = TEXTS[language]
    whole = display_tokens(tokenizers[name], text, bos=False, max_tokens=500)
    for most in range(1, len(whole.ids)):
        display = display_tokens(tokenizers[name], text, bos=False, max_tokens=most)
        assert len(display.ids) == most
        assert display.tokens[-1][1] == most
        assert text.startswith(display.text)
        assert display.text


class Slow:
    """The interface of a tokenizer without offsets."""

    is_fast, bos_token_id = False, None

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, text, **settings):
        return {"input_ids": self._tokenizer(text, add_special_tokens=False)["input_ids"]}

    def decode(self, ids, **settings):
        return self._tokenizer.decode(ids, **settings)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_without_offsets_pieces_are_decoded(tokenizers, text):
    fast = display_tokens(tokenizers["byte-level"], text, bos=False, max_tokens=500)
    slow = display_tokens(Slow(tokenizers["byte-level"]), text, bos=False, max_tokens=500)
    assert slow.text == text
    assert slow.labels == fast.labels
    assert slow.tokens == fast.tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat  sleeps. ", ["The", " cat", "  sleeps", ".", " "]),
        ("बिल्ली गर्म है।", ["बिल्ली", " गर्म", " है", "।"]),
        ("القطة نائمة", ["القطة", " نائمة"]),
        ("猫在 ok", ["猫", "在", " ok"]),
    ],
)
@pytest.mark.parametrize("name", ["byte-level", "metaspace", "llama"])
def test_words(tokenizers, name, text, words):
    display = display_tokens(tokenizers[name], text, bos=False, max_tokens=99)
    joined = display.joined(word_starts(display))
    assert list(joined.labels) == words
    assert joined.text == text
    assert joined.tokens[-1][1] == len(joined.ids)


def test_what_cannot_be_shown_is_refused(tokenizers):
    with pytest.raises(InputError, match="the tokenizer has no BOS token; use --no-bos"):
        display_tokens(tokenizers["metaspace"], "a", bos=True, max_tokens=9)
    with pytest.raises(InputError, match="the text '' has no tokens to show"):
        display_tokens(tokenizers["demo"], "", bos=True, max_tokens=9)
    # What a shell gives for a byte that is no UTF-8; it was a traceback.
    with pytest.raises(InputError, match="the text to show: has a lone surrogate at character 2"):
        display_tokens(tokenizers["demo"], "a\udcff", bos=True, max_tokens=9)
