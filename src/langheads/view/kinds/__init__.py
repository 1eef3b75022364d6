"""How each kind of result is shown: a module a kind, in the order of the page.

A new kind of result is a schema in `langheads.io.schemas`, a module here and a name in the list
below; or, from outside the package, both `register` calls.
"""

from langheads.io.errors import InputError
from langheads.io.schemas import SCHEMAS
from langheads.view.contents import Kind
from langheads.view.kinds import (
    ablation,
    attention,
    attribution,
    comparison,
    deletion,
    head_classes,
    heads,
    knockout,
    knockout_task,
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
    """Show a kind of result in the report, below those that are known.

    Args:
        kind: its name is that of a schema in `langheads.io.schemas`.

    Returns:
        The same.

    Raises:
        InputError: there is no such schema, or the kind is shown already.

    Example:
        >>> schemas.register(schemas.Schema("ranks", "ranks of heads", "ranks.nc", "layer head"))
        ... # doctest: +SKIP
        >>> register(Kind("ranks", "Ranks of heads", pictures=draw))  # doctest: +SKIP
    """
    if kind.name not in SCHEMAS:
        raise InputError(f"no schema of kind {kind.name!r}: see langheads.io.schemas.register")
    if kind.name in KINDS:
        raise InputError(f"results of kind {kind.name!r} are shown already")
    KINDS[kind.name] = kind
    return kind


for _module in (
    *(ablation, scores, knockout, comparison, deletion, heads, head_classes),
    *(attribution, knockout_task, replies, offtarget, switch_rate, transfer, logit_lens),
    *(qa, mask, pruned, attention),
):
    register(_module.KIND)
