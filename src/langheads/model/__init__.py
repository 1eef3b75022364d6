"""The only floor that knows hook names, flags and TransformerLens."""

from langheads.model.batches import map_documents, token_budget
from langheads.model.gates import gated, mean_z
from langheads.model.loading import DEMO, describe, head_shape, load
from langheads.model.loss import document_nll
from langheads.model.replay import captured_block_inputs, starting_at
from langheads.model.tokens import tokenize_languages

__all__ = [
    "DEMO",
    "captured_block_inputs",
    "describe",
    "document_nll",
    "gated",
    "head_shape",
    "load",
    "map_documents",
    "mean_z",
    "starting_at",
    "token_budget",
    "tokenize_languages",
]
