"""Tokens of documents, counted in bytes by a second route."""

import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from langheads.io.errors import InputError
from langheads.text import Documents, length_batches, pad_right, tokenize
from langheads.text.documents import document_counts

TEXTS = [
    "the cat sat on the mat",
    "我们在这里 我们",
    "बिल्ली सो रही है",
    "القطة نائمة هنا",
    "ok 😀🐈‍⬛ e\u0301 ok",
    "  two  spaces\n\nand a line\t",
]
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "c"), ("æ", "Ī"), ("Ġ", "Ø"), ("à", "¤"), ("Ġ", "à¤")]


def make_tokenizer(*, bos=True, trim=None):
    """Byte-level BPE with merges that cut characters and join spaces to what follows."""
    tokens = [*(["<s>", "</s>"] if bos else []), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [left + right for left, right in MERGES]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    steps = [] if trim is None else [processors.ByteLevel(trim_offsets=trim)]
    if bos:
        steps += [processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])]
    backend.post_processor = processors.Sequence(steps)
    names = {"bos_token": "<s>", "eos_token": "</s>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def bytes_of_touched_characters(text, pieces, first):
    """UTF-8 bytes of the characters that pieces[first:] hold at least a byte of.

    A piece of a byte-level vocabulary has one character for each byte.
    """
    start = sum(map(len, pieces[:first]))
    stop = sum(map(len, pieces))
    count, position = 0, 0
    for character in text:
        size = len(character.encode())
        if position < stop and position + size > start:
            count += size
        position += size
    return count


@pytest.mark.parametrize("max_tokens", [1000, *range(2, 14)])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("trim", [None, True, False])
def test_bytes_are_those_of_the_predicted_text(trim, bos, max_tokens):
    tokenizer = make_tokenizer(trim=trim)
    documents = tokenize(tokenizer, "xx", TEXTS, max_tokens=max_tokens, bos=bos)
    cut = max_tokens - bos
    for text, tokens, n_bytes in zip(TEXTS, documents.tokens, documents.n_bytes, strict=True):
        pieces = tokenizer.tokenize(text)[:cut]
        assert tokens[bos:].tolist() == tokenizer.convert_tokens_to_ids(pieces)
        expected = bytes_of_touched_characters(text, pieces, 0 if bos else 1)
        if trim:
            # Trimmed offsets do not tell the space in a last piece from the space after it.
            assert abs(n_bytes - expected) <= 1
        else:
            assert n_bytes == expected
    np.testing.assert_array_equal(documents.n_predicted, [len(t) - 1 for t in documents.tokens])


@pytest.mark.parametrize("trim", [None, True])
def test_the_space_before_the_first_predicted_word_counts(trim):
    documents = tokenize(make_tokenizer(trim=trim), "en", ["the cat"], max_tokens=9, bos=False)
    assert documents.n_bytes.tolist() == [4]
    assert documents.n_predicted.tolist() == [3]


def test_a_whole_document_with_bos_counts_all_its_bytes():
    documents = tokenize(make_tokenizer(), "xx", TEXTS, max_tokens=1000, bos=True)
    assert documents.n_bytes.tolist() == [len(text.encode()) for text in TEXTS]


def test_bos_is_put_in_front_once_and_eos_never():
    for bos in (True, False):
        (tokens,) = tokenize(make_tokenizer(), "en", ["the"], max_tokens=9, bos=True).tokens
        assert tokens.tolist() == [0, make_tokenizer().convert_tokens_to_ids("the")]
        (tokens,) = tokenize(make_tokenizer(), "en", ["the the"], max_tokens=9, bos=bos).tokens
        assert (tokens[0] == 0) == bos
        assert (tokens[1:] > 1).all()


def test_documents_are_cut_bos_included():
    for bos in (True, False):
        documents = tokenize(make_tokenizer(), "en", ["catnap" * 9], max_tokens=7, bos=bos)
        assert [len(tokens) for tokens in documents.tokens] == [7]
        assert documents.n_predicted.tolist() == [6]
        assert documents.max_tokens == 7
        assert documents.bos is bos


def test_documents_of_one_token_are_left_out_and_counted():
    texts = ["the", "the cat", "a", "", "aa"]
    without = tokenize(make_tokenizer(bos=False), "en", texts, max_tokens=9, bos=False)
    assert without.skipped == 3
    assert len(without) == 2
    assert without.n_bytes.tolist() == [4, 1]
    with_bos = tokenize(make_tokenizer(), "en", texts, max_tokens=9, bos=True)
    assert with_bos.skipped == 1
    assert with_bos.n_bytes.tolist() == [3, 7, 1, 2]


def test_some_documents_know_which_texts_they_are():
    texts = ["the", "the cat", "a", "on the mat"]
    found = tokenize(make_tokenizer(bos=False), "en", texts, max_tokens=9, bos=False)
    assert found.index.tolist() == [1, 3]
    some = found.only([1])
    assert (some.index.tolist(), some.n_bytes.tolist()) == ([3], [len("n the mat")])
    assert torch.equal(some.tokens[0], found.tokens[1])
    assert found.only([1, 0]).index.tolist() == [3, 1]
    rows = Documents.of_rows("en", [[1, 2, 3], [4, 5]])
    assert (rows.max_tokens, rows.skipped, rows.cut, rows.bos) == (3, 0, 0, False)
    assert (rows.index.tolist(), rows.n_predicted.tolist()) == ([0, 1], [2, 1])
    assert Documents.of_rows("en", []).max_tokens == 0


@pytest.mark.parametrize(
    ("tokenizer", "texts", "settings", "message"),
    [
        ({"bos": False}, ["ab"], {"bos": True, "max_tokens": 9}, "the tokenizer has no BOS token"),
        ({}, ["ab"], {"bos": True, "max_tokens": 1}, "max_tokens 1 asked for.*at least 2"),
        ({}, ["a", "b"], {"bos": False, "max_tokens": 9}, "language en: all 2 documents have"),
    ],
)
def test_what_cannot_be_tokenised_is_told(tokenizer, texts, settings, message):
    with pytest.raises(InputError, match=message):
        tokenize(make_tokenizer(**tokenizer), "en", texts, **settings)


def test_the_tokenizer_is_as_before():
    tokenizer = make_tokenizer()
    before = tokenizer.backend_tokenizer.to_str(), repr(tokenizer), tokenizer.padding_side
    tokenize(tokenizer, "xx", TEXTS, max_tokens=5, bos=False)
    assert (tokenizer.backend_tokenizer.to_str(), repr(tokenizer), tokenizer.padding_side) == before
    assert tokenizer.backend_tokenizer.truncation is None


class SlowTokenizer:
    """Splits at spaces; a tokenizer without offsets, and without a word on that."""

    bos_token_id = 0

    def __init__(self):
        self.words = ["<s>"]

    def __call__(self, texts, *, add_special_tokens, return_offsets_mapping, verbose):
        assert not add_special_tokens
        assert not return_offsets_mapping
        # Else it warns of what is too long for it, before that is cut.
        assert not verbose
        split = [text.split() for text in texts]
        self.words += sorted({w for words in split for w in words} - set(self.words))
        return {"input_ids": [[self.words.index(w) for w in words] for words in split]}

    def get_vocab(self):
        return {"longest": 0}

    def decode(self, ids, *, skip_special_tokens):
        assert ids[0] != 0, "BOS is not predicted"
        return " ".join(self.words[i] for i in ids if i or not skip_special_tokens)


def test_without_offsets_the_predicted_tokens_are_decoded():
    for bos, n_bytes in ((True, len("कि tak po") + 4), (False, len("tak po"))):
        documents = tokenize(SlowTokenizer(), "hi", ["कि tak po to"], max_tokens=3 + bos, bos=bos)
        assert documents.n_bytes.tolist() == [n_bytes]
    # What is special to the tokenizer is no text; no document has 0 bytes.
    texts = ["a b <s> c", "a </s>"]
    slow = SlowTokenizer()
    slow.decode = lambda ids, **how: "" if len(ids) < 2 else SlowTokenizer.decode(slow, ids, **how)
    assert tokenize(slow, "en", texts, max_tokens=9, bos=False).n_bytes.tolist() == [3, 1]


def test_the_beginning_of_a_long_text_ends_at_white_space_beyond_what_its_tokens_need(monkeypatch):
    """Tokens of at most 7 characters; a text is long from 11 on."""
    module = sys.modules["langheads.text.documents"]
    monkeypatch.setattr(module, "_LONG", 10)
    slow = SlowTokenizer()
    for text, n_tokens, length in (
        ("a b c d e ", 1, 10),
        ("a b c d e f", 1, 11),
        ("a b c d e fg h", 1, 12),
        ("a b c d e " + 20 * "f", 2, 28),
        ("a b c d e " + 9 * "f" + " g", 1, 19),
        ("a b c d e " + 10 * "f" + " g", 1, 20),
        ("a b c d e " + 11 * "f" + " g", 1, 20),
        (20 * "ab ", 3, 23),
    ):
        assert len(module.beginning(slow, text, n_tokens)) == length, text
    # More tokens need more of the text; what is left out of it makes a document cut.
    texts = [20 * "a ", "a " * 4 + "b" * 30, "a b"]
    found = tokenize(slow, "en", texts, max_tokens=9, bos=False)
    assert [len(tokens) for tokens in found.tokens] == [9, 5, 2]
    assert found.cut == 1
    assert tokenize(slow, "en", ["a " * 4 + "b" * 200], max_tokens=9, bos=False).cut == 1


@pytest.mark.parametrize("budget", [1, 10, 20, 37, 1000])
def test_batches_hold_every_document_once_within_the_budget(budget):
    lengths = np.random.default_rng(0).integers(2, 30, size=40).tolist()
    batches = length_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(40))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    widths = [lengths[i] for batch in batches for i in batch]
    assert widths == sorted(widths, reverse=True)


