"""Language confusion of replies: line, word and language-confusion pass rate.

Source: Marchisio et al., Understanding and Mitigating Language Confusion in LLMs,
arXiv 2406.20052; rules of its released `compute_metrics.py`, in this order for each reply:

1. cut at the first ``\\nQ:`` (a base model going on with its few-shot prompt), strip;
2. delete ASCII punctuation and ``،``, put a space for ``—``;
3. lines end at ``\\n``; lines of fewer than 5 words are left out (zh: words by jieba, ja: by
   fugashi, all others, Korean and Thai too: by white space);
4. a reply with no line left, an empty one too, counts nowhere;
5. a line is right if the detector names the wanted language with more than 0.3.

    LPR  = 1 - replies with a wrong line / counted replies
    WPR  = 1 - replies with an English word / counted replies whose every line is right
    LCPR = 2 LPR WPR / (LPR + WPR)

WPR only for ar, hi, ja, ko, ru, zh. A word is English if it is in a list of lower-case words of
more than 3 letters; words are compared as written, so ``Hello`` is not found. Where nothing was
counted the released code gives 1.0; here it is None, as is any rate without a denominator. LCPR,
which the released code does not compute, is 0 where LPR is; else its means would leave out the very
languages that failed.

Departures by default, each with a switch in `Rules`: the word list is not ours to ship, so any
lower-case word of more than 3 letters a to z counts as English (a French loan word too, so WPR is
at most the reference's); zh and ja are cut into pairs of characters unless ``segment`` is
``reference``; the detector is the caller's, and 0.3 was set with fastText.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from langheads.io.arguments import asked_name
from langheads.io.errors import InputError
from langheads.text.identify import Detector

WPR_LANGUAGES = ("ar", "hi", "ja", "ko", "ru", "zh")
"""Languages in other scripts, for which the released code counts English words."""

_DELETED = str.maketrans({**dict.fromkeys(string.punctuation + "،", None), "—": " "})
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_CJK}]{{1,2}}|[^\s{_CJK}]+")


def looks_english(word: str) -> bool:
    """Whether a word is more than 3 letters, all of a to z."""
    return re.fullmatch("[a-z]{4,}", word) is not None


def word_list(path: str | Path) -> Callable[[str], bool]:
    """The released code's check, from a file of one English word a line.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read word list {path}: {error}") from error
    words = {line.strip() for line in lines}
    return frozenset(word for word in words if word.islower() and len(word) > 3).__contains__


@dataclass(frozen=True)
class Rules:
    """Each choice that changes the rates; the defaults are the released code's, except two.

    Attributes:
        min_words: lines of fewer words are left out.
        min_confidence: the detector must be surer than this.
        lines: ``newline`` ends lines at ``\\n`` only; ``any`` at every line end that Python knows;
            ``none`` takes the reply as one line.
        empty: replies without a counted line are left out (``skip``) or count as wrong
            (``wrong``).
        cut_at: a reply is cut here; None cuts nowhere.
        punctuation: whether punctuation is deleted first.
        english: which words are English; `word_list` of the released list is the reference.
        segment: ``pairs`` cuts zh and ja into pairs of characters; ``reference`` uses jieba and
            fugashi, which must be installed; ``space`` counts white space there, too.
        wpr_languages: languages that get a WPR.
    """

    min_words: int = 5
    min_confidence: float = 0.3
    lines: str = "newline"
    empty: str = "skip"
    cut_at: str | None = "\nQ:"
    punctuation: bool = True
    english: Callable[[str], bool] = looks_english
    segment: str = "pairs"
    wpr_languages: tuple[str, ...] = WPR_LANGUAGES

    def __post_init__(self) -> None:
        for name, allowed in (
            ("lines", ("newline", "any", "none")),
            ("empty", ("skip", "wrong")),
            ("segment", ("pairs", "reference", "space")),
        ):
            asked_name(name, getattr(self, name), allowed)
        if not (0 <= self.min_confidence <= 1 and self.min_words >= 0):
            raise InputError(
                f"min_confidence {self.min_confidence} and min_words {self.min_words} asked for; "
                "min_confidence is a share from 0 to 1, min_words a number from 0"
            )


@dataclass(frozen=True)
class Judged:
    """One reply: its counted lines, how many of them are wrong, and whether a word is English."""

    lines: int
    wrong: int
    english: bool


@dataclass(frozen=True)
class Confusion:
    """Rates of the replies in one wanted language; None where there is nothing to divide by."""

    lpr: float | None  # line pass rate, share of counted replies
    wpr: float | None  # word pass rate, share of replies that passed by line
    # Harmonic mean of both; 0 where LPR is 0; None in a language that gets no WPR.
    lcpr: float | None
    line_accuracy: float | None  # mean over counted replies of the share of right lines
    counted: int  # replies that were judged
    skipped: int  # replies without a counted line


