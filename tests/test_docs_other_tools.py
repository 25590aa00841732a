"""The user-defined function for openEO, as its page has it, on a cube such as back ends give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray

import unclouded

from . import fakes_openeo
from .fakes_clouds import cloud
from .fakes_docs import blocks


def test_the_function_for_openeo(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [one for one in blocks("docs/how-to/other-tools.md") if "def apply_datacube" in one.text]
    fakes_openeo.install(monkeypatch)
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    rng = np.random.default_rng(0)
    stored = rng.integers(300, 1200, (2, 4, 96, 64)).astype(np.float64)
    stored[0] += np.rint(1e4 * cloud((96, 64), (20, 60), (10, 50)))
    stored[1, :, :10] = 0
    coords = {"t": np.array(["2024-06-01", "2024-06-06"], "datetime64[ns]"), "bands": ["B02", "B03", "B04", "B08"]}
    cube = xarray.DataArray(stored, coords, ("t", "bands", "y", "x")).transpose("bands", "t", "y", "x")
    found = names["apply_datacube"](fakes_openeo.XarrayDataCube(cube), {"resolution_m": 20.0}).get_array()
    assert (found.dims, found.shape) == (("t", "bands", "y", "x"), (2, 1, 96, 64))
    expected = unclouded.predict(
        (stored[0] * 1e-4).astype(np.float32), list(coords["bands"]), sensor="sentinel2-l2a", resolution_m=20.0
    )
    np.testing.assert_array_equal(found[0, 0], expected.classes)
    assert (found[1, 0, :10] == 255).all()
    assert (found[0] == 1).any()
