"""The viewer's server: what it shows, and what it must not."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("rio_tiler")
pytest.importorskip("starlette")
pytest.importorskip("httpx")

import httpx
from starlette.testclient import TestClient

import unclouded.view
from unclouded.display import hexadecimal
from unclouded.errors import InputError
from unclouded.view.app import HEADERS, make_app
from unclouded.write.quicklook import TINTS

from .fakes_results import NO_PLACE, edit_item, write_result
from .fakes_server import serve

STATIC = Path(unclouded.view.__file__).parent / "static"
HERE = "http://127.0.0.1:8765"


def client(folder: Path, *images: Path) -> TestClient:
    return TestClient(make_app(folder, images), base_url=HERE, raise_server_exceptions=False)


def mercator(lon: float, lat: float, z: int) -> tuple[int, int]:
    """Column and row of the tile that holds a place (OGC WebMercatorQuad)."""
    turn = np.log(np.tan(np.pi / 4 + np.radians(lat) / 2)) / np.pi
    return int((lon + 180) / 360 * 2**z), int((1 - turn) / 2 * 2**z)


def pixels(content: bytes) -> np.ndarray:
    with rasterio.MemoryFile(content) as memory, memory.open() as file:
        return file.read()


def test_layers_and_values_of_a_placed_scene(tmp_path: Path) -> None:
    write_result(tmp_path, "one")
    web = client(tmp_path)
    (told,) = web.get("/api/results").json()
    assert [one["name"] for one in told["layers"]] == ["mask", "uncertainty"]
    assert (told["id"], told["size"]) == ("one", [160, 120])
    west, south, east, north = told["bounds"]
    lon, lat = (west + east) / 2, (south + north) / 2
    x, y = mercator(lon, lat, 14)
    mask = web.get(f"/tiles/{told['key']}/mask/14/{x}/{y}.png")
    assert mask.headers["content-type"] == "image/png"
    image = pixels(mask.content)
    assert image.shape == (4, 256, 256)
    colours = {tuple(one) for one in image.reshape(4, -1).T.tolist()}
    # colours of classes are never mixed: only those of the legend, and nothing
    assert colours <= {(120, 170, 110, 255), (255, 255, 255, 255), (150, 205, 240, 255), (0, 0, 0, 0)}
    assert len(colours) == 4
    assert web.get(f"/tiles/{told['key']}/mask/14/0/0.png").status_code == 204
    values = web.get(f"/values/{told['key']}", params={"x": west + 0.9 * (east - west), "y": lat}).json()
    assert {one["layer"]: one["values"][0]["text"] for one in values} == {
        "Clouds and shadows": "Clear", "Uncertainty": "0.25",
    }  # fmt: skip
    assert web.get(f"/values/{told['key']}", params={"x": 0, "y": 0}).json() == []


def test_the_first_tiles_may_come_all_at_once(tmp_path: Path) -> None:
    write_result(tmp_path, "one", quicklook=False)
    (told,) = client(tmp_path).get("/api/results").json()
    west, south, east, north = told["bounds"]
    x, y = mercator((west + east) / 2, (south + north) / 2, 16)
    # a server of its own, in which no request has imported anything yet
    command = [sys.executable, "-m", "unclouded", "view", str(tmp_path), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            assert address, server.stderr.read()
            wanted = [
                f"{address}tiles/{told['key']}/{layer}/16/{x + right}/{y + down}.png"
                for layer in ("mask", "uncertainty") for right in (-1, 0, 1) for down in (-1, 0, 1)
            ]  # fmt: skip
            with ThreadPoolExecutor(len(wanted)) as pool:
                found = list(pool.map(lambda one: httpx.get(one, timeout=60), wanted))
        finally:
            server.kill()
    assert [one.status_code for one in found].count(200) >= 2
    assert {one.status_code for one in found} <= {200, 204}


def test_scenes_without_position_are_shown_by_pixel(tmp_path: Path) -> None:
    write_result(tmp_path, "chip", geobox=NO_PLACE)
    web = client(tmp_path)
    (told,) = web.get("/api/results").json()
    assert (told["bounds"], told["size"]) == (None, [160, 120])
    with rasterio.open(tmp_path / "chip_mask.tif") as file:
        codes = file.read(1)
    image = pixels(web.get(f"/tiles/{told['key']}/mask/8/0/0.png").content)
    assert (image[3, :120, :160] == np.where(codes == 255, 0, 255)).all()
    assert not image[3, 120:].any()
    assert (image[0, :120, :160] == np.choose(codes.clip(0, 4), [120, 255, 150, 70, 0])).all()
    assert web.get(f"/tiles/{told['key']}/mask/8/1/0.png").status_code == 204
    text = web.get(f"/values/{told['key']}", params={"x": 50.5, "y": 10.2}).json()[0]["values"][0]["text"]
    assert text == "Thick cloud"


def write_image(path: Path, crs: str | None = "EPSG:32633") -> Path:
    """Reflectance whose red grows to the east, on the grid of the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((4, 120, 160), 0.05, np.float32)
    values[2] = np.linspace(0.02, 0.6, 160)
    place = rasterio.Affine(10, 0, 399_960, 0, -10, 5_800_020) if crs else rasterio.Affine.identity()
    profile = {"driver": "GTiff", "count": 4, "height": 120, "width": 160, "dtype": "float32"}
    with rasterio.open(path, "w", crs=crs, transform=place, **profile) as file:
        file.write(values)
        file.descriptions = ("blue", "green", "red", "nir")
    return path


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
@pytest.mark.parametrize("placed", [True, False])
def test_images_of_folders_that_may_be_shown(tmp_path: Path, placed: bool) -> None:
    source = write_image(tmp_path / "in" / "one.tif", "EPSG:32633" if placed else None)
    grid = {} if placed else {"geobox": NO_PLACE}
    write_result(tmp_path / "out", "one", source=str(source), **grid)
    (hidden,) = client(tmp_path / "out").get("/api/results").json()
    assert "image" not in [one["name"] for one in hidden["layers"]]
    web = client(tmp_path / "out", tmp_path / "in")
    (told,) = web.get("/api/results").json()
    assert told["layers"][0]["name"] == "image"
    if placed:
        west, south, east, north = told["bounds"]
        middle, lat = (west + east) / 2, (south + north) / 2
        z, (x, y) = 14, mercator(middle, lat, 14)
        where = {"x": middle, "y": lat}
    else:
        z, x, y, where = 8, 0, 0, {"x": 80.5, "y": 60}
    # over its image a mask has the colours of the quicklook, and no colour where it is clear
    mask = next(one for one in told["layers"] if one["name"] == "mask")
    assert [one["title"] for one in mask["legend"]] == ["Thick cloud", "Thin cloud", "Cloud shadow"]
    assert mask["legend"][0]["colour"] == hexadecimal(TINTS[1])
    drawn = pixels(web.get(f"/tiles/{told['key']}/mask/{z}/{x}/{y}.png").content)
    colours = {tuple(one) for one in drawn.reshape(4, -1).T.tolist()}
    assert colours == {(*TINTS[1], 255), (*TINTS[2], 255), (0, 0, 0, 0)}
    image = pixels(web.get(f"/tiles/{told['key']}/image/{z}/{x}/{y}.png").content).astype(int)
    row = image[:, image[3].any(axis=1).argmax() + 5] if placed else image[:, 60]
    red = row[0][row[3] == 255]
    assert red.size > 30
    assert (np.diff(red) >= 0).all()
    assert red[-1] > red[0] + 50
    texts = {one["layer"]: one["values"] for one in web.get(f"/values/{told['key']}", params=where).json()}["Image"]
    assert float(texts[0]["text"]) == pytest.approx(0.02 + 0.58 * 80 / 159, abs=0.006)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.net:80", "localhost.evil", "", "[::2]:80", "a:b:c"])
