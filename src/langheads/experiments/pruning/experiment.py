"""Remove heads from a model for good, and save it for plain `transformers`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformer_lens.model_bridge import TransformerBridge

from langheads.experiments.language_heads import GENERAL, heads_of, require_heads_of
from langheads.experiments.pruning.account import Pruning
from langheads.experiments.pruning.losses import (
    held_out,
    losses_before_and_after,
    random_heads,
)
from langheads.heads import HeadSet, LanguageHeads
from langheads.io.errors import InputError, ModelError
from langheads.io.files import check_writable
from langheads.io.results import provenance
from langheads.model import describe, load, tokenizer_of
from langheads.model.surgery import Pruned, differs_from_gates, without_heads, wrong_slices
from langheads.text import Corpus

ACCOUNT = "pruned.json"
logger = logging.getLogger("langheads")


def prune(
    model: TransformerBridge,
    heads: LanguageHeads,
    *,
    drop: str | Iterable[str],
    out: str | Path,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus | None = None,
    languages: Iterable[str] | None = None,
    docs: int | None = 100,
    max_tokens: int | None = None,
    controls: int = 20,
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
        controls: random head sets, as many heads in each layer, whose loss at gate 0 stands beside
            that of the pruned model; 0 or at least 2. They take most of the time.
        seed: order of documents, and of the random heads; by default that of the scores.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a forward, padding included.
        allow_overlap: measure on scored documents all the same; recorded.

    Returns:
        Its `account`, saved as ``pruned.json`` beside the weights, has ``removed`` heads, of which
        ``cut`` and ``zeroed``; ``kept`` old numbers of each layer's heads where some were cut;
        ``parameters_zeroed``, ``parameters_saved`` and ``bytes_saved`` (0 where nothing was cut);
        with texts, ``nats_per_byte`` of every language ``before`` and ``after``, its ``rise`` with
        interval, and what random heads do, see `experiments.pruning.losses`, and how many
        ``controls``; ``provenance``.

    Raises:
        InputError: a language that is not in the file or has no heads, all heads of the model, a
            folder that is not empty or cannot be written.
        ModelError: quantised or offloaded weights, a W_O that cannot be located, or a saved model
            whose logits differ from those under gates or whose W_O is not as it should be.
        ProvenanceError: heads of another model, or texts they were scored on.

    Memory: two copies of the weights on the CPU, one after the other.
    Cost: with texts, 2 + controls forwards of every document.

    Example:
        >>> pruning = prune(model, heads, drop=["zh"], out="without-zh")  # doctest: +SKIP
        >>> pruning.account["bytes_saved"]                               # doctest: +SKIP
        0
    """
    out = Path(out)
    names = [drop] if isinstance(drop, str) else list(dict.fromkeys(drop))
    if not names:
        raise InputError(
            f"no language to drop; the head set has {', '.join([*heads.specific, GENERAL])}"
        )
    check_folder(out)
    require_heads_of(model, heads)
    removed = HeadSet([head for name in names for head in heads_of(heads, name)], heads.shape)
    if len(removed) == heads.shape[0] * heads.shape[1]:
        raise InputError(
            f"{', '.join(names)} have all {len(removed)} heads of the model; some must be left"
        )
    if controls < 0 or controls == 1:
        raise InputError(f"{controls} controls asked for; 0 or at least 2 are needed")
    texts = None
    if text is not None:
        texts = held_out(
            model, heads, text, languages=languages, docs=docs, max_tokens=max_tokens, seed=seed,
            bos=bos, allow_overlap=allow_overlap,
        )  # fmt: skip
    tokenizer = _tokenizer(model)
    described = describe(model)
    pruned = without_heads(model, removed)
    others = {
        name: str(of & removed)
        for name, of in [*heads.specific.items(), (GENERAL, heads.general)]
        if name not in names and of & removed
    }
    for name, shared in others.items():
        logger.warning("%s are heads of %s, too, which was not to be dropped", shared, name)
    account: dict[str, Any] = {
        "format": 1,
        "kind": "pruned",
        "model": described["model"],
        "shape": list(heads.shape),
        "dropped": names,
        **_removals(pruned, removed),
        "also_heads_of": others,
    }
    with _new_folder(out) as folder:
        pruned.network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        names, kept = pruned.w_o, pruned.kept
        # Its weights go before the saved ones are read.
        del pruned
        account["logits_differ_by"] = _check_saved(model, removed, folder, names, kept)
        if texts is not None:
            after = load(folder, dtype=model.cfg.dtype, device=str(model.cfg.device))
            random = random_heads(removed, controls, texts.corpus.seed)
            account["controls"] = len(random)
            account["nats_per_byte"] = losses_before_and_after(
                model, after, random, texts.documents, batch_tokens
            )
        corpus = Corpus({}, "none", 0) if texts is None else texts.corpus
        account["provenance"] = provenance("pruned", described, corpus) | {
            "heads": heads.provenance,
            "rule": heads.rule,
            **({} if texts is None else {"overlap": texts.overlap}),
        }
        found = Pruning.of(account)
        found.save(folder / ACCOUNT)
    return found


