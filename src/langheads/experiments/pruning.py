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

import numpy as np
import torch
from safetensors import SafetensorError
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from langheads.errors import InputError, ModelError
from langheads.experiments.held_out import check_held_out
from langheads.experiments.specificity import GENERAL
from langheads.experiments.steering import heads_of, require_heads_of
from langheads.files import check_writable
from langheads.heads import HeadSet, LanguageHeads
from langheads.model import describe, document_nll, load, map_documents, tokenize_languages
from langheads.model.pruned import Pruned, differs_from_gates, without_heads
from langheads.results import provenance
from langheads.text import Corpus, Documents, read_texts

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
    seed: int | None = None,
    bos: bool | None = None,
    batch_tokens: int | str = "auto",
    allow_overlap: bool = False,
) -> dict[str, Any]:
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
        seed: order of documents; by default that of the scores.
        bos: prepend BOS; by default as for the scores.
        batch_tokens: tokens a forward, padding included.
        allow_overlap: measure on scored documents all the same; recorded.

    Returns:
        What ``pruned.json`` beside the weights says: ``removed`` heads, of which ``cut`` and
        ``zeroed``; ``kept`` old numbers of each layer's heads where some were cut;
        ``parameters_zeroed``,
        ``parameters_saved`` and ``bytes_saved`` (0 where nothing was cut); with texts,
        ``nats_per_byte`` of every language ``before`` and ``after``; ``provenance``.

    Raises:
        InputError: a language that is not in the file or has no heads, all heads of the model, a
            folder that is not empty or cannot be written.
        ModelError: quantised or offloaded weights, a W_O that cannot be located, or logits that
            differ from those under gates.
        ProvenanceError: heads of another model, or texts they were scored on.

    Memory: two copies of the weights on the CPU, one after the other.

    Example:
        >>> account = prune(model, heads, drop=["zh"], out="without-zh")  # doctest: +SKIP
        >>> account["bytes_saved"]                                       # doctest: +SKIP
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
    texts = None
    if text is not None:
        texts = _proof(
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
        del pruned
        account["logits_differ_by"] = _check_saved(model, removed, folder)
        if texts is not None:
            after = load(folder, dtype=model.cfg.dtype, device=str(model.cfg.device))
            account["nats_per_byte"] = _before_and_after(model, after, texts[1], batch_tokens)
        corpus = Corpus({}, "none", 0) if texts is None else texts[0]
        account["provenance"] = provenance("pruned", described, corpus) | {
            "heads": heads.provenance,
            "rule": heads.rule,
            **({} if texts is None else {"overlap": texts[2]}),
        }
        (folder / ACCOUNT).write_text(json.dumps(account, ensure_ascii=False, indent=1), "utf-8")
    return account


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


def _proof(
    model: TransformerBridge,
    heads: LanguageHeads,
    text: str | Path | Mapping[str, Sequence[str]] | Corpus,
    *,
    languages: Iterable[str] | None,
    docs: int | None,
    max_tokens: int | None,
    seed: int | None,
    bos: bool | None,
    allow_overlap: bool,
) -> tuple[Corpus, dict[str, Documents], int]:
    """Texts from the back of their order, their tokens, and how many of them were scored."""
    if docs is not None and docs < 1:
        raise InputError(f"{docs} documents asked for; at least 1 is needed")
    scored = heads.provenance
    seed = int(scored.get("seed", 0)) if seed is None else seed
    corpus = read_texts(text, languages=languages, seed=seed)
    used = corpus.back(docs)
    overlap = check_held_out(used, scored, allow_overlap=allow_overlap)
    max_tokens = int(scored.get("max_tokens", 2048)) if max_tokens is None else max_tokens
    if bos is None and "bos" in scored:
        bos = bool(scored["bos"])
    documents = tokenize_languages(model, used, max_tokens=max_tokens, bos=bos)
    return corpus, documents, overlap


def _before_and_after(
    before: TransformerBridge,
    after: TransformerBridge,
    documents: Mapping[str, Documents],
    batch_tokens: int | str,
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with tqdm(total=2 * sum(map(len, documents.values())), unit="doc", desc="prune") as bar:
        for language, of_language in documents.items():
            found[language] = {}
            for name, network in (("before", before), ("after", after)):
                nll = _losses(network, of_language, batch_tokens, bar)
                found[language][name] = float(nll.sum() / of_language.n_bytes.sum())
    return found


def _losses(
    model: TransformerBridge, documents: Documents, batch_tokens: int | str, bar: tqdm
) -> np.ndarray:
    @torch.no_grad()
    def measure(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return document_nll(model, tokens, lengths)

    nll = map_documents(model, documents, measure, batch_tokens=batch_tokens, progress=bar)
    return nll.double().numpy()


def _check_saved(model: TransformerBridge, removed: HeadSet, folder: Path) -> float:
    """Load the folder with plain `transformers`; how far its logits are from those under gates."""
    kind: Any = type(model.original_model)
    network = kind.from_pretrained(folder, dtype=model.cfg.dtype, attn_implementation="eager")
    apart = float(differs_from_gates(model, removed, network.eval()))
    # In 16 bits, kernels of different devices differ by some units in the last place.
    if not apart <= max(1e-4, 10 * torch.finfo(model.cfg.dtype).eps):
        raise ModelError(
            f"{model.cfg.architecture}: logits of the pruned model differ by {apart:.2g} of the "
            "largest from those under gates, so heads cannot be removed here; nothing was written"
        )
    return apart


def _tokenizer(model: TransformerBridge) -> Any:
    """The tokenizer as it was read; TransformerLens gives its own copy special tokens."""
    from transformers import AutoTokenizer

    if model.tokenizer is None:
        raise InputError("the model has no tokenizer; load it from a folder that has one")
    try:
        return AutoTokenizer.from_pretrained(model.tokenizer.name_or_path)
    except (OSError, ValueError):
        return model.tokenizer


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
        temporary.chmod(0o777 & ~umask)
        for file in temporary.iterdir():
            file.chmod(0o666 & ~umask)
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
