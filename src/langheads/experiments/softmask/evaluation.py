"""Answers of a model to questions, untouched and under gates: right or wrong, and how likely.

    accuracy     share of replies of which a right answer is a substring
    exact_match  share of replies whose first line is a right answer
    f1           overlap in words (characters in Chinese, Japanese, Thai) of that line with one
    answer_nll   - log p(first right answer | prompt), nats, summed over its tokens

and degeneration checks that tell a reply that changed from one that fell apart:

    repetition   share of the reply's 4-grams of tokens that stood in it before
    prompt_copy  share of them that the prompt has
    empty        share of replies that are nothing but white space
    reply_nll    NLL of the reply given its prompt, nats per token, by the untouched model

Replies are greedy, 10 tokens by default, or until EOS; both sides are normalised as SQuAD does
(arXiv 1606.05250, see `langheads.text.answers`), and the right answer that fits best counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.experiment import Reply, generate
from langheads.experiments.replies.judge import reply_nll
from langheads.experiments.softmask.training import answer_losses
from langheads.heads.mask import HeadMask, baseline_digest
from langheads.io.arguments import MAX_RESAMPLES
from langheads.io.errors import InputError
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import describe, end_tokens, head_shape
from langheads.scores.answers import Answers, tokenize_answers
from langheads.text import (
    QA_TEMPLATE,
    Corpus,
    Question,
    Questions,
    degeneration_checks,
    read_questions,
)
from langheads.text.answers import best
from langheads.text.questions import check_template

UNTOUCHED = "untouched"
Source = str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions
Gates = HeadMask | Float[Tensor, "layer head"]


class Asked(NamedTuple):
    """Which questions are asked under which gates; no gates are the untouched model, first."""

    language: str
    examples: Sequence[Question]
    answers: Answers
    template: str
    gates: dict[str, Float[Tensor, "layer head"] | None]
    shape: tuple[int, int]
    attrs: dict[str, Any]


def plan_questions(
    model: TransformerBridge,
    questions: Source,
    gates: Gates | Mapping[str, Gates] | None,
    *,
    language: str,
    baseline: Float[Tensor, "layer head d_head"] | None,
    docs: int | None,
    max_tokens: int | None,
    max_new_tokens: int,
    n_resamples: int,
    template: str | None,
    seed: int,
    bos: bool | None,
    allow_overlap: bool,
) -> Asked:
    """What `langheads.evaluate_qa` asks; arguments and errors as there."""
    _check_sizes(docs, max_new_tokens, n_resamples)
    named = {} if gates is None else dict(gates) if isinstance(gates, Mapping) else {"mask": gates}
    if UNTOUCHED in named:
        raise InputError(f"gates named {UNTOUCHED} given; that is the model's own name here")
    masks = {name: of for name, of in named.items() if isinstance(of, HeadMask)}
    described, shape = describe(model), head_shape(model)
    for name, mask in masks.items():
        mask.require_model(name, described, shape, baseline)
    template = check_template(_learned("template", template, masks, QA_TEMPLATE))
    max_tokens = _learned("max_tokens", max_tokens, masks, 2048)
    bos = _learned("bos", bos, masks, None)
    tensors = {name: _tensor(name, of, shape) for name, of in named.items()}
    everything = read_questions(questions, languages=[language], seed=seed)

    def mask_saw(question: Question) -> bool:
        return any(
            mask.has_seen(question.context_digest, question.id, language) for mask in masks.values()
        )

    seen = [mask_saw(question) for question in everything.examples[language]]
    if all(seen) and not allow_overlap:
        raise InputError(
            f"all {len(seen)} questions have contexts that the mask was trained on; give others, "
            "or pass --allow-overlap"
        )
    free = [i for i, known in enumerate(seen) if allow_overlap or not known]
    asked, tokens = tokenize_answers(
        model, everything.only(free if docs is None else free[-docs:]), template=template,
        max_tokens=max_tokens, max_new_tokens=max_new_tokens, bos=bos,
    )  # fmt: skip
    examples, answers = asked.examples[language], tokens[language]
    texts = {language: tuple(question.with_answer(template) for question in examples)}
    attrs = provenance(
        "qa", described, Corpus(texts, everything.source, seed),
        language=language, docs=len(examples), seen_left_out=len(seen) - len(free),
        overlap=sum(map(mask_saw, examples)), max_tokens=max_tokens,
        max_new_tokens=max_new_tokens, template=template, baseline=baseline_digest(baseline),
        bootstraps=n_resamples, bos=answers.texts.bos,
    )  # fmt: skip
    return Asked(language, examples, answers, template, {UNTOUCHED: None, **tensors}, shape, attrs)


def _check_sizes(docs: int | None, max_new_tokens: int, n_resamples: int) -> None:
    if docs is not None and docs < 1:
        raise InputError(f"{docs} questions asked for; at least 1 is needed")
    if max_new_tokens < 1 or not 1 <= n_resamples <= MAX_RESAMPLES:
        raise InputError(
            f"{max_new_tokens} new tokens and {n_resamples} resamples asked for; at least 1 of "
            f"each, and at most {MAX_RESAMPLES} resamples"
        )


def ask(
    model: TransformerBridge,
    asked: Asked,
    baseline: Float[Tensor, "layer head d_head"] | None,
    max_new_tokens: int,
    batch_tokens: int | str,
) -> tuple[dict[str, Float[np.ndarray, "condition example"]], list[list[Reply]]]:
    """Every measure of every question under every condition, and the replies."""
    found: list[dict[str, Any]] = []
    replies: list[list[Reply]] = []
    ends = set(end_tokens(model))
    prompts = [question.prompt(asked.template) for question in asked.examples]
    total = len(asked.gates) * len(prompts)
    with progress_bar(total=total, unit="question", desc="evaluate") as bar:
        for name, under in asked.gates.items():
            bar.set_postfix_str(name)
            nll = answer_losses(
                model, asked.answers, under, baseline=baseline, batch_tokens=batch_tokens,
                progress=bar,
            )  # fmt: skip
            said = generate(
                model, prompts, gates=under, baseline=None if under is None else baseline,
                max_new_tokens=max_new_tokens, bos=asked.answers.prompts.bos,
                batch_tokens=batch_tokens,
            )  # fmt: skip
            judged = [
                _judged(reply, question, asked.language, ends)
                for reply, question in zip(said, asked.examples, strict=True)
            ]
            found.append({key: [of[key] for of in judged] for key in judged[0]})
            found[-1]["answer_nll"] = nll
            found[-1]["reply_nll"] = reply_nll(model, said, batch_tokens=batch_tokens)
            replies.append(said)
    return {key: np.array([of[key] for of in found], dtype=float) for key in found[0]}, replies


def _judged(reply: Reply, question: Question, language: str, ends: set[int]) -> dict[str, float]:
    line = reply.text.strip().split("\n", 1)[0]
    tokens = [token for token in reply.tokens if token not in ends]
    return {
        "accuracy": best("substring", reply.text, question.answers, language),
        "exact_match": best("exact-match", line, question.answers, language),
        "f1": best("f1", line, question.answers, language),
        **degeneration_checks(reply.text, tokens, reply.prompt_tokens),
    }


def _learned(key: str, given: Any, masks: Mapping[str, HeadMask], default: Any) -> Any:
    """A setting as it was given, or else as the masks were learned with."""
    if given is not None:
        return given
    learned = list(dict.fromkeys(mask.settings.get(key, default) for mask in masks.values()))
    if len(learned) > 1:
        raise InputError(
            f"masks learned with different {key} were given ({', '.join(map(repr, learned))}); say "
            "which to use"
        )
    return learned[0] if learned else default


def _tensor(name: str, of: Gates, shape: tuple[int, int]) -> Float[Tensor, "layer head"]:
    gates = of.gates() if isinstance(of, HeadMask) else of
    if tuple(gates.shape) != shape:
        raise InputError(
            f"gates {name} of shape {list(gates.shape)}, expected [{shape[0]}, {shape[1]}]"
        )
    return gates
