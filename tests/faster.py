"""What libraries find out again and again is found out once; no result depends on it.

Without this the tests of pages take a tenth longer.
"""

from functools import cache

import plotly.basedatatypes

# plotly takes the name of a property apart each time that it is set.
plotly.basedatatypes._str_to_dict_path_full = cache(plotly.basedatatypes._str_to_dict_path_full)
