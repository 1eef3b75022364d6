"""The application that all verbs register with."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="langheads",
    help="Find the attention heads that carry a language, and prove whether they do.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Find the attention heads that carry a language, and prove whether they do."""
