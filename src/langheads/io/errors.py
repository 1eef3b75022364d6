"""Errors of the public functions, one class for each kind of remedy.

Every message is one line: what was asked, what was found, what is allowed or what to do. The
command line prints it behind ``error:`` and exits with 2; in Python all are `LangheadsError`.
"""

import logging
import re


def printable(text: str) -> str:
    """The text on one line, with a picture for each character that a terminal would act on.

    Example:
        >>> printable("a\\n\\x1b[2J")
        'a ␛[2J'
    """
    shown = text.replace("\n", " ")
    return _STEERING.sub(lambda c: chr(0x2400 + ord(c[0])) if c[0] < " " else "\ufffd", shown)


_MOST = 1000
# Control characters, and those that change the direction of text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Plain(logging.Filter):
    """Makes names from files in warnings printable."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), None
        return True


logger = logging.getLogger("langheads")
"""The package's logger."""
logger.addFilter(_Plain())


class LangheadsError(Exception):
    """Base of every error that langheads raises on purpose; its message is one line."""

    def __str__(self) -> str:
        words = printable(super().__str__())
        # A number in a file can have thousands of digits.
        return words if len(words) < _MOST else f"{words[: _MOST - 2]}…"


class InputError(LangheadsError, ValueError):
    """An argument, a text or a file that cannot be used as it is."""


class ModelError(LangheadsError):
    """A model that cannot be loaded, or that has no attention heads at ``hook_z``."""


class InterventionError(LangheadsError, RuntimeError):
    """A hook that did not fire, fired the wrong number of times, or saw another shape."""


class NonFiniteError(LangheadsError, ArithmeticError):
    """A loss or a gradient that is NaN or infinite."""


class ProvenanceError(LangheadsError, ValueError):
    """Results, head sets, models or texts that do not belong together."""


class OutOfMemoryError(LangheadsError, MemoryError):
    """A single document does not fit in memory."""
