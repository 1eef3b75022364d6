"""What each kind of result is on disk: one table for writing, reading and showing them.

A new kind of result is one `Schema` in the table, or one `register` from outside the package; its
section of the report is one module in `langheads.view.kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langheads.io.arguments import MAX_NAME
from langheads.io.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Schema:
    """What a result of one kind is on disk.

    Attributes:
        kind: as the file itself says it.
        what: the same in words.
        file: its name in a run folder; a file of this name is of this kind, or it is refused.
            Empty where a folder may hold any number of them, each under a name of its own.
        dims: dimensions of a netCDF file, none of them empty, parted by blanks.
        variables: variables that readers need -> unit; there may be more.
        over: dimensions of a variable that is not over all of `dims`.
        texts: variables over all of `dims`, and perhaps more, that hold text and not numbers.
        sources: the papers of its method, keys of `view/references.bib`.
    """

    kind: str
    what: str
    file: str = ""
    dims: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    over: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def dims_of(self, variable: str) -> list[str]:
        """Dimensions of a variable that readers need."""
        return self.over.get(variable, self.dims).split()


_PER_BYTE, _PER_TOKEN, _SHARE = "nats per byte", "nats per token", "share of prompts"
_OF_NLL = "share of the NLL with nothing off"
_HEADS = "language layer head"
_LAHIS, _NAUFIL = "liu2025lahis", "naufil2026heads"
_REPLIES = ("marchisio2024confusion", "welleck2019unlikelihood")
_ANSWERS = ("rajpurkar2016squad", "lewis2019mlqa")
# In the order in which a run folder is read.
_TABLE = (
    Schema("scores", "scores", "scores.nc", _HEADS),
    Schema("heads", "chosen heads", "heads.json"),
    Schema(
        *("ablation", "proof by ablation", "ablation.nc", "baseline heads_of text_of"),
        {"delta_nats_per_byte": _PER_BYTE, "nats_per_byte": _PER_BYTE},
        over={"nats_per_byte": "text_of"},
        sources=(_LAHIS, "phipson2010permutation", "benjamini1995controlling"),
    ),
    Schema("planted", "planted heads", "planted.json"),
    Schema("attention", "attention in context", "attention.json"),
    Schema(
        *("knockout", "exact knock-out", "knockout.nc", f"baseline {_HEADS}"),
        {"delta_nats_per_byte": _PER_BYTE, "delta_nats_per_token": _PER_TOKEN},
    ),
    Schema(
        *("comparison", "benchmark of scores", "comparison.nc", "score language"),
        {
            "spearman": "rank correlation",
            "forwards": "forwards of every document",
            "seconds": "s, all languages",
        },
        over={"forwards": "score", "seconds": "score"},
    ),
    Schema(
        *("deletion", "deletion curves", "deletion.nc", "score heads_of step text_of"),
        {"rise": _OF_NLL, "area": _OF_NLL},
        over={"area": "score heads_of"},
        sources=("petsiuk2018rise",),
    ),
    Schema("head-classes", "classes of heads", "classes.json", sources=(_NAUFIL,)),
    Schema(
        *("attribution", "attribution to heads", "attribution.nc", _HEADS),
        sources=("heimersheim2024patching",),
    ),
    Schema(
        *("transfer", "attention transfer", "transfer.nc", "a b order setting"),
        {"logprob_difference_overall_change": "nats", "answer_a_overall_change": _SHARE},
        over=dict.fromkeys(
            ("logprob_difference_overall_change", "answer_a_overall_change"), "order setting"
        ),
        sources=(_LAHIS, "owen2007pigeonhole"),
    ),
    Schema(
        *("logit-lens", "logit lens", "logit-lens.nc", "condition depth answer"),
        {"logit": "logit"},
        sources=("nostalgebraist2020lens",),
    ),
    Schema("head-mask", "soft head mask", "mask.json", sources=(_LAHIS,)),
    Schema("pruned", "pruned model", "pruned.json"),
    Schema(
        *("knockout-task", "answers without each head", "", f"baseline {_HEADS}"),
        sources=(_NAUFIL, *_ANSWERS),
    ),
    Schema("replies", "replies under gates", sources=_REPLIES),
    Schema(
        *("offtarget", "replies that stray", "", "language condition"),
        dict.fromkeys(("right", "right_low", "right_high", "delta_right"), _SHARE),
        sources=(_LAHIS, *_REPLIES),
    ),
    Schema(
        *("switch-rate", "switch rates", "", _HEADS),
        {
            "switch_rate": _SHARE,
            "cost": _PER_TOKEN,
            "repetition": "share of 4-grams",
            "empty": _SHARE,
            "sound": "1 within the limits, 0 not, -1 not tried",
            "prompts": "count",
        },
        over={"prompts": "language"},
        sources=_REPLIES,
    ),
    Schema(
        *("qa", "answers under a mask", "", "condition"),
        {"accuracy": "share", "delta_accuracy": "share"},
        texts=("reply",),
        sources=(_LAHIS, *_ANSWERS),
    ),
)
SCHEMAS: dict[str, Schema] = {}
"""Kind -> its schema."""
SHOWN = {
    "level": "alpha", "times": "min_ratio", "sure": "min_confidence", "shift": "steering",
    "bootstraps": "n_resamples", "resamples": "n_resamples",
    "controls": "n_controls", "draws": "n_controls",
}  # fmt: skip
"""Settings that format 1 stores under other names than those of the arguments -> the arguments."""


def as_shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as readers meet them: named as the arguments, without what only machines read."""
    machines = ("scored", "claims")
    return {SHOWN.get(key, key): of for key, of in settings.items() if key not in machines}


