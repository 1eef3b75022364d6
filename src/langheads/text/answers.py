"""How well a reply answers a question: exact match, F1 and substring, in any script.

SQuAD's measures (arXiv 1606.05250) with its normalisation made Unicode-aware: NFC, lower case by
`str.casefold`, characters of the categories P (punctuation) and S (symbols) removed where SQuAD
removes those of ASCII, articles removed for the languages below, white space collapsed. Combining
marks (category M) stay: they are the vowels of Hindi.

Articles are those of the MLQA evaluation script (arXiv 1910.07475) for English, German, Spanish
and Vietnamese; Arabic, whose article is written onto the noun, is left as it is. F1 counts words,
and characters in Chinese, Japanese and Thai, which write no spaces between words (MLQA splits
mixed text: Chinese by character, the rest by word).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = {
    "en": "a an the",
    "de": "ein eine einen einem eines einer der die das den dem des",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
}
# ISO 639-1 and 639-3 names.
_NO_SPACES = {"zh", "zho", "cmn", "yue", "ja", "jpn", "th", "tha"}
_ALSO = {"eng": "en", "deu": "de", "spa": "es", "vie": "vi"}


def normalise(text: str, language: str) -> str:
    """A text without the parts that do not count in an answer; unchanged where nothing would be
    left.

    In a language's code anything after ``-`` or ``_`` is ignored (``zh-CN``, ``zho_Hans``).

    Example:
        >>> normalise("The  «Eiffel» Tower!", "en"), normalise("हाँ।", "hi")
        ('eiffel tower', 'हाँ')
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    bare = "".join(c for c in folded if unicodedata.category(c)[0] not in "PS")
    code = _code(language)
    articles = _ARTICLES.get(_ALSO.get(code, code), "").split()
    kept = " ".join(word for word in bare.split() if word not in articles)
    return kept or " ".join(folded.split())


def exact_match(reply: str, answer: str, language: str) -> float:
    """1 where reply and answer are the same after normalisation, else 0."""
    return float(normalise(reply, language) == normalise(answer, language))


def substring(reply: str, answer: str, language: str) -> float:
    """1 where the answer is part of the reply, both normalised, else 0."""
    return float(normalise(answer, language) in normalise(reply, language))


def f1(reply: str, answer: str, language: str) -> float:
    """Harmonic mean of precision and recall of the reply's words (or characters).

    Example:
        >>> f1("in the old town", "the old harbour", "en")
        0.4
    """
    said, right = (_units(normalise(text, language), language) for text in (reply, answer))
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right)) if shared else 0.0


REPLY_MEASURES: dict[str, Callable[[str, str, str], float]] = {
    "exact-match": exact_match,
    "f1": f1,
    "substring": substring,
}


def best(measure: str, reply: str, answers: Sequence[str], language: str) -> float:
    """The measure against the answer that fits best, as SQuAD does."""
    return max(REPLY_MEASURES[measure](reply, answer, language) for answer in answers)


def _units(text: str, language: str) -> list[str]:
    return list(text.replace(" ", "")) if _code(language) in _NO_SPACES else text.split()


def _code(language: str) -> str:
    return re.split("[-_]", language)[0].lower()
