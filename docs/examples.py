"""Griffe calls the section of examples "Examples:", docstrings here have one, "Example:"."""

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Reads them all the same."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """One after another, before anything is drawn."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
