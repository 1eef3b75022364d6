"""The only floor that knows hook names, flags and TransformerLens."""

from langheads.model.batches import map_documents
from langheads.model.budget import token_budget
from langheads.model.decoding import decode, decode_rows, end_tokens, reply_text
from langheads.model.gates import Gates, gated, gates_of_all, mean_z
from langheads.model.identity import DEMO, EMBEDDED, describe, model_name
from langheads.model.loading import load
from langheads.model.nll import document_nll, token_nll
from langheads.model.replay import captured_block_inputs, starting_at
from langheads.model.shape import all_heads_of, head_shape, heads_of
from langheads.model.steering import steered
from langheads.model.tokens import (
    bos_policy,
    check_tokens,
    context_length,
    tokenize_languages,
    tokenizer_of,
)

__all__ = [
    "DEMO",
    "EMBEDDED",
    "Gates",
    "all_heads_of",
    "bos_policy",
    "captured_block_inputs",
    "check_tokens",
    "context_length",
    "decode",
    "decode_rows",
    "describe",
    "document_nll",
    "end_tokens",
    "gated",
    "gates_of_all",
    "head_shape",
    "heads_of",
    "load",
    "map_documents",
    "mean_z",
    "model_name",
    "reply_text",
    "starting_at",
    "steered",
    "token_budget",
    "token_nll",
    "tokenize_languages",
    "tokenizer_of",
]
