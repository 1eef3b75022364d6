"""What a soft head mask on language heads is worth: beside random heads, and beside all heads.

Each mask is trained alike, on the same questions in the same order (`softmask`), and each is asked
the same questions afterwards (`evaluation`). Random heads are as many in each layer as the language
heads, and others than these wherever the layer has enough. All heads tell how far more gates go.

Where a mask is asked in another language or under other settings than it was learned in, the random
heads are not trained: they get the mask's own gates (`evaluate_moved`), which tells what such gates
do on any heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.matched_heads import matched_controls, matched_gates
from langheads.experiments.softmask.evaluation import (
    MEASURES,
    check_mask,
    delta_variables,
    difference,
    evaluate_qa,
)
from langheads.experiments.softmask.experiment import adapt
from langheads.heads import HeadSet
from langheads.heads.mask import HeadMask
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.model import describe, head_shape
from langheads.scores.scan import check_heads
from langheads.text import Questions, read_questions

LANGUAGE, ALL = "language heads", "all heads"
_NO_OTHERS = (
    "{heads} are all heads of their layers, so there are no random heads beside them; evaluate "
    "without controls"
)


def compare_masks(
    model: TransformerBridge,
    heads: HeadMask | HeadSet | Iterable[str],
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    language: str,
    controls: int = 3,
    docs: int | None = None,
    max_new_tokens: int = 10,
    bootstraps: int = 2000,
    seed: int = 0,
    batch_tokens: int | str = "auto",
    **training: Any,
) -> xr.Dataset:
    """Train masks on the given heads, on random heads and on all heads, and test each.

    Args:
        model: the model.
        heads: the language heads; or a mask already learned on them, beside which the others are
            trained with its settings and seed.
        questions: see `read_questions`.
        language: which of their languages.
        controls: random head sets, at least 1; fewer are trained where not so many differ.
        docs: test questions, from the back of the seeded order; None for all.
        max_new_tokens: of a reply.
        bootstraps: resamples of the questions.
        seed: order of questions and steps, with a mask that of the test questions only; draws the
            random heads.
        batch_tokens: tokens a forward, padding included.
        training: further arguments of `adapt`, the same for every mask; with a mask only its
            ``baseline``.

    Returns:
        Dataset of kind ``qa`` as of `evaluate_qa`, with the conditions ``untouched``, ``language
        heads``, ``random heads 0`` and so on, ``all heads``. In addition ``versus_random_<name>``
        with ``_low`` and ``_high``: the difference to the mean of the random heads, paired by
        question (NaN for the random heads); ``trained`` (1 for heads that were),
        ``train_set_loss`` ``[condition, when]``, before and after; ``train_loss``
        ``[condition, step]`` and ``validation_loss`` ``[condition, check]``.
        The interval holds the heads that were drawn fixed: see each control for how they differ.

    Raises:
        InputError: fewer than 1 control, a mask of another language or other questions; see
            `adapt` and `evaluate_qa`.
        ProvenanceError: a mask of another model.

    Example:
        >>> proof = compare_masks(model, heads, "xquad/", language="hi")  # doctest: +SKIP
        >>> proof.versus_random_accuracy.sel(condition="language heads")  # doctest: +SKIP
    """
    if controls < 1:
        raise InputError(f"{controls} controls asked for; at least 1 random head set is needed")
    shape = head_shape(model)
    given = heads if isinstance(heads, HeadMask) else None
    order = seed = check_seed(seed)
    if given is not None:
        check_mask(LANGUAGE, given, shape, describe(model), training.get("baseline"))
        training = _as_learned(given, language, training)
        order = int(given.settings["seed"])
    chosen = check_heads(heads.heads if isinstance(heads, HeadMask) else heads, shape)
    asked = read_questions(questions, languages=[language], seed=order)
    random = chosen.other_sets(controls, np.random.default_rng(seed))
    if not random:
        raise InputError(_NO_OTHERS.format(heads=chosen))
    sets = {LANGUAGE: chosen} | {f"random heads {k}": some for k, some in enumerate(random)}
    sets[ALL] = check_heads(None, shape)
    masks = {} if given is None else {LANGUAGE: given}
    for name, of in sets.items():
        if name not in masks:
            masks[name] = adapt(
                model, of, asked, language=language, seed=order, batch_tokens=batch_tokens,
                **training,
            )  # fmt: skip
        if masks[name].split != masks[LANGUAGE].split:
            raise InputError(
                "the mask was learned on other questions than these; give the questions it was "
                "learned on, of which the rest test it"
            )
    # Those held out come in the order of the seed.
    asked = read_questions(questions, languages=[language], seed=seed)
    shared = {key: training[key] for key in ("baseline", "bos", "max_tokens") if key in training}
    found = evaluate_qa(
        model,
        asked,
        language=language,
        gates=masks,
        docs=docs,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_tokens=batch_tokens,
        bootstraps=bootstraps,
        **shared,
    )
    settings = {k: v for k, v in masks[LANGUAGE].settings.items() if k not in found.attrs}
    return found.assign(
        _versus_random(found, len(random), bootstraps, seed) | _training(masks, shape)
    ).assign_attrs(
        controls=len(random), heads=str(chosen), random_heads="trained alike", **settings
    )


def evaluate_moved(
    model: TransformerBridge,
    mask: HeadMask,
    questions: str | Path | Mapping[str, Sequence[Mapping[str, Any]]] | Questions,
    *,
    language: str,
    controls: int = 3,
    bootstraps: int = 2000,
    seed: int = 0,
    **settings: Any,
) -> xr.Dataset:
    """Score a mask beside the same gates on random heads of the same layers, not trained.

    Args:
        model: the model.
        mask: learned gates.
        questions: see `read_questions`.
        language: of the questions; need not be the mask's.
        controls: random head sets, at least 1; fewer where not so many differ.
        bootstraps: resamples of the questions.
        seed: order of questions; draws the random heads.
        settings: further arguments of `evaluate_qa`.

    Returns:
        Dataset of kind ``qa`` as of `compare_masks`, without ``all heads`` and without what
        belongs to training.

    Raises:
        InputError: fewer than 1 control, no other heads; see `evaluate_qa`.
        ProvenanceError: a mask of another model.
    """
    if controls < 1:
        raise InputError(f"{controls} controls asked for; at least 1 random head set is needed")
    places = matched_controls(mask.heads, controls, np.random.default_rng(seed))
    if not places:
        raise InputError(_NO_OTHERS.format(heads=mask.heads))
    gates = mask.gates()
    moved = {f"random heads {k}": matched_gates(gates, to) for k, to in enumerate(places)}
    found = evaluate_qa(
        model,
        questions,
        language=language,
        gates={LANGUAGE: mask, **moved},
        bootstraps=bootstraps,
        seed=seed,
        **settings,
    )
    return found.assign(_versus_random(found, len(moved), bootstraps, seed)).assign_attrs(
        controls=len(moved), heads=str(mask.heads), random_heads="the same gates, not trained"
    )


def _as_learned(mask: HeadMask, language: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `adapt` that train other heads as a mask was."""
    if language != mask.language:
        raise InputError(
            f"questions of language {language} given; the mask was learned on {mask.language}, "
            "and so are the masks beside it"
        )
    further = [name for name in training if name != "baseline"]
    if further:
        raise InputError(
            f"{', '.join(further)} given with a mask; the others are trained with its settings"
        )
    settings = mask.settings
    names = ("train", "epochs", "learning_rate", "weight_decay", "batch_size", "template",
             "max_tokens", "bos")  # fmt: skip
    missing = [name for name in (*names, "validation", "seed") if name not in settings]
    if missing:
        raise InputError(f"the mask does not say its {', '.join(missing)}; learn it again (adapt)")
    return {
        **{name: settings[name] for name in names},
        "validation": settings["validation"] / settings["train"],
        **training,
    }


