"""Head attribution: how much does each head favour one answer over another?

D is the logit of the answer minus that of the wrong token at the end of a prompt. Three measures:

    direct    z[l,h] W_O[h] . v              at the last position, v the direction of D before the
                                             final norm, whose scale is held (direct logit
                                             attribution); the parts add up to D
    gradient  dD/dm[l,h] = sum z . dD/dz     over all positions, at gate m = 1: the first-order
                                             fall of D when the head is switched off
    patching  (D patched - D corrupt) / (D clean - D corrupt)        see `scores.patching`

`direct` sees only what a head writes for the unembedding, at the last position; `gradient` also its
effects through later layers, at all positions. TransformerLens' `direct_logit_attribution` gives
the same `direct` for Llama, Mistral, Qwen3 and Cohere. It is not called here, because it needs a
changed model (norms folded into the weights, which also moves value biases from the heads to the
attention's bias), makes `[batch, pos, head, d_model]` of all layers, reads the padding where a row
is shorter than its batch, takes no account of a norm after the attention (Gemma-3) or of a final
soft cap (Gemma-2), and refuses OLMo-2.

Means over prompts and their standard errors: `scores.attribution_dataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from langheads import model as engine
from langheads.heads import HeadSet
from langheads.heads.given import ByLanguage, Named
from langheads.io.arguments import asked_names
from langheads.io.errors import InputError
from langheads.io.estimate import estimating
from langheads.io.progress import progress_bar
from langheads.model.logit_attribution import readout, require_linear_readout
from langheads.scores.attribution_dataset import attribution_dataset
from langheads.scores.patching import logit_difference, patched_differences
from langheads.text import Documents, pad_right
from langheads.text.prompts import Choice, Prompt, choice, read_prompts

MEASURES = ("direct", "gradient", "patching")


def attribute(
    model: TransformerBridge,
    prompts: str | Path | Sequence[Mapping[str, Any]],
    *,
    measures: str | Iterable[str] | None = None,
    heads: Named | ByLanguage | None = None,
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
        heads: heads to patch; all by default. The other measures cost the same for all.
        bos: prepend BOS; by default as the tokenizer does.
        batch_tokens: tokens a forward, padding included; halved when memory runs out.

    Returns:
        Dataset of kind ``attribution``, see `langheads.scores.attribution_dataset`.

    Raises:
        InputError: an unknown measure or head, unusable prompts, ``direct`` of a model whose
            logits are no sum over heads (a final soft cap).
        NonFiniteError, OutOfMemoryError: see `map_documents`.

    Memory: see `readout` and `patched_differences`.

    Example:
        >>> found = attribute(model, "prompts.jsonl")
        >>> found.direct.sel(language="en").dims
        ('layer', 'head')
    """
    chosen = engine.all_heads_of(model, heads)
    read = read_prompts(prompts)
    wanted = _measures(measures, any(prompt.corrupt is not None for prompt in read))
    if "direct" in wanted:
        require_linear_readout(model)
    bos = engine.bos_policy(model, bos)
    plain = {i: _choice(model, prompt.prompt, prompt, bos) for i, prompt in enumerate(read)}
    pairs = {i: _pair(model, p, bos) for i, p in enumerate(read) if p.corrupt is not None}
    clean = {i: torch.tensor(pair[0].tokens) for i, pair in pairs.items()}
    patching = partial(_patching, clean, chosen, engine.token_budget(model, batch_tokens))
    corrupt = {i: pair[1] for i, pair in pairs.items()}
    asked = {"direct": (plain, _direct), "gradient": (plain, _gradient)}
    asked["patching"] = corrupt, patching
    columns, steps = {}, sum(len(asked[name][0]) for name in wanted)
    with progress_bar(total=steps, unit="prompt", desc="attribute") as bar:
        how: dict[str, Any] = {"batch_tokens": batch_tokens, "progress": bar}
        for name in wanted:
            choices, measure = asked[name]
            how["work"] = (name,) if estimating() else None
            columns[name] = _rows(model, read, choices, partial(measure, model), **how)
    first = [plain[i] for i in range(len(read))]
    return attribution_dataset(model, read, first, columns, chosen, source=prompts, bos=bos)


