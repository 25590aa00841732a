"""Inputs that once broke the promise of :mod:`tests.fuzz.targets`, and new ones by chance."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from . import targets as targets_module
from .mutate import mutate
from .targets import OUTSIDE, Broken, Target, make_targets

CASES = sorted(path for path in (Path(__file__).parent / "cases").glob("*/*") if path.is_file())


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("fuzz"))


def test_what_is_whole_is_read(targets: dict[str, Target]) -> None:
    for name, target in targets.items():
        assert target(target.own) in ("scene", "record"), name


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_cases_found_before(path: Path, targets: dict[str, Target]) -> None:
    targets[path.parent.name](path.read_bytes())


@pytest.mark.parametrize(
    "href", [b"../../outside/B04.tif", OUTSIDE + b"/B04.tif", b"file://" + OUTSIDE + b"/B04.tif", b"/etc/passwd"]
)
def test_an_item_leads_nowhere_else(href: bytes, targets: dict[str, Target]) -> None:
    target = targets["stac-plain"]
    assert target(target.own.replace(b"./red.tif", href)).startswith("InputError: Item scene refers to")


def test_the_watch_notices_what_it_has_to(targets: dict[str, Target], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_module, "SECONDS", 0.1)

    def run(what: str) -> None:
        target = targets["card"]
        code = {"open": lambda: Path("/etc/hostname").read_bytes(), "slow": _work, "odd": lambda: 1 // 0}
        broken = Target("x", target.file, lambda: str(code[what]()), b"", target.folder)
        with pytest.raises(Broken, match={"open": "opened /etc", "slow": "took 0", "odd": "ZeroDivisionError"}[what]):
            broken(b"{}")

    for what in ("open", "slow", "odd"):
        run(what)


def _work() -> None:
    begin = time.process_time()
    while time.process_time() - begin < 0.2:
        pass


@pytest.mark.parametrize(
    "name", ["safe-l1c", "safe-tile-read", "mtl-txt", "mtl-xml", "mtl-json", "espa", "stac-plain", "card"]
)
def test_mutations_keep_the_promise(name: str, targets: dict[str, Target]) -> None:
    rng = random.Random(20)
    for _ in range(25):
        targets[name](mutate(targets[name].own, rng))


@pytest.mark.slow
def test_many_mutations_keep_the_promise(targets: dict[str, Target]) -> None:
    """As many as UNCLOUDED_FUZZ says, for every target; ``python -m tests.fuzz`` runs for a time instead."""
    rng = random.Random()
    for target in targets.values():
        for _ in range(int(os.environ.get("UNCLOUDED_FUZZ", "500"))):
            data = mutate(target.own, rng)
            try:
                target(data)
            except Broken as err:
                raise AssertionError(f"{target.name}: {err}: {data!r}") from err
