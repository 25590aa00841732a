"""The viewer in a real browser: layers, swipe, time, values, and no request that leaves the machine."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from .fakes_results import NO_PLACE, write_result

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("rio_tiler")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


@dataclass
class Seen:
    """What a page did."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def seen(tmp_path: Path, browser: Any) -> Iterator[Seen]:
    from unclouded.view.app import make_app

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(tmp_path), log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    out = Seen(page, f"http://127.0.0.1:{listening.getsockname()[1]}/")
    page.on("console", lambda one: out.complaints.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda one: out.complaints.append(str(one)))
    page.on("request", lambda one: out.requests.append(one.url))
    yield out
    page.close()
    server.should_exit = True
    thread.join(10)
    listening.close()
    assert out.complaints == []
    assert all(one.startswith((out.address, "data:")) for one in out.requests), out.requests


def shown(page: Any, x: int, y: int) -> tuple[int, ...]:
    """Colour of the page at a place."""
    time.sleep(0.2)  # a tile that was loaded is painted with the next frame
    with rasterio.MemoryFile(page.screenshot()) as memory, memory.open() as file:
        return tuple(int(one) for one in file.read(window=((y, y + 1), (x, x + 1)))[:3, 0, 0])


def until(page: Any, condition: str, argument: object = None) -> None:
    """Wait; Playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    for _ in range(100):
        if page.evaluate(condition, argument):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


def loaded(page: Any, layer: str) -> None:
    until(
        page,
        """(name) => {
          const tiles = [...document.querySelectorAll(`.leaflet-${name}-pane img.leaflet-tile`)];
          return tiles.length > 0 && tiles.every((one) => one.complete);
        }""",
        layer,
    )


def open_page(seen: Seen, layer: str = "mask") -> Any:
    seen.page.goto(seen.address)
    loaded(seen.page, layer)
    return seen.page


def place(page: Any, right: float, down: float) -> tuple[int, int]:
    """A place of the scene on the page, as shares of its size."""
    box = page.evaluate("""() => {
      const rectangle = document.querySelector(".leaflet-overlay-pane path").getBoundingClientRect();
      return [rectangle.left, rectangle.top, rectangle.width, rectangle.height];
    }""")
    return round(box[0] + right * box[2]), round(box[1] + down * box[3])


def test_layers_appear_fade_and_go(tmp_path: Path, seen: Seen) -> None:
    write_result(tmp_path, "one")
    page = open_page(seen)
    cloud, clear = place(page, 0.5, 0.1), place(page, 0.6, 0.6)
    page.locator("[data-opacity=mask]").fill("1")
    assert shown(page, *cloud) == (255, 255, 255)
    assert shown(page, *clear) == (120, 170, 110)
    page.locator("[data-opacity=mask]").fill("0.5")
    half = [(one + two) / 2 for one, two in zip((120, 170, 110), (228, 231, 234), strict=True)]
    assert shown(page, *clear) == pytest.approx(half, abs=2)
    page.locator("[data-layer=mask]").uncheck()
    assert shown(page, *clear) == (228, 231, 234)
    assert page.locator("#legend").inner_text() == ""
    page.locator("[data-layer=uncertainty]").check()
    loaded(page, "uncertainty")
    assert shown(page, *clear) == (81, 18, 124)  # a quarter of the way up the ramp


def test_swipe_moves(tmp_path: Path, seen: Seen) -> None:
    write_result(tmp_path, "one")
    page = open_page(seen)
    page.locator("[data-opacity=mask]").fill("1")
    page.locator("#swiping").check()
    loaded(page, "uncertainty")
    left, right = place(page, 0.4, 0.6), place(page, 0.6, 0.6)
    mask, ramp = (120, 170, 110), (81, 18, 124)
    assert (shown(page, *left), shown(page, *right)) == (mask, ramp)
    box = page.locator("#divider").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, 300)
    page.mouse.down()
    page.mouse.move(right[0] + 60, 300, steps=4)
    page.mouse.up()
    assert (shown(page, *left), shown(page, *right)) == (mask, mask)
    page.locator("#divider").focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    assert (shown(page, *left), shown(page, *right)) == (ramp, ramp)


def test_click_shows_values(tmp_path: Path, seen: Seen) -> None:
    write_result(tmp_path, "one")
    page = open_page(seen)
    page.mouse.click(*place(page, 0.5, 0.1))
    page.wait_for_selector("#values tr")
    assert page.locator("#values").inner_text().split("\n") == ["Clouds and shadows\tThick cloud", "Uncertainty\t0.25"]
    page.mouse.click(*place(page, 0.98, 0.97))
    until(page, "() => document.querySelector('#values').textContent.includes('No data')")


def test_time_goes_through_a_series(tmp_path: Path, seen: Seen) -> None:
    for day, rows in (("01", 10), ("11", 100), ("21", 60)):
        write_result(tmp_path, f"d{day}", datetime=f"2024-06-{day}T10:00:00Z", cloud_rows=rows, quicklook=False)
    page = open_page(seen)
    page.locator("[data-opacity=mask]").fill("1")
    spot = place(page, 0.6, 0.65)
    assert shown(page, *spot) == (120, 170, 110)
    assert page.locator("#chart circle").count() == 3
    page.locator("#time").fill("1")
    loaded(page, "mask")
    assert shown(page, *spot) == (255, 255, 255)
    assert "2024-06-11" in page.locator("#about").inner_text()
    page.locator("#chart circle").nth(0).click()
    assert "2024-06-01" in page.locator("#about").inner_text()
    heights = [float(one.get_attribute("cy")) for one in page.locator("#chart circle").all()]
    assert heights[1] < heights[2] < heights[0]  # higher is cloudier


def test_why_an_image_is_not_shown(tmp_path: Path, seen: Seen) -> None:
    source = tmp_path / "counts.tif"
    with rasterio.open(source, "w", driver="GTiff", dtype="uint16", count=3, height=120, width=160) as file:
        file.write(np.ones((3, 120, 160), np.uint16))
    write_result(tmp_path, "one", source=str(source))
    page = open_page(seen)
    until(page, "() => document.querySelector('#warnings').textContent.startsWith('Image: ')")
    assert len(page.locator("#warnings").inner_text().split("\n")) == 1
    assert any("422" in one for one in seen.complaints)
    seen.complaints.clear()


def test_scenes_without_position(tmp_path: Path, seen: Seen) -> None:
    write_result(tmp_path, "chip", geobox=NO_PLACE)
    page = open_page(seen)
    page.locator("[data-opacity=mask]").fill("1")
    tile = page.locator(".leaflet-mask-pane img.leaflet-tile").first.bounding_box()
    assert tile["width"] >= 256
    scale = tile["width"] / 256
    cloud = round(tile["x"] + 80 * scale), round(tile["y"] + 10 * scale)
    assert shown(page, *cloud) == (255, 255, 255)
    page.mouse.click(*cloud)
    page.wait_for_selector("#values tr")
    assert "Thick cloud" in page.locator("#values").inner_text()


def test_hostile_text_is_only_text(tmp_path: Path, seen: Seen) -> None:
    from .fakes_results import edit_item

    item = write_result(tmp_path, "one", warnings=(EVIL,))
    edit_item(item, id=EVIL, properties={"datetime": EVIL, "unclouded:sensor": EVIL})
    page = open_page(seen)
    assert EVIL in page.locator("#warnings").inner_text()
    assert EVIL in page.locator("#about").inner_text()
    assert page.title() == "unclouded"
    assert page.locator("aside img, aside script").count() == 0


def test_an_empty_folder_is_told(tmp_path: Path, seen: Seen) -> None:
    assert np.array_equal(list(tmp_path.iterdir()), [])
    seen.page.goto(seen.address)
    until(seen.page, "() => document.querySelector('#about').textContent.includes('no result')")
