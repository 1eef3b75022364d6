"""The folder of a pruned model: written as a whole or not at all, and checked before."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformer_lens.model_bridge import TransformerBridge

from langheads.heads import HeadSet
from langheads.io.errors import InputError, ModelError
from langheads.io.files import check_writable, temporary_prefix
from langheads.model import tokenizer_of
from langheads.model.surgery import differs_from_gates, wrong_slices

ACCOUNT = "pruned.json"


def check_saved(
    model: TransformerBridge,
    removed: HeadSet,
    folder: Path,
    w_o: Sequence[str],
    kept: Sequence[Sequence[int]],
) -> float:
    """Load the folder with plain `transformers`; how far its logits are from those under gates."""
    kind: Any = type(model.original_model)
    network = kind.from_pretrained(folder, dtype=model.cfg.dtype, attn_implementation="eager")
    apart = float(differs_from_gates(model, removed, network.eval()))
    # In 16 bits, kernels of different devices differ by some units in the last place; there the
    # slices of W_O decide, not the logits.
    if not apart <= max(1e-5, 10 * torch.finfo(model.cfg.dtype).eps):
        raise ModelError(
            f"{model.cfg.architecture}: logits of the pruned model differ by {apart:.2g} of the "
            "largest from those under gates, so heads cannot be removed here; nothing was written"
        )
    wrong = wrong_slices(model, removed, network, w_o, kept)
    if wrong:
        raise ModelError(
            f"{model.cfg.architecture}: the saved slices of W_O of {wrong} are not what "
            "they should be (zero where the head is removed, as before elsewhere); nothing was "
            "written"
        )
    return apart


def tokenizer_as_read(model: TransformerBridge) -> Any:
    """The tokenizer as it was read; TransformerLens gives its own copy special tokens.

    It is read again, in the model's revision where it came with the model. If the files there no
    longer cut texts as the model's own tokenizer does, that one is taken.
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
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which gets its name when the block ends well."""
    temporary: Path | None = None
    try:
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        prefix = temporary_prefix(parent)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=".tmp"))
        yield temporary
        # The folder is private so far, as safetensors' files are; make both readable as others.
        umask = os.umask(0)
        os.umask(umask)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        # This also replaces an empty folder, but not one that was filled meanwhile.
        temporary.replace(out)
        temporary = None
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {out}: {getattr(error, 'strerror', None) or error}"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
