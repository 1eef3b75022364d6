"""Off-target replies: do they come back to the wanted language when other languages' heads are off?

For each wanted language L, the same prompts under each condition:

    none                 nothing off
    own off              L's specific heads off (should hurt, if they carry L)
    rivals off           specific heads of all other languages off, except those that L shares
    rivals, general off  and the general heads
    suspect off          specific heads of the language that replies stray into (English)
    shift                steering: heads of L and the suspect get
                         z + a (mean z over L - mean z over suspect)
    random own off, random off, random general off, random suspect off
                         random heads, as many in each layer as `own off`, `rivals off`,
                         `rivals, general off` and `suspect off` have
    random shift         the same steering of random heads, as many in each layer as `shift` has,
                         each by the difference of its own means

Random heads are drawn outside the heads that they are the control of and outside L's own: with L's
own among them they would hurt, and the rivals would look better than they are. Only where a layer
has too few others are some of these used, L's own last; the rivals of many languages can be most of
a layer. Sets differ from each other and from the heads that they are the control of.

Measured: share of replies in L, LPR, WPR, LCPR, and the degeneration checks that separate a reply
that came back from one that fell apart. Random sets are drawn several times; their intervals are
described in `langheads.experiments.replies.off_target_summary`.

Source: LAHIS, arXiv 2511.07498, section 5 (XL-Sum), which is not clear on whose heads are off: the
paper's text says those of English, which is ``suspect off``; its released code passes the language
of the prompt, which is ``own off``, and would rather drive replies away. Both are offered, so that
a published number can be compared with either. Departures: the paper takes 1% of all heads; here
the head set decides, and those of the suspect's heads that L shares stay on. It reports BERTScore;
here degeneration checks take the place of quality. More: `langheads.experiments.published`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.published import published
from langheads.experiments.replies.generate import as_prompts
from langheads.experiments.replies.judge import answer
from langheads.experiments.replies.off_target_summary import Outcome, summary
from langheads.experiments.replies.plan import Intervention, mean_z_by_language
from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.given import ByLanguage
from langheads.io.arguments import check_least, check_seed
from langheads.io.errors import InputError
from langheads.io.measures import TWINS
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import describe, require_heads_of
from langheads.text import Corpus, Detector, Rules
from langheads.text.confusion import judge, require_known
from langheads.text.identify import warn_if_too_few_candidates

CONDITIONS = (
    "none",
    "own off",
    "random own off",
    "rivals off",
    "random off",
    "rivals, general off",
    "random general off",
    "suspect off",
    "random suspect off",
    "shift",
    "random shift",
)
_STEERED = ("shift", "random shift")


@published
def off_target(
    model: TransformerBridge,
    heads: ByLanguage,
    prompts: Mapping[str, Sequence[str]],
    detect: Detector,
    *,
    texts: Mapping[str, Sequence[str]] | None = None,
    suspect: str = "en",
    conditions: Sequence[str] = CONDITIONS,
    amount: float = 1.0,
    n_controls: int = 5,
    max_new_tokens: int = 40,
    rules: Rules | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    batch_tokens: int | str = "auto",
    chat: bool = False,
    bos: bool | None = None,
    as_published: bool = False,
) -> xr.Dataset:
    """Replies of every wanted language under every condition.

    Args:
        model: the model the heads were chosen in.
        heads: language -> its specific heads, and the general ones.
        prompts: language that the reply should be in -> prompts.
        detect: see `langheads.text.detector`.
        texts: language -> documents, for the means of ``shift``.
        suspect: the language that replies stray into.
        conditions: some of `CONDITIONS`; ``none`` is always there.
        amount: of the steering, times the difference of the means.
        n_controls: random head sets for each random condition.
        rules: of the pass rates; its `min_confidence` applies to whole replies, too.
        n_resamples: of the bootstrap over prompts.
        seed: of random heads and bootstrap.
        max_new_tokens, batch_tokens, chat, bos: see `langheads.generate`.
        as_published: as the paper and its released code have it; see
            `langheads.experiments.published`. Refuses what is given otherwise.

    Returns:
        Dataset of kind ``offtarget``, see `langheads.experiments.replies.off_target_summary`.

    Raises:
        LangheadsError: no prompts, unknown names, steering without texts, another model's heads.
    """
    rules, seed = rules or Rules(), check_seed(seed)
    prompts = {language: as_prompts(of) for language, of in prompts.items()}
    chosen = _checked(conditions, prompts, n_controls, n_resamples)
    needed = list(dict.fromkeys([*prompts, suspect]))
    described = describe(model)
    heads = require_heads_of(model, heads)
    require_known(needed, detect)
    warn_if_too_few_candidates(detect, rules.min_confidence)
    if missing := sorted(set(needed) - set(heads.specific)):
        message = f"heads of {', '.join(missing)} are needed; the head set has "
        raise InputError(message + ", ".join(heads.specific))
    means = _means(model, needed, texts, bos) if set(_STEERED) & set(chosen) else {}
    how = {"max_new_tokens": max_new_tokens, "chat": chat}
    settings = {"batch_tokens": batch_tokens, "bos": bos, **how}
    plan = _Plan(
        model, heads, prompts, detect, chosen, suspect, means, amount, rules, n_controls, seed,
        settings,
    )  # fmt: skip
    runs = plan.run_all()
    corpus = Corpus({lang: tuple(of) for lang, of in prompts.items()}, "prompts", seed)
    made_from = provenance(
        "offtarget", described, corpus, sources=[heads], suspect=suspect,
        detector=detect.name, amount=amount, draws=n_controls, sure=rules.min_confidence,
        min_words=rules.min_words, segment=rules.segment, resamples=n_resamples, **how,
    )  # fmt: skip
    return summary(runs, prompts, chosen, rules, n_resamples, made_from)


@dataclass(frozen=True)
class _Plan:
    """The prompts and their conditions."""

    model: TransformerBridge
    heads: LanguageHeads
    prompts: Mapping[str, Sequence[str]]
    detect: Detector
    conditions: Sequence[str]
    suspect: str
    means: Mapping[str, Float[Tensor, "layer head d_head"]]
    amount: float
    rules: Rules
    n_controls: int
    seed: int
    how: Mapping[str, Any]

    def run_all(self) -> dict[tuple[str, str], list[Outcome]]:
        """(language, condition) -> the run of every head set."""
        runs: dict[tuple[str, str], list[Outcome]] = {}
        total = len(self.prompts) * len(self.conditions)
        bar = progress_bar(total=total, unit="condition", desc="offtarget")
        with bar, together() as each:
            for row, language in enumerate(self.prompts):
                for condition in self.conditions:
                    bar.set_postfix_str(f"{language}, {condition}")
                    # A condition's random heads do not depend on the other conditions.
                    rng = np.random.default_rng([self.seed, row, CONDITIONS.index(condition)])
                    which = (condition, self.heads, language, self.suspect)
                    sets = _sets(*which, self.n_controls, rng)
                    made = runs[language, condition] = []
                    for of in sets:
                        with each:
                            made.append(self.run(of, language, condition))
                    bar.update()
        return runs

    def run(self, some: HeadSet, language: str, condition: str) -> Outcome:
        """Values of `PER_PROMPT` of the replies under one head set, and their lines."""
        under = Intervention(torch.from_numpy(some.gates()) if some else None)
        if condition in _STEERED:
            step = self.means[language] - self.means[self.suspect]
            under = Intervention(steering=((some, step, self.amount),))
        asked, sure = self.prompts[language], self.rules.min_confidence
        made = answer(
            self.model, asked, [language] * len(asked), self.detect, under, min_confidence=sure,
            **self.how,
        )  # fmt: skip
        strayed = [one.language == self.suspect and one.confidence > sure for one in made.judged]
        values = made.values() | {"suspect": np.array(strayed, dtype=float)}
        lines = [judge(reply.text, language, self.detect, self.rules) for reply in made.replies]
        return Outcome(len(some), values, lines)


def _checked(
    conditions: Sequence[str],
    prompts: Mapping[str, Sequence[str]],
    n_controls: int,
    n_resamples: int,
) -> tuple[str, ...]:
    """The conditions; refuses unknown ones, no prompts, and numbers that are too small."""
    chosen = tuple(dict.fromkeys(("none", *conditions)))
    if unknown := [name for name in chosen if name not in CONDITIONS]:
        raise InputError(
            f"condition {', '.join(unknown)} asked for; allowed are {'; '.join(CONDITIONS)}"
        )
    if not prompts or not all(prompts.values()) or n_controls < 1:
        raise InputError("no prompts, or none for one of the languages, or fewer than 1 control")
    check_least(1, n_resamples, "resamples")
    return chosen


def _means(
    model: TransformerBridge,
    needed: Sequence[str],
    texts: Mapping[str, Sequence[str]] | None,
    bos: bool | None,
) -> dict[str, Float[Tensor, "layer head d_head"]]:
    """Mean z over the texts of each language that steering goes to or comes from."""
    if texts is None or not set(needed) <= set(texts):
        raise InputError(
            f"steering needs texts of {', '.join(needed)} for the mean of z; "
            f"found {', '.join(texts or {}) or 'none'}"
        )
    return mean_z_by_language(model, {language: texts[language] for language in needed}, bos=bos)


def _sets(
    condition: str,
    heads: LanguageHeads,
    language: str,
    suspect: str,
    n_controls: int,
    rng: np.random.Generator,
) -> list[HeadSet]:
    """The head sets of a condition: one, or the draws of a random one; none without heads."""
    none, own = HeadSet([], heads.shape), heads.specific[language]
    if condition == "none":
        return [none]
    others = [of for other, of in heads.specific.items() if other != language]
    rivals = HeadSet(itertools.chain(*others), heads.shape) - own
    straying = none if language == suspect else heads.specific[suspect] - own
    found = {
        "own off": own,
        "rivals off": rivals,
        "rivals, general off": rivals | heads.general if rivals and heads.general else none,
        "suspect off": straying,
        "shift": straying | own if straying else none,
    }[TWINS.get(condition, condition)]
    if found and condition in TWINS:
        return found.other_sets(n_controls, rng, avoid=[own])
    return [found] if found else []
