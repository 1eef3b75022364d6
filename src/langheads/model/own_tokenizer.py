"""Checks of a model's tokenizer: it is the model's own, and its rules do not blow up a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformer_lens.model_bridge import TransformerBridge

from langheads.io.errors import ModelError, logger

# Letters of many scripts, to try rules for classes of letters on.
_LETTERS = "aA0 .é猫あ한ภअبאЖΩბა…\n"
_MOST_RULES, _LONGEST, _GROWTH = 10_000, 200, 100
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder")),
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}


def check_rules(path: Path, name: str) -> None:
    """Refuse (`ModelError`) a tokenizer.json whose rules for texts, tried one after the other on a
    short text with every letter that they name, make it a hundred times as long: ten such rules
    more, and a word would fill the memory."""
    try:
        found = json.loads(path.read_text("utf-8"))
        parts = {part: list(_rules(found.get(part))) for part in ("normalizer", "decoder")}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        # Invalid files are reported at loading.
        return
    for part, rules in parts.items():
        if why := _why_not(part, rules):
            raise ModelError(f"tokenizer.json of {name} has a {part} that {why}")


def _why_not(part: str, rules: list[dict[str, Any]]) -> str:
    """Why rules are refused; "" where they may be used."""
    too_long = f"makes a text more than {_GROWTH} times as long"
    if len(rules) > _MOST_RULES or any(len(str(of.get("content", ""))) > _LONGEST for of in rules):
        return too_long
    text = first = _LETTERS + "".join(sorted({*json.dumps(rules, ensure_ascii=False)}))
    for rule in rules:
        try:
            of: Any = Tokenizer.from_str(json.dumps(_NOTHING | {part: rule}))
            decodes = part == "decoder"
            text = of.decoder.decode([text]) if decodes else of.normalizer.normalize_str(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # A regular expression that takes too long raises a BaseException.
            return f"fails on a short text ({' '.join(str(error).split())[:100]})"
        if len(text) > _GROWTH * len(first):
            return too_long
    return ""


def _rules(part: Any) -> Iterator[dict[str, Any]]:
    """The parts of a sequence, in order, at any depth."""
    if part is not None:
        inner = part.get("normalizers", part.get("decoders"))
        yield from [part] if inner is None else (rule for each in inner for rule in _rules(each))


def check_tokenizer(model: TransformerBridge) -> None:
    """Refuse (`ModelError`) a tokenizer with tokens that the model does not have, and warn where it
    looks like another model's."""
    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        return
    d_vocab, vocabulary = int(model.cfg.d_vocab), tokenizer.get_vocab()
    token = max(vocabulary, key=vocabulary.__getitem__)
    # Published models do have added tokens beyond; a text with one is refused when it is read.
    if vocabulary[token] >= d_vocab:
        ordinary = vocabulary.keys() - tokenizer.get_added_vocab().keys()
        token = max(ordinary, key=vocabulary.__getitem__, default=token)
        if ordinary and vocabulary[token] >= d_vocab:
            raise ModelError(
                f"the tokenizer has token {token[:40]!r} with number {vocabulary[token]}, but the "
                f"model has {d_vocab} tokens; it is the tokenizer of another model"
            )
    if len(vocabulary) < 0.8 * d_vocab:
        logger.warning(
            "the model has %d tokens and its tokenizer %d: it may be that of another model",
            d_vocab,
            len(vocabulary),
        )
    said = getattr(model.original_model.config, "bos_token_id", None)
    # As saved: TransformerLens adds a BOS token to a tokenizer without one.
    saved = str(getattr(tokenizer, "init_kwargs", {}).get("bos_token") or "")
    if isinstance(said, int) and saved in vocabulary and vocabulary[saved] != said:
        logger.warning(
            "config.json says bos_token_id %d, but %s of the tokenizer has number %d: it may be "
            "that of another model",
            said,
            saved,
            vocabulary[saved],
        )
