"""Attention in context: which words a head looks at, read in the text itself.

    view = langheads.show_attention(model, "猫在石头上睡觉。", heads, language="zh")

shows itself in JupyterLab, VS Code and Colab; `AttentionView.save` writes a page, or the data
that the report takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from langheads.heads import HeadSet, LanguageHeads
from langheads.heads.given import ByLanguage, Named
from langheads.heads.same_model import require_same_model
from langheads.io.cost import spent
from langheads.io.errors import InputError, logger
from langheads.io.files import write_text_atomically
from langheads.io.sources import made_from
from langheads.io.tables import Tabular
from langheads.view.attention.choice import Heads, choose, score_name, values
from langheads.view.attention.circuitsvis import circuitsvis_page
from langheads.view.attention.page import BYTES_A_CELL, MOST_BYTES, attention_page
from langheads.view.attention.patterns import AttentionData, ShownHead
from langheads.view.attention.texts import ReadText, Spans, display, spans_in
from langheads.view.embed import Framed

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class AttentionView(Tabular):
    """A picture of attention; in a notebook it shows itself.

    Attributes:
        data: the drawn numbers.
    """

    data: AttentionData

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        return self.data._rows()

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

    def circuitsvis(self) -> Framed:
        """The same drawn by circuitsvis: its own view of every head, texts side by side.

        It loads nothing, shows any text as text, and follows the reader's light or dark setting.

        Returns:
            A page of 0.6 MB that shows itself in a notebook; its ``save`` writes it.

        Raises:
            InputError: more tokens and heads than circuitsvis can draw.
        """
        return Framed(circuitsvis_page(self.data), self._height)

    @property
    def _height(self) -> int:
        texts = ["".join(context.tokens) for context in self.data.contexts]
        beside = min(2, len(texts))
        lines = max(text.count("\n") + beside * len(text) // 60 for text in texts)
        return min(840, 530 + 30 * lines)

    def _repr_html_(self) -> str:
        return Framed(self.html(), self._height)._repr_html_()


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
    gates: Named | ByLanguage | None = None,
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
        heads: a `HeadSet` or names like ``["L3H7"]``; the result of `select` (the specific heads of
            `language`, or of all languages); or scores, of which the `top` heads are taken.
        language: the language of heads or scores.
        top: how many heads, of scores; any set is cut to 16.
        scores: gives every head its score; by default `heads` where those are scores.
        score: a variable of the scores ``[language, layer, head]``.
        beside: a second text, shown beside the first, e.g. the same in another language.
        gates: heads, or those of one language, to be gated; the same text is shown again under
            these gates, beside the first.
        gate: their gate, see `gated`.
        labels: names of the texts.
        spans: parts to highlight, such as answer and facts: label -> part of a text, or characters
            (start, stop) of the first text.
        window: units (start, stop) to show; units before are joined into one, ``…``. A shorter
            second text shows as many from its end. By default all, or where the page would be too
            large even with words, the last that fit.
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
    from langheads.model import describe, head_shape
    from langheads.model.shape import heads_of

    if beside is not None and gates is not None:
        raise InputError("beside and gates were both given; give one")
    shape = head_shape(model)
    about: dict[str, Any] = {**describe(model)}
    for each in (heads, scores):
        if isinstance(each, LanguageHeads) and each.provenance:
            require_same_model("the head set", about, each.provenance)
        elif isinstance(each, xr.Dataset) and "weight_hash" in each.attrs:
            require_same_model("the scores file", about, each.attrs)
    chosen, roles = choose(heads, shape, language, top, score)
    if scores is None and isinstance(heads, xr.Dataset):
        scores = heads
    under = None if gates is None else heads_of(model, gates)
    texts = [
        text,
        *([beside] if beside is not None else []),
        *([text] if under is not None else []),
    ]
    named = _labels(labels, len(texts), under, gate)
    shown = [display(model, each, max_tokens, bos) for each in texts]
    spans = spans or {}
    read = []
    for i, (label, each, units) in enumerate(zip(named, texts, shown, strict=True)):
        # The second text is another one, or the first again under the gates.
        pattern = _patterns(model, units.ids, chosen, under if i else None, gate)
        is_first = i == 0 or under is not None
        found = spans_in(spans, each, is_first)
        read.append(ReadText(label, each, units, pattern, found, i == 0))
    for label in spans:
        if not any(label in each.spans for each in read):
            raise InputError(f"span {label!r} is not in the text; give a part of it, as written")
    of = values(scores, chosen, roles, language, score)
    rows = tuple(
        ShownHead(str(head), role, value)
        for head, role, value in zip(chosen, roles, of, strict=True)
    )
    said = "" if scores is None else score_name(scores, score)
    about = {k: v for k, v in about.items() if k != "other_weights"}
    about |= made_from(about, heads, scores)
    origin = {**about, **spent()} if provenance else {"model": str(model.cfg.model_name)}

    def made(words: bool, last: int | None = None) -> AttentionData:
        contexts = tuple(each.shown(words, window, last) for each in read)
        return AttentionData(rows, contexts, said, origin)

    return AttentionView(_that_fits(made, pool_words, window is None))


def _patterns(
    model: TransformerBridge, ids: Sequence[int], heads: HeadSet, gates: HeadSet | None, gate: float
) -> Float[np.ndarray, "head query key"]:
    import torch

    from langheads.model import gated
    from langheads.model.attention_patterns import head_patterns

    with nullcontext() if gates is None else gated(model, gates, gate):
        return head_patterns(model, torch.tensor(ids), heads)


def _that_fits(
    made: Callable[..., AttentionData], pool_words: bool | None, may_cut: bool
) -> AttentionData:
    """The whole view, else as words, else its last units: the first that fits a page of 5 MB."""

    def too_large(data: AttentionData) -> bool:
        return data.cells * BYTES_A_CELL > MOST_BYTES

    data = made(bool(pool_words))
    if pool_words is None and too_large(data):
        logger.warning("tokens are joined to words, to keep the page below 5 MB")
        data = made(True)
    if may_cut and too_large(data):
        words = pool_words is None or pool_words
        last = max(len(context.tokens) for context in data.contexts)
        while too_large(data) and last > 16:
            last = last * 9 // 10
            data = made(words, last)
        logger.warning("only the last %d units are shown, to keep the page below 5 MB", last)
    if too_large(data):
        raise InputError(
            f"{len(data.heads)} heads over "
            f"{' and '.join(str(len(c.tokens)) for c in data.contexts)} "
            "units make a page above 5 MB; give a window, fewer heads or a smaller max_tokens"
        )
    return data


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
