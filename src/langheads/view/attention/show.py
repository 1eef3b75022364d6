"""Attention in context: which words a head looks at, read in the text itself.

    view = langheads.show_attention(model, "猫在石头上睡觉。", heads, language="zh")

shows itself in JupyterLab, VS Code and Colab; `AttentionView.save` writes a page, or the data
that the report takes.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from langheads.heads import HeadSet
from langheads.io.errors import InputError
from langheads.io.files import write_text_atomically
from langheads.view.attention.choice import Heads, choose, score_name, values
from langheads.view.attention.page import BYTES_A_CELL, MOST_BYTES, attention_page
from langheads.view.attention.patterns import (
    AttentionData,
    AttentionPatterns,
    ShownHead,
    Span,
    pool,
)

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from langheads.text.display import DisplayTokens

Spans = Mapping[str, str | tuple[int, int]]
logger = logging.getLogger("langheads")


@dataclass(frozen=True)
class AttentionView:
    """A picture of attention; in a notebook it shows itself.

    Attributes:
        data: what is drawn; numbers are to be had there.
    """

    data: AttentionData

    def html(self) -> str:
        """The picture as a page of its own, which loads nothing."""
        return attention_page(self.data)

    def save(self, path: str | Path) -> Path:
        """Write a page (``.html``) or the data (``.json``, for the report), atomically.

        Raises:
            InputError: another ending, or a folder that cannot be written to.
        """
        suffix = Path(path).suffix
        if suffix not in (".html", ".json"):
            raise InputError(f"cannot save attention as {path}; allowed are .html and .json")
        return write_text_atomically(path, self.html() if suffix == ".html" else self.data.dumps())

    def _repr_html_(self) -> str:
        # A frame of its own keeps styles and names apart from the notebook's and runs the script
        # in every front end; the sandbox gives it no way to the notebook.
        # Plain ASCII reads the same in a page of any charset; the policy of the frame's page holds
        # scripts to hashes, so one letter read wrongly would leave it blank.
        page = html.escape(self.html()).encode("ascii", "xmlcharrefreplace").decode("ascii")
        lines = max(sum(map(len, c.tokens)) for c in self.data.contexts) // 60
        height = min(760, 430 + 26 * lines)
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:{height}px;border:0" '
            f'srcdoc="{page}"></iframe>'
        )


def show_attention(
    model: TransformerBridge,
    text: str,
    heads: Heads,
    *,
    language: str | None = None,
    top: int = 8,
    scores: xr.Dataset | None = None,
    score: str = "lahis",
    beside: str | None = None,
    gates: HeadSet | Iterable[str | tuple[int, int]] | None = None,
    gate: float = 0.0,
    labels: Sequence[str] | None = None,
    spans: Spans | None = None,
    window: tuple[int, int] | None = None,
    pool_words: bool | None = None,
    max_tokens: int = 512,
    bos: bool | None = None,
    provenance: bool = True,
) -> AttentionView:
    """Attention of chosen heads over a text, read in the text.

    Tokens that are parts of one character are shown as one unit. Attention between units is summed
    over the keys of a unit and averaged over its queries, so rows still sum to 1.

    Args:
        model: the model.
        text: the text.
        heads: a `HeadSet` or names like ``["L3H7"]``; what `select` gave (the specific heads of
            `language`, or of all languages); or scores, of which the `top` heads are taken.
        language: whose heads or scores.
        top: how many heads, of scores; any set is cut to 16.
        scores: gives every head its score; by default `heads` where those are scores.
        score: a variable of the scores ``[language, layer, head]``.
        beside: a second text, shown beside the first, e.g. the same in another language.
        gates: heads to be gated; the same text is shown again under these gates, beside the first.
        gate: their gate, see `gated`.
        labels: names of the texts.
        spans: what to point out, such as answer and facts: label -> part of a text, or characters
            (start, stop) of the first text.
        window: units (start, stop) to show; what lies before is joined into one unit ``…``. A
            shorter text beside shows as many from its end. By default all, or where the page
            would be too large even of words, the last that fit.
        pool_words: join units to words; by default only where the page would be too large.
        max_tokens: texts are cut here.
        bos: prepend BOS; by default as the tokenizer does.
        provenance: store hashes of weights and tokenizer, which the report needs; it reads all
            weights once, unless the model is from the Hub.

    Returns:
        An `AttentionView`; its page has at most 5 MB.

    Raises:
        InputError: heads, span, window or text that cannot be shown; beside and gates together.
        ProvenanceError: heads or scores of a model of another shape.
        InterventionError: the model did not give attention patterns.

    Memory: see `head_patterns`.

    Example:
        >>> import langheads
        >>> model = langheads.load("demo")
        >>> view = langheads.show_attention(model, "The cat sleeps.", ["L1H3", "L2H0"])
        >>> view.data.contexts[0].patterns.shape[0]
        2
    """
    from langheads.model import gated, head_shape
    from langheads.model.attention_patterns import head_patterns
    from langheads.model.loading import describe

    if beside is not None and gates is not None:
        raise InputError("beside and gates were both given; give one")
    shape = head_shape(model)
    chosen, roles = choose(heads, shape, language, top, score)
    if scores is None and isinstance(heads, xr.Dataset):
        scores = heads
    runs = [(text, False)]
    if beside is not None:
        runs.append((beside, False))
    if gates is not None:
        gates = HeadSet(gates, shape)
        runs.append((text, True))
    names = _labels(labels, len(runs), gates, gate)
    displays = [_display(model, each, max_tokens, bos) for each, _ in runs]
    found = []
    for (_, under), display in zip(runs, displays, strict=True):
        import torch

        tokens = torch.tensor(display.ids)
        switch = gated(model, gates, gate) if under and gates is not None else nullcontext()
        with switch:
            found.append(head_patterns(model, tokens, chosen))
    places = [
        _places(spans or {}, each, first=i == 0 or under) for i, (each, under) in enumerate(runs)
    ]
    for label in spans or {}:
        if not any(label in place for place in places):
            raise InputError(f"span {label!r} is not in the text; give a part of it, as written")

    def made(words: bool, last: int | None = None) -> tuple[AttentionPatterns, ...]:
        return tuple(
            _context(name, each, display, pattern, place, window, words, last, first=i == 0)
            for i, (name, (each, _), display, pattern, place) in enumerate(
                zip(names, runs, displays, found, places, strict=True)
            )
        )

    shown = tuple(
        ShownHead(str(head), role, value)
        for head, role, value in zip(
            chosen, roles, values(scores, chosen, roles, language, score), strict=True
        )
    )
    about = describe(model) if provenance else {"model": str(model.cfg.model_name)}
    data = AttentionData(
        shown, made(bool(pool_words)), "" if scores is None else score_name(scores, score), about
    )
    if pool_words is None and data.cells * BYTES_A_CELL > MOST_BYTES:
        logger.warning("tokens are joined to words, to keep the page below 5 MB")
        data = AttentionData(shown, made(True), data.score, about)
    if window is None and data.cells * BYTES_A_CELL > MOST_BYTES:
        words = pool_words is None or pool_words
        last = max(len(context.tokens) for context in data.contexts)
        while data.cells * BYTES_A_CELL > MOST_BYTES and last > 16:
            last = last * 9 // 10
            data = AttentionData(shown, made(words, last), data.score, about)
        logger.warning("only the last %d units are shown, to keep the page below 5 MB", last)
    if data.cells * BYTES_A_CELL > MOST_BYTES:
        raise InputError(
            f"{len(shown)} heads over {' and '.join(str(len(c.tokens)) for c in data.contexts)} "
            "units make a page above 5 MB; give a window, fewer heads or a smaller max_tokens"
        )
    return AttentionView(data)


def _labels(
    labels: Sequence[str] | None, needed: int, gates: HeadSet | None, gate: float
) -> list[str]:
    if labels is not None:
        if len(labels) != needed or isinstance(labels, str):
            raise InputError(f"{len(labels)} labels for {needed} texts; give one each")
        return list(labels)
    if gates is not None:
        return ["nothing gated", f"gate {gate:g} on {gates}"]
    return ["text", "beside"][:needed]


def _display(
    model: TransformerBridge, text: str, max_tokens: int, bos: bool | None
) -> DisplayTokens:
    from langheads.text.display import display_tokens

    if model.tokenizer is None:
        raise InputError("the model has no tokenizer; load it from a folder that has one")
    if max_tokens < 2:
        raise InputError(f"max_tokens {max_tokens} asked for; at least 2 are needed")
    if bos is None:
        bos = bool(model.cfg.tokenizer_prepends_bos)
    limit = min(max_tokens, int(model.cfg.n_ctx or max_tokens))
    display = display_tokens(model.tokenizer, text, bos=bos, max_tokens=limit)
    if max(display.ids) >= model.cfg.d_vocab:
        raise InputError(
            f"the tokenizer gives token {max(display.ids)}, but the model has "
            f"{model.cfg.d_vocab}; use --no-bos if its tokenizer has no BOS"
        )
    return display


def _places(spans: Spans, text: str, first: bool) -> dict[str, tuple[int, int]]:
    """Characters (start, stop) of each span that this text has."""
    places = {}
    for label, part in spans.items():
        if isinstance(part, str):
            start = text.find(part) if part else -1
            stop = start + len(part)
        elif first:
            start, stop = part
            if not 0 <= start < stop <= len(text):
                raise InputError(
                    f"span {label!r} is {start} to {stop}, but the text has {len(text)} characters"
                )
        else:
            continue
        if start >= 0:
            places[label] = (start, stop)
    return places


def _context(
    name: str,
    text: str,
    display: DisplayTokens,
    pattern: np.ndarray,
    places: Mapping[str, tuple[int, int]],
    window: tuple[int, int] | None,
    words: bool,
    last: int | None,
    *,
    first: bool,
) -> AttentionPatterns:
    from langheads.text.display import word_starts

    notes = []
    if display.chars[-1][1] < len(text):
        notes.append(f"The text is cut after {len(display.ids)} tokens.")
    if words:
        display = display.joined(word_starts(display))
        notes.append("Tokens are joined to words.")
    groups, chars, labels = list(display.tokens), list(display.chars), list(display.labels)
    if last is not None and last < len(display):
        window = len(display) - last, len(display)
    if window is not None:
        start, stop = window
        if not first and stop > len(display):
            # A text beside that is shorter shows as many units from its end.
            start, stop = max(0, len(display) - (stop - start)), len(display)
        if not 0 <= start < stop <= len(display):
            raise InputError(
                f"window {start} to {stop} asked for; the text {name} has {len(display)} units"
            )
        groups, chars, labels = groups[:stop], chars[:stop], labels[:stop]
        if start > 0:
            groups = [(0, groups[start - 1][1]), *groups[start:]]
            chars = [(0, 0), *chars[start:]]
            labels = ["…", *labels[start:]]
        notes.append(
            f"Shown are units {start} to {stop - 1} of {len(display)}; … is all before them."
        )
    found = []
    for label, (start, stop) in places.items():
        units = [i for i, (a, b) in enumerate(chars) if a < stop and b > start and a < b]
        if units:
            found.append(Span(label, units[0], units[-1] + 1))
        else:
            notes.append(f"{label!r} is not in the part that is shown.")
    return AttentionPatterns(
        name, tuple(labels), pool(pattern, groups), tuple(found), " ".join(notes)
    )
