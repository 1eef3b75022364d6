"""Which results of a folder belong together: of one model, each made from the files beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from langheads.heads.same_model import require_same_model
from langheads.io.errors import ProvenanceError
from langheads.io.sources import content_hash, named_in
from langheads.view.contents import RunFolder


def leave_out_other_models(run: RunFolder) -> dict[str, Any]:
    """Keep results of the model of most files, or heads used in it; returns that model."""
    sources = run.sources()
    counts = Counter(_model(attrs) for _, attrs in sources)
    same = [attrs for _, attrs in sources if counts[_model(attrs)] == max(counts.values())]
    same = [attrs for attrs in same if _model(attrs) == _model(same[0])]
    family = {weights for attrs in same for weights in _weights(attrs)}
    for name, attrs in sources:
        if _model(attrs) != _model(same[0]) and _weights(attrs) & family:
            # Heads of one checkpoint used in another; the page says so.
            continue
        try:
            require_same_model(name, same[0], attrs)
        except ProvenanceError as error:
            run.leave_out(name, f"of another model: {error}")
    return same[0] if same else {}


def _model(attrs: Mapping[str, Any]) -> tuple[str, str]:
    return str(attrs.get("weight_hash", "")), str(attrs.get("tokenizer_hash", ""))


def _weights(attrs: Mapping[str, Any]) -> set[str]:
    """The weights of a result, and those that its heads were chosen in."""
    others = named_in(attrs, "other_weights").values()
    return {str(attrs.get("weight_hash", "")), *others} - {""}


def leave_out_other_sources(run: RunFolder) -> None:
    """Leave out results that were not made from the files here, then results made from those."""
    named = {name: named_in(attrs, "made_from") for name, attrs in run.sources()}
    wanted = {kind for of in named.values() for kind in of}
    hashes = {
        kind: {name: content_hash(of) for name, of in run.of(kind).items()} for kind in wanted
    }
    while found := next(_strangers(run, named, hashes), None):
        run.leave_out(*found)


def _strangers(
    run: RunFolder, named: Mapping[str, dict[str, str]], hashes: Mapping[str, dict[str, str]]
) -> Iterator[tuple[str, str]]:
    """Files that were not made from the files here, and why they do not belong."""
    for _, name, _ in run:
        for kind, made_from in named.get(name, {}).items():
            there = hashes[kind]
            if there and made_from not in [there[file] for file in run.of(kind)]:
                gone = [file for file, content in there.items() if content == made_from]
                yield (
                    name,
                    f"made from {gone[0]}, which is left out"
                    if gone
                    else f"made from another {kind} file than {', '.join(there)}; make it again",
                )


def other_weights_words(run: RunFolder) -> list[str]:
    """Sentences on results of heads that were chosen in another checkpoint."""
    return [
        f"{name}: its {kind} are of {_other_than(weights, attrs)}, as was asked for."
        for name, attrs in run.sources()
        for kind, weights in named_in(attrs, "other_weights").items()
    ]


def _other_than(weights: str, attrs: Mapping[str, Any]) -> str:
    if (ours := str(attrs.get("weight_hash", ""))) == weights:
        return "these weights under another configuration or tokenizer"
    return f"other weights ({weights[:12]}) than those it was measured in ({ours[:12]})"
