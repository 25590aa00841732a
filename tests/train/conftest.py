"""A tiny run on simulated scenes that the tests of training vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from unclouded.train.config import RunConfig  # noqa: E402
from unclouded.train.config_file import make_config  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., RunConfig]:
    """Function that makes the configuration; keyword arguments replace its keys."""

    def make(**changes: Any) -> RunConfig:
        return make_config(
            {
                "model": {"name": "slots-unet", "options": {"widths": [4, 4], "depth": 1}},
                "data": [{"name": "simulated", "options": {"images": 8, "choose": 2, "size": 32}}],
                "patch": {"size": 32},
                "batch": 4,
                "epochs": 2,
                "threads": 1,
                "accelerator": "cpu",
                "pictures": 0,
                "output": str(tmp_path / "run"),
            }
            | changes
        )

    return make
