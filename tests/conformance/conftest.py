"""Reads the conformance vectors: inputs and weights drawn by their recipe, and comparison with stored tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


class Vectors:
    """One file of conformance vectors."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / f"{name}.json"
        if not path.exists():
            pytest.skip(f"needs the conformance vectors {name}")
        self.meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.arrays = np.load(folder / f"{name}.npz")
        self.recipe = _recipe(folder)

    def weights(self, model: str) -> dict[str, NDArray[np.float32]]:
        """Weights of a model by the reference's key; checked against the stored sums."""
        rows = self.meta["models"][model]["state_dict"]
        filled = self.recipe.fill({key: (shape, kind) for key, shape, kind, *_ in rows}, self.meta["weight_key_prefix"])
        for key, _, kind, *total in rows:
            if "float" in kind and total and total[0] is not None:
                assert np.isclose(filled[key].sum(dtype=np.float64), total[0], rtol=1e-9, atol=1e-6), key
        return filled

    def input(self, name: str) -> NDArray[np.float32]:
        """A named input."""
        row = self.meta["inputs"][name]
        values = self.recipe.draw(row["key"], row["shape"], row["offset"], row["scale"], row["kind"])
        assert np.isclose(values.sum(dtype=np.float64), row["sum"], rtol=1e-6)
        return values

    def check(self, name: str, got: Any, rel_l2: float = 1e-10, largest: float = 2e-10) -> None:
        """Assert that a tensor equals the stored one; both bounds are relative."""
        values = np.asarray(got.detach().cpu() if hasattr(got, "detach") else got, np.float64)
        row = self.meta["tensors"][name]
        assert list(values.shape) == row["shape"], name
        stored = np.asarray(self.arrays[name], np.float64)
        if row["stored"] != "full":
            mean, std, norm, least, most = self.arrays[f"stats:{name}"]
            summary = [values.mean(), values.std(), np.linalg.norm(values), values.min(), values.max()]
            scale = max(abs(least), abs(most))
            expected = [mean, std, norm, least, most]
            assert np.allclose(summary, expected, rtol=10 * rel_l2, atol=10 * rel_l2 * scale), name
            values = values.reshape(-1)[:: row["stride"]]
        error = values.reshape(-1) - stored.reshape(-1)
        assert np.linalg.norm(error) <= rel_l2 * np.linalg.norm(stored), name
        assert np.abs(error).max() <= largest * np.abs(stored).max(), name


def _recipe(folder: Path) -> ModuleType:
    spec = util.spec_from_file_location("reference_fill", folder / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def vectors(shared_reference: Path) -> Callable[[str], Vectors]:
    """Opens a file of conformance vectors by name, or skips."""
    return lambda name: Vectors(shared_reference, name)
