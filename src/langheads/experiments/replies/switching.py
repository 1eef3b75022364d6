"""Which single head keeps a reply in its language? Switch rates, head by head.

For each head h alone at gate 0, greedy replies to the same prompts:

    switch rate[h] = share of prompts whose reply was in the wanted language with nothing off, and
                     is not with h off

A reply that fell apart is not in the wanted language either, so every head has degeneration checks
beside its rate, and `sound` says which rates may be read as a change of language: the ΔNLL of the
untouched model's own replies without the head, repetition, and empty replies all stay within
limits. The limit of 1 nat is that of the public study of single heads (GPT-2, Qwen2.5, Gemma-3,
Llama-3.2); the others are ours. The control of a head is every other head; where only some are
tried, as many others of the same layers, drawn at random, are tried with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.generate import as_prompts
from langheads.experiments.replies.judge import Answered, answer, reply_nll
from langheads.experiments.replies.plan import Intervention
from langheads.heads import Head, HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.io.measures import TEXT_CHECKS, units
from langheads.io.parts import together
from langheads.io.progress import progress_bar
from langheads.io.results import provenance
from langheads.model import all_heads_of, describe, gated
from langheads.model.kept import declared
from langheads.text import Corpus, Detector, switch_rate
from langheads.text.confusion import require_known
from langheads.text.identify import warn_if_too_few_candidates

# Replies of one call: heads times prompts, each row with its own gates.
_ROWS = 4096
_TRIED = "1 asked for, 0 drawn beside, -1 not tried"
_SOUND = "1 within the limits, 0 not, -1 not tried"
_BEFORE = units(["right", *TEXT_CHECKS], of="prompts")
PerHead = Float[np.ndarray, "language layer head"]
_MEASURES = units(["switch_rate", "gain_rate", *_BEFORE, "delta_nll", "cost"], of="prompts")


def switch_rates(
    model: TransformerBridge,
    prompts: Mapping[str, Sequence[str]],
    detect: Detector,
    *,
    heads: Named | ByLanguage | None = None,
    controls: bool = True,
    max_new_tokens: int = 40,
    min_confidence: float = 0.3,
    max_cost: float = 1.0,
    max_repetition: float = 0.2,
    max_empty: float = 0.1,
    batch_tokens: int | str = "auto",
    chat: bool = False,
    bos: bool | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Replies with each head off alone, against those with nothing off.

    Args:
        model: the model.
        prompts: language that the reply should be in -> prompts.
        detect: see `langheads.text.detector`.
        heads: which heads to try; all by default.
        controls: beside some heads, also try as many others of the same layers.
        min_confidence: the detector must be surer than this for a reply to be right.
        max_cost: limit of `cost` for a sound rate, nats per token.
        max_repetition, max_empty: limits of the change in repetition, and of the share of empty
            replies, for a sound rate.
        max_new_tokens, batch_tokens, chat, bos: see `langheads.generate`.
        seed: of the heads drawn beside.

    Returns:
        Dataset of kind ``switch-rate`` over ``language, layer, head``, NaN (`sound`: -1) for heads
        not tried: ``switch_rate``; ``gain_rate`` (wrong before, right after); ``right``,
        ``repetition``, ``prompt_copy``, ``empty`` with the head off, with ``<name>_before``;
        ``delta_nll``, NLL of the new replies minus that of the old ones, both by the untouched
        model; ``cost``, delta NLL of the old replies when the head is off; ``sound``; and over
        ``layer, head`` ``tried``: 1 asked for, 0 drawn beside, -1 not tried.

    Raises:
        InputError: no prompts, an unknown language or head, a seed out of range.

    Cost: heads x prompts replies, and two forwards of each.
    """
    seed, prompts = check_seed(seed), {x: as_prompts(of) for x, of in prompts.items()}
    if not prompts or not all(prompts.values()):
        raise InputError("no prompts, or none for one of the languages")
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence {min_confidence} asked for; it is a share from 0 to 1")
    require_known(prompts, detect)
    warn_if_too_few_candidates(detect, min_confidence)
    chosen, tried = _chosen_and_tried(model, heads, controls, seed)
    limits = {"max_cost": max_cost, "max_repetition": max_repetition, "max_empty": max_empty}
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "chat": chat}
    made = {"detector": detect.name, "sure": min_confidence, **limits, **how}
    how |= {"min_confidence": min_confidence, "batch_tokens": batch_tokens, "bos": bos}
    run = _Run(model, prompts, detect, chosen, tried, how, limits)
    corpus = Corpus({lang: tuple(texts) for lang, texts in prompts.items()}, "prompts", seed)
    return run.dataset(provenance("switch-rate", describe(model), corpus, sources=[heads], **made))


