"""The dataset of `attribute`: per prompt, and over the prompts of each language.

    M, M_se              of each measure M ``[language, layer, head]``, with its standard error
    M_of_prompt          ``[prompt, layer, head]``
    logit_diff, part     of each prompt D, and the parts that add up to D ``[prompt, part_of]``
    clean_diff, corrupt_diff, language_of, answer_token, wrong_token
    read                 the text that was read
    prompts              of each language

`direct` and `gradient` are in logits; `patching` is a share, NaN for heads and prompts that were
not patched and where clean and corrupt run have the same D.

Standard errors are over prompts. That of `patching`, a ratio of sums over prompts (a mean of
ratios would be ruled by the prompt whose clean and corrupt runs hardly differ), is by
linearisation (Cochran, Sampling Techniques, 6.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from transformer_lens.model_bridge import TransformerBridge

from langheads import stats
from langheads.heads import HeadSet
from langheads.io.results import provenance
from langheads.model import describe, head_shape
from langheads.model.logit_attribution import PARTS
from langheads.scores.formulas import HeadMap
from langheads.text import Corpus
from langheads.text.prompts import Choice, Prompt

_UNITS = {"direct": "logit", "gradient": "logit", "patching": "share"}
_LOGIT = {"units": "logit"}
_MAP, _OF_PROMPT = ("language", "layer", "head"), ("prompt", "layer", "head")

PerPrompt = Float[np.ndarray, "prompt layer head"]
OnePerPrompt = Float[np.ndarray, " prompt"]


def attribution_dataset(
    model: TransformerBridge,
    read: Sequence[Prompt],
    choices: Sequence[Choice],
    columns: Mapping[str, Float[np.ndarray, "prompt columns"]],
    patched: HeadSet,
    *,
    source: str | Path | Sequence[Mapping[str, Any]],
    bos: bool,
) -> xr.Dataset:
    """See `langheads.attribute`.

    `columns` has a row a prompt: of ``direct`` D, its parts, the heads; of ``gradient`` D and the
    heads; of ``patching`` D of the clean and the corrupt run, and of that with each of `patched`.
    """
    shape = head_shape(model)
    languages = list(dict.fromkeys(prompt.language for prompt in read))
    of = {lang: [i for i, p in enumerate(read) if p.language == lang] for lang in languages}
    variables: dict[str, Any] = {}
    for name, rows in columns.items():
        if name == "patching":
            variables |= _patching(rows, patched, of)
        else:
            first = 1 + len(PARTS) if name == "direct" else 1
            heads = rows[:, first:].reshape(-1, *shape)
            variables |= _over_languages(name, heads, [_mean(heads[i]) for i in of.values()])
            variables["logit_diff"] = ("prompt", rows[:, 0], _LOGIT)
        if name == "direct":
            variables["part"] = (("prompt", "part_of"), rows[:, 1 : 1 + len(PARTS)], _LOGIT)
    # With patching alone, D of the prompts themselves is not measured.
    variables.setdefault("logit_diff", ("prompt", np.full(len(read), np.nan), _LOGIT))
    variables |= _words(model, read, choices)
    counts = np.array([len(i) for i in of.values()], dtype=np.int64)
    records = {lang: tuple(read[i].record() for i in of[lang]) for lang in languages}
    named = str(source) if isinstance(source, str | Path) else "prompts given in Python"
    return xr.Dataset(
        variables | {"prompts": ("language", counts, {"units": "count"})},
        coords={
            "language": languages,
            "layer": np.arange(shape[0]),
            "head": np.arange(shape[1]),
            "part_of": list(PARTS),
        },
        attrs=provenance(
            "attribution", describe(model), Corpus(records, named, 0), prompts=len(read), bos=bos,
            patched_position="last" if "patching" in columns else "",
        ),
    )  # fmt: skip


def _patching(
    rows: Float[np.ndarray, "prompt columns"], patched: HeadSet, of: Mapping[str, list[int]]
) -> dict[str, Any]:
    """Shares of the gap between clean and corrupt run, NaN for heads and prompts not patched."""
    clean, corrupt = rows[:, 0], rows[:, 1]
    layers, heads = np.array(list(patched)).T
    change = np.full((len(rows), *patched.shape), np.nan)
    change[:, layers, heads] = rows[:, 2:] - rows[:, 1:2]
    gap, size = clean - corrupt, np.abs(clean) + np.abs(corrupt)
    paired = [[i for i in prompts if np.isfinite(gap[i])] for prompts in of.values()]
    shares = change / np.where(_same(gap, size), np.nan, gap)[:, None, None]
    ratios = [_ratio(change[i], gap[i], size[i]) for i in paired]
    differences = {"clean_diff": clean, "corrupt_diff": corrupt}
    return _over_languages("patching", shares, ratios) | {
        name: ("prompt", values, _LOGIT) for name, values in differences.items()
    }


def _over_languages(
    name: str, heads: PerPrompt, summaries: Sequence[tuple[HeadMap, HeadMap]]
) -> dict[str, Any]:
    """A measure with its standard error over languages, and prompt by prompt."""
    unit = {"units": _UNITS[name]}
    means, errors = map(np.stack, zip(*summaries, strict=True))
    return {
        name: (_MAP, means, unit),
        f"{name}_se": (_MAP, errors, unit),
        f"{name}_of_prompt": (_OF_PROMPT, heads.astype(np.float32), unit),
    }


def _mean(values: PerPrompt) -> tuple[HeadMap, HeadMap]:
    return values.mean(axis=0), stats.standard_error(values)


def _same(gap: OnePerPrompt, size: OnePerPrompt) -> Bool[np.ndarray, " prompt"]:
    """Whether clean and corrupt run have the same D, up to rounding."""
    return np.abs(gap) <= 1e-6 * size


def _ratio(change: PerPrompt, gap: OnePerPrompt, size: OnePerPrompt) -> tuple[HeadMap, HeadMap]:
    """Sum of changes over sum of gaps and its standard error; NaN where there is no gap."""
    if _same(gap.sum(keepdims=True), size.sum(keepdims=True)).all():
        nothing = np.full(change.shape[1:], np.nan)
        return nothing, nothing
    return stats.paired_ratio(np.zeros(len(gap)), change, gap)


def _words(
    model: TransformerBridge, read: Sequence[Prompt], choices: Sequence[Choice]
) -> dict[str, Any]:
    """The text that was read, and the two answers."""
    decode = model.tokenizer.decode
    decoded = {
        "language_of": [prompt.language for prompt in read],
        "answer_token": [decode([of.answer]) for of in choices],
        "wrong_token": [decode([of.wrong]) for of in choices],
        "read": [decode(of.tokens) for of in choices],
    }
    text = {"units": "text"}
    return {key: ("prompt", np.array(of, dtype=object), text) for key, of in decoded.items()}
