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
from langheads.model.pruned import Pruned, differs_from_gates, without_heads, wrong_slices
from langheads.results import provenance
from langheads.stats import paired_ratio
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
        ``nats_per_byte`` of every language ``before`` and ``after``, its ``rise`` and the ends
        ``rise_low`` and ``rise_high`` of the rise's 95% interval over paired documents (rise and
        1.96 standard errors of a ratio, see `langheads.stats`; None for one document);
        ``provenance``.

    Raises:
        InputError: a language that is not in the file or has no heads, all heads of the model, a
            folder that is not empty or cannot be written.
        ModelError: quantised or offloaded weights, a W_O that cannot be located, or a saved model
            whose logits differ from those under gates or whose W_O is not as it should be.
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
        names, kept = pruned.w_o, pruned.kept
        # Its weights go before the saved ones are read.
        del pruned
        account["logits_differ_by"] = _check_saved(model, removed, folder, names, kept)
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
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    with tqdm(total=2 * sum(map(len, documents.values())), unit="doc", desc="prune") as bar:
        for language, of_language in documents.items():
            on, off = (
                _losses(network, of_language, batch_tokens, bar) for network in (before, after)
            )
            size = of_language.n_bytes.sum()
            rise, se = map(float, paired_ratio(on, off, of_language.n_bytes))
            found[language] = {
                "before": float(on.sum() / size),
                "after": float(off.sum() / size),
                "rise": rise,
                # JSON has no NaN.
                "rise_low": rise - 1.96 * se if np.isfinite(se) else None,
                "rise_high": rise + 1.96 * se if np.isfinite(se) else None,
            }
    return found


def _losses(
    model: TransformerBridge, documents: Documents, batch_tokens: int | str, bar: tqdm
) -> np.ndarray:
    @torch.no_grad()
    def measure(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return document_nll(model, tokens, lengths)

    nll = map_documents(model, documents, measure, batch_tokens=batch_tokens, progress=bar)
    return nll.double().numpy()


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

    own = model.tokenizer
    if own is None:
        raise InputError("the model has no tokenizer; load it from a folder that has one")
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
