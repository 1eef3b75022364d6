"""Head attribution: how much does each head speak for one answer and against another?

D is the logit of the answer minus that of the wrong token at the end of a prompt. Three measures:

    direct    z[l,h] W_O[h] . v              at the last position, v the direction of D before the
                                             final norm, whose scale is held (direct logit
                                             attribution); the parts add up to D
    gradient  dD/dm[l,h] = sum z . dD/dz     over all positions, at gate m = 1: the first-order
                                             fall of D when the head is switched off
    patching  (D patched - D corrupt) / (D clean - D corrupt)        see `scores.patching`

`direct` sees only what a head writes for the unembedding to read, at the last position; `gradient`
also what later layers make of it, anywhere. TransformerLens' `direct_logit_attribution` gives the
same `direct` for Llama, Mistral, Qwen3 and Cohere. It is not called here, because it wants the
model changed (norms folded into the weights, which also moves value biases from the heads to the
attention's bias), makes `[batch, pos, head, d_model]` of all layers, reads the padding where a row
is shorter than its batch, takes no account of a norm after the attention (Gemma-3) or of a final
soft cap (Gemma-2), and refuses OLMo-2.

Standard errors are over prompts. That of `patching`, a ratio of sums over prompts (a mean of
ratios would be ruled by the prompt whose clean and corrupt runs hardly differ), is by
linearisation (Cochran, Sampling Techniques, 6.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import Head, HeadSet
from langheads.io.errors import InputError
from langheads.io.results import provenance
from langheads.model import (
    bos_policy,
    check_tokens,
    describe,
    gated,
    head_shape,
    map_documents,
    token_budget,
    tokenizer_of,
)
from langheads.model.logit_attribution import PARTS, readout, require_linear_readout
from langheads.scores.patching import logit_difference, patched_differences
from langheads.text import Corpus, Documents, pad_right
from langheads.text.prompts import Choice, Prompt, choice, read_prompts

MEASURES = ("direct", "gradient", "patching")
_UNITS = {"direct": "logit", "gradient": "logit", "patching": "share"}

PerPrompt = Float[np.ndarray, "prompt layer head"]


def attribute(
    model: TransformerBridge,
    prompts: str | Path | Sequence[Mapping[str, Any]],
    *,
    measures: str | Iterable[str] | None = None,
    heads: HeadSet | Iterable[str] | None = None,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
) -> xr.Dataset:
    """Attribute the choice between two answers to heads.

    Args:
        model: the model.
        prompts: a jsonl file or a list of ``{"prompt", "answer", "wrong"}``, see `read_prompts`;
            the answers part at the first token in which they differ, see `choice`.
        measures: of ``direct``, ``gradient``, ``patching``; by default the first two, and patching
            when a prompt has a ``corrupt``.
        heads: those that are patched; all by default. The other measures cost the same for all.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a forward, padding included; halved when memory runs out.

    Returns:
        Dataset over ``language, layer, head``: each measure and its standard error
        ``<measure>_se``, and ``<measure>_of_prompt`` over ``prompt, layer, head``; ``direct`` and
        ``gradient`` in logits, ``patching`` a share, NaN for heads and prompts that were not
        patched and where clean and corrupt run have the same D. For each prompt ``logit_diff``
        (D) and what D is a sum of, ``part[prompt, part_of]``; ``clean_diff``, ``corrupt_diff``,
        ``language_of``, ``answer_token``, ``wrong_token`` and ``read``, the text that was read. Per
        language ``prompts``.

    Raises:
        InputError: an unknown measure or head, unusable prompts, ``direct`` of a model whose
            logits are no sum over heads (a final soft cap).
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Memory: see `readout` and `patched_differences`.

    Example:
        >>> found = attribute(model, "prompts.jsonl")  # doctest: +SKIP
        >>> found.direct.sel(language="en").argmax(("layer", "head"))  # doctest: +SKIP
    """
    shape = head_shape(model)
    everyone = [Head(layer, head) for layer in range(shape[0]) for head in range(shape[1])]
    chosen = HeadSet(everyone if heads is None else heads, shape)
    if not chosen:
        raise InputError("no heads to patch were given; leave heads out to patch all")
    read = read_prompts(prompts)
    wanted = _measures(measures, any(prompt.corrupt is not None for prompt in read))
    if "direct" in wanted:
        require_linear_readout(model)
    bos = bos_policy(model, bos)
    plain = [_choice(model, prompt.prompt, prompt, bos) for prompt in read]
    pairs = {i: _pair(model, p, bos) for i, p in enumerate(read) if p.corrupt is not None}

    per_prompt = {name: np.full((len(read), *shape), np.nan) for name in wanted}
    parts = np.full((len(read), len(PARTS)), np.nan)
    found = {
        key: np.full(len(read), np.nan) for key in ("logit_diff", "clean_diff", "corrupt_diff")
    }
    total = len(read) * len([name for name in wanted if name != "patching"])
    total += len(pairs) * ("patching" in wanted)
    with tqdm(total=total, unit="prompt", desc="attribute") as bar:

        def rows(which: Sequence[int], choices: Sequence[Choice], measure: _Measure) -> np.ndarray:
            return _by_index(model, read, which, choices, measure, batch=batch_tokens, bar=bar)

        every = range(len(read))
        if "direct" in wanted:
            values = rows(every, plain, lambda *a: _direct(model, *a))
            found["logit_diff"], parts = values[:, 0], values[:, 1 : 1 + len(PARTS)]
            per_prompt["direct"] = values[:, 1 + len(PARTS) :].reshape(-1, *shape)
        if "gradient" in wanted:
            values = rows(every, plain, lambda *a: _gradient(model, *a))
            found["logit_diff"] = values[:, 0]
            per_prompt["gradient"] = values[:, 1:].reshape(-1, *shape)
        if "patching" in wanted:
            which = list(pairs)
            clean = [pairs[i][0] for i in which]
            budget = token_budget(model, batch_tokens)

            def patch(
                index: Tensor, tokens: Tensor, lengths: Tensor, a: Tensor, w: Tensor
            ) -> Tensor:
                of_batch = [torch.tensor(clean[i].tokens) for i in index.tolist()]
                return patched_differences(
                    model,
                    (pad_right(of_batch).to(tokens.device), torch.tensor(list(map(len, of_batch)))),
                    (tokens, lengths),
                    a,
                    w,
                    chosen,
                    budget=budget,
                )

            values = rows(which, [pairs[i][1] for i in which], patch)
            found["clean_diff"][which], found["corrupt_diff"][which] = values[:, 0], values[:, 1]
            layer, head = np.array(list(chosen)).T
            rise = np.full((len(which), *shape), np.nan)
            rise[:, layer, head] = values[:, 2:] - values[:, 1:2]
            per_prompt["patching"][which] = rise
    return _dataset(model, read, plain, per_prompt, parts, found, source=prompts, bos=bos)


_Measure = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _measures(measures: str | Iterable[str] | None, any_pair: bool) -> list[str]:
    if measures is None:
        return list(MEASURES if any_pair else MEASURES[:2])
    wanted = [measures] if isinstance(measures, str) else list(dict.fromkeys(measures))
    if not wanted or not set(wanted) <= set(MEASURES):
        raise InputError(
            f"measure {', '.join(wanted) or 'none'} asked for; allowed are {', '.join(MEASURES)}"
        )
    if "patching" in wanted and not any_pair:
        raise InputError("patching asked for, but no prompt has a corrupt to patch into")
    return wanted


def _choice(model: TransformerBridge, text: str, prompt: Prompt, bos: bool) -> Choice:
    """As `choice`, within what the model can read."""
    found = choice(tokenizer_of(model), text, prompt, bos=bos)
    check_tokens(model, found.tokens, prompt.where)
    check_tokens(model, found[1:], prompt.where)
    return found


def _pair(model: TransformerBridge, prompt: Prompt, bos: bool) -> tuple[Choice, Choice]:
    """Clean and corrupt, which must choose between the same two tokens."""
    clean = _choice(model, prompt.clean, prompt, bos)
    corrupt = _choice(model, str(prompt.corrupt), prompt, bos)
    if clean[1:] != corrupt[1:]:
        told = [
            " or ".join(repr(model.tokenizer.decode([token])) for token in each[1:])
            for each in (clean, corrupt)
        ]
        raise InputError(
            f"{prompt.where}: the answers part at {told[0]} after clean, but at {told[1]} after "
            "corrupt; both must choose between the same two tokens"
        )
    return clean, corrupt


def _by_index(
    model: TransformerBridge,
    read: Sequence[Prompt],
    which: Sequence[int],
    choices: Sequence[Choice],
    measure: _Measure,
    *,
    batch: int | str,
    bar: tqdm,
) -> Float[np.ndarray, "prompt columns"]:
    """A row a prompt, in batches of like length; `measure` is also told which prompts it has."""

    def of_batch(tokens: Tensor, lengths: Tensor, given: Int[Tensor, "batch 3"]) -> Tensor:
        index, answer, wrong = given.T
        return measure(index, tokens, lengths, answer, wrong)

    languages = ", ".join(dict.fromkeys(read[i].language for i in which))
    given = torch.tensor([[i, c.answer, c.wrong] for i, c in enumerate(choices)])
    documents = Documents.of_rows(languages, [c.tokens for c in choices])
    rows = map_documents(model, documents, of_batch, given=given, batch_tokens=batch, progress=bar)
    return rows.double().numpy()


def _direct(
    model: TransformerBridge, index: Tensor, tokens: Tensor, lengths: Tensor, a: Tensor, w: Tensor
) -> Tensor:
    """D, its parts, and what each head adds to it: ``[batch, 1 + part + layer head]``."""
    found = readout(model, tokens, lengths, a, w)
    return torch.cat([found.difference[:, None], found.parts, found.heads.flatten(1)], dim=1)


def _gradient(
    model: TransformerBridge, index: Tensor, tokens: Tensor, lengths: Tensor, a: Tensor, w: Tensor
) -> Tensor:
    """D and its gradient at each prompt's own gates: ``[batch, 1 + layer head]``."""
    gates = torch.ones(
        len(tokens),
        *head_shape(model),
        dtype=torch.promote_types(model.cfg.dtype, torch.float32),
        device=tokens.device,
    ).requires_grad_()
    with torch.enable_grad(), gated(model, gates):
        difference = logit_difference(model, tokens, lengths, a, w)
        (gradient,) = torch.autograd.grad(difference.sum(), gates)
    own = difference.detach()[:, None].to(gradient.device)
    return torch.cat([own, gradient.flatten(start_dim=1)], dim=1)


