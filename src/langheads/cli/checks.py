"""What a verb can refuse before gigabytes of weights are loaded.

Each function takes those arguments of its verb's function that it looks at, files already read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langheads.io.errors import InputError
from langheads.io.files import check_writable

if TYPE_CHECKING:
    from langheads import HeadMask, LanguageHeads
    from langheads.text import Corpus


def check(verb: str, values: Mapping[str, Any]) -> None:
    """Run the verb's check, if it has one."""
    checked = _CHECKS.get(verb)
    if checked is not None:
        asked = inspect.signature(checked).parameters
        checked(**{name: value for name, value in values.items() if name in asked})


def _adapt(heads: Any, language: str, heads_of: str | None = None) -> None:
    from langheads.experiments import language_heads
    from langheads.heads import LanguageHeads

    if isinstance(heads, LanguageHeads):
        language_heads.heads_of(heads, heads_of or language)


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


def _evaluate_qa(n_controls: int | None = None, gates: HeadMask | None = None) -> None:
    from langheads.experiments.softmask.experiment import check_controls

    check_controls(n_controls, with_mask=gates is not None)


def _generate(
    prompts: str,
    detector: str,
    baseline: str,
    docs: int,
    heads: LanguageHeads | None = None,
    gate: Mapping[str, float] | None = None,
    shift: Mapping[str, float] | None = None,
    text: Corpus | None = None,
    candidates: Iterable[str] | None = None,
    detector_model: str | None = None,
) -> None:
    if docs < 1:
        raise InputError(f"--docs {docs} asked for; at least 1 document a language is needed")
    from langheads.cli.interim import detector_of, language_pairs
    from langheads.experiments.replies.plan import check_steering
    from langheads.text.confusion import require_known
    from langheads.text.requests import read_requests

    requests = read_requests(prompts)
    detect = detector_of(detector, candidates, detector_model)
    check_steering(heads, gate or {}, language_pairs(shift, heads), baseline, text)
    require_known([request.language for request in requests], detect)


def _prune(heads: LanguageHeads, drop: Iterable[str], out: str) -> None:
    from langheads.experiments.language_heads import heads_of
    from langheads.experiments.pruning.files import check_folder

    check_folder(Path(out))
    for name in drop:
        heads_of(heads, name)


def _run(out: str) -> None:
    for name in ("scores.nc", "heads.json", "ablation.nc", "attention.json", "report.html"):
        check_writable(Path(out) / name)


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
    "run": _run,
    "transfer": _transfer,
}