def test_batches_are_no_smaller_than_they_must_be():
    assert length_batches([5] * 7, 15) == [[0, 1, 2], [3, 4, 5], [6]]
    assert length_batches([], 15) == []
    assert length_batches([3, 10, 3, 3, 3], 12) == [[1], [0, 2, 3, 4]]


def test_padding_is_on_the_right():
    batch = pad_right([torch.tensor([5, 6]), torch.tensor([7, 8, 9])])
    assert batch.tolist() == [[5, 6, 0], [7, 8, 9]]


def test_documents_that_are_cut_are_counted():
    tokenizer = make_tokenizer()
    texts = ["abc", "a" * 9, "b" * 10]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    for limit in range(2, 12):
        found = tokenize(tokenizer, "en", texts, max_tokens=limit, bos=True)
        assert found.cut == sum(length + 1 > limit for length in lengths)


@pytest.mark.parametrize("space", [" ", ""])
def test_a_text_of_millions_of_characters_is_not_tokenised_whole(tiny, space):
    """A token a byte, so what the first tokens stand for is known without a tokenizer."""
    read = []

    class Counting:
        is_fast, bos_token_id = True, None

        def get_vocab(self):
            return tiny.tokenizer.get_vocab()

        def __call__(self, texts, **settings):
            read.extend(map(len, texts))
            return tiny.tokenizer(texts, **settings)

    text = f"word{space}" * 550_000
    found = tokenize(Counting(), "en", [text, "short"], max_tokens=100, bos=False)
    assert bytes(tiny.tokenizer.decode(found.tokens[0]), "utf-8") == text[:100].encode()
    assert (found.cut, found.n_bytes.tolist()) == (1, [99, 4])
    assert read[0] <= 2_000_000
    assert read[1] == 5


def test_counts_a_language():
    documents = {
        "en": Documents(
            "en", (torch.arange(3), torch.arange(5)), np.array([7, 9]), 4, bos=True, max_tokens=9
        ),
        "zh": Documents("zh", (torch.arange(2),), np.array([3]), 0, bos=True, max_tokens=9),
    }
    counts = document_counts(documents, "text_of")
    found = {name: values.tolist() for name, (_, values, _) in counts.items()}
    assert found == {
        "docs": [2, 1], "skipped": [4, 0], "tokens": [6, 1], "bytes": [16, 3],
        "cut": [0, 0],
    }  # fmt: skip
    assert {dim for dim, _, _ in counts.values()} == {"text_of"}
