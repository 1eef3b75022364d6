"""The only floor that knows hook names, flags and TransformerLens."""

from langheads.model.batches import map_documents, token_budget
from langheads.model.decoding import decode, end_tokens
from langheads.model.gates import gated, mean_z
from langheads.model.loading import DEMO, EMBEDDED, describe, head_shape, load
from langheads.model.nll import document_nll
from langheads.model.replay import captured_block_inputs, starting_at
from langheads.model.steering import shifted
from langheads.model.tokens import tokenize_languages

__all__ = [
    "DEMO",
    "EMBEDDED",
    "captured_block_inputs",
    "decode",
    "describe",
    "document_nll",
    "end_tokens",
    "gated",
    "head_shape",
    "load",
    "map_documents",
    "mean_z",
    "shifted",
    "starting_at",
    "token_budget",
    "tokenize_languages",
]
