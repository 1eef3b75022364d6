"""Answers of a model to questions, untouched and under gates: right or wrong, and how likely.

    accuracy     share of replies of which a right answer is a substring
    exact_match  share of replies whose first line is a right answer
    f1           overlap in words (characters in Chinese, Japanese, Thai) of that line with one
    answer_nll   - log p(first right answer | prompt), nats, summed over its tokens

and guards that tell a reply that changed from one that fell apart:

    repetition   share of the reply's 4-grams of tokens that stood in it before
    prompt_copy  share of them that the prompt has
    empty        share of replies that are nothing but white space
    reply_nll    NLL of the reply given its prompt, nats per token, by the untouched model

Replies are greedy, 10 tokens by default, or until EOS; both sides are normalised as SQuAD does
(arXiv 1606.05250, see `langheads.text.answers`), and the right answer that fits best counts. Means
are over questions. Differences to the untouched model are paired by question, their 95% intervals
percentiles of a bootstrap over questions. Questions on one paragraph are not independent of each
other, so these intervals are a little too short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.experiment import Reply, generate
from langheads.experiments.replies.judge import reply_nll
from langheads.experiments.softmask.training import answer_losses
from langheads.heads.mask import HeadMask, baseline_digest
from langheads.io.arguments import MAX_RESAMPLES
from langheads.io.errors import InputError, ProvenanceError
from langheads.io.results import provenance, require_same_model
from langheads.model import describe, end_tokens, head_shape
from langheads.scores.answers import Answers, tokenize_answers
from langheads.stats import bootstrap_interval
from langheads.text import QA_TEMPLATE, Corpus, Question, Questions, read_questions
from langheads.text.answers import best
from langheads.text.degeneration import prompt_copy_share, repetition_share
from langheads.text.questions import check_template

UNTOUCHED = "untouched"
MEASURES = {
    "accuracy": "share",
    "exact_match": "share",
    "f1": "share",
    "answer_nll": "nats",
    "repetition": "share of 4-grams",
    "prompt_copy": "share of 4-grams",
    "empty": "share",
    "reply_nll": "nats per token",
}
_HIGHER = {
    "answer_nll": "negative: right answers are likelier",
    "repetition": "positive: replies repeat themselves more",
    "prompt_copy": "positive: replies copy more of the prompt",
    "empty": "positive: more replies are empty",
    "reply_nll": "positive: replies are less likely to the untouched model",
}

Gates = HeadMask | Float[Tensor, "layer head"]


def evaluate_qa(
    model: TransformerBridge,
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    language: str,
    gates: Gates | Mapping[str, Gates] | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    docs: int | None = None,
    max_tokens: int | None = None,
    max_new_tokens: int = 10,
    template: str | None = None,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    bootstraps: int = 2000,
    allow_overlap: bool = False,
) -> xr.Dataset:
    """Score a model's answers with nothing changed, and under gates if some are given.

    Questions whose context a mask was trained or validated on are left out, in any language.

    Args:
        model: the model.
        questions: see `read_questions`.
        language: which of their languages.
        gates: a mask, gates ``[layer, head]``, or several of these by name.
        baseline: what stands in for a head at gate 0; a mask needs the one it was learned with.
        docs: questions, from the back of the seeded order; None for all.
        max_tokens: longer questions are left out; by default as for the masks, or 2048.
        max_new_tokens: of a reply.
        template: of the prompt; by default that of the masks.
        seed: order of questions, and of the bootstrap.
        bos: prepend BOS; by default as for the masks, or as the model's tokenizer does by itself.
        batch_tokens: tokens a forward, padding included.
        bootstraps: resamples of the questions.
        allow_overlap: ask the questions that masks were trained on all the same.

    Returns:
        Dataset of kind ``qa`` with ``condition`` (``untouched`` first) and ``example``: for every
        measure above its mean ``<name>`` ``[condition]``, the values ``example_<name>``
        ``[condition, example]``, and the difference to the untouched model ``delta_<name>`` with
        the ends ``_low`` and ``_high`` of its interval; `reply`, `answer_tokens` and `gates`.

    Raises:
        InputError: unusable questions or template, no question that masks have not seen, gates of
            another shape or baseline, masks learned with different templates, BOS or lengths where
            that is not given here.
        ProvenanceError: a mask of another model.
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Example:
        >>> result = evaluate_qa(model, "xquad/", language="hi", gates=mask)  # doctest: +SKIP
        >>> result.delta_accuracy.sel(condition="mask").item()               # doctest: +SKIP
        0.025
    """
    if docs is not None and docs < 1:
        raise InputError(f"{docs} questions asked for; at least 1 is needed")
    if max_new_tokens < 1 or not 1 <= bootstraps <= MAX_RESAMPLES:
        raise InputError(
            f"{max_new_tokens} new tokens and {bootstraps} bootstraps asked for; at least 1 of "
            f"each, and at most {MAX_RESAMPLES} bootstraps"
        )
    named = {} if gates is None else dict(gates) if isinstance(gates, Mapping) else {"mask": gates}
    if UNTOUCHED in named:
        raise InputError(f"gates named {UNTOUCHED} given; that is the model's own name here")
    masks = {name: of for name, of in named.items() if isinstance(of, HeadMask)}
    described = describe(model)
    shape = head_shape(model)
    for name, mask in masks.items():
        check_mask(name, mask, shape, described, baseline)
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
        model,
        everything.only(free if docs is None else free[-docs:]),
        template=template,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
        bos=bos,
    )
    examples, answers = asked.examples[language], tokens[language]
    conditions: dict[str, Tensor | None] = {UNTOUCHED: None, **tensors}
    found = {name: np.zeros((len(conditions), len(examples))) for name in MEASURES}
    replies: list[list[Reply]] = []
    ends = set(end_tokens(model))
    with tqdm(total=len(conditions) * len(examples), unit="question", desc="evaluate") as bar:
        for i, (name, under) in enumerate(conditions.items()):
            bar.set_postfix_str(name)
            found["answer_nll"][i] = answer_losses(
                model, answers, under, baseline=baseline, batch_tokens=batch_tokens, progress=bar
            )
            replies.append(
                _replies(
                    model,
                    examples,
                    template,
                    answers,
                    under,
                    baseline,
                    max_new_tokens,
                    batch_tokens,
                )
            )
            judged = _judged([reply.text for reply in replies[-1]], examples, language)
            judged |= _guards(replies[-1], ends)
            judged["reply_nll"] = reply_nll(model, replies[-1], batch_tokens=batch_tokens)
            for measure, values in judged.items():
                found[measure][i] = values
    variables = _summary(found, bootstraps, seed)
    sizes = [
        len(text) - start for text, start in zip(answers.texts.tokens, answers.starts, strict=True)
    ]
    ones = torch.ones(shape)
    variables |= {
        "answer_tokens": ("example", np.array(sizes, dtype=np.int64), {"units": "count"}),
        # netCDF strings end at a NUL.
        "reply": (
            ("condition", "example"),
            np.array(
                [[each.text.replace("\0", "�") for each in row] for row in replies], dtype=object
            ),
        ),
        "gates": (
            ("condition", "layer", "head"),
            torch.stack(
                [ones if g is None else g.detach().cpu().float() for g in conditions.values()]
            ).numpy(),
            {"units": "1"},
        ),
    }
    return xr.Dataset(
        variables,
        coords={
            "condition": list(conditions),
            "example": list(asked.ids),
            "layer": np.arange(shape[0]),
            "head": np.arange(shape[1]),
        },
        attrs=provenance(
            "qa",
            described,
            Corpus(
                {language: tuple(question.with_answer(template) for question in examples)},
                everything.source,
                seed,
            ),
            language=language,
            docs=len(examples),
            seen_left_out=len(seen) - len(free),
            overlap=sum(mask_saw(question) for question in examples),
            max_tokens=max_tokens,
            max_new_tokens=max_new_tokens,
            template=template,
            baseline=baseline_digest(baseline),
            bootstraps=bootstraps,
            bos=answers.texts.bos,
        ),
    )


def difference(
    rows: Float[np.ndarray, " example"], bootstraps: int, seed: int
) -> tuple[float, float, float]:
    """Mean of paired differences and the ends of its interval; NaN ends for one question."""
    if len(rows) < 2:
        return float(rows.mean()), float("nan"), float("nan")
    low, high = bootstrap_interval(rows, n_resamples=bootstraps, seed=seed)
    return float(rows.mean()), float(low), float(high)


def delta_variables(
    name: str, prefix: str, triples: Sequence[tuple[float, float, float]]
) -> dict[str, Any]:
    """The variables ``<prefix>_<name>``, ``_low`` and ``_high`` ``[condition]``."""
    said = {"units": MEASURES[name]}
    said["sign"] = _HIGHER.get(name, "positive: answers are better")
    parts = zip(("", "_low", "_high"), np.array(triples).T, strict=True)
    return {f"{prefix}_{name}{end}": ("condition", values, said) for end, values in parts}


def _summary(
    found: Mapping[str, Float[np.ndarray, "condition example"]], bootstraps: int, seed: int
) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for name, values in found.items():
        units = {"units": MEASURES[name]}
        variables[name] = ("condition", values.mean(axis=1), units)
        variables[f"example_{name}"] = (("condition", "example"), values, units)
        deltas = [difference(row - values[0], bootstraps, seed) for row in values]
        variables |= delta_variables(name, "delta", deltas)
    return variables


def _judged(replies: Sequence[str], examples: Sequence[Question], language: str) -> dict[str, Any]:
    pairs = list(zip(replies, examples, strict=True))
    lines = [(reply.strip().split("\n", 1)[0], question.answers) for reply, question in pairs]
    return {
        "accuracy": [best("substring", text, q.answers, language) for text, q in pairs],
        "exact_match": [best("exact-match", line, right, language) for line, right in lines],
        "f1": [best("f1", line, right, language) for line, right in lines],
    }


def _guards(replies: Sequence[Reply], ends: set[int]) -> dict[str, list[float]]:
    tokens = [[token for token in reply.tokens if token not in ends] for reply in replies]
    pairs = list(zip(tokens, replies, strict=True))
    return {
        "repetition": [repetition_share(of) for of in tokens],
        "prompt_copy": [prompt_copy_share(of, reply.prompt_tokens) for of, reply in pairs],
        "empty": [float(not reply.text.strip()) for reply in replies],
    }


def _replies(
    model: TransformerBridge,
    examples: Sequence[Question],
    template: str,
    answers: Answers,
    under: Float[Tensor, "layer head"] | None,
    baseline: Float[Tensor, "layer head d_head"] | None,
    max_new_tokens: int,
    batch_tokens: int | str,
) -> list[Reply]:
    return generate(
        model,
        [question.prompt(template) for question in examples],
        gates=under,
        baseline=None if under is None else baseline,
        max_new_tokens=max_new_tokens,
        bos=answers.prompts.bos,
        batch_tokens=batch_tokens,
    )


def check_mask(
    name: str,
    mask: HeadMask,
    shape: tuple[int, int],
    described: Mapping[str, str],
    baseline: Float[Tensor, "layer head d_head"] | None,
) -> None:
    """Refuse a mask of another model, or one learned with another baseline.

    Raises:
        ProvenanceError, InputError: which of the two.
    """
    if mask.shape != shape:
        raise ProvenanceError(
            f"{name} is for a model of {mask.shape[0]} layers x {mask.shape[1]} heads, but this "
            f"one has {shape[0]} x {shape[1]}"
        )
    if mask.provenance:
        require_same_model(f"the head mask {name}", described, mask.provenance)
    learned, given = mask.settings.get("baseline", "zero"), baseline_digest(baseline)
    if learned != given:
        raise InputError(
            f"{name} was learned with baseline {learned}, and baseline {given} was given; give "
            "the one it was learned with"
        )


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
