"""Questions split so that no context is on two sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from langheads.io.errors import InputError
from langheads.text import Question


@dataclass(frozen=True)
class ContextSplit:
    """Indices of the questions on each side.

    Attributes:
        train: exactly as many as were asked for.
        validation: the same; none where the share asked for is 0.
        spare: questions of the last context of `train` or `validation` that were too many; they
            may be in no test.
        test: all others.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    spare: tuple[int, ...]
    test: tuple[int, ...]


def split_by_context(
    examples: Sequence[Question], *, train: int, validation: float
) -> ContextSplit:
    """Give whole contexts to training, then to validation, and leave the rest for testing.

    Contexts come in the order in which the questions first name them, which is the order that a
    seed fixed (`read_questions`).

    Args:
        examples: of one language.
        train: questions to train on.
        validation: questions to validate on, as a share of `train`, rounded up.

    Raises:
        InputError: numbers that make no sense, or no question would be left for testing.

    Example:
        >>> rest = {"question": "?", "answers": ("!",)}
        >>> asked = [Question(id=str(i), context=f"text {i // 2}", **rest) for i in range(8)]
        >>> split_by_context(asked, train=3, validation=0.3)
        ContextSplit(train=(0, 1, 2), validation=(4,), spare=(3, 5), test=(6, 7))
    """
    if train < 1 or not 0 <= validation <= 1:
        raise InputError(
            f"{train} questions to train on and a validation share of {validation} asked for; at "
            "least 1 question, and a share from 0 to 1"
        )
    by_context: dict[str, list[int]] = {}
    for i, question in enumerate(examples):
        by_context.setdefault(question.context_digest, []).append(i)
    # Rounded first: 0.1 * 30 is a little more than 3.
    wanted = train, math.ceil(round(validation * train, 6))
    sides: tuple[list[int], list[int]] = [], []
    spare: list[int] = []
    left = list(by_context.values())
    for side, count in zip(sides, wanted, strict=True):
        while len(side) < count and left:
            group = left.pop(0)
            room = count - len(side)
            side += group[:room]
            spare += group[room:]
    test = [i for group in left for i in group]
    if tuple(map(len, sides)) != wanted or not test:
        raise InputError(
            f"{wanted[0]} questions to train on and {wanted[1]} to validate on asked for, of "
            f"{len(examples)} on {len(by_context)} contexts; no context may be on two sides and "
            "some must be left for testing: ask for fewer (--train), or give more questions"
        )
    return ContextSplit(tuple(sides[0]), tuple(sides[1]), tuple(spare), tuple(test))
