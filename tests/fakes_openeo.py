"""What user-defined functions of openEO are given, where openEO itself is not installed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import xarray


class XarrayDataCube:
    """A cube as the client library of openEO wraps it."""

    def __init__(self, array: xarray.DataArray) -> None:
        self._array = array

    def get_array(self) -> xarray.DataArray:
        return self._array


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``from openeo.udf import XarrayDataCube`` work."""
    udf = ModuleType("openeo.udf")
    udf.XarrayDataCube = XarrayDataCube  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openeo", ModuleType("openeo"))
    monkeypatch.setitem(sys.modules, "openeo.udf", udf)
