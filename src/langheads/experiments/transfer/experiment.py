"""Cross-lingual attention transfer: do a language's heads decide whose fact is believed?

A prompt tells of one person two contradicting facts, one in language A and one in language B, and
asks in a third sentence (LAHIS, arXiv 2511.07498, section on cross-lingual attention transfer). The
heads of A get a gate above 1 (enhance), or those of B one below 1 (weaken); either should move the
answer to A's fact. Four measures of every prompt:

    answer_a, answer_b     1 where the model's first few tokens give A's fact (B's), in the query's
                           language or in that of the fact, else 0
    first_token_a          1 where log p(first token of A's answer) > log p(first token of B's)
    logprob_difference     log p(A's answer) - log p(B's answer), nats, over all their tokens

and for information the attention from the last position to each fact, head by head. Degeneration
checks of the reply (repetition, copied prompt, empty) and the NLL of the prompt separate a change
of mind from a model that fell apart.

Departures from the paper and its released code: both orders of the facts, since recency alone
favours the later one; random heads, as many in each layer, at the same gate as control; sentences,
persons and words of our own, since the released ones have no licence; an answer is whole words, and
of both answers the one that comes first, while the code accepts any part of a word and A's answer
before B's; `first_token_a` is in the query's language, while the code takes for each answer the
better of the query's language and the fact's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.published import published
from langheads.experiments.transfer import plan as planning
from langheads.experiments.transfer.plan import ORDERS, Pair, PairPrompts, Plan
from langheads.experiments.transfer.run import Reading, Run
from langheads.experiments.transfer.summarise import summary
from langheads.heads import LanguageHeads
from langheads.heads.given import ByLanguage
from langheads.io.arguments import asked_names, check_least
from langheads.io.errors import InputError
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import bos_policy, describe, require_heads_of
from langheads.text import Corpus
from langheads.text.knowledge_conflict import occupation_pairs


@published
def transfer(
    model: TransformerBridge,
    heads: ByLanguage,
    *,
    languages: Iterable[str] | None = None,
    pairs: Iterable[Pair] | None = None,
    query: str = "en",
    gates_enhance: Sequence[float] = (3.0,),
    gates_weaken: Sequence[float] = (0.0,),
    orders: Sequence[str] = ORDERS,
    n_controls: int = 20,
    templates: str | Path | None = None,
    n_occupations: int = 10,
    limit: int | None = None,
    max_new_tokens: int = 5,
    attention: bool = True,
    as_published: bool = False,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Enhance A's heads or weaken B's: does the answer move to A's fact?

    Args:
        model: the model the heads were chosen in.
        heads: language -> its specific heads.
        languages: A and B are taken from these; by default all of the head set that have a
            template.
        pairs: (A, B), ordered; all of `languages` by default.
        query: language of the question and of its answers.
        gates_enhance: gates of A's heads, each 1 or above; more than one make a sweep.
        gates_weaken: gates of B's heads, each 1 or below.
        orders: ``A first``, ``A last`` or both: the place of the fact in A.
        n_controls: different random head sets for each distinct number of heads per layer, at
            every gate; fewer where there are not so many. At least 2; they take most of the time.
        templates: folder of sentences and words, see `langheads.text.templates`; None for those of
            the embedded model's own training text, and for any other model those of langheads.
        n_occupations: how many of the templates' are used; every ordered pair is a prompt.
        limit: a random subset of so many pairs of occupations, the same for all languages.
        max_new_tokens: length of the answers that are read.
        attention: also measure attention to the facts.
        as_published: as the paper and its released code have it; see
            `langheads.experiments.published`. Refuses what is given otherwise.
        seed: of persons, fillers, subsets, random heads and resampling.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a batch, padding included.

    Returns:
        Dataset of kind ``transfer`` over ``a, b, order, setting``, see
        `langheads.experiments.transfer.summarise`.

    Raises:
        ProvenanceError: heads of another model.
        InputError: unknown languages, fewer than two of them, no heads, an argument out of range,
            a template that cannot be used, a prompt longer than the model's context.

    Cost: (1 + 2 gates x (1 + n_controls)) x two forwards and one short generation of every prompt;
    `limit` and `pairs` make it smaller.

    Example:
        >>> found = transfer(model, heads, pairs=[("hi", "zh")], limit=2, n_controls=2)
        >>> found.logprob_difference_change.sel(order="both").dims
        ('a', 'b', 'setting')
    """
    settings = planning.settings_of(gates_enhance, gates_weaken)
    orders = list(dict.fromkeys(orders))
    check_least(2, n_controls, "controls")
    check_least(2, n_occupations, "occupations")
    check_least(2, limit, "prompts")
    check_least(1, max_new_tokens, "new tokens")
    asked_names("order", orders, planning.ORDERS)
    described = describe(model)
    heads = require_heads_of(model, heads)
    known, source = planning.known_templates(model, templates)
    chosen = planning.language_pairs(heads, known, languages, pairs, query, source)
    own = planning.own_heads(heads, chosen)
    bos = _checked_bos(model, heads, bos)
    if n_occupations > (there := len(known[query].occupations)):
        raise InputError(f"{n_occupations} occupations asked for, but the templates have {there}")
    occupations = occupation_pairs(n_occupations, limit=limit, seed=seed)
    random = planning.random_sets(own, n_controls, np.random.default_rng(seed))
    plan = Plan(chosen, orders, settings, own, random, occupations, seed)
    how: dict[str, Any] = {"bos": bos, "max_new_tokens": max_new_tokens}
    asked = {text: planning.asked_in(model, known, text, query, plan, **how) for text in plan.texts}
    runs = _run_all(model, plan, asked, attention, max_new_tokens, batch_tokens)
    texts = Corpus({x: known[x].record() for x in dict.fromkeys([*own, query])}, source, seed)
    attrs = provenance(
        "transfer", described, texts, sources=[heads],
        query=query, bos=bos, layers=heads.shape[0], heads=heads.shape[1], controls=n_controls,
        jobs=n_occupations, prompts=len(occupations), resampled="occupations",
        max_new_tokens=max_new_tokens, rule=json.dumps(heads.rule, ensure_ascii=False),
    )  # fmt: skip
    return summary(plan, runs, attrs=attrs)


