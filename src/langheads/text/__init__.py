"""Texts: reading, a fixed order with a held-out end, tokens once."""

from langheads.text.corpus import Corpus, reaches_into, read_texts
from langheads.text.documents import Documents, length_batches, pad_right, tokenize

__all__ = [
    "Corpus",
    "Documents",
    "length_batches",
    "pad_right",
    "reaches_into",
    "read_texts",
    "tokenize",
]
