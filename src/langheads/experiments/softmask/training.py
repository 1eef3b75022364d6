"""Gradient steps of gates on the tokens of answers; see `adapt` for what is minimised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.softmask.contexts import ContextSplit
from langheads.heads import HeadSet
from langheads.io.errors import NonFiniteError
from langheads.io.progress import progress_bar
from langheads.model import document_nll, gated, head_shape, map_documents
from langheads.scores.answers import Answers

# Validation losses an epoch, beside the one before the first step.
_CHECKS = 4


def train_gates(
    model: TransformerBridge,
    heads: HeadSet,
    answers: Answers,
    split: ContextSplit,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    baseline: Float[Tensor, "layer head d_head"] | None,
    seed: int,
    batch_tokens: int | str,
) -> tuple[Float[Tensor, " chosen"], dict[str, list[Any]]]:
    """Step the gates of some heads, from 1, through the training side of a split.

    Returns:
        The learned gates in the order of the heads; and the losses in nats per answer token:
        ``train`` of every step before it was taken, and pairs (steps taken, loss) of the whole
        ``train_set`` before and after and of ``validation`` questions.

    Raises:
        NonFiniteError: a loss or gradient is NaN or infinite; names the step.
    """
    values = torch.ones(len(heads), requires_grad=True)
    optimizer = torch.optim.AdamW([values], lr=learning_rate, weight_decay=weight_decay)
    steps = _steps(split.train, epochs, batch_size, seed)
    # Steps hold different questions, so only the whole set tells whether its loss fell.
    checks = {"train_set": (split.train, {0, len(steps)})}
    if split.validation:
        every = {round(k * len(steps) / (_CHECKS * epochs)) for k in range(_CHECKS * epochs + 1)}
        checks["validation"] = split.validation, every
    losses: dict[str, list[Any]] = {"train": [], "train_set": [], "validation": []}

    def check(step: int) -> None:
        for name, (indices, at) in checks.items():
            if step in at:
                of, gates = _only(answers, indices), _gates(heads, values.detach())
                nll = answer_losses(model, of, gates, baseline=baseline, batch_tokens=batch_tokens)
                losses[name].append([step, float(nll.sum() / answer_sizes(of).sum())])

    with progress_bar(total=len(steps), unit="step", desc="adapt") as bar:
        check(0)
        for number, indices in enumerate(steps, start=1):
            try:
                loss, values.grad = loss_and_gradient(
                    model, values.detach(), heads, _only(answers, indices), baseline, batch_tokens
                )
            except NonFiniteError as error:
                raise NonFiniteError(f"step {number} of {len(steps)}: {error}") from error
            optimizer.step()
            losses["train"].append(loss)
            check(number)
            bar.set_postfix_str(f"{loss:.3f} nats per answer token")
            bar.update()
    return values.detach(), losses


def _steps(train: Sequence[int], epochs: int, batch_size: int, seed: int) -> list[list[int]]:
    """Questions of each step, in a new order every epoch; none reaches over the end of one."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(train).tolist() for _ in range(epochs)]
    firsts = range(0, len(train), batch_size)
    return [order[first : first + batch_size] for order in orders for first in firsts]


def loss_and_gradient(
    model: TransformerBridge,
    values: Float[Tensor, " chosen"],
    heads: HeadSet,
    answers: Answers,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
) -> tuple[float, Float[Tensor, " chosen"]]:
    """Loss of a step, nats per answer token, and its gradient with respect to the heads' gates.

    Every question has gates of its own, so that its row of the gradient does not depend on the
    batch that it is in; rows are added up in float64.
    """
    layers, numbers = _at(heads)

    @torch.enable_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        one = _gates(heads, values).to(tokens.device)
        gates = one.repeat(len(tokens), 1, 1).requires_grad_()
        with gated(model, gates, baseline=baseline):
            nll = document_nll(model, tokens, lengths, starts)
        (gradient,) = torch.autograd.grad(nll.sum(), gates)
        chosen = gradient[:, layers.to(gradient.device), numbers.to(gradient.device)]
        return torch.cat([nll.detach()[:, None], chosen.to(nll.dtype)], dim=1)

    rows = _per_answer(model, answers, measure, batch_tokens=batch_tokens)
    mean = rows.double().sum(dim=0) / int(answer_sizes(answers).sum())
    return float(mean[0]), mean[1:].to(values.dtype)


def answer_losses(
    model: TransformerBridge,
    answers: Answers,
    gates: Float[Tensor, "layer head"] | None = None,
    *,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    batch_tokens: int | str = "auto",
    progress: tqdm | None = None,
) -> Float[np.ndarray, " example"]:
    """NLL of every example's first answer, nats, summed over its tokens."""
    under = torch.ones(head_shape(model)) if gates is None else gates

    @torch.no_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        with gated(model, under, baseline=baseline):
            return document_nll(model, tokens, lengths, starts)

    found = _per_answer(model, answers, measure, batch_tokens=batch_tokens, progress=progress)
    return found.double().numpy()


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


def _only(answers: Answers, indices: Sequence[int]) -> Answers:
    """The examples with these indices, in this order."""
    return Answers(
        answers.prompts.only(indices), answers.texts.only(indices), answers.starts[list(indices)]
    )
