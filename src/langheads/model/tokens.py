"""The model's own tokens of texts, with its BOS policy, vocabulary and context length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError, logger
from langheads.text import Documents, tokenize


def tokenize_languages(
    model: TransformerBridge,
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> dict[str, Documents]:
    """Tokenise every language's documents once for this model; raises as `tokenize`.

    Documents are cut at `max_tokens`, and at the model's context length if that is shorter. `bos`
    None does what the model's tokenizer does by default.
    """
    tokenizer, bos, limit = how_to_read(model, max_tokens, bos)
    cut = {}
    documents = {}
    for language, of in texts.items():
        documents[language] = tokenize(tokenizer, language, of, max_tokens=limit, bos=bos)
        highest = max(int(tokens.max()) for tokens in documents[language].tokens)
        check_tokens(model, [highest], f"language {language}")
        if skipped := documents[language].skipped:
            logger.warning(
                "language %s: %d of %d documents skipped, fewer than 2 tokens",
                language,
                skipped,
                len(of),
            )
        if documents[language].cut:
            cut[language] = f"{language} {documents[language].cut} of {len(of)}"
    if cut:
        # The user asked for more than the model can read; a limit below was asked for itself.
        by = f"{limit} tokens" + (", the model's context" if limit < max_tokens else "")
        logger.warning("documents cut at %s: %s", by, ", ".join(cut.values()))
    return documents


def tokenizer_of(model: TransformerBridge) -> Any:
    """The model's tokenizer; `InputError` where it has none."""
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer; load it from a folder that has one")
    return model.tokenizer


def how_to_read(
    model: TransformerBridge, max_tokens: int, bos: bool | None
) -> tuple[Any, bool, int]:
    """Tokenizer, whether BOS stands before a text, and where it is cut: at `max_tokens`, or the
    model's context length if that is shorter."""
    limit = min(max_tokens, context_length(model) or max_tokens)
    return tokenizer_of(model), bos_policy(model, bos), limit


def bos_policy(model: TransformerBridge, bos: bool | None) -> bool:
    """Whether to prepend BOS; None does what the model's tokenizer does by default."""
    tokenizer_of(model)
    return bool(model.cfg.tokenizer_prepends_bos if bos is None else bos)


def context_length(model: TransformerBridge) -> int | None:
    """How many tokens the model can read; None for any number."""
    return int(model.cfg.n_ctx or 0) or None


def check_tokens(
    model: TransformerBridge, tokens: Sequence[int], where: str, *, new: int = 0
) -> None:
    """Refuse tokens of a text that the model does not have, or more than it can read with room for
    `new` ones; `where` they are, for errors."""
    if (highest := max(tokens)) >= model.cfg.d_vocab:
        # To a tokenizer without BOS TransformerLens adds one that the model never learned.
        raise InputError(
            f"token {model.tokenizer.convert_ids_to_tokens(highest)} of {where} has number "
            f"{highest}, but the model has {model.cfg.d_vocab} tokens; use --no-bos if its "
            "tokenizer has no BOS, or the tokenizer of this model"
        )
    context = context_length(model)
    if context is not None and len(tokens) + new > context:
        much, less = (
            (f"with {new} new ones more", "shorten it or ask for fewer new tokens")
            if new
            else ("more", "shorten it")
        )
        raise InputError(
            f"{where} has {len(tokens)} tokens, {much} than the model's context of {context}; "
            f"{less}"
        )


def probe_tokens(model: TransformerBridge, length: int) -> Int[Tensor, "2 pos"]:
    """Two documents of random tokens, always the same, to check a model on."""
    generator = torch.Generator().manual_seed(0)
    vocab = min(int(model.cfg.d_vocab), 1000)
    return torch.randint(vocab, (2, length), generator=generator).to(model.cfg.device)
