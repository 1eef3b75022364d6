"""langheads: the attention heads that carry a language, found, proven and shown.

Example:
    >>> import langheads
    >>> model = langheads.load("demo")
    >>> scores = langheads.score(model, "texts/", docs=8)
    >>> heads = langheads.select(scores)
    >>> proof = langheads.ablate(model, heads, "texts/", docs=4, n_controls=5)
    >>> figure = langheads.view.specificity_matrix(proof, "zero")
"""

from importlib.metadata import version

import lazy_loader

# Importing langheads must not import torch and transformers, which take seconds: a name is
# imported when it is first used. The names stand in `__init__.pyi`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("langheads")
