"""How each kind of result is shown, in the order of the page: its figures, tables and sentences.

A new kind of result is a schema in `langheads.io.schemas`, a module here and a name in the list
below; or, from outside the package, both `register` calls.
"""

from langheads.io.errors import InputError
from langheads.io.schemas import SCHEMAS
from langheads.view.contents import Kind
from langheads.view.kinds import (
    ablation,
    attention,
    benchmark,
    effects,
    heads,
    knockout,
    logit_lens,
    mask,
    offtarget,
    pruned,
    qa,
    replies,
    scores,
    switch_rate,
    transfer,
)

KINDS: dict[str, Kind] = {}
"""Kind of result -> how it is shown, in the order of the page."""


def register(kind: Kind) -> Kind:
    """Show a kind of result in the report, below those that are known; returns the kind.

    Raises:
        InputError: there is no schema of its name, or the kind is shown already.

    Example:
        >>> from langheads.io import schemas
        >>> ranks = schemas.Schema("ranks", "ranks of heads", "ranks.nc", "layer head")
        >>> _ = schemas.register(ranks)
        >>> register(Kind("ranks", "Ranks of heads")).name
        'ranks'
    """
    if kind.name not in SCHEMAS:
        raise InputError(f"no schema of kind {kind.name!r}: see langheads.io.schemas.register")
    if kind.name in KINDS:
        raise InputError(f"results of kind {kind.name!r} are shown already")
    KINDS[kind.name] = kind
    return kind


for _kind in (
    *(ablation.KIND, scores.KIND, knockout.KIND, benchmark.COMPARISON, benchmark.DELETION),
    *(heads.HEADS, heads.CLASSES, effects.ATTRIBUTION, effects.TASK, replies.KIND),
    *(offtarget.KIND, switch_rate.KIND, transfer.KIND, logit_lens.KIND, qa.KIND, mask.KIND),
    *(pruned.KIND, attention.KIND),
):
    register(_kind)