def _measures(measures: str | Iterable[str] | None, any_pair: bool) -> list[str]:
    if measures is None:
        return list(MEASURES if any_pair else MEASURES[:2])
    wanted = asked_names("measure", measures, MEASURES)
    if "patching" in wanted and not any_pair:
        raise InputError("patching asked for, but no prompt has a corrupt to patch into")
    return [name for name in MEASURES if name in wanted]


def _rows(
    model: TransformerBridge,
    read: Sequence[Prompt],
    choices: Mapping[int, Choice],
    measure: Callable[..., Tensor],
    **how: Any,
) -> Float[np.ndarray, "prompt columns"]:
    """A row a prompt, in batches of like length; NaN for prompts without a choice."""
    languages = ", ".join(dict.fromkeys(read[i].language for i in choices))
    documents = Documents.of_rows(languages, [of.tokens for of in choices.values()])
    given = torch.tensor([(i, of.answer, of.wrong) for i, of in choices.items()])
    found = engine.map_documents(model, documents, measure, given=given, **how)
    rows = np.full((len(read), found.shape[1]), np.nan)
    rows[list(choices)] = found.double().numpy()
    return rows


def _choice(model: TransformerBridge, text: str, prompt: Prompt, bos: bool) -> Choice:
    """As `choice`, within the model's vocabulary and context."""
    found = choice(engine.tokenizer_of(model), text, prompt, bos=bos)
    engine.check_tokens(model, found.tokens, prompt.where)
    engine.check_tokens(model, found[1:], prompt.where)
    return found


def _pair(model: TransformerBridge, prompt: Prompt, bos: bool) -> tuple[Choice, Choice]:
    """Clean and corrupt, which must choose between the same two tokens."""
    clean = _choice(model, prompt.clean, prompt, bos)
    corrupt = _choice(model, str(prompt.corrupt), prompt, bos)
    if clean[1:] != corrupt[1:]:
        at = [
            " or ".join(repr(model.tokenizer.decode([token])) for token in each[1:])
            for each in (clean, corrupt)
        ]
        raise InputError(
            f"{prompt.where}: the answers part at {at[0]} after clean, but at {at[1]} after "
            "corrupt; both must choose between the same two tokens"
        )
    return clean, corrupt


def _direct(model: TransformerBridge, tokens: Tensor, lengths: Tensor, given: Tensor) -> Tensor:
    """D, its parts, and what each head adds to it: ``[batch, 1 + part + layer head]``."""
    found = readout(model, tokens, lengths, given[:, 1], given[:, 2])
    return torch.cat([found.difference[:, None], found.parts, found.heads.flatten(1)], dim=1)


def _gradient(model: TransformerBridge, tokens: Tensor, lengths: Tensor, given: Tensor) -> Tensor:
    """D and its gradient at each prompt's own gates: ``[batch, 1 + layer head]``."""
    dtype = torch.promote_types(model.cfg.dtype, torch.float32)
    gates = torch.ones(len(tokens), *engine.head_shape(model), dtype=dtype, device=tokens.device)
    gates.requires_grad_()
    with torch.enable_grad(), engine.gated(model, gates):
        difference = logit_difference(model, tokens, lengths, given[:, 1], given[:, 2])
        (gradient,) = torch.autograd.grad(difference.sum(), gates)
    own = difference.detach()[:, None].to(gradient.device)
    return torch.cat([own, gradient.flatten(start_dim=1)], dim=1)


def _patching(
    clean: Mapping[int, Tensor],
    heads: HeadSet,
    budget: int,
    model: TransformerBridge,
    tokens: Tensor,
    lengths: Tensor,
    given: Tensor,
) -> Tensor:
    """D of both runs and of each head patched from the clean run into the corrupt one, `tokens`."""
    texts = [clean[i] for i in given[:, 0].tolist()]
    taken_from = pad_right(texts).to(tokens.device), torch.tensor([len(t) for t in texts])
    put_into, (answer, wrong) = (tokens, lengths), given[:, 1:].T
    return patched_differences(model, taken_from, put_into, answer, wrong, heads, budget=budget)
