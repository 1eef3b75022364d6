"""What docstrings here have that griffe reads otherwise."""

import re
from typing import Any

import griffe

_JOINT = re.compile(r"^( +)(\w+(?:, \w+)+): (.+(?:\n\1 +.+)*)", re.MULTILINE)


class OwnDocstrings(griffe.Extension):
    """The section "Example:", and arguments that are told of together, ``bos, chat: ...``."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """One after another, before anything is drawn."""
        if obj.docstring:
            told = obj.docstring.value.replace("Example:\n", "Examples:\n")
            obj.docstring.value = _JOINT.sub(_each, told)


def _each(joint: re.Match[str]) -> str:
    indent, names, told = joint.groups()
    return "\n".join(f"{indent}{name}: {told}" for name in names.split(", "))
