"""The settings of arXiv 2511.07498 (LAHIS): what `as_published` sets, and what it cannot.

From paper and released code (GitHub, Linuxin-xxx/LAHIS); where the two differ, from the code:

    ablate      published: 2% of all heads off, their output 0, on 1,000 articles of 2,048 tokens at
                most; perplexity as the mean over documents of exp(loss); beside it 9 random heads
                anywhere in the model
                as_published: zero, 1,000 documents, 2,048 tokens, 9 random heads anywhere
                ours, and why: nats per byte (one hard document can decide a mean of exp), zero and
                mean ablation, many random sets with as many heads in each layer (9 anywhere differ
                from the chosen ones in number and depth, too), documents that were not scored
    generate,   published: XL-Sum, instruction in the article's language, greedy, 80 tokens,
    off_target  fastText, its first guess however sure, empty replies left out; the text switches
                off English heads, the code 1% of all heads of the prompt's own language, once the
                specific ones and once the top of the raw score; random heads only for general heads
                (9 anywhere, BERTScore)
                as_published: 80 tokens, greedy, any first guess; `off_target` both ``own off`` and
                ``suspect off`` (English), each with its random twin; heads of ``select --rule top``
                under ``own off`` are the code's second choice
                ours, and why: empty replies count as wrong (a model that fell silent is no better);
                degeneration checks, no BERTScore; the detector and its file are yours to give
    transfer    published: one person, English filler, A's fact first, 10 x 9 occupations, 1% of all
                heads, gate 3 for A's or 0 for B's, 5 tokens; an answer counts in English or in the
                fact's language, A's before B's, as any part of a word; no random heads
                as_published: the gates, A first, English question, 10 occupations, 5 tokens
                ours, and why: both orders (recency alone favours the later fact), random heads;
                several persons and fillers in A's language; whole words, the first one counts. Our
                own sentences: the released ones come without a licence
    adapt       published: the 2% of heads with the highest raw score, general heads among them;
                200 of the first 390 XQuAD questions, 2 epochs in one order, a step a question,
                AdamW 1e-2, bfloat16 gates, prompt in the language, no space before the answer; as
                control as many random heads anywhere
                as_published: 200 questions, 2 epochs, steps of one question, AdamW 1e-2, no
                validation, 2,048 tokens, a prompt in the language; refuses heads of another rule
                than ``select --rule top``
                ours, and why: whole contexts on one side and a new order each epoch, gates in
                float32 (0.01 is one to three steps of bfloat16), a space before the answer, random
                heads of the same layers. Our own prompts: see transfer

Shares of heads are `select`'s (``--share 0.02`` or ``0.01``), as the experiments are given heads.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from langheads.io.errors import InputError
from langheads.text import Rules

PUBLISHED: dict[str, dict[str, Any]] = {
    "ablate": {"baseline": ("zero",), "docs": 1000, "max_tokens": 2048, "n_random": 9},
    "adapt": {
        "train": 200, "epochs": 2, "learning_rate": 1e-2, "weight_decay": 1e-2, "batch_size": 1,
        "validation": 0.0, "template": "language", "max_tokens": 2048,
    },
    "generate_replies": {
        "max_new_tokens": 80, "temperature": 0.0, "baseline": "zero", "chat": False,
        "min_confidence": 0.0,
    },
    "off_target": {
        "conditions": ("none", "own off", "random own off", "suspect off", "random suspect off"),
        "suspect": "en", "max_new_tokens": 80, "chat": False, "rules": Rules(min_confidence=0.0),
    },
    "transfer": {
        "gates_enhance": (3.0,), "gates_weaken": (0.0,), "orders": ("A first",), "query": "en",
        "n_occupations": 10, "limit": None, "max_new_tokens": 5,
    },
}  # fmt: skip
"""Function -> its arguments as published."""
P = ParamSpec("P")
R = TypeVar("R")


def published(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function of `PUBLISHED`: `as_published` gives it its published settings."""

    @functools.wraps(function)
    def run(*args: P.args, **given: P.kwargs) -> R:
        everything: Any = given
        if given.get("as_published"):
            everything = given | published_settings(function, given)
        return function(*args, **everything)

    return run


def published_settings(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a function of `PUBLISHED` as published; refuses any but these and its
    defaults."""
    settings, asked = PUBLISHED[function.__name__], inspect.signature(function).parameters
    for name, value in settings.items():
        by_hand = given.get(name, value)
        if _plain(by_hand) not in (_plain(value), _plain(asked[name].default)):
            raise InputError(
                f"{name} {by_hand!r:.60} asked for, but as published it is {value!r:.60}; leave "
                f"out one of {name} and as_published"
            )
    return settings


def _plain(value: Any) -> Any:
    """Lists and single names as tuples, as in the settings."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else tuple(value)
    return value