def register(schema: Schema) -> Schema:
    """Make a kind of result known to `provenance`, `load_result` and the report; returns it.

    Raises:
        InputError: the kind or its file name is taken.

    Example:
        >>> register(Schema("ranks", "ranks of heads", "ranks.nc", "layer head")).kind
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
    """The kind of a file of this name; None where the file itself says it."""
    return next((s.kind for s in SCHEMAS.values() if s.file and s.file == name), None)


def files() -> dict[str, str]:
    """File names that a run folder can have -> what they hold."""
    return {schema.file: schema.what for schema in SCHEMAS.values() if schema.file}


def files_in_words() -> str:
    """What a run folder can hold, for the help of the verb that reads one."""
    named = ", ".join(f"{file} ({what})" for file, what in files().items())
    return f"By name: {named}. Others are taken if they say what they are."


def check_layout(path: object, dataset: xr.Dataset, kind: str) -> None:
    """Refuse a result that readers of its kind would fail on; an unknown kind is not checked."""
    schema = SCHEMAS.get(kind, Schema(kind, kind))
    dims = schema.dims.split()
    for dim in dims:
        if not dataset.sizes.get(dim):
            raise InputError(f"{path} holds {kind}, but nothing along {dim}; make it again")
    for dim in ("baseline", "language", "heads_of", "text_of"):
        if dim in dataset.indexes and not dataset.indexes[dim].is_unique:
            named = ", ".join(map(str, dataset.indexes[dim]))
            raise InputError(f"{path} names one {dim} twice ({named:.60}); make it again")
    for dim, labels in dataset.indexes.items():
        if (longest := max(map(len, map(str, labels)), default=0)) > MAX_NAME:
            raise InputError(
                f"{path} has a {dim} with a name of {longest} characters; at most {MAX_NAME}"
            )
    for name in schema.variables:
        over = schema.dims_of(name)
        if name not in dataset or set(dataset[name].dims) != set(over):
            raise InputError(f"{path}: {kind} has no {name} over {', '.join(over)}; make it again")
    for values in dataset.data_vars.values():
        numbers = values.dtype.kind in "fiub" or values.name in schema.texts
        if dims and set(dims) <= set(values.dims) and not numbers:
            raise InputError(
                f"{path} holds {kind}, but {values.name} is of {values.dtype}, not numbers"
            )


for _schema in _TABLE:
    register(_schema)
