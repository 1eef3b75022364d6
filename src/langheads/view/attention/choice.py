"""The heads that a view shows: by name, from a head set, or the best of a score."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from langheads.heads import (
    Head,
    HeadSet,
    LanguageHeads,
    as_head_set,
    as_language_heads,
    require_shape,
)
from langheads.heads.given import ByLanguage, Named
from langheads.io.arguments import asked_name
from langheads.io.errors import InputError, logger

Heads = Named | ByLanguage | xr.Dataset

_MOST_HEADS = 16


def choose(
    heads: Heads, shape: tuple[int, int], language: str | None, top: int, score: str
) -> tuple[HeadSet, list[str]]:
    """The heads in order of evidence, and the language that each was chosen for."""
    if top < 1:
        raise InputError(f"top {top} asked for; at least 1 head is needed")
    roles: dict[Head, list[str]] = {}
    if isinstance(heads, xr.Dataset):
        of, values = _of_language(heads, score, language, shape)
        ranked = HeadSet.ranked(values, top)
        chosen = HeadSet([head for head in ranked if np.isfinite(values[head])], shape)
        roles = {head: [of] for head in chosen}
    elif isinstance(heads, LanguageHeads | Mapping):
        specific = as_language_heads(heads, shape).specific  # type: ignore[arg-type]
        if language is not None:
            asked_name("language", language, specific, "the head set has")
        for name in specific if language is None else [language]:
            for head in specific[name]:
                roles.setdefault(head, []).append(name)
        chosen = HeadSet(list(roles), shape)
    else:
        chosen = as_head_set(heads, shape)
    if not chosen:
        of = f" of language {language}" if language else ""
        raise InputError(f"no heads{of} to show; give heads like L3H7, or another rule to select")
    if len(chosen) > _MOST_HEADS:
        logger.warning("%d heads given; the first %d are shown", len(chosen), _MOST_HEADS)
        chosen = chosen.top(_MOST_HEADS)
    return chosen, [", ".join(roles.get(head, [])) for head in chosen]


def _of_language(
    scores: xr.Dataset, score: str, language: str | None, shape: tuple[int, int]
) -> tuple[str, np.ndarray]:
    """The language and its scores ``[layer, head]``."""
    usable = [v for v in scores if {"language", "layer", "head"} <= set(scores[v].dims)]
    if (name := score.replace("-", "_")) not in usable:
        name = asked_name("score", score, usable, "the file has")
    there = [str(x) for x in scores.language.values]
    if language is None and len(there) == 1:
        language = there[0]
    language = asked_name("language", language, there, "the scores have")
    values = scores[name].sel(language=language)
    if "baseline" in values.dims:
        values = values.isel(baseline=0)
    values = values.transpose("layer", "head")
    require_shape("the score", (values.sizes["layer"], values.sizes["head"]), shape)
    return language, values.values.astype(float)


def score_name(scores: xr.Dataset, score: str) -> str:
    """The score with its unit."""
    unit = scores[score.replace("-", "_")].attrs.get("units")
    return f"{score} ({unit})" if unit else score


def values(
    scores: xr.Dataset | None,
    chosen: HeadSet,
    roles: Sequence[str],
    language: str | None,
    score: str,
) -> list[float | None]:
    """Each head's score for the language that it was chosen for."""
    if scores is None:
        return [None] * len(chosen)
    found: list[float | None] = []
    for head, role in zip(chosen, roles, strict=True):
        of = language or role.split(", ")[0] or None
        value = float(_of_language(scores, score, of, chosen.shape)[1][head])
        found.append(value if np.isfinite(value) else None)
    return found
