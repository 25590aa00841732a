"""Fixtures shared by all tests. Real imagery is optional: tests that need it skip where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real satellite imagery, not part of the project."""
    return _folder("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Conformance vectors of reference implementations."""
    return _folder("reference")
