"""What libraries find out again and again is found out once; no result depends on it.

Without this the tests take a tenth longer.
"""

from functools import cache

import h5netcdf.core
import h5netcdf.dimensions
import plotly.basedatatypes

# plotly takes the name of a property apart each time that it is set.
plotly.basedatatypes._str_to_dict_path_full = cache(plotly.basedatatypes._str_to_dict_path_full)


def _looked_up_once(of):
    """h5netcdf looks a variable up in its file for each of its properties."""
    look_up = of._h5ds.fget

    def _h5ds(self):
        if "_found" not in self.__dict__:
            self.__dict__["_found"] = look_up(self)
        return self.__dict__["_found"]

    of._h5ds = property(_h5ds)


_looked_up_once(h5netcdf.core.BaseObject)
_looked_up_once(h5netcdf.dimensions.Dimension)
_detach_scale = h5netcdf.dimensions.Dimension._detach_scale


def _detach(self):
    """After this a variable takes the place of what stood for the dimension."""
    _detach_scale(self)
    self.__dict__.pop("_found", None)


h5netcdf.dimensions.Dimension._detach_scale = _detach
