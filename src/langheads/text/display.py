"""Tokens as a reader can read them: whole characters of the text, each shown once.

Tokenizers cut anywhere: byte-level and byte-fallback pieces are parts of a character, and pieces of
Hindi or Thai begin with a vowel sign that cannot stand alone. A display unit is the shortest run of
tokens that ends between two characters, where a letter with its signs, or an emoji with everything
joined to it, is one character. The labels of the units are slices of the text, so joined they are
the text again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from langheads.io.errors import InputError
from langheads.io.records import Text, parse
from langheads.text.documents import beginning, bos_prefix

_JOINER = "\u200d"
# Scripts that are written without spaces: there a unit counts as a word.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@dataclass(frozen=True)
class DisplayTokens:
    """A text's tokens and their display units."""

    ids: tuple[int, ...]  # the tokens
    labels: tuple[str, ...]  # a text a unit
    # The unit's tokens as (start, stop) into `ids`; consecutive, and all of them.
    tokens: tuple[tuple[int, int], ...]
    # The unit's characters as (start, stop) into the text; empty for BOS.
    chars: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def text(self) -> str:
        """The text that the units cover: their labels joined, without BOS."""
        return "".join(
            label
            for label, (start, stop) in zip(self.labels, self.chars, strict=True)
            if start < stop
        )

    def joined(self, starts: Iterable[int]) -> DisplayTokens:
        """Larger units: one from each unit in `starts` up to the next; the first must be 0."""
        bounds = [*starts, len(self)]
        runs = [slice(a, b) for a, b in pairwise(bounds)]
        return DisplayTokens(
            self.ids,
            tuple("".join(self.labels[run]) for run in runs),
            tuple((self.tokens[run][0][0], self.tokens[run][-1][1]) for run in runs),
            tuple((self.chars[run][0][0], self.chars[run][-1][1]) for run in runs),
        )


def display_tokens(tokenizer: Any, text: str, *, bos: bool, max_tokens: int) -> DisplayTokens:
    """Tokenise a text and find its display units; BOS is shown as ``<bos>``.

    A slow tokenizer has no offsets; its pieces are decoded, so labels are slices of the decoded
    text. Tokens beyond `max_tokens` are cut off, BOS included. Refuses a text without tokens
    or with half of a character.

    Example:
        >>> import langheads
        >>> tokenizer = langheads.load("demo").tokenizer
        >>> display_tokens(tokenizer, "a 猫", bos=True, max_tokens=9).labels
        ('<bos>', 'a', ' ', '猫')
    """
    prefix = bos_prefix(tokenizer, bos)
    room = max_tokens - bos
    text = beginning(tokenizer, parse(Text, text, "the text to show"), room + 1)
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids = encoded["input_ids"]
        offsets = [(int(start), int(stop)) for start, stop in encoded["offset_mapping"]]
    else:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        text, offsets = _decoded(tokenizer, ids)
    if not ids[:room]:
        raise InputError(f"the text {text[:40]!r} has no tokens to show")
    groups, chars = _units(text, offsets, min(room, len(ids)))
    shown = DisplayTokens(
        tuple(ids[:room]), tuple(text[a:b] for a, b in chars), tuple(groups), tuple(chars)
    )
    if not bos:
        return shown
    return DisplayTokens(
        (*prefix, *shown.ids),
        ("<bos>", *shown.labels),
        ((0, 1), *((start + 1, stop + 1) for start, stop in shown.tokens)),
        ((0, 0), *shown.chars),
    )


def word_starts(display: DisplayTokens) -> list[int]:
    """The units that begin a word: after BOS, at spaces, and between letters and signs.

    In scripts written without spaces each unit stays by itself.

    Example:
        >>> import langheads
        >>> tokenizer = langheads.load("demo").tokenizer
        >>> display = display_tokens(tokenizer, "The cat.", bos=False, max_tokens=9)
        >>> display.joined(word_starts(display)).labels
        ('The', ' cat', '.')
    """
    starts = [0]
    for i in range(1, len(display)):
        last, first = display.labels[i - 1][-1:], display.labels[i][:1]
        if not last or not first or display.chars[i - 1] == (0, 0):
            starts.append(i)
        elif "".join(display.labels[starts[-1] : i]).isspace():
            # A space belongs to the word after it.
            continue
        elif (
            last.isspace() != first.isspace()
            or _is_letter(last) != _is_letter(first)
            or unicodedata.name(first, "").startswith(_UNSPACED)
        ):
            starts.append(i)
    return starts


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _units(
    text: str, offsets: Sequence[tuple[int, int]], used: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Units of the first `used` tokens: their tokens, and their characters."""
    # Where each token ends: at the furthest character reached so far. Characters of no token, such
    # as the spaces that some offsets leave out, go to the token after them.
    ends, reached = [], 0
    for _, stop in offsets:
        reached = max(reached, stop)
        ends.append(reached)
    # Later tokens that begin before this end share its last character.
    first_after, least = [], len(text)
    for start, stop in reversed(offsets):
        first_after.append(least)
        if start < stop:
            least = min(least, start)
    first_after.reverse()
    groups: list[tuple[int, int]] = []
    chars: list[tuple[int, int]] = []
    token, char = 0, 0
    for i in range(used):
        end = len(text) if i + 1 == len(offsets) else ends[i]
        whole = end > char and first_after[i] >= end and _may_part(text, end)
        if whole or i + 1 == used:
            if i + 1 == used and end <= char and groups:
                # The last tokens add no character of their own.
                groups[-1] = (groups[-1][0], used)
                continue
            groups.append((token, i + 1))
            chars.append((char, end))
            token, char = i + 1, end
    return groups, chars


def _may_part(text: str, at: int) -> bool:
    """Whether the characters on both sides of `at` can stand apart."""
    if at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before == _JOINER or after == _JOINER or "\U0001f3fb" <= after <= "\U0001f3ff":
        return False
    if _is_flag_part(before) and _is_flag_part(after):
        run = 0
        while run < at and _is_flag_part(text[at - 1 - run]):
            run += 1
        return run % 2 == 0
    # A sign must be shown with its letter; emoji tags and variation selectors are such signs too,
    # and so is the vowel AM of Thai and Lao, which Unicode counts as a letter.
    if after in "\u0e33\u0eb3":
        return False
    return unicodedata.category(after)[0] != "M" and not "\U000e0020" <= after <= "\U000e007f"


def _is_flag_part(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _decoded(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The decoded text of the tokens, and the characters of each."""

    def decode(some: Sequence[int]) -> str:
        return tokenizer.decode(some, clean_up_tokenization_spaces=False)

    text = decode(ids)
    offsets, start = [], 0
    for count in range(1, len(ids) + 1):
        prefix = decode(ids[:count])
        # Part of a character decodes to the replacement character, which is not in the text.
        stop = len(prefix) if text.startswith(prefix) else start
        offsets.append((start, stop))
        start = max(start, stop)
    return text, offsets
