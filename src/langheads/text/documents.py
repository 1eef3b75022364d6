"""Tokens of documents, cut and counted once, and batches of them.

Token counts cannot be compared across languages, so losses are also given per UTF-8 byte:
`Documents.n_bytes` counts the bytes of exactly the text whose tokens are predicted, after
truncation and without an unpredicted first token; a character that this cuts in two counts whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from langheads.io.errors import InputError

_LONG = 1_000_000
_END = re.compile(r"(?<=\S)\s")


@dataclass(frozen=True)
class Documents:
    """The tokens of one language's documents."""

    language: str  # its name
    tokens: tuple[Int[Tensor, " _"], ...]  # a tensor ``[pos]`` a document, special tokens included
    n_bytes: Int[np.ndarray, " doc"]  # UTF-8 bytes of the text whose tokens are predicted
    skipped: int  # documents left out because they have fewer than 2 tokens
    bos: bool  # whether each begins with the tokenizer's BOS
    max_tokens: int  # where they were cut
    cut: int = 0  # documents whose end is left out, as they have more than `max_tokens`
    kept: tuple[int, ...] = ()  # the number of each one's text; empty: all texts in order

    @classmethod
    def of_rows(cls, language: str, rows: Iterable[Sequence[int] | Tensor]) -> Documents:
        """Rows of tokens made elsewhere; their bytes are not counted."""
        tokens = tuple(torch.as_tensor(row) for row in rows)
        longest = max(map(len, tokens), default=0)
        return cls(language, tokens, np.zeros(len(tokens), dtype=np.int64), 0, False, longest)

    def __len__(self) -> int:
        return len(self.tokens)

    def only(self, indices: Sequence[int]) -> Documents:
        """The documents with these indices, in this order."""
        tokens = tuple(self.tokens[i] for i in indices)
        n_bytes, kept = self.n_bytes[list(indices)], tuple(self.index[list(indices)].tolist())
        return replace(self, tokens=tokens, n_bytes=n_bytes, kept=kept)

    @property
    def index(self) -> Int[np.ndarray, " doc"]:
        """The number of each document's text."""
        return np.array(self.kept or range(len(self)), dtype=np.int64)

    @property
    def n_predicted(self) -> Int[np.ndarray, " doc"]:
        """Predicted tokens a document: all but the first."""
        return np.array([len(tokens) - 1 for tokens in self.tokens], dtype=np.int64)


def tokenize(
    tokenizer: Any, language: str, texts: Sequence[str], *, max_tokens: int, bos: bool
) -> Documents:
    """Tokenise the documents of one language once.

    BOS is put in front when `bos` (and never counted as predicted); EOS is never added; documents
    are cut at `max_tokens` tokens, at least 2, BOS included; documents of fewer than 2 tokens have
    nothing to predict and are left out, with a count. Refuses an empty result.
    """
    if max_tokens < 2:
        raise InputError(f"max_tokens {max_tokens} asked for; a document needs at least 2 tokens")
    prefix = bos_prefix(tokenizer, bos)
    with_offsets = bool(getattr(tokenizer, "is_fast", False))
    room = max_tokens - len(prefix)
    begun = [beginning(tokenizer, text, room + 1) for text in texts]
    # Cut by hand: truncation by a fast tokenizer would stay set in it.
    settings = {"add_special_tokens": False, "return_offsets_mapping": with_offsets}
    encoded = tokenizer(begun, verbose=False, **settings)
    tokens, n_bytes, kept, cut = [], [], [], 0
    for index, text in enumerate(texts):
        ids = prefix + encoded["input_ids"][index][:room]
        if len(ids) < 2:
            continue
        kept.append(index)
        cut += len(encoded["input_ids"][index]) > room or len(begun[index]) < len(text)
        first = 0 if bos else 1  # the first token of the text that is predicted
        if with_offsets:
            offsets = encoded["offset_mapping"][index][:room]
            # From the end of the token before: some offsets leave out the space before a word.
            start = 0 if bos else min(offsets[0][1], offsets[1][0])
            predicted = text[start : offsets[-1][1]]
        else:
            predicted = tokenizer.decode(ids[len(prefix) + first :], skip_special_tokens=True)
        tokens.append(torch.tensor(ids, dtype=torch.long))
        # A byte-level tokenizer can end in the middle of a character, whose offsets then span
        # nothing; no document has 0 bytes a token predicted.
        n_bytes.append(max(1, len(predicted.encode())))
    if not tokens:
        raise InputError(
            f"language {language}: all {len(texts)} documents have fewer than 2 tokens, "
            "so nothing in them is predicted"
        )
    return Documents(
        language, tuple(tokens), np.array(n_bytes, dtype=np.int64), len(texts) - len(kept), bos,
        max_tokens, cut, tuple(kept),
    )  # fmt: skip


