"""A gradient score as a screen: knock out only the heads that it ranks highest.

A screen ``method:share`` takes in each language the ceil(share L H) heads with the highest score
on the very documents that are knocked out, and keeps every head that any language takes. What it
drops is not measured, and a screen is only as good as its score: exact knock-out of all heads is
what scores are judged against, not the other way round.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.model import head_shape
from langheads.scores.registry import SCORES
from langheads.scores.score import measure_scores
from langheads.text import Documents

logger = logging.getLogger("langheads")


def check_screen(screen: str) -> tuple[str, float]:
    """Method and share of a screen.

    Raises:
        InputError: not ``method:share``, an unknown method, or a share that is not in (0, 1].

    Example:
        >>> check_screen("taylor:0.1")
        ('taylor', 0.1)
    """
    method, _, share = screen.partition(":")
    try:
        number = float(share)
    except ValueError:
        number = math.nan
    # One that depends on the order of documents ranks that, too.
    allowed = [name for name, of in SCORES.items() if not of.ordered]
    if method not in allowed or not 0 < number <= 1:
        raise InputError(
            f"screen {screen!r} asked for; allowed is METHOD:SHARE, METHOD one of "
            f"{', '.join(allowed)}, 0 < SHARE <= 1, such as taylor:0.1"
        )
    return method, number


def screened(
    model: TransformerBridge,
    documents: Mapping[str, Documents],
    method: str,
    share: float,
    *,
    seed: int = 0,
    batch_tokens: int | str = "auto",
) -> HeadSet:
    """The heads that pass; how many do not is said on the log.

    Args:
        model: the model.
        documents: language -> its documents.
        method: one that `check_screen` allows.
        share: of all heads that each language takes.
        seed: of methods that draw.
        batch_tokens: tokens a batch, padding included.
    """
    shape = head_shape(model)
    # Rounded first: 10 * 0.3 is a little above 3.
    count = max(1, math.ceil(round(share * shape[0] * shape[1], 9)))
    passed: list[Head] = []
    score = SCORES[method]
    measured = measure_scores(model, documents, [score], seed=seed, batch_tokens=batch_tokens)
    for values in measured.maps(score)[""]:
        passed += HeadSet.ranked(values, count)
    # In the model's order: ranks of different languages cannot be compared.
    heads = HeadSet(sorted(passed), shape)
    logger.warning(
        "screen %s:%g: %d of %d heads are knocked out, %d are left out",
        method,
        share,
        len(heads),
        shape[0] * shape[1],
        shape[0] * shape[1] - len(heads),
    )
    return heads
