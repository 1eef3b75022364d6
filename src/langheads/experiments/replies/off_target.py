"""Off-target replies: do they come back to the wanted language when other languages' heads are off?

For each wanted language L, the same prompts under each condition:

    none                 nothing off
    own off              L's specific heads off (should hurt, if they carry L)
    rivals off           specific heads of all other languages off, but for those that L has, too
    rivals, general off  and the general heads
    suspect off          specific heads of the language that replies stray into (English)
    shift                heads of L and the suspect: z + a (mean z over L - mean z over suspect)
    random own off, random off, random general off, random suspect off
                         random heads, as many in each layer as `own off`, `rivals off`,
                         `rivals, general off` and `suspect off` have
    random shift         the shift on random heads, as many in each layer as `shift` has, each by
                         the difference of its own means

Random heads are drawn outside the heads that they stand for and outside L's own: with L's own among
them they would hurt, and the rivals would look better than they are. Only where a layer has not
enough others some of these come in, L's own last; the rivals of many languages can be most of a
layer. Sets differ from each other and from what they stand for.

Measured: share of replies in L, LPR, WPR, LCPR, and the degeneration checks that tell a reply that
came back from one that fell apart. Random sets are drawn several times; how intervals are made of
them is said in `langheads.experiments.replies.off_target_summary`.

Source: LAHIS, arXiv 2511.07498, section 5 (English heads off, XL-Sum). Departures: the paper takes
1% of all heads; here the head set decides. It reports BERTScore; here degeneration checks
stand for quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import require_heads_of
from langheads.experiments.replies.experiment import Reply, generate
from langheads.experiments.replies.judge import judge_replies, reply_nll, require_known
from langheads.experiments.replies.off_target_summary import PER_PROMPT, summary
from langheads.experiments.replies.plan import mean_z_by_language
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import describe, steered
from langheads.text import Corpus, Detector, Rules
from langheads.text.confusion import Judged, judge
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
_SHIFTS = ("shift", "random shift")


def off_target(
    model: TransformerBridge,
    heads: LanguageHeads,
    prompts: Mapping[str, Sequence[str]],
    detect: Detector,
    *,
    texts: Mapping[str, Sequence[str]] | None = None,
    suspect: str = "en",
    conditions: Sequence[str] = CONDITIONS,
    amount: float = 1.0,
    draws: int = 5,
    max_new_tokens: int = 40,
    rules: Rules | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch_tokens: int | str = "auto",
    chat: bool = False,
    bos: bool | None = None,
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
        amount: of the shift.
        draws: random head sets for each random condition.
        max_new_tokens: length limit of a reply.
        rules: of the pass rates, see `langheads.text.Rules`; its `sure` decides about whole
            replies, too.
        resamples: of the bootstrap over prompts.
        seed: of random heads and bootstrap.
        batch_tokens: tokens a batch, padding and replies included.
        chat: use the chat template.
        bos: prepend BOS; None does what the model's tokenizer does by itself.

    Returns:
        Dataset of kind ``offtarget`` over ``language, condition, prompt``: a value a reply as
        ``<name>_each``; over ``language, condition``: its mean ``<name>`` with ``<name>_low`` and
        ``<name>_high`` (95% bootstrap interval over prompts), for ``right``, ``suspect`` (in the
        suspect's language), ``repetition``, ``prompt_copy``, ``empty``, ``nll`` (of the replies,
        by the untouched model), ``lpr``, ``wpr``, ``lcpr``; ``delta_right`` and ``delta_nll``
        against ``none``, paired by prompt, with their intervals; ``n_heads``. Values of a random
        condition are means over its draws, and its intervals hold the draws fixed. NaN where a
        condition has no heads, or the wanted language is the suspect.

    Raises:
        InputError: no prompts, unknown conditions or languages, a shift without texts.
        ProvenanceError: heads of another model.
    """
    rules = rules or Rules()
    chosen = tuple(dict.fromkeys(("none", *conditions)))
    if unknown := [name for name in chosen if name not in CONDITIONS]:
        raise InputError(
            f"condition {', '.join(unknown)} asked for; allowed are {'; '.join(CONDITIONS)}"
        )
    if not prompts or not all(prompts.values()) or draws < 1:
        raise InputError("no prompts, or none for one of the languages, or fewer than 1 draw")
    if resamples < 1:
        raise InputError(f"{resamples} resamples of the bootstrap asked for; at least 1 is needed")
    seed = check_seed(seed)
    require_known([*prompts, suspect], detect)
    warn_if_too_few_candidates(detect, rules.sure)
    require_heads_of(model, heads)
    if missing := sorted({*prompts, suspect} - set(heads.specific)):
        raise InputError(
            f"heads of {', '.join(missing)} are needed; the head set has "
            f"{', '.join(heads.specific)}"
        )
    means: dict[str, Tensor] = {}
    if set(_SHIFTS) & set(chosen):
        needed = dict.fromkeys([*prompts, suspect])
        if texts is None or not set(needed) <= set(texts):
            raise InputError(
                f"a shift needs texts of {', '.join(needed)} for the mean of z; "
                f"found {', '.join(texts or {}) or 'none'}"
            )
        means = mean_z_by_language(model, {lang: texts[lang] for lang in needed}, bos=bos)

    width = max(map(len, prompts.values()))
    each = {name: np.full((len(prompts), len(chosen), width), np.nan) for name in PER_PROMPT}
    judged: dict[tuple[int, int], list[list[Judged]]] = {}
    n_heads = np.zeros((len(prompts), len(chosen)), dtype=np.int64)
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "batch_tokens": batch_tokens,
        "chat": chat,
        "bos": bos,
    }
    with tqdm(total=len(prompts) * len(chosen), unit="condition", desc="offtarget") as bar:
        for row, (language, asked) in enumerate(prompts.items()):
            for column, condition in enumerate(chosen):
                bar.set_postfix_str(f"{language}, {condition}")
                # A condition's random heads are the same whichever others are asked for.
                rng = np.random.default_rng([seed, row, CONDITIONS.index(condition)])
                sets = _sets(condition, heads, language, suspect, draws, rng)
                n_heads[row, column] = len(sets[0]) if sets else 0
                runs = []
                for some in sets:
                    with (
                        steered(model, some, means[language] - means[suspect], amount)
                        if condition in _SHIFTS
                        else nullcontext()
                    ):
                        # An empty set stands for nothing off.
                        gates = some if some and condition not in _SHIFTS else None
                        replies = generate(model, asked, gates=gates, **settings)
                    runs.append(
                        _values(model, replies, language, suspect, detect, rules, batch_tokens)
                    )
                    lines = [judge(reply.text, language, detect, rules) for reply in replies]
                    judged.setdefault((row, column), []).append(lines)
                for name in each if runs else ():
                    values = np.mean([run[name] for run in runs], axis=0)
                    each[name][row, column, : len(asked)] = values
                bar.update()
    return summary(
        each,
        judged,
        n_heads,
        prompts,
        chosen,
        rules,
        resamples,
        provenance(
            "offtarget",
            describe(model),
            Corpus({lang: tuple(of) for lang, of in prompts.items()}, "prompts", seed),
            suspect=suspect,
            detector=detect.name,
            amount=amount,
            draws=draws,
            max_new_tokens=max_new_tokens,
            sure=rules.sure,
            min_words=rules.min_words,
            segment=rules.segment,
            resamples=resamples,
            chat=chat,
        ),
    )