def _checked_bos(model: TransformerBridge, heads: LanguageHeads, bos: bool | None) -> bool:
    """The BOS policy; refuses a tokenizer that is not fast, or lacks the BOS asked for."""
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "attention transfer needs a fast tokenizer, one that knows which characters a token "
            "stands for; load the model from a folder that has a tokenizer.json"
        )
    # Attributes of a dataset hold it as 0 or 1.
    scored = heads.provenance.get("bos")
    return bos_policy(model, bool(scored) if bos is None and scored is not None else bos)


def _run_all(
    model: TransformerBridge,
    plan: Plan,
    asked: Mapping[Pair, PairPrompts],
    attention: bool,
    max_new_tokens: int,
    batch_tokens: int | str,
) -> dict[Pair, Run]:
    conditions = {text: plan.conditions(text) for text in asked}
    steps = sum(2 * len(every) + attention * len(few) for every, few in conditions.values())
    runs = {}
    total = steps * len(plan.occupations)
    with progress_bar(total=total, unit="prompt", desc="transfer") as bar, together() as each:
        for text, of_text in asked.items():
            bar.set_postfix_str("-".join(text))
            every, few = conditions[text]
            reading = Reading(model, of_text, batch_tokens, bar)
            layers = plan.layers(text) if attention else []
            looks: Any = ()
            with each:
                looks = reading.attention(few, layers) if layers else ()
            with each:
                runs[text] = reading.run(every, max_new_tokens)
                for condition, look in zip(few, looks, strict=False):
                    everywhere = np.full((*condition[0].shape, 2), np.nan)
                    everywhere[layers] = look
                    runs[text].attention[condition] = everywhere
    return runs
