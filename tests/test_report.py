"""The page about a folder, and what counts as a result in it: nothing outside is shown, and text stays text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from unclouded.errors import InputError
from unclouded.view.folder import scan
from unclouded.view.report import render, write_report

from .fakes_command import run
from .fakes_results import NO_PLACE, edit_item, write_result
from .fakes_scene import UTM_GRID

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """Tags, their addresses and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> Page:
    return Page(write_report(folder)[0].read_text(encoding="utf-8"))


def test_the_page_tells_what_was_found(tmp_path: Path) -> None:
    write_result(tmp_path, "one", datetime="2024-06-01T10:00:31Z", warnings=("an offset was guessed",))
    write_result(tmp_path / "deeper", "two", datetime="2024-06-11T10:00:31Z", cloud_rows=60, quicklook=False)
    done = run("report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "report.html")
    page = page_of(tmp_path)
    assert page.tags.count("img") == 2
    assert all(one.startswith(("data:image/", "#")) for one in page.addresses)
    for part in ("Thick cloud", "an offset was guessed", "4800", "2024-06-11"):
        assert part in page.text
    # rows above 30 and the columns left of 40 below are cloud: 4800 + 90 * 40 of 19200 - 400 pixels
    assert f"{100 * 8400 / 18800:.1f} %" in page.text
    assert page.tags.count("circle") == 2


def test_json_and_another_place(tmp_path: Path) -> None:
    write_result(tmp_path / "in", "one")
    done = run("report", tmp_path / "in", "-o", tmp_path / "page.html", "--json")
    assert json.loads(done.stdout) == {"report": str(tmp_path / "page.html"), "results": ["one"]}
    assert not (tmp_path / "in" / "report.html").exists()


def test_text_of_items_stays_text(tmp_path: Path) -> None:
    item = write_result(tmp_path, "one", warnings=(EVIL,))
    told = json.loads(item.read_text(encoding="utf-8"))
    mask = told["assets"]["mask"]
    mask["classification:classes"][1] |= {"title": EVIL, "color_hint": '"/><script>'}
    edit_item(
        item,
        id=EVIL,
        properties={"title": EVIL, "datetime": EVIL, "unclouded:sensor": EVIL, "unclouded:bands": [EVIL]},
        assets={"mask": mask},
    )
    page = page_of(tmp_path)
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert page.handlers == []
    assert page.text.count(EVIL) >= 6
    assert all(one.startswith(("data:image/", "#")) for one in page.addresses)


def test_no_position_and_no_picture_are_shown_too(tmp_path: Path) -> None:
    write_result(tmp_path, "chip", geobox=NO_PLACE, datetime=None, quicklook=False)
    page = page_of(tmp_path)
    assert "not known" in page.text
    assert page.tags.count("img") == 1


def test_damaged_pictures_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_result(tmp_path, "one")
    (tmp_path / "one_quicklook.png").write_bytes(b"no picture")
    assert "one_quicklook.png cannot be read." in page_of(tmp_path).text
    assert "cannot be read" in caplog.text


def picture_in(folder: Path) -> str:
    (address,) = [one for one in page_of(folder).addresses if one.startswith("data:image/")]
    return address


def test_files_beside_a_picture_are_not_read(tmp_path: Path) -> None:
    write_result(tmp_path / "in", "one", quicklook=False, geobox=GeoBox((2400, 2400), UTM_GRID.affine, UTM_GRID.crs))
    before = picture_in(tmp_path / "in")
    # overviews that GDAL finds by their name, on a file elsewhere
    with rasterio.open(
        tmp_path / "secret.tif", "w", driver="GTiff", dtype="uint8", count=1, height=1200, width=1200
    ) as file:
        file.write(np.full((1, 1200, 1200), 3, np.uint8))
    for end in (".ovr", ".msk"):
        (tmp_path / "in" / f"one_mask.tif{end}").symlink_to(tmp_path / "secret.tif")
    assert picture_in(tmp_path / "in") == before


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "[" * 100_000, "\udcff", '{"type": "Feature", "properties": {"a": 1}}'],
)
def test_what_is_no_result_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert scan(tmp_path) == []
    with pytest.raises(InputError, match="no result"):
        write_report(tmp_path)


@pytest.mark.parametrize("value", [7, "x", None, [], {}, [[[]]], True, 1e400, -5, {"a": {"b": []}}])
def test_items_of_any_content_are_read(tmp_path: Path, value: object) -> None:
    item = write_result(tmp_path, "one", quicklook=False)
    told = json.loads(item.read_text(encoding="utf-8"))
    mask = told["assets"]["mask"]
    changed = [{**told, key: value} for key in told]
    changed += [{**told, "properties": {**told["properties"], key: value}} for key in told["properties"]]
    changed += [{**told, "assets": {"mask": {**mask, key: value}}} for key in mask]
    changed += [{**told, "assets": {"mask": {**mask, "bands": [{"nodata": value, "raster:scale": value}]}}}]
    for one in changed:
        item.write_text(json.dumps(one), encoding="utf-8")
        for found in scan(tmp_path):
            assert isinstance(render([found]), str)


@pytest.mark.parametrize("how", ["absolute", "dots", "link", "linked folder", "address", "zero"])
def test_files_outside_are_never_handed_on(tmp_path: Path, how: str) -> None:
    outside = tmp_path / "outside"
    write_result(outside, "secret", quicklook=False)
    secret = outside / "secret_mask.tif"
    folder = tmp_path / "in"
    item = write_result(folder, "one", quicklook=False)
    (folder / "link.tif").symlink_to(secret)
    (folder / "folder").symlink_to(outside, target_is_directory=True)
    (folder / "item.json").symlink_to(outside / "secret.json")
    href = {
        "absolute": str(secret),
        "dots": "../outside/secret_mask.tif",
        "link": "link.tif",
        "linked folder": "folder/secret_mask.tif",
        "address": "https://example.com/x.tif",
        "zero": "one\0.tif",
    }[how]
    asset = {"href": href, "type": "image/tiff; application=geotiff"}
    link = {"rel": "derived_from", "title": "Input: x", "href": href}
    edit_item(item, assets={"mask": asset, "quicklook": asset}, links=[link])
    found = scan(folder)
    assert [one.id for one in found] == ["one"]  # neither the linked item nor the linked folder
    assert set(found[0].layers) == {"uncertainty"}
    assert (found[0].picture, found[0].source) == (None, None)


def test_no_folder(tmp_path: Path) -> None:
    done = run("report", tmp_path / "none")
    assert done.returncode == 3
    assert "is not a folder" in done.stderr
