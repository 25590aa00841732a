"""``.unclouded`` on xarray objects, once this module is imported.

    import unclouded.accessor

    result = cube.unclouded.mask(sensor="sentinel2-l2a")
    clear = cube.unclouded.clear(sensor="sentinel2-l2a")
    whole = cube.unclouded.remove(sensor="sentinel2-l2a", history=[earlier], level="boa")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import xarray

from .api import mask
from .errors import InputError

if TYPE_CHECKING:
    from .removal_result import Removal

_Array = TypeVar("_Array", xarray.DataArray, xarray.Dataset)


@xarray.register_dataarray_accessor("unclouded")
@xarray.register_dataset_accessor("unclouded")
class Accessor(Generic[_Array]):
    """What unclouded can do with an xarray object that has named bands.

    >>> import numpy as np
    >>> bands = ["blue", "green", "red", "nir"]
    >>> image = xarray.DataArray(np.full((4, 128, 128), 0.05, np.float32), {"band": bands}, ("band", "y", "x"))
    >>> image.unclouded.mask().classes.shape
    (128, 128)
    """

    def __init__(self, array: _Array) -> None:
        self._array: _Array = array

    def mask(self, **settings: Any) -> Any:
        """Find clouds and shadows: :func:`unclouded.mask` of this object.

        Args:
            **settings: arguments of :func:`unclouded.mask`, single options included.

        Returns:
            A :class:`unclouded.Result`; for Dask arrays a Dataset that is not computed yet.

        Raises:
            UncloudedError: as :func:`unclouded.mask`.
        """
        return mask(self._array, **settings)

    def clear(self, **settings: Any) -> _Array:
        """This object where the ground is seen, and missing under thick cloud, thin cloud, shadow and no data.

        Args:
            **settings: arguments of :func:`unclouded.mask`.

        Returns:
            The object with NaN elsewhere; integers become decimal numbers.

        Raises:
            UncloudedError: as :func:`unclouded.mask`; an option that changes the pixel size cannot be used here.
        """
        if settings.get("resolution_m") is not None:
            raise InputError(
                f"A mask of {settings['resolution_m']} m pixels was asked for, to be laid on an array.",
                expected="Mask and array need the same pixels.",
                remedy="Leave resolution_m out, or use mask() and bring its classes to the array's grid.",
            )
        classes = self.mask(**settings).classes
        # By position: coordinates of both are the same pixels, but may differ in the last digit.
        is_clear = xarray.DataArray((classes == 0).data, dims=classes.dims)
        kept: _Array = self._array.where(is_clear)
        return kept

    def remove(self, **settings: Any) -> Removal:
        """Give back this image without its clouds: :func:`unclouded.remove` of this object.

        Args:
            **settings: arguments of :func:`unclouded.remove`, single options included; ``history`` may hold objects of
                the same kind.

        Returns:
            Image, provenance and uncertainty.

        Raises:
            UncloudedError: as :func:`unclouded.remove`.
        """
        from .removal import remove

        return remove(self._array, **settings)

    def composite(self, **settings: Any) -> Any:
        """One clear image out of the dates of this series: :func:`unclouded.composite` of this object.

        Args:
            **settings: arguments of :func:`unclouded.composite`; ``masks`` are classes (time, y, x).

        Returns:
            Image, dates and counts; of Dask arrays not computed yet.

        Raises:
            UncloudedError: as :func:`unclouded.composite`.
        """
        from .compositing import composite

        return composite(self._array, **settings)
