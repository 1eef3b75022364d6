"""circuitsvis' own view of each head, text beside text, in a page that is safe to share.

Its Python renderer loads its JavaScript from the network and puts texts into a script unescaped;
its view sets tokens as HTML, and is drawn for a white page. So its bundled file is used, compressed
(0.5 MB instead of 1.3), tokens are escaped first, and a dark page inverts its colours.
"""

import base64
import gzip
import html
import json
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from langheads.io.errors import InputError
from langheads.view.attention.patterns import AttentionData
from langheads.view.embed import csp_hash, page, resource, script_json

# It colours every cell of every head again whenever a pointer moves; with more cells for seconds.
_MOST_CELLS = 20_000
# They join letters or keep them apart.
_JOINERS = "\u200c\u200d"


def circuitsvis_page(data: AttentionData) -> str:
    """A whole page with circuitsvis' AttentionPatterns of every text, side by side, if it can draw
    so many tokens and heads."""
    for context in data.contexts:
        if (cells := len(data.heads) * len(context.tokens) ** 2) > _MOST_CELLS:
            raise InputError(
                f"{len(data.heads)} heads over {len(context.tokens)} tokens are {cells} cells, and "
                f"circuitsvis draws at most {_MOST_CELLS}; give fewer heads, or a window"
            )
    document = data.document()
    for context, drawn in zip(data.contexts, document["contexts"], strict=True):
        drawn["tokens"] = [_safe(token) for token in context.tokens]
    source, packed = _library()
    return page(
        "circuitsvis.html.j2",
        [resource("circuitsvis.js")],
        model=str(data.provenance.get("model", "model unknown")),
        library_hash=csp_hash(source),
        library=packed,
        data=script_json(json.dumps(document)),
    )


def _safe(token: str) -> str:
    """A token as HTML that only shows it; invisible characters by their number."""
    shown = (
        f"[U+{ord(c):04X}]"
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in _JOINERS
        else c
        for c in token
    )
    return html.escape("".join(shown)).replace(" ", "&nbsp;")


@cache
def _library() -> tuple[str, str]:
    """circuitsvis' script, plain and compressed."""
    # Found, not imported, since it would import torch.
    package = find_spec("circuitsvis")
    if package is None or package.origin is None:
        raise InputError("circuitsvis is not installed; install it for its pictures of attention")
    text = (Path(package.origin).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    # Without the source map, which is another file.
    text = text.split("\n//# sourceMappingURL", 1)[0]
    return text, base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")
