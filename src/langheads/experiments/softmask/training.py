"""Questions split so that no context is on two sides, and gradient steps of gates on the answers.

For the loss that is minimised see `adapt`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.arguments import check_least
from langheads.io.errors import InputError, NonFiniteError
from langheads.io.estimate import estimating
from langheads.io.progress import progress_bar
from langheads.model import document_nll, gated, head_shape, map_documents
from langheads.model.checkpointing import checkpointed
from langheads.scores.answers import Answers
from langheads.text import Question

# Validation losses an epoch, after the one before the first step.
_CHECKS = 4


@dataclass(frozen=True)
class ContextSplit:
    """Indices of the questions on each side."""

    train: tuple[int, ...]  # exactly as many as were asked for
    validation: tuple[int, ...]  # the same; none where the share asked for is 0
    # Questions of the last context of `train` or `validation` that were too many; not for testing.
    spare: tuple[int, ...]
    test: tuple[int, ...]  # all others


def split_by_context(
    examples: Sequence[Question], *, train: int, validation: float
) -> ContextSplit:
    """Give whole contexts to training, then to validation, and leave the rest for testing.

    Contexts are in the order in which the questions first have them, which depends on the seed
    (`read_questions`). `validation` is a share of `train`, rounded up. Refuses numbers out of
    range, or that leave no question for testing.

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


@dataclass(frozen=True)
class Training:
    """Steps of gates; see `adapt`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    baseline: Float[Tensor, "layer head d_head"] | None
    seed: int
    batch_tokens: int | str

    def __post_init__(self) -> None:
        check_least(1, self.epochs, "epochs")
        check_least(1, self.batch_size, "questions a step")
        if not (0 < self.learning_rate <= 1 and 0 <= self.weight_decay <= 1):
            raise InputError(
                f"learning rate {self.learning_rate} and weight decay {self.weight_decay} asked "
                "for; a step moves a gate by about the learning rate, so it is above 0 and at most "
                "1, and the weight decay is from 0 to 1"
            )


def train_gates(
    model: TransformerBridge, heads: HeadSet, answers: Answers, split: ContextSplit, how: Training
) -> tuple[Float[Tensor, " chosen"], dict[str, list[Any]]]:
    """Step the gates of some heads, from 1, through the training side of a split.

    Returns the learned gates in the order of the heads; and the losses in nats per answer token:
    ``train``, the loss before every step, and pairs (steps taken, loss) of the whole
    ``train_set`` before and after and of ``validation`` questions.
    """
    forwards: dict[str, Any] = {"baseline": how.baseline, "batch_tokens": how.batch_tokens}
    values = torch.ones(len(heads), requires_grad=True)
    optimizer = torch.optim.AdamW([values], lr=how.learning_rate, weight_decay=how.weight_decay)
    steps = _steps(split.train, how)
    # Steps have different questions, so only the loss of the whole set shows whether it fell.
    checks = {"train_set": (split.train, {0, len(steps)})}
    if split.validation:
        n = _CHECKS * how.epochs
        every = {round(k * len(steps) / n) for k in range(n + 1)}
        checks["validation"] = split.validation, every
    losses: dict[str, list[Any]] = {"train": [], "train_set": [], "validation": []}

    def check(step: int) -> None:
        for name, (indices, at) in checks.items():
            if step in at:
                of, gates = _only(answers, indices), _gates(heads, values.detach())
                nll = answer_losses(model, of, gates, **forwards)
                losses[name].append([step, float(nll.sum() / answer_sizes(of).sum())])

    with progress_bar(total=len(steps), unit="step", desc="adapt") as bar:
        check(0)
        for number, indices in enumerate(steps, start=1):
            try:
                of = _only(answers, indices)
                loss, values.grad = loss_and_gradient(model, values.detach(), heads, of, **forwards)
            except NonFiniteError as error:
                raise NonFiniteError(f"step {number} of {len(steps)}: {error}") from error
            optimizer.step()
            losses["train"].append(loss)
            check(number)
            bar.set_postfix_str(f"{loss:.3f} nats per answer token")
            bar.update()
    return values.detach(), losses


def _steps(train: Sequence[int], how: Training) -> list[list[int]]:
    """Questions of each step, in a new order every epoch; no step spans two epochs."""
    rng = np.random.default_rng(how.seed)
    orders = [rng.permutation(train).tolist() for _ in range(how.epochs)]
    firsts = range(0, len(train), how.batch_size)
    return [order[first : first + how.batch_size] for order in orders for first in firsts]


def loss_and_gradient(
    model: TransformerBridge,
    values: Float[Tensor, " chosen"],
    heads: HeadSet,
    answers: Answers,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
) -> tuple[float, Float[Tensor, " chosen"]]:
    """Loss of a step, nats per answer token, and its gradient with respect to the heads' gates.

    Every question has its own row of gates, so its gradient does not depend on the batch that it is
    in; rows are added up in float64.
    """
    layers, numbers = _at(heads)

    @torch.enable_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        one = _gates(heads, values).to(tokens.device)
        gates = one.repeat(len(tokens), 1, 1).requires_grad_()
        with checkpointed(model), gated(model, gates, baseline=baseline):
            nll = document_nll(model, tokens, lengths, starts)
            (gradient,) = torch.autograd.grad(nll.sum(), gates)
        chosen = gradient[:, layers.to(gradient.device), numbers.to(gradient.device)]
        return torch.cat([nll.detach()[:, None], chosen.to(nll.dtype)], dim=1)

    # A step is too short to be kept in parts.
    work = ("training steps", str(heads)) if estimating() else None
    how: dict[str, Any] = {"batch_tokens": batch_tokens, "work": work, "row": (1 + len(heads),)}
    rows = _per_answer(model, answers, measure, **how)
    mean = rows.double().sum(dim=0) / int(answer_sizes(answers).sum())
    return float(mean[0]), mean[1:].to(values.dtype)


def answer_losses(
    model: TransformerBridge,
    answers: Answers,
    gates: Float[Tensor, "layer head"] | None = None,
    *,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    **how: Any,
) -> Float[np.ndarray, " example"]:
    """NLL of every example's first answer, nats, summed over its tokens."""
    under = torch.ones(head_shape(model)) if gates is None else gates

    @torch.no_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        with gated(model, under, baseline=baseline):
            return document_nll(model, tokens, lengths, starts)

    how["work"] = ("answer losses", under, baseline)
    return _per_answer(model, answers, measure, **how).double().numpy()


def answer_sizes(answers: Answers) -> Int[np.ndarray, " example"]:
    """Tokens of every example's answer."""
    return np.array([len(text) for text in answers.texts.tokens]) - answers.starts


def _per_answer(
    model: TransformerBridge, answers: Answers, measure: Callable[..., Tensor], **settings: Any
) -> Float[Tensor, "example ..."]:
    starts = torch.from_numpy(answers.starts)
    return map_documents(model, answers.texts, measure, given=starts, **settings)


def _at(heads: HeadSet) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(list(heads)).T)


def _gates(heads: HeadSet, values: Float[Tensor, " chosen"]) -> Float[Tensor, "layer head"]:
    return torch.ones(heads.shape, dtype=values.dtype).index_put(_at(heads), values)


def _only(answers: Answers, some: Sequence[int]) -> Answers:
    """The examples with these indices, in this order."""
    return Answers(answers.prompts.only(some), answers.texts.only(some), answers.starts[list(some)])
