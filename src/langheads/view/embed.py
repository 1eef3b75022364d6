"""How scripts and data stand inside a page: escaped, and known to its policy by their hashes."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def page(template: str, scripts: Sequence[str], **values: Any) -> str:
    """A page from a template of this folder; everything but Markup is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    values["scripts"] = [Markup(script) for script in scripts]
    values["script_hashes"] = [_csp_hash(script) for script in scripts]
    html = environment.from_string(resource(template)).render(values)
    # Half of a surrogate pair, which JSON can hold, has no UTF-8.
    return html.encode("utf-8", "replace").decode("utf-8")


def script_json(text: str) -> Markup:
    """JSON that can stand in a script tag: no character of it can end the tag or open a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _csp_hash(script: str) -> str:
    """How a content security policy names a script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def resource(name: str) -> str:
    """A file of this folder."""
    return files("langheads.view").joinpath(name).read_text(encoding="utf-8")
