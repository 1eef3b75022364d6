"""Attention in context, which the page's own script draws."""

from langheads.view.attention.patterns import AttentionData
from langheads.view.contents import Kind

_SHOWS = (
    "How to read it: choose a head, then point at a token; shaded are the tokens that it "
    "looks at. These are single texts, picked to look at and not to prove anything: where "
    "a head looks does not say what it passes on.",
)
KIND = Kind(
    "attention", "Attention in context", _SHOWS, load=AttentionData.load, anchor="attention-of"
)
