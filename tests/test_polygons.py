"""Polygons, QGIS styles and the rio plug-in."""

from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.features import rasterize

from unclouded.errors import InputError, MissingDependencyError
from unclouded.polygons import write_polygons

from .fakes_batch import write_scenes
from .fakes_command import records, run
from .fakes_results import NO_PLACE, write_result

pytest.importorskip("pyogrio")
parquet = pytest.importorskip("pyarrow.parquet")


def read(path: Path) -> tuple[dict[str, object], dict[str, list]]:
    """Description and columns of a file, the geometry as shapes."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        columns = table.to_pydict()
        geo = json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]
        columns["geometry"] = list(shapely.from_wkb(columns["geometry"]))
        return geo, columns
    from pyogrio import raw

    meta, _, geometry, fields = raw.read(path)
    columns = dict(zip(meta["fields"], map(list, fields), strict=True))
    return meta, {"geometry": list(shapely.from_wkb(geometry)), **columns}


@pytest.mark.parametrize("ending", ["fgb", "parquet"])
def test_masks_come_with_their_outlines(tmp_path: Path, ending: str) -> None:
    scenes = write_scenes(tmp_path / "in", 2)
    out = tmp_path / "out"
    words = ("mask", *scenes, "-o", out, "--level", "toa", "--json", "--polygons")
    done = run(*words, ending)
    assert done.returncode == 0, done.stderr
    outlined = 0
    for record in records(done)[:-1]:
        path = Path(record["outputs"]["polygons"])
        assert path == out / f"{record['id']}_polygons.{ending}"
        with rasterio.open(record["outputs"]["mask"]) as file:
            assert sum(read(path)[1]["pixels"]) == np.isin(file.read(1), (1, 2, 3)).sum()
        outlined += sum(read(path)[1]["pixels"])
        asset = json.loads(Path(record["outputs"]["item"]).read_text())["assets"]["polygons"]
        assert asset["href"] == f"./{path.name}"
    assert outlined > 0
    assert {one["status"] for one in records(run(*words, ending, "--resume"))[:-1]} == {"kept"}
    path.unlink()
    assert [one["status"] for one in records(run(*words, ending, "--resume"))[:-1]] == ["kept", "done"]
    other = {"fgb": "parquet", "parquet": "fgb"}[ending]
    assert run(*words, other, "--resume").returncode == 0
    assert sorted(one.suffix for one in out.glob("*_polygons*")) == [f".{other}"] * 2, "outlines of older masks"


def test_a_missing_library_is_told_before_the_scene_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene,) = write_scenes(tmp_path / "in", 1)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyogrio" else find(name))
    done = run("mask", scene, "-o", tmp_path / "out", "--level", "toa", "--polygons", "fgb")
    assert done.returncode == 5
    assert "unclouded[polygons]" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", ["fgb", "parquet"])
def test_polygons_cover_what_the_mask_says(tmp_path: Path, ending: str) -> None:
    write_result(tmp_path, "one", quicklook=False)
    done = run("polygons", tmp_path, "--format", ending)
    assert done.returncode == 0, done.stderr
    path = tmp_path / f"one_polygons.{ending}"
    assert done.stdout.strip() == str(path)
    meta, columns = read(path)
    with rasterio.open(tmp_path / "one_mask.tif") as file:
        codes, transform = file.read(1), file.transform
    assert sum(columns["pixels"]) == np.isin(codes, (1, 2, 3)).sum()
    pairs = list(zip(columns["geometry"], columns["class"], strict=True))
    drawn = rasterize(pairs, codes.shape, transform=transform, dtype="uint8")
    np.testing.assert_array_equal(drawn, np.where(codes == 255, 0, codes))
    assert dict(zip(columns["class"], columns["name"], strict=True)) == {1: "thick-cloud", 2: "thin-cloud"}
    crs = meta["crs"]
    assert crs["id"]["code"] == 32633 if isinstance(crs, dict) else "32633" in str(crs)


@settings(max_examples=10, deadline=None)
@given(hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_any_mask_is_traced_without_overlap(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("any")
    place = Affine(10, 0, 4e5, 0, -10, 5e6)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "transform": place, "crs": "EPSG:32633"}
    with rasterio.open(folder / "m.tif", "w", height=9, width=11, **profile) as file:
        file.write(codes, 1)
    count = write_polygons(folder / "m.tif", folder / "m.parquet", classes=["clear", "thin-cloud"])
    _, columns = read(folder / "m.parquet")
    assert count == len(columns["class"])
    for code in (0, 2):
        own = [pixels for pixels, one in zip(columns["pixels"], columns["class"], strict=True) if one == code]
        assert sum(own) == (codes == code).sum()
    assert shapely.unary_union(columns["geometry"]).area == 100 * np.isin(codes, (0, 2)).sum()
    assert all(one.is_valid for one in columns["geometry"])


def test_small_patches_join_their_neighbours(tmp_path: Path) -> None:
    codes = np.zeros((20, 20), np.uint8)
    codes[2:12, 2:12], codes[15, 15], codes[5, 5] = 1, 3, 2
    with rasterio.open(tmp_path / "m.tif", "w", driver="GTiff", dtype="uint8", count=1, height=20, width=20) as file:
        file.write(codes, 1)
    assert write_polygons(tmp_path / "m.tif", tmp_path / "m.fgb") == 3
    assert write_polygons(tmp_path / "m.tif", tmp_path / "m.fgb", min_pixels=4) == 1
    assert read(tmp_path / "m.fgb")[1]["pixels"] == [100]


@pytest.mark.parametrize("ending", ["fgb", "parquet"])
def test_no_position_and_no_cloud(tmp_path: Path, ending: str) -> None:
    write_result(tmp_path, "chip", geobox=NO_PLACE, quicklook=False)
    assert write_polygons(tmp_path / "chip_mask.tif", tmp_path / f"a.{ending}", classes=["cloud-shadow"]) == 0
    assert write_polygons(tmp_path / "chip_mask.tif", tmp_path / f"b.{ending}") > 0
    meta, _ = read(tmp_path / f"b.{ending}")
    assert meta["crs"] is None


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path, "one", quicklook=False)
    mask = tmp_path / "one_mask.tif"
    for wrong in ({"target": tmp_path / "x.shp"}, {"classes": ["fog"]}, {"min_pixels": 0}, {"mask": tmp_path / "none"}):
        with pytest.raises(InputError):
            write_polygons(**{"mask": mask, "target": tmp_path / "x.fgb", **wrong})
    (tmp_path / "empty").mkdir()
    assert run("polygons", tmp_path / "empty").returncode == 3
    monkeypatch.setitem(__import__("sys").modules, "pyogrio", None)
    with pytest.raises(MissingDependencyError, match="polygons"):
        write_polygons(mask, tmp_path / "x.fgb")
    assert not list(tmp_path.glob("*.fgb"))


def test_styles_name_the_classes(tmp_path: Path) -> None:
    write_result(tmp_path, "one", quicklook=False)
    done = run("style", tmp_path)
    assert done.stdout.strip() == str(tmp_path / "one_mask.qml")
    entries = ET.parse(tmp_path / "one_mask.qml").getroot().findall(".//paletteEntry")
    assert [one.get("label") for one in entries] == ["Clear", "Thick cloud", "Thin cloud", "Cloud shadow"]
    with rasterio.open(tmp_path / "one_mask.tif") as file:
        palette = file.colormap(1)
    for one in entries:
        assert one.get("color") == "#{:02X}{:02X}{:02X}".format(*palette[int(one.get("value", ""))][:3])


def test_rio_runs_the_command_line(tmp_path: Path) -> None:
    from rasterio.rio.main import main_group

    from unclouded.rio import command

    main_group.add_command(command)
    write_result(tmp_path, "one", quicklook=False)
    done = CliRunner().invoke(main_group, ["unclouded", "style", str(tmp_path)])
    assert (done.exit_code, (tmp_path / "one_mask.qml").exists()) == (0, True), done.output
    assert CliRunner().invoke(main_group, ["unclouded", "style", str(tmp_path / "none")]).exit_code == 3
    assert "Exit codes" in CliRunner().invoke(main_group, ["unclouded", "--help"]).output