def test_foreign_hosts_are_refused(tmp_path: Path, host: str) -> None:
    write_result(tmp_path, "one", quicklook=False)
    web = client(tmp_path)
    for path in ("/", "/api/results", "/static/app.js"):
        answer = web.get(path, headers={"host": host})
        assert answer.status_code == 421
        assert "one" not in answer.text.split()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8765", "[::1]:8765", "LOCALHOST"])
def test_own_hosts_are_answered(tmp_path: Path, host: str) -> None:
    assert client(tmp_path).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%5capp.py", "/static/README.md", "/static//etc/host",
        "/static/%00", "/../../etc/passwd", "/one.json", "/tiles/../one_mask.tif", "/tiles/x/mask/0/0/0.png",
        "/tiles/KEY/..%2fone_mask.tif/0/0/0.png", "/tiles/KEY/quicklook/0/0/0.png", "/tiles/KEY/mask/99/0/0.png",
        "/tiles/KEY/mask/3/8/0.png", "/tiles/KEY/mask/-1/0/0.png", "/values/nothing?x=0&y=0", "/docs",
    ],
)  # fmt: skip
def test_nothing_else_is_served(tmp_path: Path, path: str) -> None:
    write_result(tmp_path, "one", quicklook=False)
    web = client(tmp_path)
    (told,) = web.get("/api/results").json()
    assert web.get(path.replace("KEY", told["key"])).status_code == 404


@pytest.mark.parametrize("query", ["", "x=1", "x=a&y=1", "x=nan&y=0", "x=inf&y=0", "x=1e300&y=0"])
def test_places_have_to_be_numbers(tmp_path: Path, query: str) -> None:
    write_result(tmp_path, "one", quicklook=False)
    web = client(tmp_path)
    (told,) = web.get("/api/results").json()
    assert web.get(f"/values/{told['key']}?{query}").status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
def test_it_only_tells(tmp_path: Path, method: str) -> None:
    assert getattr(client(tmp_path), method)("/api/results").status_code == 405


