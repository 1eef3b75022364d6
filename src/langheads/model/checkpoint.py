"""Checks of a checkpoint before transformers reads it, and afterwards: safetensors only, sizes that
agree with the stored weights, and every weight in its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, create_model
from safetensors import SafetensorError, safe_open
from torch import Tensor

from langheads.io.errors import InputError, ModelError
from langheads.io.records import Record, expected
from langheads.model.own_tokenizer import check_rules

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Both are dimensions of the embedding, whatever the architecture.
_STORED_WIDTHS = ("hidden_size", "n_embd", "d_model", "vocab_size")
_OTHER_WIDTHS = (
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"),
    *("head_dim", "intermediate_size", "n_inner", "ffn_dim", "n_positions"),
)
_SIZES = (*_LAYERS, *_STORED_WIDTHS, *_OTHER_WIDTHS, "max_position_embeddings", "n_ctx")
_LARGEST = 10**8
# Anywhere in a configuration; an infinite one, say, would still give numbers.
_ABOVE_0 = ("rope_theta", "factor", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
_SIZE = Annotated[int, Field(ge=1, le=_LARGEST)]
_Size = Annotated[
    _SIZE | list[_SIZE | None] | None, expected(f"a whole number from 1 to {_LARGEST}")
]
_Above0 = Annotated[float | None, Field(gt=0, le=1e30), expected("a number above 0")]
_keys: Any = dict.fromkeys
_Sizes = create_model("_Sizes", __base__=Record, **_keys(_SIZES, (_Size, None)))
_Numbers = create_model("_Numbers", __base__=Record, **_keys(_ABOVE_0, (_Above0, None)))
_MOST_BYTES = 10_000_000
# Parts of a checkpoint that a language model does not have: other modalities, heads that predict
# several tokens at once.
_OTHER_PARTS = re.compile(r"(^|\.)(vision|visual|audio|multi_modal|image|mtp)")


def check_checkpoint(name: str, revision: str | None) -> None:
    """Refuse (`ModelError`) a folder, or an id on the Hub, whose weights would be read from
    anything but safetensors, or whose configuration does not agree with its weights. Nothing is
    built, no weight is read, and only small files are fetched."""
    if _file(name, "adapter_config.json", revision):
        raise ModelError(
            f"{name} holds an adapter that is not merged (adapter_config.json); merge it with "
            "peft's merge_and_unload and save the model with save_pretrained"
        )
    config = _small_json(_file(name, "config.json", revision), name)
    if rules := _file(name, "tokenizer.json", revision):
        check_rules(rules, name)
    _check_values(config, name)
    # At any depth: another key can be mapped to it.
    if "transformers_weights" in json.dumps(config):
        raise ModelError(
            f"config.json of {name} says transformers_weights; only *.safetensors are read, under "
            f"their usual names ({_WEIGHTS} or those in {_INDEX})"
        )
    if Path(name).is_dir() and config:
        _check_against_weights(config, name, _shapes(_weight_files(Path(name)), name))


def _file(name: str, file: str, revision: str | None) -> Path | None:
    """A file of a folder or of the Hub; None where it has none or cannot be asked."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(name, file, revision=revision)
    except Exception:
        # Without a connection the Hub's client raises many kinds of error; loading then says why.
        return None
    return None if found is None else Path(found)


def _small_json(path: Path | None, name: str) -> dict[str, Any]:
    """The content of a JSON file of a checkpoint; empty where there is no file."""
    if path is None:
        return {}
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name} is not a model folder: {path.name} is no JSON object of at most 10 MB"
        ) from error
    return found


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A configuration and the configurations of parts inside it."""
    inner = [of for key, of in config.items() if key.endswith("_config") and isinstance(of, dict)]
    return [config, *inner]


def _check_values(config: Mapping[str, Any], name: str) -> None:
    parts = [config]
    try:
        for part in _parts(config):
            _Sizes.parse(part, f"config.json of {name}")
        while parts:
            _Numbers.parse(part := parts.pop(), f"config.json of {name}")
            parts += [of for of in part.values() if isinstance(of, dict)]
    except InputError as error:
        raise ModelError(str(error)) from error


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would read the weights from, all of them safetensors."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors"))[:3])
        raise ModelError(
            f"no *.safetensors in {folder}{f' but {others}' if others else ''}; pickled weights "
            f"are not read, save the model again with save_pretrained ({_WEIGHTS})"
        )
    listed = _small_json(folder / _INDEX, str(folder)).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelError(f"{folder / _INDEX} lists no weights")
    files = sorted(set(map(str, listed.values())))
    for file in files:
        if not file.endswith(".safetensors") or Path(file).name != file:
            raise ModelError(
                f"{folder / _INDEX} names {file[:60]!r}; pickled weights are not read, only "
                "*.safetensors beside it"
            )
        if not (folder / file).is_file():
            raise ModelError(f"{folder / _INDEX} names {file}, which is not there")
    return [folder / file for file in files]


def _shapes(files: Iterable[Path], name: str) -> dict[str, list[int]]:
    """Name -> shape of every stored weight, from the files' headers."""
    shapes: dict[str, list[int]] = {}
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                shapes |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot load model {name}: {path.name}: {error}") from error
    return shapes


