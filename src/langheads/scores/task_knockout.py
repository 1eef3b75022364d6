"""Task knock-out: what happens to a model's answers when one head is removed.

Heads are gated to 0 (or to their mean) one at a time on examples that are the same in every
language, as in arXiv 2602.08625. For example i with score s_i(m) under gates m:

    delta[l,h] = mean_i ( s_i(head (l,h) off) - s_i(nothing off) )
    se         = sqrt(C / (C - 1) sum_c (sum_{i in c} (difference_i - delta))^2) / examples

with C contexts c, since questions on one paragraph are not independent of each other.

Scores rise with better answers, so a drop is a negative delta: ``answer-logprob`` (log-probability
of the first right answer, nats), and of the greedy reply ``exact-match``, ``f1``, ``substring`` (0
to 1, the best of all right answers). Departure: the paper judges only whether an answer is right;
the log-probability moves before the answer does, and needs no threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.heads import HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.io.errors import InputError
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import describe, head_shape, mean_z
from langheads.scores.answers import (
    Answers,
    answer_logprob,
    greedy_replies,
    tokenize_answers,
)
from langheads.scores.scan import check_baselines, check_heads
from langheads.text import QA_TEMPLATE, Corpus, Question, Questions, read_questions
from langheads.text.answers import REPLY_MEASURES, best
from langheads.text.questions import check_template

LOGPROB = "answer-logprob"
MEASURES = {LOGPROB: "nats", **dict.fromkeys(REPLY_MEASURES, "share")}
_SIGN = "negative: answers are worse without the head"


def knockout_task(
    model: TransformerBridge,
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    measure: str | Iterable[str] = tuple(MEASURES),
    heads: Named | ByLanguage | None = None,
    baseline: str | Iterable[str] = ("zero",),
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int = 2048,
    max_new_tokens: int = 10,
    template: str = QA_TEMPLATE,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Exact change of the answers when each head is knocked out alone, for every language.

    Args:
        model: the model.
        questions: aligned examples, see `read_questions`.
        measure: one or more of ``answer-logprob``, ``exact-match``, ``f1``, ``substring``; the
            last three need greedy replies under every head, which costs far more.
        heads: only these; all by default.
        baseline: ``zero``, ``mean`` (mean z over prompts with answers, all languages with equal
            weight) or both.
        languages: all by default.
        docs: examples, from the front of the seeded order; None for all.
        max_tokens: examples longer than this in any language are left out of all.
        max_new_tokens: of a greedy reply, which also ends at EOS and at the end of the line.
        template: of the prompt, with the fields ``{context}`` and ``{question}``.
        seed: order of examples.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a forward, padding included.

    Returns:
        Dataset of kind ``knockout-task``; for each measure (``-`` becomes ``_``) its mean with
        nothing off ``<name>`` ``[language]``, ``delta_<name>`` and ``delta_<name>_se``
        ``[baseline, language, layer, head]``, ``example_delta_<name>`` ``[baseline, language,
        example, layer, head]``, float32. NaN for heads that were not asked for.

    Raises:
        LangheadsError: an unknown measure, baseline or head, unusable questions or template.

    Example:
        >>> effect = knockout_task(model, "xquad/", languages=["en", "hi"])  # doctest: +SKIP
    """
    measures, baselines = _checked(measure, docs, max_new_tokens), check_baselines(baseline)
    check_template(template)
    chosen = check_heads(heads, head_shape(model))
    everything = read_questions(questions, languages=languages, seed=seed)
    how: dict[str, Any] = {"max_tokens": max_tokens, "max_new_tokens": max_new_tokens}
    how["template"] = template
    asked, answers = tokenize_answers(model, everything.front(docs), bos=bos, **how)
    settings = {"max_new_tokens": max_new_tokens, "batch_tokens": batch_tokens}
    found = _all_scans(model, asked, answers, chosen, measures, baselines, settings)
    how |= {"docs": len(asked.ids), "bos": next(iter(answers.values())).texts.bos}
    how["questions_not_in_every_language"] = asked.left_out
    attrs = provenance("knockout-task", describe(model), _corpus(everything, template), **how)
    return _dataset(*found, baselines, asked, attrs)


def _checked(measure: str | Iterable[str], docs: int | None, max_new_tokens: int) -> list[str]:
    """The measures; refuses unknown ones, and numbers that nothing can be made of."""
    measures = [measure] if isinstance(measure, str) else list(dict.fromkeys(measure))
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise InputError(
            f"measure {', '.join(unknown) or 'none'} asked for; allowed are {', '.join(MEASURES)}"
        )
    if max_new_tokens < 1:
        raise InputError(f"{max_new_tokens} new tokens asked for; at least 1 is needed")
    if docs is not None and docs < 1:
        raise InputError(f"{docs} questions asked for; at least 1 is needed")
    return measures


