"""Attention as HTML: one page that loads nothing, and its parts for the report."""

import json
from collections.abc import Sequence

from markupsafe import Markup

from langheads.view.attention.patterns import AttentionData
from langheads.view.embed import page, resource, script_json
from langheads.view.table import readable

# The most bytes of a page; a stored value takes 4/3 of a byte in base64.
MOST_BYTES = 4_800_000
BYTES_A_CELL = 4 / 3


def attention_page(data: AttentionData) -> str:
    """A whole page with one view: 20 kB and 4/3 of a byte a value, at most 5 MB."""
    joined = all("joined to words" in context.note for context in data.contexts)
    return page(
        "attention.html.j2",
        attention_scripts(),
        unit="word" if joined else "token",
        model=readable(data.provenance.get("model")),
        css=Markup(resource("attention.css")),
        data=attention_json([data]),
    )


def attention_scripts() -> list[str]:
    """The scripts that draw views of attention."""
    return [resource("attention.js")]


def attention_json(views: Sequence[AttentionData]) -> Markup:
    """The views as JSON that can stand in a script tag."""
    return script_json(json.dumps([view.document() for view in views]))
