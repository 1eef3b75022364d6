"""Scripts and data inside a page: escaped, and allowed by its policy through their hashes."""

import base64
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from langheads.io.files import check_suffix, write_text_atomically


def page(template: str, scripts: Sequence[str], **values: Any) -> str:
    """A page from a template of this folder; everything but Markup is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    values["scripts"] = [Markup(script) for script in scripts]
    values["script_hashes"] = [csp_hash(script) for script in scripts]
    made = environment.from_string(resource(template)).render(values)
    # Half a surrogate pair, which JSON can hold, has no UTF-8.
    return made.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class Framed:
    """A page that shows itself in a notebook, and can be saved."""

    html: str = field(repr=False)
    height: int  # in a notebook, in pixels

    def save(self, path: str | Path) -> Path:
        """Write the page, atomically.

        Raises:
            InputError: another ending than .html, or a folder that cannot be written to.
        """
        check_suffix(path, ".html")
        return write_text_atomically(path, self.html)

    def _repr_html_(self) -> str:
        # A frame keeps styles and names apart from the notebook's and runs the script in every
        # front end; the sandbox keeps it away from the notebook. Plain ASCII reads the same in a
        # page of any charset; the frame's policy checks hashes of scripts, so one wrong letter
        # would leave it blank.
        page = html.escape(self.html).encode("ascii", "xmlcharrefreplace").decode("ascii")
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:{self.height}px;border:0" '
            f'srcdoc="{page}"></iframe>'
        )


def script_json(text: str) -> Markup:
    """JSON for a script tag: none of its characters can end the tag or open a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def csp_hash(script: str) -> str:
    """The name of a script in a content security policy."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def resource(name: str) -> str:
    """A file of this folder."""
    return files("langheads.view").joinpath(name).read_text(encoding="utf-8")
