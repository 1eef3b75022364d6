"""Pictures and the report: functions of saved results, but `show_attention`, which runs the model
for what it shows."""

import lazy_loader

# Imported when first used, from where __init__.pyi says: a picture of a mask brings torch along,
# and no other does.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