def _all_scans(
    model: TransformerBridge,
    asked: Questions,
    answers: Mapping[str, Answers],
    heads: HeadSet,
    measures: Sequence[str],
    baselines: Sequence[str],
    settings: Mapping[str, Any],
) -> tuple[
    dict[str, Float[np.ndarray, " language"]],
    dict[str, Float[np.ndarray, "baseline language example layer head"]],
]:
    """Each measure's mean with nothing off, and its change by example under each head off."""
    mean = None
    if "mean" in baselines:
        mean = torch.stack([mean_z(model, a.texts.tokens) for a in answers.values()]).mean(dim=0)
    full = (len(baselines), len(answers), len(asked.ids), *heads.shape)
    on = {name: np.zeros(len(answers)) for name in measures}
    differences = {name: np.full(full, np.nan) for name in measures}
    layers, indices = np.array(list(heads)).T
    passes = (LOGPROB in measures) + any(name != LOGPROB for name in measures)
    total = passes * math.prod(full[:3]) * len(heads)
    with progress_bar(total=total, unit="answer", desc="knockout") as bar:
        for j, (language, of_language) in enumerate(answers.items()):
            bar.set_postfix_str(language)
            for i, baseline in enumerate(baselines):
                found = _scan(
                    model, asked.examples[language], of_language, language, heads, measures,
                    baseline=mean if baseline == "mean" else None, progress=bar, **settings,
                )  # fmt: skip
                for name, values in found.items():
                    on[name][j] = values[0].mean()
                    # Two advanced indices behind a slice: the heads' axis comes first.
                    differences[name][i, j, :, layers, indices] = values[1:] - values[0]
    return on, differences


def _dataset(
    on: Mapping[str, Float[np.ndarray, " language"]],
    differences: Mapping[str, Float[np.ndarray, "baseline language example layer head"]],
    baselines: Sequence[str],
    asked: Questions,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Means, changes with standard errors, and the change of each example."""
    whole = ("baseline", "language", "layer", "head")
    by_example = ("baseline", "language", "example", "layer", "head")
    contexts = [question.context_digest for question in next(iter(asked.examples.values()))]
    variables: dict[str, Any] = {"context": ("example", contexts)}
    for name, changes in differences.items():
        units, key = {"units": MEASURES[name]}, name.replace("-", "_")
        signed = units | {"sign": _SIGN}
        sums, sizes = stats.cluster_sums(np.moveaxis(changes, 2, 0), contexts)
        variables |= {
            key: ("language", on[name], units),
            f"delta_{key}": (whole, changes.mean(axis=2), signed),
            f"delta_{key}_se": (whole, stats.paired_ratio(0 * sizes, sums, sizes)[1], units),
            f"example_delta_{key}": (by_example, changes.astype(np.float32), signed),
        }
    layers, heads = map(np.arange, changes.shape[3:])
    coords = {"baseline": baselines, "language": list(asked.examples), "example": list(asked.ids)}
    return xr.Dataset(variables, coords | {"layer": layers, "head": heads}, attrs)


def _scan(
    model: TransformerBridge,
    examples: Sequence[Question],
    answers: Answers,
    language: str,
    heads: HeadSet,
    measures: Sequence[str],
    *,
    max_new_tokens: int,
    **settings: Any,
) -> dict[str, Float[np.ndarray, "conditions example"]]:
    """Each measure of every example, nothing off first, then each head off alone."""
    found = {}
    if LOGPROB in measures:
        found[LOGPROB] = answer_logprob(model, answers, heads, **settings)
    if of_replies := [name for name in measures if name != LOGPROB]:
        written = greedy_replies(model, answers, heads, max_new_tokens=max_new_tokens, **settings)
        for name in of_replies:
            judged = [
                [
                    best(name, reply, e.answers, language)
                    for reply, e in zip(line, examples, strict=True)
                ]
                for line in written
            ]
            found[name] = np.array(judged)
    return found


def _corpus(questions: Questions, template: str) -> Corpus:
    """Prompts with answers as texts, for their hash."""
    return Corpus(
        {
            language: tuple(question.with_answer(template) for question in examples)
            for language, examples in questions.examples.items()
        },
        questions.source,
        questions.seed,
    )
