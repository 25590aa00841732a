"""Items and images on a server: read in parts, never whole; and what a server may do wrong is told in three parts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

import unclouded
from unclouded import raster_files
from unclouded.errors import InputError
from unclouded.readers import open_scene, stac

from .fakes_command import records, run
from .fakes_products import make_tif
from .fakes_server import Server, serve

BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
SIZE = 2048


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sentinel-2 item with four bands of 10 m as cloud-optimised files, and assets that masking does not need."""
    folder = tmp_path_factory.mktemp("web")
    rng = np.random.default_rng(0)
    for name in (*BANDS, "SCL", "visual"):
        # Noise, so that parts of a file cannot be small by compression.
        counts = rng.integers(1100, 6000, (1, SIZE, SIZE)).astype(np.uint16)
        counts[:, :64, :64] = 0
        plain = make_tif(folder / "plain.tif", counts, nodata=0, tiled=True, blockxsize=512, blockysize=512)
        rasterio.shutil.copy(plain, folder / f"{name}.tif", driver="COG", compress="DEFLATE", blocksize=512)
        plain.unlink()
    assets: dict[str, Any] = {
        name: {
            "href": f"./{name}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "eo:bands": [{"name": name, "common_name": BANDS.get(name)}],
            "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}],
        }
        for name in (*BANDS, "SCL")
    }
    assets["visual"] = {"href": "./visual.tif", "type": "image/tiff", "roles": ["overview"]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "remote",
        "collection": "sentinel-2-c1-l2a",
        "geometry": None,
        "properties": {"datetime": "2024-06-01T10:10:31Z"},
        "links": [],
        "assets": assets,
    }
    (folder / "item.json").write_text(json.dumps(item))
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(folder) as running:
        yield running


def test_a_remote_item_is_masked_without_downloading_it(server: Server, folder: Path) -> None:
    result = unclouded.mask(f"{server.address}/item.json")
    assert result.id == "remote"
    sizes = {name: (folder / f"{name}.tif").stat().st_size for name in BANDS}
    given = {name: server.given[f"{name}.tif"] for name in BANDS}
    # The model's grid of 20 m is the first overview, a quarter of the pixels; the overviews make up a quarter of the
    # file, so that of the file a fifth is needed. Blocks at the edges of what is read at once may come twice.
    for name, size in sizes.items():
        assert 0 < given[name] < 0.35 * size, f"{name}: {given[name]} of {size} bytes"
    # Nothing else was touched: no other asset, no listing, no search for companions of a file.
    assert set(server.asked) == {"item.json", *(f"{name}.tif" for name in BANDS)}
    assert server.asked["item.json"] == 1
    local = unclouded.mask(folder / "item.json")
    assert local.counts == result.counts
    assert np.array_equal(local.classes.values, result.classes.values)


def test_a_coarse_look_takes_little(server: Server, folder: Path) -> None:
    scene = open_scene(f"{server.address}/item.json")
    before = sum(server.given.values())
    out = scene.read(scene.grid(160), ["B04"])
    assert out.shape == (1, 128, 128)
    assert np.isnan(out[0, 0, 0])
    assert sum(server.given.values()) - before < 0.05 * (folder / "B04.tif").stat().st_size


def test_the_command_line_takes_addresses(server: Server, tmp_path: Path) -> None:
    done = run("info", f"{server.address}/item.json", f"{server.address}/item.json?token=a%2Fb", "--json")
    assert done.returncode == 0, done.stderr
    first, second, _ = records(done)
    assert first["sensor"] == second["sensor"] == "sentinel2-l2a"
    assert first["bands"][0]["radiometry"] == "stac"
    image = run("info", f"{server.address}/B04.tif", "--bands", "red=1", "--scale", "1e-4", "--offset", "0", "--json")
    assert records(image)[0]["id"] == "B04"


@pytest.mark.parametrize("status", [404, 403, 500, 503])
@pytest.mark.parametrize("name", ["item.json", "B04.tif"])
def test_an_answer_that_is_no_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, status: int
) -> None:
    monkeypatch.setitem(raster_files._REMOTE, "GDAL_HTTP_RETRY_DELAY", "0.01")
    server.status[name] = status
    done = run("mask", f"{server.address}/item.json", "-o", tmp_path / "out", "--json")
    assert done.returncode == 3, done.stderr
    error = records(done)[0]["error"]
    assert error["type"] == "InputError"
    assert name in error["found"]
    assert str(status) in error["found"]
    assert error["expected"]
    assert "address" in error["remedy"]
    assert not (tmp_path / "out").exists()


def test_a_server_that_fails_now_and_then_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(raster_files._REMOTE, "GDAL_HTTP_RETRY_DELAY", "0.3")
    server.status["B04.tif"] = 503
    threading.Timer(0.2, server.status.clear).start()
    assert len(open_scene(f"{server.address}/item.json").bands) == 4
    assert server.asked["B04.tif"] > 2


@pytest.mark.parametrize("name", ["item.json", "B04.tif"])
def test_a_server_that_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(stac, "_TIMEOUT_S", 0.5)
    monkeypatch.setitem(raster_files._REMOTE, "GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setitem(raster_files._REMOTE, "GDAL_HTTP_MAX_RETRY", "0")
    server.status[name] = 0
    with pytest.raises(InputError, match=name) as caught:
        open_scene(f"{server.address}/item.json")
    assert caught.value.expected
    assert "network" in caught.value.remedy


def test_an_image_that_vanishes_while_it_is_read(server: Server, tmp_path: Path) -> None:
    scene = open_scene(f"{server.address}/item.json")
    server.status["B04.tif"] = 404
    with pytest.raises(InputError, match=r"B04\.tif"):
        unclouded.mask(scene, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"", b"[]", b'{"type": "Collection"}'])
def test_a_page_in_place_of_the_item(server: Server, folder: Path, content: bytes) -> None:
    path = folder / "page.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"page\.json"):
        open_scene(f"{server.address}/page.json")


@pytest.mark.parametrize("href", ["/etc/hostname", "file:///etc/hostname", "/vsizip//tmp/a.zip/B04.tif"])
def test_a_remote_item_cannot_make_this_machine_read_its_own_files(server: Server, folder: Path, href: str) -> None:
    document = json.loads((folder / "item.json").read_text())
    document["assets"]["B04"]["href"] = href
    (folder / "hostile.json").write_text(json.dumps(document))
    # A path that begins with / is one of the server, and not there.
    with pytest.raises(InputError):
        open_scene(f"{server.address}/hostile.json")


def test_settings_of_the_user_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "7")
    with raster_files.environment("https://host/a.tif"):
        options = rasterio.env.getenv()
        assert options["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
        assert "GDAL_HTTP_MAX_RETRY" not in options
    with raster_files.environment("/data/a.tif"):
        assert "GDAL_DISABLE_READDIR_ON_OPEN" not in rasterio.env.getenv()  # local files may have companions
    with rasterio.Env(GDAL_HTTP_MAX_RETRY="5"), raster_files.environment("https://host/a.tif"):
        assert str(rasterio.env.getenv()["GDAL_HTTP_MAX_RETRY"]) == "5"