def _versus_random(
    found: xr.Dataset, controls: int, bootstraps: int, seed: int
) -> dict[str, tuple[Any, ...]]:
    names = [f"random heads {k}" for k in range(controls)]
    variables: dict[str, tuple[Any, ...]] = {}
    for measure in MEASURES:
        values = found[f"example_{measure}"]
        random = values.sel(condition=names).mean("condition")
        rows = [
            (np.nan,) * 3
            if name in names
            else difference((values.sel(condition=name) - random).values, bootstraps, seed)
            for name in found.condition.values.tolist()
        ]
        variables |= delta_variables(measure, "versus_random", rows)
    return variables


def _training(masks: Mapping[str, HeadMask], shape: tuple[int, int]) -> dict[str, Any]:
    steps = len(masks[LANGUAGE].losses["train"])
    nothing = np.full(steps, np.nan)
    said = {"units": "nats per answer token"}
    checks = [check for check, _ in masks[LANGUAGE].losses["validation"]]
    before_after = [[loss for _, loss in mask.losses["train_set"]] for mask in masks.values()]
    variables: dict[str, Any] = {
        "train_set_loss": (
            ("condition", "when"),
            np.array([[before_after[0][0], np.nan], *before_after]),
            said,
        ),
        "when": ("when", ["before", "after"]),
        "trained": (
            ("condition", "layer", "head"),
            np.stack(
                [np.zeros(shape), *(mask.heads.gates(2.0) - 1 for mask in masks.values())]
            ).astype(np.int8),
        ),
        "train_loss": (
            ("condition", "step"),
            np.stack([nothing, *(np.array(mask.losses["train"]) for mask in masks.values())]),
            said,
        ),
    }
    if checks:
        losses = [[loss for _, loss in mask.losses["validation"]] for mask in masks.values()]
        variables["validation_loss"] = (
            ("condition", "check"),
            np.array([[np.nan] * len(checks), *losses]),
            said,
        )
        variables["check"] = ("check", checks, {"long_name": "steps taken"})
    return variables