@dataclass(frozen=True)
class _Run:
    """The heads, prompts and limits."""

    model: TransformerBridge
    prompts: Mapping[str, Sequence[str]]
    detect: Detector
    chosen: HeadSet
    tried: HeadSet
    settings: Mapping[str, Any]
    limits: Mapping[str, float]

    def _with_heads_off(self) -> tuple[dict[str, PerHead], dict[str, list[float]]]:
        """`_MEASURES` of every language with each head off alone, and `_BEFORE` with none off."""
        prompts, tried = self.prompts, self.tried
        found = {name: np.full((len(prompts), *tried.shape), np.nan) for name in _MEASURES}
        before: dict[str, list[float]] = {name: [] for name in _BEFORE}
        total = len(tried) * len(prompts)
        bar = progress_bar(total=total, unit="head", desc="switch rates")
        with bar, together() as each:
            for row, (language, texts) in enumerate(prompts.items()):
                bar.set_postfix_str(language)
                wanted = [language] * len(texts)
                with each:
                    old = answer(self.model, texts, wanted, self.detect, **self.settings)
                    for name, values in before.items():
                        values.append(float(old.values()[name].mean()))
                    for head, of_head in self._each_head_off(old, language):
                        for name, value in of_head.items():
                            found[name][(row, *head)] = value
                        bar.update()
        return found, before

    def _each_head_off(
        self, old: Answered, language: str
    ) -> Iterator[tuple[Head, dict[str, float]]]:
        """`_MEASURES` of one language with each head off alone."""
        size = max(1, _ROWS // len(old.replies))
        with together() as each:
            for start in range(0, len(self.tried), size):
                with each:
                    yield from self._side_by_side(old, language, list(self.tried)[start:][:size])

    def _side_by_side(
        self, old: Answered, language: str, group: Sequence[Head]
    ) -> Iterator[tuple[Head, dict[str, float]]]:
        """The same for some heads, whose replies are generated in one call."""
        model, settings = self.model, self.settings
        texts = [reply.prompt for reply in old.replies]
        n = len(texts)
        gates = torch.ones(len(group), n, *self.tried.shape)
        for i, head in enumerate(group):
            gates[i, :, head.layer, head.head] = 0.0
        under = Intervention(gates=gates.flatten(end_dim=1))
        asked, wanted = texts * len(group), [language] * n * len(group)
        costs = []
        with together() as each:
            with each:
                new = answer(model, asked, wanted, self.detect, under, **settings)
            for head in group:
                with each, declared(model, "off", str(head)), gated(model, [head], 0.0):
                    costs.append(
                        reply_nll(model, old.replies, batch_tokens=settings["batch_tokens"])
                    )
        for i, head in enumerate(group):
            made = new.part(slice(i * n, (i + 1) * n))
            yield head, _measures(old, made) | {"cost": float((costs[i] - old.nll).mean())}

    def dataset(self, attrs: dict[str, Any]) -> xr.Dataset:
        """Rates as data, with the verdict on each: within the limits or not."""
        found, before = self._with_heads_off()
        repetition = found["repetition"] - np.array(before["repetition"])[:, None, None]
        sound = (
            (found["cost"] <= self.limits["max_cost"])
            & (repetition <= self.limits["max_repetition"])
            & (found["empty"] <= self.limits["max_empty"])
        )
        sound = np.where(np.isnan(found["switch_rate"]), -1, sound).astype(np.int8)
        places = np.full(self.chosen.shape, -1, dtype=np.int8)
        for head in self.tried:
            places[head] = head in self.chosen
        dims, counts = ("language", "layer", "head"), [len(of) for of in self.prompts.values()]
        variables: dict[str, Any] = {
            **{name: (dims, values, {"units": _MEASURES[name]}) for name, values in found.items()},
            "sound": (dims, sound, {"units": _SOUND}),
            "tried": (dims[1:], places, {"units": _TRIED}),
            **{f"{x}_before": ("language", of, {"units": _BEFORE[x]}) for x, of in before.items()},
            "prompts": ("language", counts, {"units": "count"}),
        }
        return xr.Dataset(variables, coords={"language": list(self.prompts)}, attrs=attrs)


def _chosen_and_tried(
    model: TransformerBridge, heads: Named | ByLanguage | None, controls: bool, seed: int
) -> tuple[HeadSet, HeadSet]:
    """The heads asked for, and all that are tried: these and the random ones."""
    tried = chosen = all_heads_of(model, heads)
    if controls and len(chosen) < math.prod(chosen.shape):
        for others in chosen.other_sets(1, np.random.default_rng(seed)):
            tried = chosen | others
    return chosen, tried


def _measures(old: Answered, new: Answered) -> dict[str, float]:
    was, is_now = ([bool(one.right) for one in of.judged] for of in (old, new))
    values = new.values()
    return {
        "switch_rate": switch_rate(was, is_now),
        "gain_rate": switch_rate(is_now, was),
        **{name: float(values[name].mean()) for name in _BEFORE},
        "delta_nll": float(new.nll.mean() - old.nll.mean()),
    }
