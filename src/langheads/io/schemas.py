"""What results of each kind are on disk: one table for those who write, read and show them.

A new kind of result is one `Schema` in the table, or one `register` from outside the package; its
section of the report is one module in `langheads.view.kinds`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langheads.io.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

Needed = dict[str, tuple[tuple[str, ...], str]]
"""Variable -> its dimensions and unit."""


@dataclass(frozen=True)
class Schema:
    """What a result of one kind is on disk.

    Attributes:
        kind: as the file itself says it.
        what: the same in words.
        file: its name in a run folder; a file of this name is of this kind, or it is refused.
            Empty where a folder may hold any number of them, each under a name of its own.
        dims: dimensions of a netCDF file, none of them empty.
        variables: those that readers need; there may be more.
        texts: variables over all of `dims`, and perhaps more, that hold text and not numbers.
    """

    kind: str
    what: str
    file: str = ""
    dims: tuple[str, ...] = ()
    variables: Needed = field(default_factory=dict)
    texts: tuple[str, ...] = ()


def _all(dims: tuple[str, ...], **units: str) -> Needed:
    """Variables over all of some dimensions, with their units."""
    return {name: (dims, unit) for name, unit in units.items()}


_HEADS = ("language", "layer", "head")
_KNOCKED_OUT = ("baseline", *_HEADS)
_MATRIX = ("baseline", "heads_of", "text_of")
_TABLE = ("score", "language")
_ASKED = ("language", "condition")
_STEPS = ("score", "heads_of", "step", "text_of")
_LENS = ("condition", "depth", "answer")
_GATED = ("order", "setting")
_PER_BYTE, _PER_TOKEN = "nats per byte", "nats per token"
_SHARE = "share of prompts"
_OF_NLL = "share of the NLL with nothing off"

# In the order in which a run folder is read.
_TABLE_OF_KINDS = (
    Schema("scores", "scores", "scores.nc", _HEADS),
    Schema("heads", "chosen heads", "heads.json"),
    Schema(
        "ablation",
        "proof by ablation",
        "ablation.nc",
        _MATRIX,
        _all(_MATRIX, delta_nats_per_byte=_PER_BYTE) | _all(("text_of",), nats_per_byte=_PER_BYTE),
    ),
    Schema("planted", "planted heads", "planted.json"),
    Schema("attention", "attention in context", "attention.json"),
    Schema(
        "knockout",
        "exact knock-out",
        "knockout.nc",
        _KNOCKED_OUT,
        _all(_KNOCKED_OUT, delta_nats_per_byte=_PER_BYTE, delta_nats_per_token=_PER_TOKEN),
    ),
    Schema(
        "comparison",
        "benchmark of scores",
        "comparison.nc",
        _TABLE,
        _all(_TABLE, spearman="rank correlation")
        | _all(("score",), forwards="forwards of every document", seconds="s, all languages"),
    ),
    Schema(
        "deletion",
        "deletion curves",
        "deletion.nc",
        _STEPS,
        _all(_STEPS, rise=_OF_NLL) | _all(("score", "heads_of"), area=_OF_NLL),
    ),
    Schema("head-classes", "classes of heads", "classes.json"),
    Schema("attribution", "attribution to heads", "attribution.nc", _HEADS),
    Schema(
        "transfer",
        "attention transfer",
        "transfer.nc",
        ("a", "b", *_GATED),
        _all(_GATED, logprob_difference_overall_change="nats", answer_a_overall_change=_SHARE),
    ),
    Schema("logit-lens", "logit lens", "logit-lens.nc", _LENS, _all(_LENS, logit="logit")),
    Schema("head-mask", "soft head mask", "mask.json"),
    Schema("pruned", "pruned model", "pruned.json"),
    Schema("knockout-task", "answers without each head", dims=_KNOCKED_OUT),
    Schema("replies", "replies under gates"),
    Schema(
        "offtarget",
        "replies that stray",
        dims=_ASKED,
        variables=_all(
            _ASKED, right=_SHARE, right_low=_SHARE, right_high=_SHARE, delta_right=_SHARE
        ),
    ),
    Schema(
        "switch-rate",
        "switch rates",
        dims=_HEADS,
        variables=_all(
            _HEADS,
            switch_rate=_SHARE,
            cost=_PER_TOKEN,
            repetition="share of 4-grams",
            empty=_SHARE,
            sound="1 within the limits, 0 not, -1 not tried",
        )
        | _all(("language",), prompts="count"),
    ),
    Schema(
        "qa",
        "answers under a mask",
        dims=("condition",),
        variables=_all(("condition",), accuracy="share", delta_accuracy="share"),
        texts=("reply",),
    ),
)
SCHEMAS: dict[str, Schema] = {}
"""Kind -> its schema."""


def register(schema: Schema) -> Schema:
    """Make a kind of result known to `provenance`, `load_result` and the report.

    Args:
        schema: of the new kind.

    Returns:
        The same.

    Raises:
        InputError: the kind or its file name is taken.

    Example:
        >>> register(Schema("ranks", "ranks of heads", "ranks.nc", ("layer", "head"))).kind
        'ranks'
        >>> kind_of_file("ranks.nc"), SCHEMAS.pop("ranks").what
        ('ranks', 'ranks of heads')
    """
    if schema.kind in SCHEMAS:
        raise InputError(f"there is a kind of result {schema.kind!r} already")
    if schema.file and (taken := kind_of_file(schema.file)):
        raise InputError(f"{schema.file} is the name for results of kind {taken!r}")
    SCHEMAS[schema.kind] = schema
    return schema


def kind_of_file(name: str) -> str | None:
    """The kind that a file of this name is of; None where the file says it itself."""
    return next((s.kind for s in SCHEMAS.values() if s.file and s.file == name), None)


def files() -> dict[str, str]:
    """File names that a run folder can have -> what they hold."""
    return {schema.file: schema.what for schema in SCHEMAS.values() if schema.file}


def check_layout(path: object, dataset: xr.Dataset, kind: str) -> None:
    """Refuse a result that was cut or changed so that its kind's readers would stumble.

    Args:
        path: for the message.
        dataset: what the file holds.
        kind: what it says that it is; of an unknown kind nothing is asked.

    Raises:
        InputError: what is missing, or is no number.
    """
    schema = SCHEMAS.get(kind, Schema(kind, kind))
    for dim in schema.dims:
        if not dataset.sizes.get(dim):
            raise InputError(f"{path} holds {kind}, but nothing along {dim}; make it again")
    for dim in ("baseline", "language", "heads_of", "text_of"):
        if dim in dataset.indexes and not dataset.indexes[dim].is_unique:
            named = ", ".join(map(str, dataset.indexes[dim]))
            raise InputError(f"{path} names one {dim} twice ({named:.60}); make it again")
    for name, (dims, _) in schema.variables.items():
        if name not in dataset or set(dataset[name].dims) != set(dims):
            raise InputError(f"{path}: {kind} has no {name} over {', '.join(dims)}; make it again")
    for values in dataset.data_vars.values():
        numbers = values.dtype.kind in "fiub" or values.name in schema.texts
        if schema.dims and set(schema.dims) <= set(values.dims) and not numbers:
            raise InputError(
                f"{path} holds {kind}, but {values.name} is of {values.dtype}, not numbers"
            )


for _schema in _TABLE_OF_KINDS:
    register(_schema)
