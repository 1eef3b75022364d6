"""A soft head mask on language heads, compared with masks on random heads and on all heads.

All masks are trained in the same way, on the same questions in the same order (`adapt`), and asked
the same questions afterwards (`evaluation`). Random heads are as many in each layer as the language
heads, and others than these wherever the layer has enough. All heads show how far more gates get.

Where a mask is asked in another language or under other settings than it was learned in, the random
heads are not trained: they get the mask's own gates (`evaluate_matched`), which shows the effect of
such gates on any heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.matched_heads import matched_controls, matched_gates
from langheads.experiments.softmask.adapt import adapt
from langheads.experiments.softmask.evaluation import How, Source, ask, plan_questions
from langheads.experiments.softmask.summarise import summary, training_losses, versus_random
from langheads.heads import HeadSet
from langheads.heads.given import Named
from langheads.heads.mask import HeadMask
from langheads.io.arguments import check_least, check_seed
from langheads.io.cost import spent
from langheads.io.errors import InputError
from langheads.io.sources import made_from
from langheads.model import Gates, all_heads_of, describe, head_shape
from langheads.text import read_questions

LANGUAGE, ALL = "language heads", "all heads"
_OTHER_QUESTIONS = (
    "the mask was learned on other questions than these; give the questions it was learned on, of "
    "which the rest test it"
)
_AS_LEARNED = ("train", "epochs", "learning_rate", "weight_decay", "batch_size", "template",
               "max_tokens", "bos")  # fmt: skip

_OF_THE_MASK = ("max_tokens", "template", "bos", "allow_overlap")
"""A mask is asked with the settings that it was learned with, unless one of these is given."""


def evaluate_qa(
    model: TransformerBridge,
    questions: Source,
    *,
    language: str,
    gates: Gates | Mapping[str, Gates] | None = None,
    n_controls: int | None = None,
    baseline: Float[Tensor, "layer head d_head"] | None = None,
    docs: int | None = None,
    max_tokens: int | None = None,
    max_new_tokens: int = 10,
    template: str | None = None,
    seed: int = 0,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    n_resamples: int = 2000,
    allow_overlap: bool = False,
) -> xr.Dataset:
    """Score a model's answers with nothing changed, and under gates if some are given.

    Args:
        model: the model.
        questions: see `read_questions`.
        language: which of their languages.
        gates: a mask, gates ``[layer, head]``, head -> gate, or heads, which are then off; or
            several of these by name.
        n_controls: random head sets beside a mask: trained alike, with one mask of all heads,
            where it is asked in its own language and settings (`compare_masks`), and under the
            mask's gates elsewhere (`evaluate_matched`). By default 3 beside a mask, else 0.
        baseline: what stands in for a head at gate 0; a mask needs the one it was learned with.
        docs: questions, from the back of the seeded order; None for all.
        max_tokens: longer questions are left out; by default as for the masks, or 2048.
        max_new_tokens: of a reply.
        template: of the prompt, ``language`` for one in the language; by default that of the masks.
        seed: order of questions, and of the bootstrap.
        bos: prepend BOS; by default as for the masks, or as the model's tokenizer does.
        batch_tokens: tokens a forward, padding included.
        n_resamples: of the questions.
        allow_overlap: also ask questions on contexts that masks were learned on, in any language.

    Returns:
        Dataset of kind ``qa``, see `langheads.experiments.softmask.summarise`.

    Raises:
        InputError, ProvenanceError: unusable questions or template, none that masks have not seen,
            gates of another model, shape or baseline, masks that differ in a setting not given.
        NonFiniteError, OutOfMemoryError: see `map_documents`.
    """
    n_controls = check_controls(n_controls, isinstance(gates, HeadMask))
    how = How(
        language, baseline, docs, max_tokens, max_new_tokens, template, seed, bos, batch_tokens,
        n_resamples, allow_overlap,
    )  # fmt: skip
    own = {name: of for name, of in vars(how).items() if name not in _OF_THE_MASK}
    as_learned = not allow_overlap and (max_tokens, template, bos) == (None, None, None)
    if not (n_controls and isinstance(gates, HeadMask)):
        asked = plan_questions(model, questions, gates, how)
        found = summary(asked, *ask(model, asked))
    elif as_learned and gates.language == language:
        found = compare_masks(model, gates, questions, n_controls=n_controls, **own)
    else:
        found = evaluate_matched(model, gates, questions, n_controls=n_controls, **vars(how))
    # The provenance of the questions comes before they are asked.
    return found.assign_attrs({**made_from(found.attrs, gates), **spent()})


def check_controls(n_controls: int | None, with_mask: bool) -> int:
    """How many random head sets gates are compared with: by default 3 for a mask, else none."""
    if n_controls is None:
        return 3 if with_mask else 0
    if n_controls < 0 or (n_controls and not with_mask):
        raise InputError(
            f"{n_controls} controls asked for; random heads stand beside a mask, so give one"
        )
    return n_controls


def compare_masks(
    model: TransformerBridge,
    heads: HeadMask | Named,
    questions: Source,
    *,
    language: str,
    n_controls: int = 3,
    docs: int | None = None,
    max_new_tokens: int = 10,
    n_resamples: int = 2000,
    seed: int = 0,
    batch_tokens: int | str = "auto",
    **training: Any,
) -> xr.Dataset:
    """Train masks on the given heads, on random heads and on all heads, and test each.

    Args:
        model: the model.
        heads: the language heads; or a mask already learned on them, beside which the others are
            trained with its settings and seed.
        questions, language, docs, max_new_tokens, n_resamples, batch_tokens: see `evaluate_qa`.
        n_controls: random head sets, at least 1; fewer are trained where not so many differ.
        seed: of random heads, and order of questions and steps; a mask keeps that of its steps.
        training: further arguments of `adapt`, the same for every mask; with a mask only its
            ``baseline``.

    Returns:
        As of `evaluate_qa`; conditions are ``untouched``, ``language heads``, ``random heads 0``
        and so on, ``all heads``.

    Raises:
        InputError, ProvenanceError: fewer than 1 control, a mask of another model, language or
            other questions; see `adapt` and `evaluate_qa`.
    """
    shape, seed = head_shape(model), check_seed(seed)
    masks, order = {}, seed
    if isinstance(heads, HeadMask):
        heads.require_model(LANGUAGE, describe(model), shape, training.get("baseline"))
        training = _as_learned(heads, language, training)
        order, masks = int(heads.settings["seed"]), {LANGUAGE: heads}
    chosen = all_heads_of(model, heads.heads if isinstance(heads, HeadMask) else heads)
    asked = read_questions(questions, languages=[language], seed=order)
    others = chosen.other_sets(n_controls, np.random.default_rng(seed))
    every = {LANGUAGE: chosen, **_named(others, chosen, n_controls), ALL: all_heads_of(model, None)}
    how: dict[str, Any] = {"language": language, "batch_tokens": batch_tokens}
    for name, of in every.items():
        if name not in masks:
            masks[name] = adapt(model, of, asked, seed=order, **how, **training)
        if masks[name].split != masks[LANGUAGE].split:
            raise InputError(_OTHER_QUESTIONS)
    how |= {key: training[key] for key in ("baseline", "bos", "max_tokens") if key in training}
    found = evaluate_qa(
        # Read again, since held-out questions come in the order of the seed.
        model, questions, gates=masks, docs=docs, max_new_tokens=max_new_tokens, seed=seed,
        n_resamples=n_resamples, **how,
    )  # fmt: skip
    settings = {k: v for k, v in masks[LANGUAGE].settings.items() if k not in found.attrs}
    found = found.assign(training_losses(masks, shape))
    return _beside_random(found, chosen, random_heads="trained alike", **settings)


def evaluate_matched(
    model: TransformerBridge,
    mask: HeadMask,
    questions: Source,
    *,
    language: str,
    n_controls: int = 3,
    n_resamples: int = 2000,
    seed: int = 0,
    **settings: Any,
) -> xr.Dataset:
    """Score a mask beside the same gates on random heads of the same layers, not trained.

    Args, Raises: as for `evaluate_qa`; `seed` draws the random heads, too, at least 1 and fewer
        than `n_controls` where not so many differ; `settings` are its further arguments.

    Returns:
        Dataset of kind ``qa`` as of `compare_masks`, without ``all heads`` and without variables
        of training.
    """
    gates, rng = mask.gates(), np.random.default_rng(seed)
    drawn = matched_controls(mask.heads, n_controls, rng)
    matched = _named([matched_gates(gates, control) for control in drawn], mask.heads, n_controls)
    every: dict[str, Any] = {LANGUAGE: mask, **matched}
    found = evaluate_qa(
        model, questions, language=language, gates=every,
        n_resamples=n_resamples, seed=seed, **settings,
    )  # fmt: skip
    return _beside_random(found, mask.heads, random_heads="the same gates, not trained")


def _beside_random(found: xr.Dataset, heads: HeadSet, **attrs: Any) -> xr.Dataset:
    """With the differences to the random heads, and a description of these."""
    n_controls = sum(str(name).startswith("random heads") for name in found.condition.values)
    compared = found.assign(versus_random(found, n_controls))
    return compared.assign_attrs(controls=n_controls, heads=str(heads), **attrs)


def _named(random: list[Any], heads: HeadSet, n_controls: int) -> dict[str, Any]:
    """Random heads by name; at least one set is needed."""
    check_least(1, n_controls, "controls")
    if not random:
        raise InputError(
            f"{heads} are all heads of their layers, so there are no random heads beside them; "
            "evaluate without controls"
        )
    return {f"random heads {k}": some for k, some in enumerate(random)}


def _as_learned(mask: HeadMask, language: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `adapt` that train other heads in the same way as a mask."""
    if language != mask.language:
        raise InputError(
            f"questions of language {language} given; the mask was learned on {mask.language}, "
            "and so are the masks beside it"
        )
    if further := [name for name in training if name != "baseline"]:
        raise InputError(
            f"{', '.join(further)} given with a mask; the others are trained with its settings"
        )
    settings = mask.settings
    if missing := [x for x in (*_AS_LEARNED, "validation", "seed") if x not in settings]:
        raise InputError(f"the mask does not say its {', '.join(missing)}; learn it again (adapt)")
    learned = {name: settings[name] for name in _AS_LEARNED}
    return {**learned, "validation": settings["validation"] / settings["train"], **training}
