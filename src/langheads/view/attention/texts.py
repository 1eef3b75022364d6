"""Texts as a view shows them: their display units, spans, windows, and the attention over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from langheads.io.errors import InputError
from langheads.text.display import DisplayTokens, display_tokens, word_starts
from langheads.view.attention.patterns import AttentionPatterns, Span, pool

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Spans = Mapping[str, str | tuple[int, int]]


@dataclass(frozen=True)
class ReadText:
    """A text that a model read."""

    label: str  # a name for the text
    text: str
    display: DisplayTokens  # its display units
    pattern: Float[np.ndarray, "head query key"]  # attention over its tokens
    spans: Mapping[str, tuple[int, int]]  # characters (start, stop) of each highlighted part
    is_first: bool  # whether it is the first text, which windows are for

    def shown(
        self, words: bool, window: tuple[int, int] | None, last: int | None
    ) -> AttentionPatterns:
        """The text as units or words, or the window of these or the `last` ones."""
        display, notes = self.display, []
        if display.chars[-1][1] < len(self.text):
            notes.append(f"The text is cut after {len(display.ids)} tokens.")
        if words:
            display = display.joined(word_starts(display))
            notes.append("Tokens are joined to words.")
        groups, chars, labels = list(display.tokens), list(display.chars), list(display.labels)
        if last is not None and last < len(display):
            window = len(display) - last, len(display)
        if window is not None:
            start, stop = self._within(window, len(display))
            groups, chars, labels = groups[:stop], chars[:stop], labels[:stop]
            if start > 0:
                groups = [(0, groups[start - 1][1]), *groups[start:]]
                chars = [(0, 0), *chars[start:]]
                labels = ["…", *labels[start:]]
            notes.append(
                f"Shown are units {start} to {stop - 1} of {len(display)}; … is all before them."
            )
        found = []
        for label, (start, stop) in self.spans.items():
            units = [i for i, (a, b) in enumerate(chars) if a < stop and b > start and a < b]
            if units:
                found.append(Span(label, units[0], units[-1] + 1))
            else:
                notes.append(f"{label!r} is not in the part that is shown.")
        pooled = pool(self.pattern, groups)
        return AttentionPatterns(self.label, tuple(labels), pooled, tuple(found), " ".join(notes))

    def _within(self, window: tuple[int, int], units: int) -> tuple[int, int]:
        start, stop = window
        if not self.is_first and stop > units:
            # A shorter second text shows as many units from its end.
            start, stop = max(0, units - (stop - start)), units
        if not 0 <= start < stop <= units:
            raise InputError(
                f"window {start} to {stop} asked for; the text {self.label} has {units} units"
            )
        return start, stop


def display(
    model: TransformerBridge, text: str, max_tokens: int, bos: bool | None
) -> DisplayTokens:
    """The display units of a text's first tokens; refuses unusable texts and numbers."""
    # Imports torch, which a saved view does not need.
    from langheads.model import check_tokens, how_to_read

    tokenizer, bos, limit = how_to_read(model, max_tokens, bos)
    if max_tokens < 2:
        raise InputError(f"max_tokens {max_tokens} asked for; at least 2 are needed")
    found = display_tokens(tokenizer, text, bos=bos, max_tokens=limit)
    check_tokens(model, found.ids, "the text")
    return found


def spans_in(spans: Spans, text: str, is_first: bool) -> dict[str, tuple[int, int]]:
    """Characters (start, stop) of each span that this text has; numbers are of the first text."""
    found = {}
    for label, part in spans.items():
        if isinstance(part, str):
            start = text.find(part) if part else -1
            stop = start + len(part)
        elif is_first:
            start, stop = part
            if not 0 <= start < stop <= len(text):
                raise InputError(
                    f"span {label!r} is {start} to {stop}, but the text has {len(text)} characters"
                )
        else:
            continue
        if start >= 0:
            found[label] = (start, stop)
    return found
