"""Pictures and the report: functions of saved results; only `show_attention` runs a model."""

import lazy_loader

# Imported when first used, as listed in __init__.pyi: only a picture of a mask imports torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
