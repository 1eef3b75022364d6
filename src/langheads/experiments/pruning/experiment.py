"""Remove heads from a model for good, save it for plain `transformers`, and measure the cost.

For every language, over paired documents (see `langheads.stats.paired_ratio`):

    rise         = (NLL by the pruned model - NLL by the model) / UTF-8 bytes
    control_mean = mean of the same over random head sets, as many heads in each layer, at gate 0
    control_p    = (1 + random sets whose ΔNLL is as large) / (1 + random sets)

and the ends of their 95% intervals: ``rise_low`` and ``rise_high``, 1.96 standard errors (None for
one document), ``control_low`` and ``control_high``, 2.5% and 97.5% of the sets. Gate 0 equals
removing a head, as `prune` checks.

Memory: two copies of the weights on the CPU, one after the other.
Cost: with texts, 2 + n_controls forwards of every document.

Example:
    >>> pruning = prune(model, heads, drop=["zh"], out="without-zh")
    >>> pruning.account["bytes_saved"]
    0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.held_out import HeldOut, held_out, losses_by_language
from langheads.experiments.pruning import files
from langheads.experiments.pruning.account import Pruning
from langheads.heads import HeadSet, LanguageHeads, heads_of
from langheads.heads.given import ByLanguage
from langheads.io.errors import InputError, logger
from langheads.io.estimate import estimating
from langheads.io.results import provenance
from langheads.model import describe, load, require_heads_of
from langheads.model.surgery import without_heads
from langheads.stats import paired_ratio, permutation_p
from langheads.text import Corpus


def prune(
    model: TransformerBridge,
    heads: ByLanguage,
    *,
    drop: str | Iterable[str],
    out: str | Path,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus | None = None,
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int | None = None,
    n_controls: int = 20,
    seed: int | None = None,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    allow_overlap: bool = False,
) -> Pruning:
    """Save a model without some languages' heads, as configuration, safetensors and tokenizer.

    The saved model gives the logits that `model` gives with these heads at gate 0; this is checked
    on the saved files before they get their name. Heads whose whole key-value group is off in
    every layer are cut out of the shapes where the architecture allows it (Llama, Mistral, Qwen2,
    Qwen3); of all others the slice of W_O is zero, which saves neither memory nor time. A bias of
    the output projection belongs to no head and stays.

    Args:
        model: the model the heads were chosen in; it is not changed.
        heads: language -> its specific heads.
        drop: languages, or ``general``, whose heads are removed.
        out: a folder that does not exist or is empty.
        text: texts on which the loss is measured before and after, see `read_texts`; documents
            come from the back of the seeded order.
        languages: of the text; all by default.
        docs: documents a language; None for all.
        max_tokens: documents are cut here; by default where they were for the scores.
        n_controls: random head sets, as many heads in each layer, whose loss at gate 0 is compared
            with that of the pruned model; 0 or at least 2. They take most of the time.
        seed: order of documents, and of the random heads; by default that of the scores.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a forward, padding included.
        allow_overlap: measure on scored documents all the same; recorded.

    Returns:
        The account, see `langheads.experiments.pruning.account`, saved as ``pruned.json``.

    Raises:
        InputError: heads that are not in the file or are all of the model, an unusable folder.
        ModelError: quantised or offloaded weights, a W_O that cannot be located, or a saved model
            whose logits differ from those under gates or whose W_O is not as it should be.
        ProvenanceError: heads of another model, or texts they were scored on.
    """
    out = Path(out)
    names = [drop] if isinstance(drop, str) else list(dict.fromkeys(drop))
    described = describe(model)
    heads = require_heads_of(model, heads)
    removed = _removed(heads, names, out, n_controls)
    proof = None
    if text is not None:
        proof = held_out(
            model, heads.provenance, text, languages=languages, docs=docs, max_tokens=max_tokens,
            seed=seed, bos=bos, allow_overlap=allow_overlap,
        )  # fmt: skip
    account = {"format": 1, "kind": "pruned", "model": described["model"]}
    account |= {"shape": list(heads.shape), "dropped": names}
    with files.new_folder(out) as folder:
        gone, saved = _saved_without(model, removed, folder)
        account |= gone
        account["also_heads_of"] = _also_heads_of(heads, names, removed)
        if proof is not None:
            account |= _costs(model, removed, saved, n_controls, proof, batch_tokens)
        corpus = Corpus({}, "none", 0) if proof is None else proof.corpus
        made_from = provenance("pruned", described, corpus, sources=[heads])
        made_from |= {"heads": heads.provenance, "rule": heads.rule}
        account["provenance"] = made_from | ({} if proof is None else {"overlap": proof.overlap})
        found = Pruning.of(account)
        found.save(folder / files.ACCOUNT)
    return found


def _saved_without(
    model: TransformerBridge, removed: HeadSet, folder: Path
) -> tuple[dict[str, Any], Any]:
    """Save the model without these heads and check the files; what was removed, and the folder. An
    estimate saves nothing, and uses weights in memory in place of the saved ones."""
    tokenizer, pruned = files.tokenizer_as_read(model), without_heads(model, removed)
    gone = {"removed": removed, "cut": pruned.cut, "zeroed": pruned.zeroed}
    saved: dict[str, Any] = {name: [str(head) for head in of] for name, of in gone.items()}
    for name in ("kept", "parameters_zeroed", "parameters_saved", "bytes_saved"):
        saved[name] = getattr(pruned, name)
    if estimating():
        logger.warning("writing the weights and reading them back is not in the estimate")
        weights = [weight.to(model.cfg.device) for weight in pruned.network.parameters()]
        return saved | {"logits_differ_by": 0.0}, weights
    pruned.network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    w_o = pruned.w_o
    # Its weights are freed before the saved ones are read.
    del pruned
    apart = files.check_saved(model, removed, folder, w_o, saved["kept"])
    return saved | {"logits_differ_by": apart}, folder


def _costs(
    model: TransformerBridge,
    removed: HeadSet,
    saved: Any,
    n_controls: int,
    proof: HeldOut,
    batch_tokens: int | str,
) -> dict[str, Any]:
    """The loss of the pruned model on held-out texts of every language, beside random heads."""
    after = model
    if isinstance(saved, Path):
        after = load(saved, dtype=model.cfg.dtype, device=str(model.cfg.device))
    # All different; fewer where there are not so many.
    random = removed.matched_sets(n_controls, np.random.default_rng(proof.corpus.seed))
    off = [(some, None) for some in random]
    before = losses_by_language(model, proof.documents, off, batch_tokens, desc="prune")
    pruned = losses_by_language(after, proof.documents, [], batch_tokens, desc="prune")
    found = {
        language: _loss(before[language], pruned[language][:, 0], of.n_bytes)
        for language, of in proof.documents.items()
    }
    return {"controls": len(random), "nats_per_byte": found}


def _loss(
    before: Float[np.ndarray, "doc condition"],
    pruned: Float[np.ndarray, " doc"],
    n_bytes: Int[np.ndarray, " doc"],
) -> dict[str, float | None]:
    """Nats per byte of one language: of the model, of the pruned one, and under random heads."""
    on, *off = before.T
    rise, se = map(float, paired_ratio(on, pruned, n_bytes))
    size = n_bytes.sum()
    found: dict[str, float | None] = {
        "before": float(on.sum() / size),
        "after": float(pruned.sum() / size),
        "rise": rise,
        # JSON has no NaN.
        "rise_low": rise - 1.96 * se if np.isfinite(se) else None,
        "rise_high": rise + 1.96 * se if np.isfinite(se) else None,
    }
    if not off:
        return found
    control = np.array([(losses - on).sum() / size for losses in off])
    low, high = np.quantile(control, [0.025, 0.975]).tolist()
    p = float(permutation_p(np.array([rise]), control[:, None])[0])
    found |= {"control_mean": float(control.mean()), "control_low": low, "control_high": high}
    return found | {"control_p": p}


def _removed(heads: LanguageHeads, names: list[str], out: Path, n_controls: int) -> HeadSet:
    """The heads of these names; refuses what cannot be removed or written."""
    if not names:
        raise InputError(f"no language to drop; the head set has {', '.join(heads.by_name)}")
    files.check_folder(out)
    removed = HeadSet([head for name in names for head in heads_of(heads, name)], heads.shape)
    if len(removed) == heads.shape[0] * heads.shape[1]:
        raise InputError(
            f"{', '.join(names)} have all {len(removed)} heads of the model; some must be left"
        )
    if n_controls < 0 or n_controls == 1:
        raise InputError(f"{n_controls} controls asked for; 0 or at least 2 are needed")
    return removed


def _also_heads_of(heads: LanguageHeads, names: list[str], removed: HeadSet) -> dict[str, str]:
    """Other languages that lose heads, with a warning."""
    others = {
        name: str(of & removed)
        for name, of in heads.by_name.items()
        if name not in names and of & removed
    }
    for name, shared in others.items():
        logger.warning("%s are heads of %s, too, which was not to be dropped", shared, name)
    return others
