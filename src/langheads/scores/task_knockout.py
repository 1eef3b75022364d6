"""Task knock-out: what happens to a model's answers when one head is removed.

Heads are gated to 0 (or to their mean) one at a time on examples that are the same in every
language, as in arXiv 2602.08625. For example i with score s_i(m) under gates m:

    delta[l,h] = mean_i ( s_i(head (l,h) off) - s_i(nothing off) )
    se         = standard deviation of these differences / sqrt(examples)

Scores rise with better answers, so a drop is a negative delta: ``answer-logprob`` (log-probability
of the first right answer, nats), and of the greedy reply ``exact-match``, ``f1``, ``substring`` (0
to 1, the best of all right answers). Departure: the paper judges only whether an answer is right;
the log-probability moves before the answer does, and needs no threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError
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
    heads: HeadSet | Iterable[str] | None = None,
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
        example, layer, head]``, float32. A drop is negative. NaN for heads that were not asked
        for. Units and provenance in ``attrs``.

    Raises:
        InputError: an unknown measure or baseline, a head that the model does not have, unusable
            questions or template.
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Example:
        >>> effect = knockout_task(model, "xquad/", languages=["en", "hi"])  # doctest: +SKIP
        >>> effect.delta_answer_logprob.sel(baseline="zero", language="hi")  # doctest: +SKIP
    """
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
    check_template(template)
    baselines = check_baselines(baseline)
    shape = head_shape(model)
    chosen = check_heads(heads, shape)
    everything = read_questions(questions, languages=languages, seed=seed)
    asked, answers = tokenize_answers(
        model,
        everything.front(docs),
        template=template,
        max_tokens=max_tokens,
        max_new_tokens=max_new_tokens,
        bos=bos,
    )
    mean = None
    if "mean" in baselines:
        mean = torch.stack([mean_z(model, a.texts.tokens) for a in answers.values()]).mean(dim=0)

    n_languages, n = len(answers), len(asked.ids)
    on = {name: np.zeros(n_languages) for name in measures}
    differences = {
        name: np.full((len(baselines), n_languages, n, *shape), np.nan) for name in measures
    }
    layers, indices = np.array(list(chosen)).T
    passes = (LOGPROB in measures) + any(name != LOGPROB for name in measures)
    total = passes * len(baselines) * len(chosen) * n_languages * n
    with tqdm(total=total, unit="answer", desc="knockout") as bar:
        for j, (language, of_language) in enumerate(answers.items()):
            bar.set_postfix_str(language)
            for i, name in enumerate(baselines):
                found = _scan(
                    model,
                    asked.examples[language],
                    of_language,
                    chosen,
                    measures,
                    language=language,
                    baseline=mean if name == "mean" else None,
                    max_new_tokens=max_new_tokens,
                    batch_tokens=batch_tokens,
                    progress=bar,
                )
                for key, values in found.items():
                    on[key][j] = values[0].mean()
                    # Two advanced indices behind a slice: the heads' axis comes first.
                    differences[key][i, j, :, layers, indices] = values[1:] - values[0]
    some = next(iter(answers.values())).texts
    whole = ("baseline", "language", "layer", "head")
    variables: dict[str, Any] = {}
    for name in measures:
        units, key = MEASURES[name], name.replace("-", "_")
        delta, error = _mean_and_error(differences[name])
        said = {"units": units, "sign": _SIGN}
        variables |= {
            key: ("language", on[name], {"units": units}),
            f"delta_{key}": (whole, delta, said),
            f"delta_{key}_se": (whole, error, {"units": units}),
            f"example_delta_{key}": (
                ("baseline", "language", "example", "layer", "head"),
                differences[name].astype(np.float32),
                said,
            ),
        }
    return xr.Dataset(
        variables,
        coords={
            "baseline": baselines,
            "language": list(answers),
            "example": list(asked.ids),
            "layer": np.arange(shape[0]),
            "head": np.arange(shape[1]),
        },
        attrs=provenance(
            "knockout-task",
            describe(model),
            _corpus(everything, template),
            docs=n,
            max_tokens=max_tokens,
            max_new_tokens=max_new_tokens,
            template=template,
            bos=some.bos,
            questions_not_in_every_language=asked.left_out,
        ),
    )


def _scan(
    model: TransformerBridge,
    examples: Sequence[Question],
    answers: Answers,
    heads: HeadSet,
    measures: Sequence[str],
    *,
    language: str,
    baseline: Float[Tensor, "layer head d_head"] | None,
    max_new_tokens: int,
    batch_tokens: int | str,
    progress: tqdm,
) -> dict[str, Float[np.ndarray, "conditions example"]]:
    """Each measure of every example, nothing off first, then each head off alone."""
    settings: dict[str, Any] = {
        "baseline": baseline,
        "batch_tokens": batch_tokens,
        "progress": progress,
    }
    found = {}
    if LOGPROB in measures:
        found[LOGPROB] = answer_logprob(model, answers, heads, **settings)
    of_replies = [name for name in measures if name != LOGPROB]
    if of_replies:
        written = greedy_replies(model, answers, heads, max_new_tokens=max_new_tokens, **settings)
        for name in of_replies:
            found[name] = np.array(
                [
                    [
                        best(name, reply, example.answers, language)
                        for reply, example in zip(replies, examples, strict=True)
                    ]
                    for replies in written
                ]
            )
    return found


def _mean_and_error(
    differences: Float[np.ndarray, "baseline language example layer head"],
) -> tuple[
    Float[np.ndarray, "baseline language layer head"],
    Float[np.ndarray, "baseline language layer head"],
]:
    """Mean over examples and its standard error, NaN for one example."""
    delta = differences.mean(axis=2)
    count = differences.shape[2]
    if count < 2:
        return delta, np.full_like(delta, np.nan)
    return delta, differences.std(axis=2, ddof=1) / np.sqrt(count)


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
