"""Which single head keeps a reply in its language? Switch rates, head by head.

For each head h alone at gate 0, greedy replies to the same prompts:

    switch rate[h] = share of prompts whose reply was in the wanted language with nothing off, and
                     is not with h off

A reply that fell apart is not in the wanted language either, so every head has its degeneration
checks beside its rate, and `sound` says which rates may be read as a change of language: what the
head's absence costs on the untouched model's own replies, repetition, and empty replies all stay
within limits. The limit of 1 nat is that of the public study of single heads (GPT-2, Qwen2.5,
Gemma-3, Llama-3.2); the others are ours. The control of a head is every other one; where only some
are tried, as many others of the same layers, drawn at random, are tried with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.replies.experiment import generate
from langheads.experiments.replies.judge import judge_replies, reply_nll, require_known
from langheads.heads import Head, HeadSet
from langheads.io.arguments import check_seed
from langheads.io.errors import InputError
from langheads.io.measures import TEXT_CHECKS, units
from langheads.io.results import provenance
from langheads.model import describe, gated, head_shape
from langheads.text import Corpus, Detector, switch_rate
from langheads.text.identify import warn_if_too_few_candidates

# Replies made in one call: heads times prompts, each row with a gate of its own.
_ROWS = 4096
_TRIED = "1 asked for, 0 drawn beside, -1 not tried"
_SOUND = "1 within the limits, 0 not, -1 not tried"
_MEASURES = units(
    ["switch_rate", "gain_rate", "right", *TEXT_CHECKS, "delta_nll", "cost"], of="prompts"
)


def switch_rates(
    model: TransformerBridge,
    prompts: Mapping[str, Sequence[str]],
    detect: Detector,
    *,
    heads: HeadSet | Iterable[str | tuple[int, int]] | None = None,
    controls: bool = True,
    max_new_tokens: int = 40,
    sure: float = 0.3,
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
        max_new_tokens: length limit of a reply.
        sure: the detector must be surer than this for a reply to be right.
        max_cost: limit of `cost` for a sound rate, nats per token.
        max_repetition: limit of the rise in repetition for a sound rate.
        max_empty: limit of the share of empty replies for a sound rate.
        batch_tokens: tokens a batch, padding and replies included.
        chat: use the chat template.
        bos: prepend BOS; None does what the model's tokenizer does by itself.
        seed: of the heads drawn beside.

    Returns:
        Dataset of kind ``switch-rate`` over ``language, layer, head``, NaN (`sound`: -1) for heads
        not tried:
        ``switch_rate``; ``gain_rate`` (wrong before, right after); ``right``, ``repetition``,
        ``prompt_copy``, ``empty`` of the replies with the head off, with ``<name>_before``;
        ``delta_nll``, NLL of the new replies minus that of the old ones, both by the untouched
        model; ``cost``, rise in NLL of the old replies when the head is off; ``sound``; and over
        ``layer, head`` ``tried``: 1 asked for, 0 drawn beside, -1 not tried.

    Raises:
        InputError: no prompts, a language that the detector does not know, unknown heads, a seed
            out of range.

    Cost: heads x prompts replies, and two forwards of each.
    """
    shape, seed = head_shape(model), check_seed(seed)
    if not prompts or not all(prompts.values()):
        raise InputError("no prompts, or none for one of the languages")
    if not 0 <= sure <= 1:
        raise InputError(f"sure {sure} asked for; it is a share from 0 to 1")
    require_known(prompts, detect)
    warn_if_too_few_candidates(detect, sure)
    if heads is None:
        heads = [(layer, head) for layer in range(shape[0]) for head in range(shape[1])]
    chosen = heads if isinstance(heads, HeadSet) else HeadSet(heads, shape)
    if not chosen or chosen.shape != shape:
        raise InputError(
            f"{len(chosen)} heads of a model of shape {chosen.shape} asked for; give some of this "
            f"one's, {shape} (layers, heads)"
        )
    tried = chosen
    if controls and len(chosen) < shape[0] * shape[1]:
        for others in chosen.other_sets(1, np.random.default_rng(seed)):
            tried = chosen | others
    found = {name: np.full((len(prompts), *shape), np.nan) for name in _MEASURES}
    before: dict[str, list[float]] = {}
    settings: dict[str, Any] = {"chat": chat, "bos": bos, "batch_tokens": batch_tokens}
    with tqdm(total=len(tried) * len(prompts), unit="head", desc="switch rates") as bar:
        for row, (language, texts) in enumerate(prompts.items()):
            wanted = [language] * len(texts)
            old = generate(model, texts, max_new_tokens=max_new_tokens, **settings)
            old_nll = reply_nll(model, old, batch_tokens=batch_tokens)
            judged_old = judge_replies(model, old, wanted, detect, sure=sure)
            right_old = [bool(one.right) for one in judged_old]
            for name in ("right", "repetition", "prompt_copy", "empty"):
                values = [float(getattr(one, name)) for one in judged_old]
                before.setdefault(f"{name}_before", []).append(float(np.mean(values)))
            for group in _groups(list(tried), max(1, _ROWS // len(texts))):
                gates = torch.ones(len(group), len(texts), *shape)
                for i, head in enumerate(group):
                    gates[i, :, head.layer, head.head] = 0.0
                new = generate(
                    model,
                    [*texts] * len(group),
                    gates=gates.flatten(end_dim=1),
                    max_new_tokens=max_new_tokens,
                    **settings,
                )
                new_nll = reply_nll(model, new, batch_tokens=batch_tokens)
                for i, head in enumerate(group):
                    own = slice(i * len(texts), (i + 1) * len(texts))
                    judged = judge_replies(model, new[own], wanted, detect, sure=sure)
                    right = [bool(one.right) for one in judged]
                    with gated(model, [head], 0.0):
                        cost = reply_nll(model, old, batch_tokens=batch_tokens) - old_nll
                    at = (row, *head)
                    found["switch_rate"][at] = switch_rate(right_old, right)
                    found["gain_rate"][at] = switch_rate(right, right_old)
                    found["right"][at] = np.mean(right)
                    found["repetition"][at] = np.mean([one.repetition for one in judged])
                    found["prompt_copy"][at] = np.mean([one.prompt_copy for one in judged])
                    found["empty"][at] = np.mean([one.empty for one in judged])
                    found["delta_nll"][at] = new_nll[own].mean() - old_nll.mean()
                    found["cost"][at] = cost.mean()
                    bar.update()
    repetition = found["repetition"] - np.array(before["repetition_before"])[:, None, None]
    sound = (
        (found["cost"] <= max_cost) & (repetition <= max_repetition) & (found["empty"] <= max_empty)
    )
    sound = np.where(np.isnan(found["switch_rate"]), -1, sound)
    dims = ("language", "layer", "head")
    corpus = Corpus({lang: tuple(texts) for lang, texts in prompts.items()}, "prompts", seed)
    return xr.Dataset(
        {name: (dims, values, {"units": _MEASURES[name]}) for name, values in found.items()}
        | {"sound": (dims, sound.astype(np.int8), {"units": _SOUND})}
        | {"tried": (dims[1:], _tried(chosen, tried), {"units": _TRIED})}
        | {
            name: ("language", values, {"units": _MEASURES[name.removesuffix("_before")]})
            for name, values in before.items()
        }
        | {"prompts": ("language", [len(t) for t in prompts.values()], {"units": "count"})},
        coords={"language": list(prompts)},
        attrs=provenance(
            "switch-rate",
            describe(model),
            corpus,
            detector=detect.name,
            max_new_tokens=max_new_tokens,
            sure=sure,
            max_cost=max_cost,
            max_repetition=max_repetition,
            max_empty=max_empty,
            chat=chat,
        ),
    )


def _tried(chosen: HeadSet, tried: HeadSet) -> Int[np.ndarray, "layer head"]:
    values = np.full(chosen.shape, -1, dtype=np.int8)
    for head in tried:
        values[head] = head in chosen
    return values


def _groups(heads: Sequence[Head], size: int) -> list[list[Head]]:
    return [list(heads[i : i + size]) for i in range(0, len(heads), size)]
