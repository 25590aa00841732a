"""Importing the package is quick, and the base install never needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unclouded

HEAVY = ("torch", "rasterio", "onnxruntime", "xarray", "pystac", "numpy", "pydantic")


def python(code: str) -> str:
    source = Path(unclouded.__file__).resolve().parents[1]
    script = f"import sys; sys.path.insert(0, {str(source)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    code = (
        "import time; begin = time.process_time(); import unclouded\n"
        f"print(time.process_time() - begin, [name for name in {HEAVY} if name in sys.modules])"
    )
    seconds, loaded = min((python(code).split(" ", 1) for _ in range(3)), key=lambda told: float(told[0]))
    assert loaded.strip() == "[]"
    assert float(seconds) < 0.3


def test_predicting_never_imports_torch() -> None:
    code = (
        "import numpy as np, unclouded, warnings\n"
        "found = unclouded.predict(np.full((3, 80, 70), 0.1), ['red', 'green', 'blue'], resolution_m=20)\n"
        "print(found.classes.shape, 'torch' in sys.modules)"
    )
    assert python(code).strip() == "(80, 70) False"


def test_masking_a_file_never_imports_torch(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "field.tif"
    profile = {"driver": "GTiff", "dtype": "float32", "count": 3, "height": 80, "width": 90, "crs": "EPSG:32633",
               "transform": rasterio.transform.from_origin(3e5, 5e6, 20, 20)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.full((3, 80, 90), 0.2, np.float32))
        file.descriptions = ("blue", "green", "red")
    code = (
        f"import unclouded; result = unclouded.mask({str(path)!r}, output={str(tmp_path / 'out')!r})\n"
        "print(result.classes.shape, sorted(result.outputs), 'torch' in sys.modules)"
    )
    assert python(code).strip() == "(80, 90) ['item', 'mask', 'uncertainty'] False"


def test_every_public_name_is_there() -> None:
    for name in unclouded.__all__:
        assert getattr(unclouded, name) is not None
    assert set(unclouded.__all__) <= set(dir(unclouded))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = unclouded.nonsense
    assert unclouded.__version__.count(".") == 2
