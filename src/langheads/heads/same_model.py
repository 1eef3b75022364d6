"""Whether heads, scores and masks belong to a model, by the provenance stored with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langheads.io.errors import ProvenanceError, logger

_LATER = ("exact_weight_hash", "config_hash", "model_type")
_IDENTITY = (
    ("revision", "revision"),
    ("weight_hash", "weights"),
    ("exact_weight_hash", "exact weights"),
    ("config_hash", "configuration"),
    ("model_type", "architecture"),
    ("tokenizer_hash", "tokenizer"),
)


def require_same_model(what: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse (`ProvenanceError`) to combine results of two models; warn where it is unknown, or
    where the dtype of the weights differs.

    `what` is judged has the provenance `found`; `wanted` is the provenance of the model. If that
    was loaded with ``other_weights``, a difference is only a warning; ``other_weights`` of a
    result, on the heads that it was made with, permits nothing.
    """
    dtypes = [
        " ".join(str(of[key]) for key in ("dtype", "quantization") if of.get(key))
        for of in (wanted, found)
    ]
    unknown = []
    for key, label in _IDENTITY:
        ours, theirs = str(wanted.get(key, "")), str(found.get(key, ""))
        if ours == theirs or (key == "exact_weight_hash" and dtypes[0] != dtypes[1]):
            continue
        # Older results lack some of these, and for a model from the Hub have only its revision.
        of_the_hub = key == "weight_hash" and bool(wanted.get("revision"))
        if (key in _LATER or of_the_hub) and not (ours and theirs):
            unknown.append(label)
            continue
        message = (
            f"{what} was made with {label} {theirs[:12] or 'unknown'} of model "
            f"{found.get('model', 'unknown')}, but this is {label} {ours[:12] or 'unknown'} of "
            f"{wanted.get('model', 'unknown')}"
        )
        if wanted.get("other_weights") != "taken":
            raise ProvenanceError(f"{message}; make it again with this model")
        logger.warning("%s; it is used all the same, as asked for", message)
        return
    if unknown:
        logger.warning(
            "%s or this is of an earlier version of langheads: whether the %s are the same could "
            "not be checked",
            what,
            " and the ".join(dict.fromkeys(unknown)),
        )
    if all(dtypes) and dtypes[0] != dtypes[1]:
        logger.warning("%s was made in %s, but this is %s", what, dtypes[1], dtypes[0])
