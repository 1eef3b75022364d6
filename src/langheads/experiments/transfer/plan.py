"""The plan of attention transfer: pairs of languages, prompts in tokens, conditions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.matched_heads import controls_by_row
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.arguments import asked_languages, asked_name, check_gate
from langheads.io.errors import InputError, logger
from langheads.model import EMBEDDED, check_tokens
from langheads.text.knowledge_conflict import ConflictTokens, conflict_tokens, knowledge_conflicts
from langheads.text.templates import Template, read_templates

ORDERS = ("A first", "A last")
"""The place of the fact in A in the prompt."""
Pair = tuple[str, str]
Condition = tuple[HeadSet, float]
"""Heads and their gate; no heads is the untouched model."""


class Setting(NamedTuple):
    """A condition, and the gate of A's heads (enhance) or B's (weaken) in it."""

    condition: str
    gate: float

    def __str__(self) -> str:
        return f"{self.condition} {self.gate:g}"


class PairPrompts(NamedTuple):
    """Prompts of one pair of first and second language."""

    tokens: list[ConflictTokens]
    # After the first fact and after the second, each in the query's language and in its fact's.
    answers: list[tuple[tuple[str, ...], ...]]


@dataclass(frozen=True)
class Plan:
    """The gates of heads and the prompts."""

    pairs: Sequence[Pair]  # (A, B)
    orders: Sequence[str]  # of `ORDERS`
    settings: Sequence[Setting]  # conditions and gates
    own: Mapping[str, HeadSet]  # language -> its heads; A and B are taken from these
    random: Mapping[str, list[HeadSet]]  # language -> random head sets beside its heads
    occupations: Sequence[tuple[int, int]]  # the two of each prompt
    seed: int  # of the resampling

    @property
    def texts(self) -> list[Pair]:
        """(first, second) language of the prompts that the pairs need: A last is B first."""
        texts = [(a, b) if o == ORDERS[0] else (b, a) for a, b in self.pairs for o in self.orders]
        return list(dict.fromkeys(texts))

    def layers(self, text: Pair) -> list[int]:
        """The layers from the first of these heads on: a gate changes attention only later on."""
        first = min((head.layer for x in text for head in self.own.get(x, ())), default=None)
        return [] if first is None else list(range(first, self.own[text[0]].shape[0]))

    def condition(self, pair: Pair, setting: Setting) -> tuple[str, Condition]:
        """Whose heads are gated, and the condition."""
        owner = pair[0] if setting.condition == "enhance" else pair[1]
        return owner, (self.own[owner], setting.gate)

    def conditions(self, text: Pair) -> tuple[list[Condition], list[Condition]]:
        """Conditions of one text, untouched first: all, and those without the random heads."""
        chosen: list[Condition] = [(HeadSet([], self.own[text[0]].shape), 1.0)]
        random: list[Condition] = []
        for pair, setting in itertools.product(self.pairs, self.settings):
            owner, condition = self.condition(pair, setting)
            if set(pair) == set(text) and condition[0]:
                chosen.append(condition)
                random += [(some, setting.gate) for some in self.random[owner]]
        return list(dict.fromkeys([*chosen, *random])), list(dict.fromkeys(chosen))


def settings_of(enhance: Sequence[float], weaken: Sequence[float]) -> list[Setting]:
    """Every condition at every gate; refuses gates on the wrong side of 1, and equal names."""
    if any(not 1 <= gate < math.inf for gate in enhance) or any(
        not -math.inf < gate <= 1 for gate in weaken
    ):
        above, below = (
            ", ".join(f"{gate:g}" for gate in gates) or "none" for gates in (enhance, weaken)
        )
        raise InputError(
            f"gates {above} to enhance and {below} to weaken asked for; allowed are numbers of 1 "
            "or above, and of 1 or below"
        )
    settings = list(
        dict.fromkeys(
            Setting(condition, check_gate(gate, f"a gate to {condition}"))
            for condition, gates in (("enhance", enhance), ("weaken", weaken))
            for gate in gates
        )
    )
    if not settings:
        raise InputError("no gates to enhance and none to weaken; give at least one")
    named = {str(setting): setting.gate for setting in settings}
    for setting in settings:
        if named[str(setting)] != setting.gate:
            raise InputError(
                f"gates {setting.gate!r} and {named[str(setting)]!r} asked for; both are called "
                f"{setting}; give gates that differ in their first six digits"
            )
    return settings


def known_templates(
    model: TransformerBridge, source: str | Path | None
) -> tuple[dict[str, Template], str]:
    """Templates of every language, the embedded model's own if no folder is given; their source."""
    name = next((n for n, folder in EMBEDDED.items() if model.cfg.model_name == str(folder)), None)
    if source is None and name is not None:
        from langheads.demo.templates import demo_templates

        return demo_templates(), f"grammar of {name}"
    return read_templates(source), str(source or "templates of langheads")


