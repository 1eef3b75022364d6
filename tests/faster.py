"""What libraries find out again and again is found out once; no result depends on it.

Without this the tests of pages take a tenth longer.
"""

import sys
from functools import cache

import plotly.basedatatypes

# plotly takes the name of a property apart each time that it is set.
plotly.basedatatypes._str_to_dict_path_full = cache(plotly.basedatatypes._str_to_dict_path_full)

# In each of 135 hook points of the smallest model TransformerLens looks for others, by every name
# that a module has, twice in a load.
if points := sys.modules.get("transformer_lens.hook_points"):
    points.HookPoint.__dir__ = lambda self: []
