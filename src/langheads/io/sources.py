"""What a result was made from, by content: heads name their scores, a proof its heads, and so on.

So a page can leave out results that were made from an older version of a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from langheads.io.errors import InputError
from langheads.io.files import parse_json
from langheads.io.records import Saved, parse


def content_hash(result: xr.Dataset | Saved) -> str:
    """SHA-256 of a result's values and of what it was made from, the same in memory and in its
    file, whenever it was made: of a Dataset its variables, of JSON all but its provenance and the
    name of its model."""
    made = result.attrs if isinstance(result, xr.Dataset) else getattr(result, "provenance", {})
    digest = hashlib.sha256(json.dumps(named_in(made, "made_from"), sort_keys=True).encode())
    if isinstance(result, xr.Dataset):
        for name, of in sorted(result.variables.items(), key=lambda item: str(item[0])):
            digest.update(json.dumps([name, of.dims, of.shape]).encode())
            if of.dtype.kind in "UO":
                # A file holds a picture for each NUL.
                texts = [str(text).replace("\0", "\u2400") for text in of.values.flat]
                digest.update(json.dumps(texts).encode())
            else:
                digest.update(np.ascontiguousarray(of.values).tobytes())
    else:
        said = {k: v for k, v in result._document().items() if k not in ("provenance", "model")}
        digest.update(json.dumps(said, sort_keys=True, default=list).encode())
    return digest.hexdigest()


def made_from(model: Mapping[str, Any], *sources: Any) -> dict[str, str]:
    """For the provenance of a result: ``made_from``, kind -> content hash of what it was made from;
    ``other_weights``, kind -> weight hash, of what was chosen in another checkpoint than `model`
    (as `describe` has it), or in the same weights under another configuration.

    A source of None, or one made by hand without a provenance, is skipped.
    """
    hashes, others = {}, {}
    for of in sources:
        made = of.attrs if isinstance(of, xr.Dataset) else getattr(of, "provenance", None)
        if not made or (isinstance(of, xr.Dataset) and "kind" not in made):
            continue
        kind = str(made["kind"]) if isinstance(of, xr.Dataset) else _kind(of)
        hashes[kind] = content_hash(of)
        keys = ("weight_hash", "config_hash", "tokenizer_hash")
        if any(made.get(k) and model.get(k) and made[k] != model[k] for k in keys):
            others[kind] = str(made["weight_hash"])
    named = {"made_from": hashes, "other_weights": others}
    return {key: json.dumps(of) for key, of in named.items() if of}


def named_in(provenance: Mapping[str, Any], key: str) -> dict[str, str]:
    """``made_from`` or ``other_weights`` of a provenance; empty where it has none."""
    try:
        found: dict[str, str] = parse(
            dict[str, str], parse_json(str(provenance.get(key, "{}")), key), key
        )
    except InputError:
        # In a hand-made file.
        return {}
    return found


def _kind(of: Saved) -> str:
    """Head sets, the oldest kind, do not name their kind."""
    fields = of._record.model_fields
    return str(fields["kind"].default) if "kind" in fields else "heads"