def _removals(pruned: Pruned, removed: HeadSet) -> dict[str, Any]:
    return {
        "removed": [str(head) for head in removed],
        "cut": [str(head) for head in pruned.cut],
        "zeroed": [str(head) for head in pruned.zeroed],
        "kept": pruned.kept,
        "parameters_zeroed": pruned.parameters_zeroed,
        "parameters_saved": pruned.parameters_saved,
        "bytes_saved": pruned.bytes_saved,
    }


def _check_saved(
    model: TransformerBridge,
    removed: HeadSet,
    folder: Path,
    names: Sequence[str],
    kept: Sequence[Sequence[int]],
) -> float:
    """Load the folder with plain `transformers`; how far its logits are from those under gates."""
    kind: Any = type(model.original_model)
    network = kind.from_pretrained(folder, dtype=model.cfg.dtype, attn_implementation="eager")
    apart = float(differs_from_gates(model, removed, network.eval()))
    # In 16 bits, kernels of different devices differ by some units in the last place; there the
    # slices of W_O tell what logits cannot.
    if not apart <= max(1e-5, 10 * torch.finfo(model.cfg.dtype).eps):
        raise ModelError(
            f"{model.cfg.architecture}: logits of the pruned model differ by {apart:.2g} of the "
            "largest from those under gates, so heads cannot be removed here; nothing was written"
        )
    wrong = wrong_slices(model, removed, network, names, kept)
    if wrong:
        raise ModelError(
            f"{model.cfg.architecture}: the saved slices of W_O of {wrong} are not what "
            "they should be (zero where the head is removed, as before elsewhere); nothing was "
            "written"
        )
    return apart


def _tokenizer(model: TransformerBridge) -> Any:
    """The tokenizer as it was read; TransformerLens gives its own copy special tokens.

    It is read again, in the model's revision where it came with the model. If what is found there
    by now does not cut texts as the model's own does, the model's own is taken.
    """
    from transformers import AutoTokenizer

    own = tokenizer_of(model)
    config = model.original_model.config
    came_along = own.name_or_path == getattr(config, "_name_or_path", None)
    revision = getattr(config, "_commit_hash", None) if came_along else None
    try:
        read = AutoTokenizer.from_pretrained(own.name_or_path, revision=revision or "main")
    except (OSError, ValueError):
        return own
    return read if _cuts_texts(read) == _cuts_texts(own) else own


def _cuts_texts(tokenizer: Any) -> Any:
    """Vocabulary, merges and normalisation, without special and added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        added = tokenizer.get_added_vocab()
        return {token: i for token, i in tokenizer.get_vocab().items() if token not in added}
    state = json.loads(backend.to_str())
    return {key: state[key] for key in ("model", "normalizer", "pre_tokenizer")}


def check_folder(out: Path) -> None:
    """Refuse a folder that is not empty, a file, or a place that cannot be written to."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is a folder that is not empty" if out.is_dir() else "is a file"
        raise InputError(f"cannot write {out}: it {what}; name a new folder")
    check_writable(out / ACCOUNT)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which gets its name when the block ends well.

    Raises:
        InputError: it cannot be made, written or renamed.
    """
    temporary: Path | None = None
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
        yield temporary
        # Private so far, and safetensors' files, too; a result is as readable as any other.
        umask = os.umask(0)
        os.umask(umask)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        # Over an empty folder this works, too; over one that was filled meanwhile it does not.
        temporary.replace(out)
        temporary = None
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {out}: {getattr(error, 'strerror', None) or error}"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
