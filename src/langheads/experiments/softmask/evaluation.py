"""Answers of a model to questions, untouched and under gates: right or wrong, and how likely.

    accuracy     share of replies of which a right answer is a substring
    exact_match  share of replies whose first line is a right answer
    f1           overlap in words (characters in Chinese, Japanese, Thai) of that line with one
    answer_nll   - log p(first right answer | prompt), nats, summed over its tokens

and degeneration checks that separate a reply that changed from one that fell apart:

    repetition   share of the reply's 4-grams of tokens that occurred in it earlier
    prompt_copy  share of them that the prompt has
    empty        share of replies that are nothing but white space
    reply_nll    NLL of the reply given its prompt, nats per token, by the untouched model

Replies are greedy, 10 tokens by default, or until EOS; both sides are normalised as SQuAD does
(arXiv 1606.05250, see `langheads.text.answers`), and the best of all right answers counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads import text
from langheads.experiments.replies.generate import Reply, generate
from langheads.experiments.replies.judge import reply_nll
from langheads.experiments.softmask.training import answer_losses
from langheads.heads.mask import HeadMask, baseline_digest
from langheads.io.arguments import MAX_RESAMPLES, check_least
from langheads.io.errors import InputError
from langheads.io.measures import UNTOUCHED
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import Gates, describe, end_tokens, gates_of_all, head_shape
from langheads.scores.answers import Answers, tokenize_answers
from langheads.text import Questions
from langheads.text.answers import best
from langheads.text.questions import template_in

Source = str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions


@dataclass(frozen=True)
class How:
    """How questions are asked; see `langheads.evaluate_qa`."""

    language: str
    baseline: Float[Tensor, "layer head d_head"] | None
    docs: int | None
    max_tokens: int | None
    max_new_tokens: int
    template: str | None
    seed: int
    bos: bool | None
    batch_tokens: int | str
    n_resamples: int
    allow_overlap: bool


class Asked(NamedTuple):
    """The questions and the gates that they are asked under; first None, the untouched model."""

    how: How
    examples: Sequence[text.Question]
    answers: Answers
    template: str
    gates: dict[str, Float[Tensor, "layer head"] | None]
    shape: tuple[int, int]
    attrs: dict[str, Any]


def plan_questions(
    model: TransformerBridge, questions: Source, gates: Gates | Mapping[str, Gates] | None, how: How
) -> Asked:
    """The questions and gates of `langheads.evaluate_qa`; refuses unusable ones."""
    check_least(1, how.docs, "questions")
    check_least(1, how.max_new_tokens, "new tokens")
    if not 1 <= how.n_resamples <= MAX_RESAMPLES:
        raise InputError(f"{how.n_resamples} resamples asked for; allowed are 1 to {MAX_RESAMPLES}")
    named: dict[Any, Any] = {} if gates is None else {"mask": gates}
    if isinstance(gates, Mapping) and not any(isinstance(of, Real) for of in gates.values()):
        # By name, not head -> gate.
        named = {**gates}
    if UNTOUCHED in named:
        raise InputError(f"gates named {UNTOUCHED} given; that is the model's own name here")
    masks = {name: of for name, of in named.items() if isinstance(of, HeadMask)}
    described, shape = describe(model), head_shape(model)
    for name, mask in masks.items():
        mask.require_model(name, described, shape, how.baseline)
    asked = _learned("template", how.template, masks, text.QA_TEMPLATE)
    template = template_in(asked, how.language)
    max_tokens = _learned("max_tokens", how.max_tokens, masks, 2048)
    bos = _learned("bos", how.bos, masks, None)
    tensors = {name: _tensor(model, name, of) for name, of in named.items()}
    everything = text.read_questions(questions, languages=[how.language], seed=how.seed)

    def mask_saw(question: text.Question) -> bool:
        one = question.context_digest, question.id, how.language
        return any(mask.has_seen(*one) for mask in masks.values())

    seen = [mask_saw(question) for question in everything.examples[how.language]]
    if all(seen) and not how.allow_overlap:
        raise InputError(
            f"all {len(seen)} questions have contexts that the mask was trained on; give others, "
            "or pass --allow-overlap"
        )
    free = [i for i, known in enumerate(seen) if how.allow_overlap or not known]
    asked, tokens = tokenize_answers(
        model, everything.only(free if how.docs is None else free[-how.docs :]), template=template,
        max_tokens=max_tokens, max_new_tokens=how.max_new_tokens, bos=bos,
    )  # fmt: skip
    examples, answers = asked.examples[how.language], tokens[how.language]
    texts = {how.language: tuple(question.with_answer(template) for question in examples)}
    attrs = provenance(
        "qa", described, text.Corpus(texts, everything.source, how.seed),
        language=how.language, docs=len(examples), seen_left_out=len(seen) - len(free),
        overlap=sum(map(mask_saw, examples)), max_tokens=max_tokens,
        max_new_tokens=how.max_new_tokens, template=template,
        baseline=baseline_digest(how.baseline),
        bootstraps=how.n_resamples, bos=answers.texts.bos,
    )  # fmt: skip
    return Asked(how, examples, answers, template, {UNTOUCHED: None, **tensors}, shape, attrs)


def ask(
    model: TransformerBridge, asked: Asked
) -> tuple[dict[str, Float[np.ndarray, "condition example"]], list[list[Reply]]]:
    """Every measure of every question under every condition, and the replies."""
    found: list[dict[str, Any]] = []
    nll: list[Float[np.ndarray, " example"]] = []
    replies: list[list[Reply]] = []
    ends, how = end_tokens(model), asked.how
    size: dict[str, Any] = {"batch_tokens": how.batch_tokens}
    prompts = [question.prompt(asked.template) for question in asked.examples]
    total = len(asked.gates) * len(prompts)
    with progress_bar(total=total, unit="question", desc="evaluate") as bar, together() as each:
        for name, under in asked.gates.items():
            bar.set_postfix_str(name)
            settings = {"baseline": how.baseline, "progress": bar, **size}
            with each:
                nll.append(answer_losses(model, asked.answers, under, **settings))
            with each:
                said = generate(
                    model, prompts, gates=under, baseline=None if under is None else how.baseline,
                    max_new_tokens=how.max_new_tokens, bos=asked.answers.prompts.bos, **size,
                )  # fmt: skip
                judged = [
                    _judged(reply, question, how.language, ends)
                    for reply, question in zip(said, asked.examples, strict=True)
                ]
                found.append({key: [of[key] for of in judged] for key in judged[0]})
                found[-1] |= {"answer_nll": None, "reply_nll": reply_nll(model, said, **size)}
                replies.append(said)
    for of, losses in zip(found, nll, strict=True):
        of["answer_nll"] = losses
    return {key: np.array([of[key] for of in found], dtype=float) for key in found[0]}, replies


def _judged(
    reply: Reply, question: text.Question, language: str, ends: list[int]
) -> dict[str, float]:
    line = reply.text.strip().split("\n", 1)[0]
    return {
        "accuracy": best("substring", reply.text, question.answers, language),
        "exact_match": best("exact-match", line, question.answers, language),
        "f1": best("f1", line, question.answers, language),
        **text.degeneration_checks(reply.text, reply.tokens, reply.prompt_tokens, ends),
    }


def _learned(key: str, given: Any, masks: Mapping[str, HeadMask], default: Any) -> Any:
    """A setting as given, or else the one that the masks were learned with."""
    if given is not None:
        return given
    learned = list(dict.fromkeys(mask.settings.get(key, default) for mask in masks.values()))
    if len(learned) > 1:
        raise InputError(
            f"masks learned with different {key} were given ({', '.join(map(repr, learned))}); say "
            "which to use"
        )
    return learned[0] if learned else default


def _tensor(model: TransformerBridge, name: str, of: Gates) -> Float[Tensor, "layer head"]:
    gates, shape = of.gates() if isinstance(of, HeadMask) else of, head_shape(model)
    if tuple(found := getattr(gates, "shape", shape)) != shape:
        raise InputError(f"gates {name} of shape {list(found)}, expected {list(shape)}")
    return gates_of_all(model, gates)
