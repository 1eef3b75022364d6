"""What can go wrong at the public door, one class for each kind of mend.

Every message is one line: what was asked, what was found, what is allowed or what to do. The
command line prints it behind ``error:`` and exits with 2; in Python all are `LangheadsError`.
"""


class LangheadsError(Exception):
    """Base of every error that langheads raises on purpose."""


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
