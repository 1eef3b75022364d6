"""langheads: the attention heads that carry a language, found, proven and shown.

Example:
    >>> import langheads
    >>> model = langheads.load("demo")
    >>> scores = langheads.score(model, "texts/", docs=200)          # doctest: +SKIP
    >>> heads = langheads.select(scores)                             # doctest: +SKIP
    >>> proof = langheads.ablate(model, heads, "texts/")             # doctest: +SKIP
    >>> langheads.view.specificity_matrix(proof, "zero").show()      # doctest: +SKIP
"""

from importlib.metadata import version

import lazy_loader

# Importing langheads must not import torch and transformers, which take seconds: a name is
# imported when it is first used. The names stand in `__init__.pyi`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("langheads")