def _mean(values: PerPrompt) -> tuple[np.ndarray, np.ndarray]:
    """Mean over prompts and its standard error; NaN for one prompt."""
    if len(values) < 2:
        return values.mean(axis=0), np.full(values.shape[1:], np.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _same(gap: Float[np.ndarray, " prompt"], size: Float[np.ndarray, " prompt"]) -> np.ndarray:
    """Whether clean and corrupt run have the same D, but for rounding."""
    return np.abs(gap) <= 1e-6 * size


def _ratio(
    rise: PerPrompt, gap: Float[np.ndarray, " prompt"], size: Float[np.ndarray, " prompt"]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of rises over sum of gaps and its standard error; NaN where there is no gap."""
    nothing = np.full(rise.shape[1:], np.nan)
    if _same(gap.sum(keepdims=True), size.sum(keepdims=True)).all():
        return nothing, nothing
    share = rise.sum(axis=0) / gap.sum()
    if len(gap) < 2:
        return share, nothing
    count = len(gap)
    squares = ((rise - share * gap[:, None, None]) ** 2).sum(axis=0)
    return share, np.sqrt(count / (count - 1) * squares) / abs(gap.sum())


def _dataset(
    model: TransformerBridge,
    read: Sequence[Prompt],
    plain: Sequence[Choice],
    per_prompt: dict[str, PerPrompt],
    parts: Float[np.ndarray, "prompt part"],
    found: dict[str, Float[np.ndarray, " prompt"]],
    *,
    source: str | Path | Sequence[Mapping[str, Any]],
    bos: bool,
) -> xr.Dataset:
    languages = list(dict.fromkeys(prompt.language for prompt in read))
    of = {lang: [i for i, p in enumerate(read) if p.language == lang] for lang in languages}
    gap = found["clean_diff"] - found["corrupt_diff"]
    size = np.abs(found["clean_diff"]) + np.abs(found["corrupt_diff"])
    variables: dict[str, Any] = {}
    for name, values in per_prompt.items():
        unit = {"units": _UNITS[name]}
        pairs = [_mean(values[of[language]]) for language in languages]
        if name == "patching":
            paired = {lang: [i for i in of[lang] if np.isfinite(gap[i])] for lang in languages}
            pairs = [_ratio(values[i], gap[i], size[i]) for i in paired.values()]
            usable = np.where(_same(gap, size), np.nan, gap)
            values = values / usable[:, None, None]
        for suffix, stack in zip(("", "_se"), zip(*pairs, strict=True), strict=True):
            variables[name + suffix] = (("language", "layer", "head"), np.stack(stack), unit)
        variables[f"{name}_of_prompt"] = (
            ("prompt", "layer", "head"),
            values.astype(np.float32),
            unit,
        )
    logit = {"units": "logit"}
    for key, values in found.items():
        if key == "logit_diff" or "patching" in per_prompt:
            variables[key] = ("prompt", values, logit)
    if "direct" in per_prompt:
        variables["part"] = (("prompt", "part_of"), parts, logit)
    decoded = {
        "language_of": [prompt.language for prompt in read],
        "answer_token": [model.tokenizer.decode([c.answer]) for c in plain],
        "wrong_token": [model.tokenizer.decode([c.wrong]) for c in plain],
        "read": [model.tokenizer.decode(c.tokens) for c in plain],
    }
    for key, words in decoded.items():
        variables[key] = ("prompt", np.array(words, dtype=object), {"units": "text"})
    counts = np.array([len(of[language]) for language in languages], dtype=np.int64)
    layers, heads = head_shape(model)
    corpus = Corpus(
        {lang: tuple(read[i].record() for i in of[lang]) for lang in languages},
        str(source) if isinstance(source, str | Path) else "prompts given in Python",
        0,
    )
    return xr.Dataset(
        variables | {"prompts": ("language", counts, {"units": "count"})},
        coords={
            "language": languages,
            "layer": np.arange(layers),
            "head": np.arange(heads),
            "part_of": list(PARTS),
        },
        attrs=provenance(
            "attribution",
            describe(model),
            corpus,
            prompts=len(read),
            bos=bos,
            patched_position="last" if "patching" in per_prompt else "",
        ),
    )
