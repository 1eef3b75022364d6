"""How scripts and data stand inside a page: escaped, and known to its policy by their hashes."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup


def script_json(text: str) -> Markup:
    """JSON that can stand in a script tag: no character of it can end the tag or open a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def csp_hash(script: str) -> str:
    """How a content security policy names a script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def resource(name: str) -> str:
    """A file of this folder."""
    return files("langheads.view").joinpath(name).read_text(encoding="utf-8")