def _check_against_weights(
    config: Mapping[str, Any], name: str, shapes: Mapping[str, list[int]]
) -> None:
    """Refuse sizes that disagree with the stored weights; building them takes time and memory."""
    named = ".".join(shapes).split(".")
    stored = 1 + max((int(part) for part in named if part.isdecimal()), default=-1)
    widths = {size for shape in shapes.values() for size in shape}
    for part in _parts(config):
        counts = {key for key in part if key.startswith(("num_", "n_")) and key != "n_ctx"}
        for key in sorted({*_LAYERS, *_STORED_WIDTHS, *_OTHER_WIDTHS, *counts}):
            size = part.get(key)
            if not isinstance(size, int):
                continue
            if key in _LAYERS and size > stored:
                found = f"weights of {stored} layers"
            elif part is config and key in _STORED_WIDTHS and size not in widths:
                found = "no weight of that width"
            elif size > 8 * max(widths, default=0):
                found = f"no weight wider than {max(widths, default=0)}"
            else:
                continue
            raise ModelError(f"config.json of {name} says {key} {size}, but it stores {found}")


def check_hub(name: str, revision: str | None) -> None:
    """Refuse a model on the Hub that has only pickled weights, or whose configuration does not
    agree with its weights. Asks the Hub only where the weights are not in the cache."""
    if Path(name).is_dir():
        return
    config, shapes = _file(name, "config.json", revision), dict[str, list[int]]()
    with suppress(ModelError):
        shapes = _shapes(_weight_files(config.parent), name) if config else {}
    if shapes := shapes or _shapes_on_hub(name, revision):
        _check_against_weights(_small_json(config, name), name, shapes)


def _shapes_on_hub(name: str, revision: str | None) -> dict[str, list[int]]:
    """As `_shapes`, from the Hub; empty where, as in `_file`, it cannot be asked."""
    from huggingface_hub import HfApi
    from transformers.utils import has_file

    try:
        has = [file for file in (_WEIGHTS, _INDEX) if has_file(name, file, revision=revision)]
    except Exception:
        return {}
    if not has:
        raise ModelError(
            f"no *.safetensors in {name}; pickled weights are not read, save the model again with "
            "save_pretrained"
        )
    if _WEIGHTS not in has:
        index = _small_json(_file(name, _INDEX, revision), name)
        for file in map(str, dict(index.get("weight_map") or {}).values()):
            if not file.endswith(".safetensors"):
                raise ModelError(f"{_INDEX} of {name} names {file!r}; only *.safetensors are read")
    try:
        stored = HfApi().get_safetensors_metadata(name, revision=revision).files_metadata.values()
    except Exception:
        return {}
    return {key: list(of.shape) for file in stored for key, of in file.tensors.items()}


def stored_weights(name: str, revision: str | None) -> dict[str, Callable[[], Tensor]]:
    """Name of a weight -> a function that reads it from the checkpoint, which was loaded before."""
    index = _file(name, _INDEX, revision)
    listed = dict(_small_json(index, name).get("weight_map") or {_WEIGHTS: _WEIGHTS})
    paths = [_file(name, str(file), revision) for file in sorted(set(listed.values()))]
    files = [safe_open(path, "pt") for path in paths if path is not None]
    return {key: partial(file.get_tensor, key) for file in files for key in file.keys()}  # noqa: SIM118


class Whole:
    """`from_pretrained` of transformers that refuses weights which are missing, left over or of
    another shape; transformers itself would draw random ones and go on."""

    def __init__(self, auto_class: Any, **keywords: Any):
        self._auto_class, self._keywords = auto_class, keywords

    def from_pretrained(self, name: str, **keywords: Any) -> Any:
        """The model; `ModelError` names the weights that are not as they should be."""
        if Path(name).is_dir():
            self._check_size(name, **keywords)
        network, info = self._auto_class.from_pretrained(
            name,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            **keywords,
            **self._keywords,
        )
        wrong = {
            "missing": info["missing_keys"],
            "of another shape than config.json says": {key for key, *_ in info["mismatched_keys"]},
            "not known to the model": {
                key for key in info["unexpected_keys"] if not _OTHER_PARTS.search(key)
            },
        }
        for what, keys in wrong.items():
            if keys:
                some = sorted(keys)
                more = f" and {len(some) - 3} more" if len(some) > 3 else ""
                raise ModelError(
                    f"weights of {name} are {what}: {', '.join(some[:3])}{more}; the model would "
                    "not be the one that was saved"
                )
        return network

    def _check_size(self, name: str, config: Any, **keywords: Any) -> None:
        """Refuse a configuration whose model, built without memory, is not of its files' size."""
        code = {key: of for key, of in keywords.items() if key == "trust_remote_code"}
        with torch.device("meta"):
            built = self._auto_class.from_config(deepcopy(config), **code)
        files = _weight_files(Path(name))
        stored = sum(math.prod(shape) for shape in _shapes(files, name).values())
        if getattr(config, "quantization_config", None) is not None:
            # Packed weights: two numbers a byte.
            stored = 2 * sum(path.stat().st_size for path in files)
        # Embeddings that are tied are stored once; masks and angles are not stored.
        more = {"weights": (built.parameters(), 0), "constants": (built.buffers(), 2**26)}
        for what, (tensors, free) in more.items():
            if (has := sum(of.numel() for of in tensors)) > 2 * stored + free:
                raise ModelError(
                    f"config.json of {name} makes a model of {has:.2g} numbers as {what}, but it "
                    f"stores {stored:.2g}"
                )