def beginning(tokenizer: Any, text: str, n_tokens: int) -> str:
    """As much of a text as its first tokens need; all of it unless it has a million characters.

    Tokenising takes about a hundred bytes a character. No token covers more characters than the
    longest one, so the first n end within n times as many; the cut is at white space after them, so
    that the text before it is split as in the whole text. (A tokenizer that drops characters, or
    has one token for many unknown ones, may find fewer than n in it.)

    Example:
        >>> beginning(None, "short", 2048)
        'short'
    """
    if len(text) <= _LONG:
        return text
    least = max(_LONG, n_tokens * max(map(len, tokenizer.get_vocab())))
    space = _END.search(text, least)
    return text[: space.start() if space and space.start() < 2 * least else 2 * least]


def bos_prefix(tokenizer: Any, bos: bool) -> list[int]:
    """Tokens before a text: none, or the tokenizer's BOS; refuses a tokenizer without one."""
    if bos and tokenizer.bos_token_id is None:
        raise InputError("BOS asked for, but the tokenizer has no BOS token; use --no-bos")
    return [tokenizer.bos_token_id] if bos else []


def shared_beginning(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many tokens at the beginning of both are the same."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group documents of similar length so that a padded batch has at most `batch_tokens` tokens.

    A document longer than that is a batch of its own. Indices into `lengths`, longest batch first,
    so that a batch that does not fit fails at once.

    Example:
        >>> length_batches([3, 9, 4, 10], batch_tokens=20)
        [[3, 1], [2, 0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        width = lengths[batches[-1][0]] if batches else 0
        if batches and width * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad_right(tokens: Sequence[Int[Tensor, " _"]]) -> Int[Tensor, "batch pos"]:
    """One batch, padded on the right with token 0.

    A causal model's real positions never see later ones, so neither the value of the padding nor an
    attention mask matters; the padding is left out of every loss.
    """
    return torch.nn.utils.rnn.pad_sequence(list(tokens), batch_first=True)


def read_as(documents: Mapping[str, Documents]) -> dict[str, int | bool]:
    """``docs`` (the most of a language), ``max_tokens`` and ``bos``, for provenance."""
    some = next(iter(documents.values()))
    most = max(len(of) + of.skipped for of in documents.values())
    return {"docs": most, "max_tokens": some.max_tokens, "bos": some.bos}


def document_counts(documents: Mapping[str, Documents], dim: str) -> dict[str, Any]:
    """Variables ``docs``, ``skipped`` (too short), ``cut`` (too long), ``tokens`` (predicted) and
    ``bytes`` over the dimension of the languages."""
    counts = {
        "docs": [len(d) for d in documents.values()],
        "skipped": [d.skipped for d in documents.values()],
        "cut": [d.cut for d in documents.values()],
        "tokens": [int(d.n_predicted.sum()) for d in documents.values()],
        "bytes": [int(d.n_bytes.sum()) for d in documents.values()],
    }
    return {
        name: (dim, np.array(values, dtype=np.int64), {"units": "count"})
        for name, values in counts.items()
    }
