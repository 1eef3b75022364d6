"""The language of a text, by one of several libraries.

A detector is called with a text and returns (language, confidence): an ISO 639-1 code and a share
from 0 to 1. Restricted to candidates, it chooses only among them and its confidences sum to 1
over them; on short replies that is far more reliable than a choice among a hundred languages. But
of n candidates the likeliest has at least 1/n, whatever the text: a threshold of 0.3 rejects
nothing with three, and a reply in a fourth language counts as one of them
(`warn_if_too_few_candidates`).

Confidences of different libraries are not calibrated alike: a threshold for one means something
else for another, so every result names its detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError, logger

UNKNOWN = "unknown"
"""The answer to a text without letters, or to a tie; its confidence is 0."""


@runtime_checkable
class Detector(Protocol):
    """Identifies the language of a text."""

    @property
    def name(self) -> str:
        """Library, version and model, for provenance."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes that it can return."""

    def __call__(self, text: str) -> tuple[str, float]:
        """(language, confidence) of a text."""


@dataclass(frozen=True)
class _Detector:
    """Scores of some languages, as shares of their sum; the largest wins."""

    name: str
    languages: tuple[str, ...]
    scores: Callable[[str], dict[str, float]]

    def __call__(self, text: str) -> tuple[str, float]:
        if not any(character.isalpha() for character in text):
            return UNKNOWN, 0.0
        # Libraries for single lines stop at the first newline or refuse it.
        scores = self.scores(" ".join(text.split()))
        allowed = {language: scores.get(language, 0.0) for language in self.languages}
        best, second = sorted(allowed, key=lambda language: -allowed[language])[:2]
        if allowed[best] == allowed[second]:
            return UNKNOWN, 0.0
        return best, allowed[best] / sum(allowed.values())


def detector(
    library: str = "py3langid",
    *,
    candidates: Iterable[str] | None = None,
    model_path: str | Path | None = None,
) -> Detector:
    """A detector of one of three libraries.

    Args:
        library: ``py3langid`` (comes with langheads), ``lingua`` or ``fasttext`` (extras of the
            same names; fastText is what the Language Confusion Benchmark uses).
        candidates: languages to choose among, at least 2; None for all that the library knows.
        model_path: fastText's model file, e.g. ``lid.176.bin``; for fastText only. It is in
            fastText's own binary format, nothing is unpickled.

    Raises:
        InputError: another library, one that is not installed, unknown candidates, or a model
            file missing or not needed.

    Example:
        >>> detect = detector(candidates=["en", "de"])
        >>> detect("Die Katze schläft auf dem warmen Stein.")[0]
        'de'
    """
    makers = {"py3langid": _py3langid, "lingua": _lingua, "fasttext": _fasttext}
    asked_name("detector", library, makers)
    if (model_path is not None) != (library == "fasttext"):
        raise InputError(
            "fasttext needs a model file (model_path, e.g. lid.176.bin), and only fasttext does"
        )
    name, known, among = makers[library](model_path)
    wanted = known if candidates is None else tuple(dict.fromkeys(candidates))
    unknown = [language for language in wanted if language not in known]
    if unknown:
        raise InputError(
            f"{library} does not know language {', '.join(unknown)}; it knows {', '.join(known)}"
        )
    if len(wanted) < 2:
        raise InputError(
            f"candidates {', '.join(wanted) or 'none'}: a detector needs at least 2 languages to "
            "choose among"
        )
    return _Detector(name, wanted, lru_cache(maxsize=2**16)(among(wanted)))


def installed_version(library: str) -> str:
    """The version of a library of `detector`."""
    return version({"lingua": "lingua-language-detector"}.get(library, library))


def warn_if_too_few_candidates(detect: Detector, min_confidence: float) -> None:
    """Warn of a threshold that is too low for so few candidates.

    Only detectors made by `detector` are judged; confidences of others may mean anything.
    """
    n = len(detect.languages)
    if isinstance(detect, _Detector) and 1 / n >= min_confidence:
        logger.warning(
            "the detector chooses among %d languages (%s), so it is always surer than %g: a text "
            "in another language counts as one of these; give more candidates or none",
            n,
            ", ".join(detect.languages),
            min_confidence,
        )


_Scores = Callable[[str], dict[str, float]]
_Made = tuple[str, tuple[str, ...], Callable[[tuple[str, ...]], _Scores]]


def _installed(package: str, distribution: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"detector {distribution} is not installed; pip install 'langheads[{distribution}]'"
        ) from error


@cache
def _langid_identifier() -> Any:
    langid = import_module("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def _py3langid(_: object) -> _Made:
    # Reading the model takes half a second.
    identifier = _langid_identifier()
    known = tuple(sorted(identifier.labels))

    def among(languages: tuple[str, ...]) -> _Scores:
        restricted = copy(identifier)
        restricted.set_languages(languages)
        return lambda text: dict(restricted.rank(text))

    return f"py3langid {installed_version('py3langid')}", known, among


def _lingua(_: object) -> _Made:
    lingua = _installed("lingua", "lingua")
    known = {one.iso_code_639_1.name.lower(): one for one in lingua.Language.all()}

    def among(languages: tuple[str, ...]) -> _Scores:
        chosen = [known[language] for language in languages]
        built = lingua.LanguageDetectorBuilder.from_languages(*chosen).build()

        def scores(text: str) -> dict[str, float]:
            found = built.compute_language_confidence_values(text)
            return {value.language.iso_code_639_1.name.lower(): value.value for value in found}

        return scores

    return f"lingua {installed_version('lingua')}", tuple(sorted(known)), among


def _fasttext(path: str | Path | None) -> _Made:
    fasttext = _installed("fasttext", "fasttext")
    if path is None or not Path(path).is_file():
        raise InputError(f"no fastText model file {path}; give the path of e.g. lid.176.bin")
    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise InputError(f"{path} is not a fastText model: {error}") from error
    labels = tuple(sorted(label.removeprefix("__label__") for label in model.labels))

    def scores(text: str) -> dict[str, float]:
        # Not model.predict, whose wrapping of the result fails with numpy 2.
        found = model.f.predict(f"{text}\n", len(labels), 0.0, "strict")
        return {label.removeprefix("__label__"): float(share) for share, label in found}

    return f"fasttext {installed_version('fasttext')} {Path(path).name}", labels, lambda _: scores
