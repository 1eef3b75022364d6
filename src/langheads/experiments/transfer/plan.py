"""What attention transfer will run: pairs of languages, prompts in tokens, conditions."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet, LanguageHeads
from langheads.io.arguments import check_gate
from langheads.io.errors import InputError
from langheads.model import EMBEDDED
from langheads.text.knowledge_conflict import ConflictTokens, conflict_tokens, conflicts
from langheads.text.templates import Wording, read_wordings

ORDERS = ("A first", "A last")
"""Where in the prompt the fact in A stands."""
Pair = tuple[str, str]
Condition = tuple[HeadSet, float]
"""Heads and the gate that they get; no heads is the untouched model."""
logger = logging.getLogger("langheads")


class Setting(NamedTuple):
    """A condition, and the gate that A's heads (enhance) or B's (weaken) get in it."""

    condition: str
    gate: float

    def __str__(self) -> str:
        return f"{self.condition} {self.gate:g}"


class Asked(NamedTuple):
    """Prompts of one pair of first and second language."""

    tokens: list[ConflictTokens]
    answers: list[tuple[str, str]]


def settings_of(enhance: Sequence[float], weaken: Sequence[float]) -> list[Setting]:
    """Every condition at every gate.

    Raises:
        InputError: no gates, one on the wrong side of 1 or beyond float32, or two so near to each
            other that they have one name.
    """
    if any(not 1 <= gate < math.inf for gate in enhance) or any(
        not -math.inf < gate <= 1 for gate in weaken
    ):
        raise InputError(
            f"gates {_numbers(enhance)} to enhance and {_numbers(weaken)} to weaken asked for; "
            "allowed are numbers of 1 or above, and of 1 or below"
        )
    settings = [Setting("enhance", check_gate(gate, "a gate to enhance")) for gate in enhance]
    settings += [Setting("weaken", check_gate(gate, "a gate to weaken")) for gate in weaken]
    if not settings:
        raise InputError("no gates to enhance and none to weaken; give at least one")
    settings = list(dict.fromkeys(settings))
    named = {str(setting): setting.gate for setting in settings}
    for setting in settings:
        if named[str(setting)] != setting.gate:
            raise InputError(
                f"gates {setting.gate!r} and {named[str(setting)]!r} asked for; both are called "
                f"{setting}; give gates that differ in their first six digits"
            )
    return settings


def check_sizes(
    controls: int, jobs: int, limit: int | None, max_new_tokens: int, orders: Sequence[str]
) -> None:
    """Refuse numbers that nothing can be made of.

    Raises:
        InputError: which, and what is allowed.
    """
    if controls < 2 or jobs < 2 or max_new_tokens < 1 or (limit is not None and limit < 2):
        raise InputError(
            f"{controls} controls, {jobs} occupations, limit {limit} and {max_new_tokens} new "
            "tokens asked for; at least 2, 2, 2 and 1 are needed"
        )
    if not orders or not set(orders) <= set(ORDERS):
        raise InputError(
            f"order {', '.join(orders) or 'none'} asked for; allowed are {', '.join(ORDERS)}"
        )


def wordings_and_pairs(
    model: TransformerBridge,
    heads: LanguageHeads,
    languages: Iterable[str] | None,
    pairs: Iterable[Pair] | None,
    query: str,
    templates: str | Path | None,
) -> tuple[dict[str, Wording], list[Pair], str]:
    """Templates of the languages asked for, the pairs of languages, where the templates are from.

    Raises:
        InputError: no template or no entry in the head set for a language that was asked for, a
            language paired with itself, fewer than two languages, no heads in any of them.
    """
    name = next((n for n, folder in EMBEDDED.items() if model.cfg.model_name == str(folder)), None)
    if templates is None and name is not None:
        from langheads.demo.templates import demo_wordings

        known, source = demo_wordings(), f"grammar of {name}"
    else:
        known, source = read_wordings(templates), str(templates or "templates of langheads")
    given = None if pairs is None else list(dict.fromkeys(pairs))
    asked = None if languages is None else list(dict.fromkeys(languages))
    named = [*(asked or ()), *itertools.chain(*(given or ()))]
    for language in [query, *named]:
        if language not in known:
            raise InputError(
                f"no template for language {language}; there are {', '.join(known)} ({source})"
            )
    for language in named:
        if language not in heads.specific:
            raise InputError(
                f"language {language} asked for; the head set has {', '.join(heads.specific)}"
            )
    of_both = [language for language in heads.specific if language in known]
    if not named and len(of_both) < len(heads.specific):
        left_out = [language for language in heads.specific if language not in known]
        logger.warning("no template for language %s: left out", ", ".join(left_out))
    chosen = list(itertools.permutations(asked or of_both, 2)) if given is None else given
    if not chosen or any(a == b for a, b in chosen):
        found = ", ".join(f"{a}:{b}" for a, b in chosen) or "none"
        raise InputError(
            f"pairs of languages {found}: each needs two different ones, and both a template and "
            "an entry in the head set"
        )
    involved = [x for x in heads.specific if any(x in pair for pair in chosen)]
    if not any(heads.specific[language] for language in involved):
        raise InputError(
            f"none of {', '.join(involved)} has specific heads, so there is nothing to gate"
        )
    return {x: known[x] for x in dict.fromkeys([*involved, query])}, chosen, source


def texts_of(pairs: Sequence[Pair], orders: Sequence[str]) -> list[Pair]:
    """(first, second) language of the prompts that pairs need: A last is B first."""
    texts = [(a, b) if order == ORDERS[0] else (b, a) for a, b in pairs for order in orders]
    return list(dict.fromkeys(texts))


def asked_in(
    model: TransformerBridge,
    wordings: Mapping[str, Wording],
    text: Pair,
    query: str,
    jobs: Sequence[tuple[int, int]],
    *,
    seed: int,
    bos: bool,
    max_new_tokens: int,
) -> Asked:
    """Prompts in tokens.

    Raises:
        InputError: one too long for the model's context, or with tokens that it does not have.
    """
    made = conflicts(wordings, *text, query, jobs, seed=seed)
    tokens = [conflict_tokens(model.tokenizer, conflict, bos=bos) for conflict in made]
    longest = max(max(len(t.prompt) + max_new_tokens, *map(len, t.texts)) for t in tokens)
    context = int(model.cfg.n_ctx or 0)
    if context and longest > context:
        raise InputError(
            f"a prompt in {text[0]} and {text[1]} has {longest} tokens with its answer, more than "
            f"the model's context of {context}; shorten the templates"
        )
    highest = max(max(each) for t in tokens for each in (t.prompt, *t.texts))
    if highest >= model.cfg.d_vocab:
        name: Any = model.tokenizer.convert_ids_to_tokens(highest)
        raise InputError(
            f"token {name} has number {highest}, but the model has {model.cfg.d_vocab} tokens; use "
            "--no-bos if its tokenizer has no BOS, or the tokenizer of this model"
        )
    return Asked(tokens, [conflict.answers for conflict in made])


def random_sets(
    own: Mapping[str, HeadSet], controls: int, rng: np.random.Generator
) -> dict[str, list[HeadSet]]:
    """Language -> random head sets with as many heads in each layer as its own.

    Languages with the same numbers have the same sets, each in an order of its own: with one order
    for all, the k-th set would move (A, B) as far to A as (B, A) to B, and its mean over pairs of
    languages would be 0 whatever it does.
    """
    profiles = {heads.per_layer(): heads for heads in own.values() if heads}
    pools = {
        profile: [heads.layer_matched(rng) for _ in range(controls)]
        for profile, heads in profiles.items()
    }
    return {
        language: [pools[heads.per_layer()][i] for i in rng.permutation(controls)]
        for language, heads in own.items()
        if heads
    }


def conditions_in(
    text: Pair,
    pairs: Sequence[Pair],
    settings: Sequence[Setting],
    own: Mapping[str, HeadSet],
    pools: Mapping[str, list[HeadSet]],
) -> tuple[list[Condition], list[Condition]]:
    """Conditions of one text: all of them, and those without the random heads.

    The untouched model comes first in both.
    """
    nothing: Condition = (HeadSet([], own[text[0]].shape), 1.0)
    chosen, random = [nothing], []
    for a, b in pairs:
        if {a, b} == set(text):
            for setting in settings:
                owner = a if setting.condition == "enhance" else b
                if own[owner]:
                    chosen.append((own[owner], setting.gate))
                    random += [(some, setting.gate) for some in pools[owner]]
    return list(dict.fromkeys([*chosen, *random])), list(dict.fromkeys(chosen))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"
