"""Gradient steps of gates on the tokens of answers; see `softmask` for what is minimised."""

from __future__ import annotations

from collections.abc import Sequence
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
    at = tuple(torch.tensor(list(heads)).T)
    rng = np.random.default_rng(seed)
    order = [i for _ in range(epochs) for i in rng.permutation(split.train).tolist()]
    # Steps do not reach over the end of an epoch.
    n = len(split.train)
    steps = [
        order[e * n + first : min(e * n + first + batch_size, (e + 1) * n)]
        for e in range(epochs)
        for first in range(0, n, batch_size)
    ]
    check_at = {round(k * len(steps) / (_CHECKS * epochs)) for k in range(_CHECKS * epochs + 1)}
    held_out = _only(answers, split.validation) if split.validation else None
    losses: dict[str, list[Any]] = {"train": [], "train_set": [], "validation": []}

    def measure(of: Answers) -> float:
        gates = torch.ones(heads.shape).index_put(at, values.detach())
        nll = answer_losses(model, of, gates, baseline=baseline, batch_tokens=batch_tokens)
        return float(nll.sum() / answer_sizes(of).sum())

    def validate(step: int) -> None:
        # Steps hold different questions, so only the whole set tells whether its loss fell.
        if step in (0, len(steps)):
            losses["train_set"].append([step, measure(_only(answers, split.train))])
        if held_out is not None and step in check_at:
            losses["validation"].append([step, measure(held_out)])

    with tqdm(total=len(steps), unit="step", desc="adapt") as bar:
        validate(0)
        for number, indices in enumerate(steps, start=1):
            batch = _only(answers, indices)
            try:
                loss, gradient = loss_and_gradient(
                    model, values.detach(), heads, batch, baseline, batch_tokens
                )
            except NonFiniteError as error:
                raise NonFiniteError(f"step {number} of {len(steps)}: {error}") from error
            values.grad = gradient
            optimizer.step()
            losses["train"].append(loss)
            validate(number)
            bar.set_postfix_str(f"{loss:.3f} nats per answer token")
            bar.update()
    return values.detach(), losses


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
    at = tuple(torch.tensor(list(heads)).T)
    start = torch.ones(heads.shape, dtype=values.dtype).index_put(at, values)

    @torch.enable_grad()
    def measure(tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        gates = start.to(tokens.device).repeat(len(tokens), 1, 1).requires_grad_()
        with gated(model, gates, baseline=baseline):
            nll = document_nll(model, tokens, lengths, starts)
        (gradient,) = torch.autograd.grad(nll.sum(), gates)
        chosen = gradient[:, at[0].to(gradient.device), at[1].to(gradient.device)]
        return torch.cat([nll.detach()[:, None], chosen.to(nll.dtype)], dim=1)

    rows = map_documents(
        model,
        answers.texts,
        measure,
        given=torch.from_numpy(answers.starts),
        batch_tokens=batch_tokens,
    )
    mean = rows.double().sum(dim=0) / int(answer_sizes(answers).sum())
    return float(mean[0]), mean[1:].to(values.dtype)


def _only(answers: Answers, indices: Sequence[int]) -> Answers:
    """The examples with these indices, in this order."""
    return Answers(
        answers.prompts.only(indices), answers.texts.only(indices), answers.starts[list(indices)]
    )


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

    found = map_documents(
        model,
        answers.texts,
        measure,
        given=torch.from_numpy(answers.starts),
        batch_tokens=batch_tokens,
        progress=progress,
    )
    return found.double().numpy()


def answer_sizes(answers: Answers) -> Int[np.ndarray, " example"]:
    """Tokens of every example's answer."""
    return np.array([len(text) for text in answers.texts.tokens]) - answers.starts