def language_pairs(
    heads: LanguageHeads,
    known: Mapping[str, Template],
    languages: Iterable[str] | None,
    pairs: Iterable[Pair] | None,
    query: str,
    source: str,
) -> list[Pair]:
    """(A, B) asked for, or all with a template; refuses languages without a template or heads."""
    given = None if pairs is None else list(dict.fromkeys(pairs))
    asked = asked_languages(languages)
    named = [*(asked or ()), *itertools.chain(*(given or ()))]
    for language in [query, *named]:
        if language not in known:
            raise InputError(
                f"no template for language {language}; there are {', '.join(known)} ({source})"
            )
    for language in named:
        asked_name("language", language, heads.specific, "the head set has")
    left_out = [language for language in heads.specific if language not in known]
    if not named and left_out:
        logger.warning("no template for language %s: left out", ", ".join(left_out))
    of_both = [language for language in heads.specific if language in known]
    chosen = list(itertools.permutations(asked or of_both, 2)) if given is None else given
    if not chosen or any(a == b for a, b in chosen):
        found = ", ".join(f"{a}:{b}" for a, b in chosen) or "none"
        raise InputError(
            f"pairs of languages {found}: each needs two different ones, and both a template and "
            "an entry in the head set"
        )
    involved = own_heads(heads, chosen)
    if not any(involved.values()):
        raise InputError(
            f"none of {', '.join(involved)} has specific heads, so there is nothing to gate"
        )
    return chosen


def own_heads(heads: LanguageHeads, pairs: Sequence[Pair]) -> dict[str, HeadSet]:
    """Language of a pair -> its heads, in the order of the head set."""
    there = set(itertools.chain(*pairs))
    return {language: of for language, of in heads.specific.items() if language in there}


def asked_in(
    model: TransformerBridge,
    templates: Mapping[str, Template],
    text: Pair,
    query: str,
    plan: Plan,
    *,
    bos: bool,
    max_new_tokens: int,
) -> PairPrompts:
    """Prompts in tokens; refuses prompts that the model cannot read."""
    made = knowledge_conflicts(templates, *text, query, plan.occupations, seed=plan.seed)
    tokens = [conflict_tokens(model.tokenizer, conflict, bos=bos) for conflict in made]
    where = f"a prompt in {text[0]} and {text[1]}"
    for each in tokens:
        check_tokens(model, each.prompt, where, new=max_new_tokens)
        for with_answer in each.texts:
            check_tokens(model, with_answer, f"{where} with its answer")
    return PairPrompts(tokens, [tuple(zip(of.answers, of.native, strict=True)) for of in made])


def random_sets(
    own: Mapping[str, HeadSet], n_controls: int, rng: np.random.Generator
) -> dict[str, list[HeadSet]]:
    """Language -> different random head sets with as many heads in each layer as its own.

    Languages with the same numbers share their sets, each in its own order: with one order for all,
    the k-th set would move (A, B) as far to A as (B, A) to B, and its mean over pairs of languages
    would always be 0. Languages with the same heads share order, too, since the same holds for
    their own heads.
    """
    orders: dict[HeadSet, np.ndarray] = {}
    return {
        language: [sets[i] for i in orders.setdefault(own[language], rng.permutation(len(sets)))]
        for language, sets in controls_by_row(own, n_controls, rng).items()
    }