def language_confusion(
    texts: Sequence[str], language: str, detect: Detector, rules: Rules | None = None
) -> Confusion:
    """Pass rates of replies that should be in one language.

    Args:
        texts: replies.
        language: the wanted one, a code of the detector's.
        detect: see `langheads.text.detector`.
        rules: the released code's by default, see the top of this module.

    Raises:
        InputError: a language that the detector does not know, so that nothing could pass.

    Example:
        >>> from langheads.text import detector
        >>> replies = ["Das ist ein Satz mit sieben Wörtern.", "This is a sentence of seven words."]
        >>> language_confusion(replies, "de", detector(candidates=["de", "en"])).lpr
        0.5
    """
    rules = rules or Rules()
    require_known([language], detect)
    return pass_rates([judge(text, language, detect, rules) for text in texts], language, rules)


def require_known(wanted: Iterable[str | None], detect: Detector) -> None:
    """Refuse a wanted language that the detector does not know: nothing could be right."""
    unknown = [w for w in dict.fromkeys(wanted) if w is not None and w not in detect.languages]
    if unknown:
        raise InputError(
            f"language {', '.join(unknown)} is wanted, but the detector answers with "
            f"{', '.join(detect.languages)} only"
        )


def pass_rates(judged: Sequence[Judged], language: str, rules: Rules) -> Confusion:
    """Rates of replies that were judged already, see `language_confusion`."""
    counted = [reply for reply in judged if counts(reply, rules)]
    passed = [reply for reply in counted if passes(reply)]
    lpr = len(passed) / len(counted) if counted else None
    wpr, lcpr = None, lpr if language in rules.wpr_languages else None
    if lpr and language in rules.wpr_languages:
        wpr = 1 - sum(reply.english for reply in passed) / len(passed)
        lcpr = 2 * lpr * wpr / (lpr + wpr)
    shares = [1 - reply.wrong / reply.lines if reply.lines else 0.0 for reply in counted]
    return Confusion(
        lpr,
        wpr,
        lcpr,
        sum(shares) / len(shares) if shares else None,
        len(counted),
        sum(reply.lines == 0 for reply in judged),
    )


def counts(reply: Judged, rules: Rules) -> bool:
    """Whether a reply counts in the denominator of LPR."""
    return reply.lines > 0 or rules.empty == "wrong"


def passes(reply: Judged) -> bool:
    """Whether a reply has a counted line and no wrong one."""
    return reply.lines > 0 and not reply.wrong


def mean_confusion(by_language: Mapping[str, Confusion]) -> Confusion:
    """The mean over languages of each rate, over the languages that have it.

    LCPR is the mean of the languages' LCPR, not that of mean LPR and mean WPR.
    """

    rates: dict[str, float | None] = {}
    for name in ("lpr", "wpr", "lcpr", "line_accuracy"):
        values = [getattr(found, name) for found in by_language.values()]
        values = [value for value in values if value is not None]
        rates[name] = sum(values) / len(values) if values else None
    return Confusion(
        **rates,
        counted=sum(found.counted for found in by_language.values()),
        skipped=sum(found.skipped for found in by_language.values()),
    )


def judge(text: str, language: str, detect: Detector, rules: Rules) -> Judged:
    """Rules 1 to 5 on one reply."""
    if rules.cut_at is not None:
        text = text.split(rules.cut_at)[0]
    text = text.strip()
    if rules.punctuation:
        text = text.translate(_DELETED)
    lines = {
        "newline": lambda: text.split("\n"),
        "any": text.splitlines,
        "none": lambda: [" ".join(text.split())],
    }[rules.lines]()
    kept = [(line, words(line, language, rules.segment)) for line in lines]
    kept = [(line, found) for line, found in kept if len(found) >= max(1, rules.min_words)]
    right = [right_language(line, language, detect, rules.min_confidence) for line, _ in kept]
    english = any(rules.english(word.strip()) for _, found in kept for word in found)
    return Judged(len(kept), right.count(False), english)


def words(line: str, language: str, segment: str = "pairs") -> list[str]:
    """The words of a line as they are counted, see `Rules.segment`, which may need another package.

    Example:
        >>> words("我们在桥边见面 today", "zh")
        ['我们', '在桥', '边见', '面', 'today']
    """
    if language not in ("zh", "ja") or segment == "space":
        return line.split()
    if segment == "pairs":
        return _PIECE.findall(line)
    return list(_segmenter(language)(line))


@cache
def _segmenter(language: str) -> Callable[[str], Iterable[str]]:
    package = {"zh": "jieba", "ja": "fugashi"}[language]
    try:
        module = import_module(package)
    except ImportError as error:
        raise InputError(
            f"segment reference needs {package} for {language}; pip install "
            "'langheads[segment]', or use segment pairs"
        ) from error
    if language == "zh":
        return lambda line: module.cut(line)
    tagger = module.Tagger("-O wakati -b 50000")
    return lambda line: tagger.parse(line).split()


def right_language(text: str, language: str, detect: Detector, min_confidence: float = 0.3) -> bool:
    """Whether the reply as a whole is in the wanted language; an empty one is not."""
    found, share = detect(text)
    return bool(text.strip()) and found == language and share > min_confidence


def switch_rate(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Share of all prompts whose reply was right before and is not after.

    Example:
        >>> switch_rate([True, True, False, False], [True, False, True, False])
        0.25
    """
    pairs = list(zip(before, after, strict=True))
    return sum(b and not a for b, a in pairs) / len(pairs)
