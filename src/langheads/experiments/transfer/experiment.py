"""Cross-lingual attention transfer: do a language's heads decide whose fact is believed?

A prompt tells of one person two contradicting facts, one in language A and one in language B, and
asks in a third sentence (LAHIS, arXiv 2511.07498, section on cross-lingual attention transfer). The
heads of A get a gate above 1 (enhance), or those of B one below 1 (weaken); either should move the
answer to A's fact. Four measures of every prompt:

    answer_a, answer_b     1 where the model's first few tokens give A's fact (B's), else 0
    first_token_a          1 where log p(first token of A's answer) > log p(first token of B's)
    logprob_difference     log p(A's answer) - log p(B's answer), nats, over all their tokens

and for the reader the attention that the last position gives to each fact, head by head. Guards of
what is written (repetition, copied prompt, nothing at all) and the NLL of the prompt tell a change
of mind from a model that fell apart.

Departures from the paper: both orders of the facts, since recency alone favours the later one;
random heads, as many in each layer, at the same gate as control; sentences and words of our own,
since the paper's are not public.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.plan import require_heads_of
from langheads.experiments.transfer.plan import (
    ORDERS,
    Asked,
    Condition,
    Pair,
    asked_in,
    check_sizes,
    conditions_in,
    random_sets,
    settings_of,
    texts_of,
    wordings_and_pairs,
)
from langheads.experiments.transfer.run import (
    Written,
    answer_logprobs,
    attention_to_facts,
    continuations,
    said,
)
from langheads.experiments.transfer.summarise import Run, summary
from langheads.heads import LanguageHeads
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import describe
from langheads.text import Corpus, prompt_copy_share, repetition_share
from langheads.text.knowledge_conflict import job_pairs


def transfer(
    model: TransformerBridge,
    heads: LanguageHeads,
    *,
    languages: Iterable[str] | None = None,
    pairs: Iterable[Pair] | None = None,
    query: str = "en",
    gates_enhance: Sequence[float] = (3.0,),
    gates_weaken: Sequence[float] = (0.0,),
    orders: Sequence[str] = ORDERS,
    controls: int = 20,
    templates: str | Path | None = None,
    jobs: int = 10,
    limit: int | None = None,
    max_new_tokens: int = 5,
    attention: bool = True,
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
        orders: ``A first``, ``A last`` or both; where the fact in A stands.
        controls: random head sets for each distinct number of heads per layer, at every gate. At
            least 2; they take most of the time.
        templates: folder of sentences and words, see `langheads.text.templates`; None for those of
            the embedded model's own training text, and for any other model those of langheads.
        jobs: how many of the templates' occupations are used; every ordered pair of them is a
            prompt.
        limit: a random subset of so many pairs of occupations, the same for all languages.
        max_new_tokens: length of the answers that are read.
        attention: also measure attention to the facts.
        seed: of persons, fillers, subsets, random heads and resampling.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a batch, padding included.

    Returns:
        Dataset of kind ``transfer`` over ``a, b, order, setting``: an order is one of the two or
        ``both``, the mean of the two over the same two occupations; a setting is ``enhance 3``
        and so on, with coordinates ``condition`` and ``gate``. For each measure M: ``M_before``,
        ``M``, ``M_change`` with ``_se`` and an interval ``_low``, ``_high`` by the bootstrap over
        occupations, NaN for fewer than 3 (`langheads.experiments.transfer.summarise`);
        ``M_control_change`` (every random set), ``M_control_mean`` and ``M_control_p``, the share
        of random sets, the chosen heads themselves left out, that move it at least as far towards
        A. ``M_overall_...`` are means over the pairs of languages. The same without p for the
        guards ``repetition``, ``prompt_copy``, ``empty`` and ``prompt_nll``.
        ``shared_first_token`` counts prompts without a `first_token_a`, since both answers begin
        with the same token; ``heads`` and ``n_heads`` a language. ``attention_before`` and
        ``attention_after``, share of 1 ``[..., layer, head, fact]``, from the first layer of A's
        and B's heads on, since a gate moves attention in later layers only. NaN where a pair was
        not run or a language has no heads.

    Raises:
        ProvenanceError: heads of another model.
        InputError: unknown languages, fewer than two of them, no heads, an argument out of range,
            a template that cannot be used, a prompt longer than the model's context.

    Cost: (1 + 2 gates x (1 + controls)) x two forwards and one short generation of every prompt;
    `limit` and `pairs` make it smaller.

    Example:
        >>> found = transfer(model, heads, pairs=[("hi", "zh")], limit=20)      # doctest: +SKIP
        >>> found.logprob_difference_change.sel(order="both")                   # doctest: +SKIP
    """
    settings = settings_of(gates_enhance, gates_weaken)
    labels = list(dict.fromkeys(orders))
    check_sizes(controls, jobs, limit, max_new_tokens, labels)
    require_heads_of(model, heads)
    wordings, chosen, source = wordings_and_pairs(model, heads, languages, pairs, query, templates)
    bos = _checked_bos(model, heads, bos)
    if jobs > len(wordings[query].jobs):
        raise InputError(
            f"{jobs} occupations asked for, but the templates have {len(wordings[query].jobs)}"
        )
    drawn = job_pairs(jobs, limit=limit, seed=seed)
    asked = {
        text: asked_in(
            model, wordings, text, query, drawn, seed=seed, bos=bos, max_new_tokens=max_new_tokens
        )
        for text in texts_of(chosen, labels)
    }

    rng = np.random.default_rng(seed)
    own = {x: heads.specific[x] for x in wordings if any(x in pair for pair in chosen)}
    pools = random_sets(own, controls, rng)
    conditions = {text: conditions_in(text, chosen, settings, own, pools) for text in asked}
    steps = sum(2 * len(every) + attention * len(few) for every, few in conditions.values())
    runs = {}
    with tqdm(total=steps * len(drawn), unit="prompt", desc="transfer") as bar:
        for text, of_text in asked.items():
            bar.set_postfix_str("-".join(text))
            # A gate moves attention in later layers only.
            first = min((head.layer for language in text for head in own[language]), default=None)
            layers = [] if first is None else list(range(first, heads.shape[0]))
            runs[text] = _run(
                model,
                of_text,
                *conditions[text],
                layers if attention else [],
                max_new_tokens=max_new_tokens,
                batch_tokens=batch_tokens,
                bar=bar,
            )
    return summary(
        chosen,
        labels,
        settings,
        own,
        pools,
        runs,
        drawn,
        seed=seed,
        attrs=provenance(
            "transfer",
            describe(model),
            Corpus({x: wording.record() for x, wording in wordings.items()}, source, seed),
            query=query,
            bos=bos,
            layers=heads.shape[0],
            heads=heads.shape[1],
            controls=controls,
            jobs=jobs,
            prompts=len(drawn),
            resampled="occupations",
            max_new_tokens=max_new_tokens,
            rule=json.dumps(heads.rule, ensure_ascii=False),
        ),
    )


