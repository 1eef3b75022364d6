"""Chat templates are programs that come with a model. Jinja's sandbox keeps them from files and
from Python, but not from endless loops or texts that fill the memory, so they run in a process of
their own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langheads.io.apart import apart
from langheads.io.errors import InputError

APART = ("transformers.utils.chat_template_utils",)
_MEMORY, _MOST = 2**31, 10**8


def as_chats(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Each prompt as a user's first turn, up to where the model answers; refuses a template that
    fails, or takes too much time or memory."""
    try:
        template, marks = tokenizer.get_chat_template(), tokenizer.special_tokens_map
    except ValueError as error:
        raise _failed(str(error)) from error
    asked = {"template": template, "marks": marks, "prompts": list(prompts)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.json"
        path.write_text(json.dumps(asked, default=str), "utf-8")
        read = apart(f"{__name__}:render", path, seconds=10 + len(prompts) // 100, memory=_MEMORY)
    found = json.loads(read or '"it takes too much time or memory"')
    if isinstance(found, str):
        raise _failed(found)
    return list(found)


def _failed(why: str) -> InputError:
    return InputError(
        f"the chat template of the model's tokenizer failed ({why[:200]}); leave chat off"
    )


def render(path: Path) -> bytes:
    """The template's texts, or what is wrong, as JSON; runs in a process of its own."""
    asked = json.loads(path.read_text("utf-8"))
    try:
        from transformers.utils.chat_template_utils import render_jinja_template

        found: Any = render_jinja_template(
            conversations=[[{"role": "user", "content": prompt}] for prompt in asked["prompts"]],
            chat_template=asked["template"],
            add_generation_prompt=True,
            **asked["marks"],
        )[0]
        return json.dumps(found if sum(map(len, found)) <= _MOST else "it says too much").encode()
    except Exception as error:
        # A template can raise anything.
        return json.dumps(str(error) or type(error).__name__).encode()
