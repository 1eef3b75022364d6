"""What a verb can refuse before gigabytes of weights are loaded.

Each function takes the arguments of its verb that it looks at, with files already read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from langheads.io.errors import InputError
from langheads.io.files import check_run


def check(verb: str, values: Mapping[str, Any]) -> None:
    """Run the verb's check, if it has one."""
    if verb in _CHECKS:
        _call(_CHECKS[verb], values)


def _call(checked: Callable[..., None], values: Mapping[str, Any]) -> None:
    asked = inspect.signature(checked).parameters
    everything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in asked.values())
    checked(**{name: value for name, value in values.items() if everything or name in asked})


def _adapt(
    heads: Any, language: str, heads_of: str | None = None, as_published: bool = False
) -> None:
    from langheads.heads import LanguageHeads, as_language_heads
    from langheads.heads import heads_of as of_language

    if isinstance(heads, LanguageHeads | Mapping):
        of_language(as_language_heads(heads), heads_of or language)
    if as_published:
        from langheads.experiments.softmask.adapt import require_raw_top

        require_raw_top(heads)


def _attention(text: str, out: str, beside: str | None = None) -> None:
    if Path(out).suffix not in (".json", ".html"):
        raise InputError(f"cannot save attention as {out}; allowed are .html and .json")
    for given in (text, beside):
        # A folder is what --text takes in other verbs.
        if given is not None and len(given) < 255 and "\0" not in given and Path(given).exists():
            raise InputError(f"{given} is a file or folder; give the text itself, in quotes")


def _attribute(prompts: str) -> None:
    from langheads.text.prompts import read_prompts

    read_prompts(prompts)


def _evaluate_qa(n_controls: int | None = None, gates: Any = None) -> None:
    from langheads import HeadMask
    from langheads.experiments.softmask.experiment import check_controls

    check_controls(n_controls, with_mask=isinstance(gates, HeadMask))


def _generate(**given: Any) -> None:
    from langheads.experiments.replies.experiment import check_replies

    _call(check_replies, given)


def _prune(heads: Any, drop: Iterable[str], out: str) -> None:
    from langheads.experiments.pruning.files import check_folder
    from langheads.heads import as_language_heads, heads_of

    check_folder(Path(out))
    for name in drop:
        heads_of(as_language_heads(heads), name)


def _transfer(templates: str | None = None) -> None:
    from langheads.text.templates import read_templates

    if templates is not None:
        read_templates(templates)


_CHECKS: dict[str, Callable[..., None]] = {
    "adapt": _adapt,
    "attention": _attention,
    "attribute": _attribute,
    "evaluate-qa": _evaluate_qa,
    "generate": _generate,
    "prune": _prune,
    "run": check_run,
    "transfer": _transfer,
}