def _sets(
    condition: str,
    heads: LanguageHeads,
    language: str,
    suspect: str,
    draws: int,
    rng: np.random.Generator,
) -> list[HeadSet]:
    """The head sets of a condition: one, or the draws of a random one; none where it has none."""
    empty = HeadSet([], heads.shape)
    own = heads.specific[language]
    rivals = empty
    for other, specific in heads.specific.items():
        rivals = rivals | specific if other != language else rivals
    rivals = rivals - own
    straying = empty if language == suspect else heads.specific[suspect] - own
    if condition == "none":
        return [empty]
    with_general = rivals | heads.general if rivals and heads.general else empty
    found = {
        "own off": own,
        "random own off": own,
        "rivals off": rivals,
        "random off": rivals,
        "rivals, general off": with_general,
        "random general off": with_general,
        "suspect off": straying,
        "random suspect off": straying,
        "shift": straying | own if straying else empty,
        "random shift": straying | own if straying else empty,
    }[condition]
    if not found:
        return []
    if condition.startswith("random"):
        return found.other_sets(draws, rng, avoid=[own])
    return [found]


def _values(
    model: TransformerBridge,
    replies: Sequence[Reply],
    language: str,
    suspect: str,
    detect: Detector,
    rules: Rules,
    batch_tokens: int | str,
) -> dict[str, Float[np.ndarray, " prompt"]]:
    """`PER_PROMPT` of the replies of one head set."""
    judged = judge_replies(model, replies, [language] * len(replies), detect, sure=rules.sure)
    each = {
        "right": [bool(one.right) for one in judged],
        "suspect": [one.language == suspect and one.confidence > rules.sure for one in judged],
        "repetition": [one.repetition for one in judged],
        "prompt_copy": [one.prompt_copy for one in judged],
        "empty": [one.empty for one in judged],
    }
    values = {name: np.array(of, dtype=float) for name, of in each.items()}
    values["nll"] = reply_nll(model, replies, batch_tokens=batch_tokens)
    return values
