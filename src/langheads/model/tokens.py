"""The model's own tokens of texts, with its BOS policy and context length."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import InputError
from langheads.text import Documents, tokenize

logger = logging.getLogger("langheads")


def tokenize_languages(
    model: TransformerBridge,
    texts: Mapping[str, Sequence[str]],
    *,
    max_tokens: int = 2048,
    bos: bool | None = None,
) -> dict[str, Documents]:
    """Tokenise every language's documents once for this model.

    Args:
        model: gives tokenizer and context length.
        texts: language -> documents.
        max_tokens: documents are cut here, and at the model's context length if that is shorter.
        bos: prepend BOS; None does what the model's tokenizer does by itself.

    Raises:
        InputError: see `tokenize`; the model has no tokenizer, or one of another vocabulary.
    """
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer; load it from a folder that has one")
    if bos is None:
        bos = bool(model.cfg.tokenizer_prepends_bos)
    limit = min(max_tokens, int(model.cfg.n_ctx or max_tokens))
    documents = {}
    for language, of_language in texts.items():
        documents[language] = tokenize(
            model.tokenizer, language, of_language, max_tokens=limit, bos=bos
        )
        highest = max(int(tokens.max()) for tokens in documents[language].tokens)
        if highest >= model.cfg.d_vocab:
            # TransformerLens gives a tokenizer without BOS one that the model never learned.
            raise InputError(
                f"token {model.tokenizer.convert_ids_to_tokens(highest)} of language {language} "
                f"has number {highest}, but the model has {model.cfg.d_vocab} tokens; use --no-bos "
                "if its tokenizer has no BOS, or the tokenizer of this model"
            )
        if skipped := documents[language].skipped:
            logger.warning(
                "language %s: %d of %d documents skipped, fewer than 2 tokens",
                language,
                skipped,
                len(of_language),
            )
    return documents