def test_every_answer_forbids_the_world(tmp_path: Path) -> None:
    web = client(tmp_path)
    for answer in (web.get("/"), web.get("/nothing"), web.get("/", headers={"host": "evil"}), web.post("/")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'self'")


def test_files_that_lead_elsewhere_are_not_opened(tmp_path: Path) -> None:
    write_result(tmp_path / "outside", "secret", quicklook=False)
    secret = tmp_path / "outside" / "secret_mask.tif"
    folder = tmp_path / "in"
    item = write_result(folder, "one", quicklook=False)
    vrt = (
        '<VRTDataset rasterXSize="160" rasterYSize="120"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    (folder / "one_mask.tif").write_text(vrt, encoding="utf-8")
    web = client(folder)
    (told,) = web.get("/api/results").json()
    assert [one["name"] for one in told["layers"]] == ["uncertainty"]
    assert web.get(f"/tiles/{told['key']}/mask/0/0/0.png").status_code == 422
    # a link that is put in place of a file after the folder was read
    (folder / "one_uncertainty.tif").unlink()
    (folder / "one_uncertainty.tif").symlink_to(secret)
    assert web.get(f"/tiles/{told['key']}/uncertainty/0/0/0.png").status_code == 422
    assert web.get(f"/values/{told['key']}?x=0&y=0").status_code == 422
    assert item.exists()


def stac_source(folder: Path, **hrefs: str) -> Path:
    """An item whose assets are single bands, in files or elsewhere."""
    assets = {}
    for name, wave in (("blue", 0.48), ("green", 0.56), ("red", 0.65)):
        band = {"name": name, "common_name": name, "center_wavelength": wave, "full_width_half_max": 0.05}
        raster = [{"scale": 1.0, "offset": 0.0}]
        assets[name] = {"href": hrefs.get(name, f"{name}.tif"), "eo:bands": [band], "raster:bands": raster}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "one", "geometry": None, "links": [], "assets": assets,
        "properties": {"datetime": "2024-06-01T10:00:31Z"},
    }  # fmt: skip
    (folder / "one.json").write_text(json.dumps(item))
    return folder / "one.json"


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_images_of_stac_items_are_shown_as_far_as_they_lie_in_the_folders(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number, name in enumerate(("blue", "green", "red"), 1):
        with rasterio.open(write_image(source / "all.tif")) as file:
            profile = {**file.profile, "count": 1}
            with rasterio.open(source / f"{name}.tif", "w", **profile) as out:
                out.write(file.read(number), 1)
    write_result(tmp_path / "out", "one", source=str(stac_source(source)))
    web = client(tmp_path / "out", source)
    (told,) = web.get("/api/results").json()
    west, south, east, north = told["bounds"]
    x, y = mercator((west + east) / 2, (south + north) / 2, 14)
    tile = f"/tiles/{told['key']}/image/14/{x}/{y}.png"
    assert web.get(tile).status_code == 200
    with serve(source) as server:
        secret = write_image(tmp_path / "elsewhere" / "red.tif")
        there = f"{server.address}/red.tif"
        for red in (there, str(secret), "../elsewhere/red.tif", f"/vsicurl/{there}"):
            stac_source(source, red=red)
            web.get("/api/results")
            image = web.get(tile)  # without its red band there is something to show, or nothing
            assert image.status_code in (200, 422)
            assert not server.asked, "nothing is fetched"
    (source / "one.json").write_text('{"type": "Feature", "assets": [1]}')
    web.get("/api/results")
    assert web.get(tile).status_code == 422


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_products_with_links_to_elsewhere_are_not_shown(tmp_path: Path) -> None:
    real = write_image(tmp_path / "elsewhere" / "one.tif")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.tif").symlink_to(real)
    write_result(tmp_path / "out", "one", source=str(tmp_path / "in" / "one.tif"))
    (told,) = client(tmp_path / "out", tmp_path / "in").get("/api/results").json()
    assert "image" not in [one["name"] for one in told["layers"]]


def test_hostile_text_travels_as_text(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    item = write_result(tmp_path, "one", warnings=(evil,))
    edit_item(item, id=evil)
    answer = client(tmp_path).get("/api/results")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()[0]["id"] == evil
    page = (STATIC / "app.js").read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "bindPopup"):
        assert forbidden not in page


def test_own_files_ask_for_nothing_elsewhere() -> None:
    for name in ("index.html", "app.css", "app.js"):
        text = (STATIC / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]", text), name
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", (STATIC / "index.html").read_text(encoding="utf-8"))


def test_leaflet_is_as_published() -> None:
    told = (STATIC / "README.md").read_text(encoding="utf-8")
    for name in ("leaflet.js", "leaflet.css"):
        assert f"{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()}  {name}" in told


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        make_app(tmp_path / "none")


def test_new_results_show_when_the_page_is_loaded_again(tmp_path: Path) -> None:
    web: TestClient = client(tmp_path)
    count: Callable[[], int] = lambda: len(json.loads(web.get("/api/results").text))  # noqa: E731
    assert count() == 0
    write_result(tmp_path, "one", quicklook=False)
    assert count() == 1
