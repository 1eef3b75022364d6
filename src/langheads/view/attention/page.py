"""Attention as HTML: one page that loads nothing, and the parts of it that the report takes.

circuitsvis' own renderer loads its JavaScript from the network and puts text into a script tag
unescaped, so only its bundled file is used, and data goes into the page as escaped JSON.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from langheads.io.errors import InputError
from langheads.view.attention.patterns import AttentionData, AttentionPatterns
from langheads.view.embed import page, resource, script_json

# A view stays below this in bytes of page, of which a stored value takes 4/3 in base64.
MOST_BYTES = 4_800_000
BYTES_A_CELL = 4 / 3
# circuitsvis' AttentionHeads makes an object a cell of every head, drawn once small and once large:
# seconds beyond this many. It also strips spaces, marks no spans and shows one text. So the text
# view is drawn by attention.js, and circuitsvis' matrices stand below small views.
_MOST_MATRIX_CELLS = 20_000


def attention_page(data: AttentionData) -> str:
    """A whole page with one view: 1.4 MB with circuitsvis for a small view, at most 5 MB."""
    return page(
        "attention.html.j2",
        attention_scripts([data]),
        model=str(data.provenance.get("model", "model unknown")),
        css=Markup(resource("attention.css")),
        data=attention_json([data]),
    )


def attention_scripts(views: Sequence[AttentionData]) -> list[str]:
    """The scripts that draw these views, circuitsvis once and only where a view uses it."""
    small = any(_matrices(view, context) for view in views for context in view.contexts)
    return [*([_circuitsvis()] if small else []), resource("attention.js")]


def attention_json(views: Sequence[AttentionData]) -> Markup:
    """The views as JSON that can stand in a script tag."""
    documents = [view.document() for view in views]
    for view, document in zip(views, documents, strict=True):
        for context, drawn in zip(view.contexts, document["contexts"], strict=True):
            drawn["matrices"] = _matrices(view, context)
    return script_json(json.dumps(documents))


def _matrices(view: AttentionData, context: AttentionPatterns) -> bool:
    return (len(view.heads) + 1) * len(context.tokens) ** 2 <= _MOST_MATRIX_CELLS


@cache
def _circuitsvis() -> str:
    # Found, not imported: it would bring torch along.
    package = find_spec("circuitsvis")
    if package is None or package.origin is None:
        raise InputError("circuitsvis is not installed; install it for pictures of attention")
    text = (Path(package.origin).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    text = text.replace("</script", "<\\/script")
    # The map of the sources is another file.
    return text.split("\n//# sourceMappingURL", 1)[0]