def _checked_bos(model: TransformerBridge, heads: LanguageHeads, bos: bool | None) -> bool:
    """The BOS policy; refuses a tokenizer that cannot do what is asked of it."""
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "attention transfer needs a fast tokenizer, one that knows which characters a token "
            "stands for; load the model from a folder that has a tokenizer.json"
        )
    if bos is None:
        bos = bool(heads.provenance.get("bos", model.cfg.tokenizer_prepends_bos))
    if bos and tokenizer.bos_token_id is None:
        raise InputError("BOS asked for, but the tokenizer has no BOS token; use --no-bos")
    return bos


def _run(
    model: TransformerBridge,
    asked: Asked,
    conditions: list[Condition],
    looked_at: list[Condition],
    layers: list[int],
    *,
    max_new_tokens: int,
    batch_tokens: int | str,
    bar: tqdm,
) -> Run:
    """All conditions of one text; attention in `layers`, for the conditions `looked_at`."""
    logprob = answer_logprobs(
        model, asked.tokens, conditions, batch_tokens=batch_tokens, progress=bar
    )
    written = continuations(
        model,
        asked.tokens,
        conditions,
        max_new_tokens=max_new_tokens,
        batch_tokens=batch_tokens,
        progress=bar,
    )
    attention = {}
    if layers:
        looks = attention_to_facts(
            model, asked.tokens, looked_at, layers, batch_tokens=batch_tokens, progress=bar
        )
        layer, head = looked_at[0][0].shape
        for condition, look in zip(looked_at, looks, strict=True):
            attention[condition] = np.full((layer, head, 2), np.nan)
            attention[condition][layers] = look
    return Run(
        conditions,
        logprob[..., :2],
        np.array(
            [
                [said(reply.text, pair) for reply, pair in zip(of, asked.answers, strict=True)]
                for of in written
            ]
        ),
        np.concatenate([_guards(written, asked), logprob[:, :, :1, 2]], axis=-1),
        np.array([t.texts[0][t.start] == t.texts[1][t.start] for t in asked.tokens]),
        attention,
    )


def _guards(
    written: list[list[Written]], asked: Asked
) -> Float[np.ndarray, "condition prompt guard"]:
    """Of what was written: repetition, copied prompt, nothing at all."""
    return np.array(
        [
            [
                [
                    repetition_share(reply.tokens),
                    prompt_copy_share(reply.tokens, tokens.prompt),
                    float(not reply.text.strip()),
                ]
                for reply, tokens in zip(of, asked.tokens, strict=True)
            ]
            for of in written
        ]
    )
