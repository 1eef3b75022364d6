"""Task knock-out: the change in a model's answers when one head is removed.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.heads import HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.io import measures
from langheads.io.arguments import BASELINES, asked_names, check_least
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import all_heads_of, describe, mean_over_languages, mean_z
from langheads.scores.answers import Answers, answer_logprob, greedy_replies, tokenize_answers
from langheads.scores.scan import Baseline
from langheads.text import QA_TEMPLATE, Corpus, Questions, read_questions
from langheads.text.answers import REPLY_MEASURES, best
from langheads.text.questions import check_template

LOGPROB = "answer-logprob"
MEASURES = (LOGPROB, *REPLY_MEASURES)
Means = dict[str, Float[np.ndarray, " language"]]
Changes = dict[str, Float[np.ndarray, "baseline language example layer head"]]
_SIGN = "negative: answers are worse without the head"


def knockout_task(
    model: TransformerBridge,
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    measure: str | Iterable[str] = MEASURES,
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
        >>> effect = knockout_task(model, "questions/", heads=["L1H3"], docs=4)
    """
    measures = asked_names("measure", measure, MEASURES)
    check_least(1, max_new_tokens, "new tokens")
    check_least(1, docs, "questions")
    baselines = asked_names("baseline", baseline, BASELINES)
    how: dict[str, Any] = {"max_tokens": max_tokens, "max_new_tokens": max_new_tokens}
    how["template"] = check_template(template)
    chosen = all_heads_of(model, heads)
    everything = read_questions(questions, languages=languages, seed=seed)
    asked, answers = tokenize_answers(model, everything.front(docs), bos=bos, **how)
    plan = _Plan(model, asked, answers, chosen, measures, baselines, max_new_tokens, batch_tokens)
    how |= {"docs": len(asked.ids), "bos": next(iter(answers.values())).texts.bos}
    how["questions_not_in_every_language"] = asked.left_out
    scans = _all_scans(plan)
    attrs = provenance("knockout-task", describe(model), _corpus(everything, template), **how)
    return _dataset(*scans, baselines, asked, attrs)


@dataclass(frozen=True)
class _Plan:
    """The answers and heads that are measured."""

    model: TransformerBridge
    asked: Questions
    answers: Mapping[str, Answers]
    heads: HeadSet
    measures: Sequence[str]
    baselines: Sequence[str]
    max_new_tokens: int
    batch_tokens: int | str


def _all_scans(plan: _Plan) -> tuple[Means, Changes]:
    """Each measure's mean with nothing off, and its change by example under each head off."""
    answers, heads = plan.answers, plan.heads
    mean = None
    if "mean" in plan.baselines:
        mean = mean_over_languages(mean_z(plan.model, a.texts.tokens) for a in answers.values())
    full = (len(plan.baselines), len(answers), len(plan.asked.ids), *heads.shape)
    on = {name: np.zeros(len(answers)) for name in plan.measures}
    differences = {name: np.full(full, np.nan) for name in plan.measures}
    layers, indices = np.array(list(heads)).T
    passes = (LOGPROB in plan.measures) + any(name != LOGPROB for name in plan.measures)
    total = passes * math.prod(full[:3]) * len(heads)
    with progress_bar(total=total, unit="answer", desc="knockout") as bar, together() as each:
        for j, language in enumerate(answers):
            bar.set_postfix_str(language)
            for i, baseline in enumerate(plan.baselines):
                found = {}
                with each:
                    found = _scan(plan, language, mean if baseline == "mean" else None, bar)
                for name, values in found.items():
                    on[name][j] = values[0].mean()
                    # Two advanced indices behind a slice: the heads' axis comes first.
                    differences[name][i, j, :, layers, indices] = values[1:] - values[0]
    return on, differences


def _corpus(everything: Questions, template: str) -> Corpus:
    """Prompts with answers as texts, for their hash."""
    whole = everything.examples.items()
    texts = {language: tuple(q.with_answer(template) for q in of) for language, of in whole}
    return Corpus(texts, everything.source, everything.seed)


def _dataset(
    on: Means,
    differences: Changes,
    baselines: Sequence[str],
    asked: Questions,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Means, changes with standard errors, and the change of each example."""
    over = ("baseline", "language", "layer", "head")
    by_example = ("baseline", "language", "example", "layer", "head")
    contexts = [question.context_digest for question in next(iter(asked.examples.values()))]
    variables: dict[str, Any] = {"context": ("example", contexts)}
    for name, changes in differences.items():
        key = name.replace("-", "_")
        units = {"units": measures.MEASURES[key].units}
        signed = units | {"sign": _SIGN}
        sums, sizes = stats.cluster_sums(np.moveaxis(changes, 2, 0), contexts)
        variables |= {
            key: ("language", on[name], units),
            f"delta_{key}": (over, changes.mean(axis=2), signed),
            f"delta_{key}_se": (over, stats.paired_ratio(0 * sizes, sums, sizes)[1], units),
            f"example_delta_{key}": (by_example, changes.astype(np.float32), signed),
        }
    layers, heads = map(np.arange, changes.shape[3:])
    coords: dict[str, Any] = {"baseline": baselines, "language": list(asked.examples)}
    coords |= {"example": list(asked.ids), "layer": layers, "head": heads}
    return xr.Dataset(variables, coords, attrs)


def _scan(
    plan: _Plan, language: str, baseline: Baseline, progress: tqdm
) -> dict[str, Float[np.ndarray, "conditions example"]]:
    """Each measure of every example, nothing off first, then each head off alone."""
    found = {}
    examples, answers = plan.asked.examples[language], plan.answers[language]
    how: dict[str, Any] = {"baseline": baseline, "progress": progress}
    how["batch_tokens"] = plan.batch_tokens
    of_replies = [name for name in plan.measures if name != LOGPROB]
    written: Sequence[Sequence[str]] = []
    with together() as each:
        if LOGPROB in plan.measures:
            with each:
                found[LOGPROB] = answer_logprob(plan.model, answers, plan.heads, **how)
        if of_replies:
            how["max_new_tokens"] = plan.max_new_tokens
            with each:
                written = greedy_replies(plan.model, answers, plan.heads, **how)
    for name in of_replies:
        judged = [
            [best(name, reply, e.answers, language) for reply, e in pairs]
            for pairs in (zip(line, examples, strict=True) for line in written)
        ]
        found[name] = np.array(judged)
    return found
