"""PlanetScope: the coefficient of each band from the metadata, blackfill from the mask, and what must not be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import unclouded
from unclouded.errors import InputError, RadiometryError
from unclouded.readers import open_scene

from .fakes_products import make_tif

SCENE = "20220601_101031_22_2455"
COEFFICIENTS = (2.0e-5, 2.1e-5, 2.4e-5, 3.6e-5)
METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<ps:EarthObservation xmlns:gml="http://www.opengis.net/gml" xmlns:eop="http://earth.esa.int/eop"
    xmlns:opt="http://earth.esa.int/opt" xmlns:ps="http://schemas.planet.com/ps/v1/planet_product_metadata_geocorrected_level">
  <gml:using><eop:EarthObservationEquipment>
    <eop:platform><eop:Platform><eop:serialIdentifier>2455</eop:serialIdentifier></eop:Platform></eop:platform>
    <eop:acquisitionParameters><ps:Acquisition>
      <opt:illuminationAzimuthAngle uom="deg">140.5</opt:illuminationAzimuthAngle>
      <opt:illuminationElevationAngle uom="deg">55.25</opt:illuminationElevationAngle>
      <ps:acquisitionDateTime>2022-06-01T10:10:31+00:00</ps:acquisitionDateTime>
    </ps:Acquisition></eop:acquisitionParameters>
  </eop:EarthObservationEquipment></gml:using>
  <gml:resultOf><ps:EarthObservationResult>{bands}</ps:EarthObservationResult></gml:resultOf>
</ps:EarthObservation>
"""


def metadata(coefficients: tuple[float, ...] = COEFFICIENTS) -> str:
    blocks = (
        f"<ps:bandSpecificMetadata><ps:bandNumber>{number}</ps:bandNumber>"
        '<ps:radiometricScaleFactor uom="W/(m^2 sr um)">0.01</ps:radiometricScaleFactor>'
        f"<ps:reflectanceCoefficient>{value}</ps:reflectanceCoefficient></ps:bandSpecificMetadata>"
        for number, value in enumerate(coefficients, start=1)
    )
    return METADATA.format(bands="".join(blocks))


def make_planet(
    folder: Path, product: str = "AnalyticMS", *, bands: int = 4, xml: str | None = "", udm: bool = False
) -> Path:
    """A folder with an image of 90 x 120 pixels of 3 m, and what comes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.full((bands, 90, 120), 10000, np.uint16)
    counts[:, :10, :10] = 0
    image = make_tif(folder / f"{SCENE}_3B_{product}.tif", counts, pixel_m=3.0)
    if xml is not None:
        (folder / f"{SCENE}_3B_AnalyticMS_metadata.xml").write_text(xml or metadata())
    if udm:
        flags = np.zeros((8, 90, 120), np.uint8)
        flags[0] = 1
        flags[7, 40:50, 60:75] = 1  # blackfill, though the image has counts there
        flags[7, 20:30, 20:30] = 2 + 4  # cloud, and a suspect band: not missing
        make_tif(folder / f"{SCENE}_3B_udm2.tif", flags, pixel_m=3.0)
    return image


def test_coefficients_of_the_metadata(tmp_path: Path) -> None:
    image = make_planet(tmp_path)
    for source in (tmp_path, image):
        scene = open_scene(source)
        assert (scene.sensor, scene.level, scene.id) == ("planetscope-4b", "toa", f"{SCENE}_3B_AnalyticMS")
        assert [record.scale for record in scene.radiometry.values()] == list(COEFFICIENTS)
        assert {(record.offset, record.nodata, record.source) for record in scene.radiometry.values()} == {
            (0.0, 0, "product-xml")
        }
        assert scene.datetime == "2022-06-01T10:10:31Z"
        assert scene.properties["sun_zenith_deg"] == 34.75
        out = scene.read(scene.geobox)
        assert out[:, 50, 50] == pytest.approx([10000 * value for value in COEFFICIENTS], rel=1e-6)
        assert np.isnan(out[:, :10, :10]).all()


def test_surface_reflectance_does_not_take_the_coefficients_beside_it(tmp_path: Path) -> None:
    make_planet(tmp_path, "AnalyticMS_SR")
    scene = open_scene(tmp_path)
    assert (scene.sensor, scene.level) == ("planetscope-4b-sr", "boa")
    assert {(record.scale, record.source) for record in scene.radiometry.values()} == {(1e-4, "sensor")}
    assert scene.read(scene.geobox)[0, 50, 50] == pytest.approx(1.0)
    assert scene.properties["sun_azimuth_deg"] == 140.5


@pytest.mark.parametrize(
    ("product", "bands", "sensor"),
    [
        ("AnalyticMS_clip", 4, "planetscope-4b"),
        ("AnalyticMS_8b", 8, "planetscope-8b"),
        ("AnalyticMS_SR_8b_clip", 8, "planetscope-8b-sr"),
        ("AnalyticMS_SR_harmonized_clip", 4, "planetscope-4b-sr"),
    ],
)
def test_kinds_of_images(tmp_path: Path, product: str, bands: int, sensor: str) -> None:
    make_planet(tmp_path, product, bands=bands, xml=metadata(tuple(1e-5 * place for place in range(3, bands + 3))))
    scene = open_scene(tmp_path)
    assert (scene.sensor, len(scene.bands)) == (sensor, bands)
    if not sensor.endswith("sr"):
        assert scene.radiometry["nir"].scale == pytest.approx(1e-5 * (bands + 2))
        assert scene.radiometry["blue"].scale == pytest.approx(3e-5 if bands == 4 else 4e-5)


@pytest.mark.parametrize("overviews", [False, True])
def test_blackfill_of_the_mask_is_missing_at_every_pixel_size(tmp_path: Path, overviews: bool) -> None:
    image = make_planet(tmp_path, udm=True)
    if overviews:
        with rasterio.open(image, "r+") as dataset:
            dataset.build_overviews([2, 4])
    scene = open_scene(tmp_path)
    assert scene.properties["usable_data_mask"] == f"{SCENE}_3B_udm2.tif"
    gone = np.isnan(scene.read(scene.geobox)[0])
    assert gone[40:50, 60:75].all()
    assert not gone[20:30, 20:30].any()
    assert gone.sum() == 100 + 150
    coarse = np.isnan(scene.read(scene.grid(12))[0])
    assert coarse[10:13, 15:19].all()
    assert coarse.mean() < 0.25
    parts = [scene.read(scene.grid(12)[first : min(first + 5, 23), :])[0] for first in range(0, 23, 5)]
    assert np.array_equal(np.isnan(np.concatenate(parts)), coarse)


def test_the_mask_of_missing_pixels_reaches_the_result(tmp_path: Path) -> None:
    make_planet(tmp_path, udm=True)
    with pytest.warns(unclouded.UncloudedWarning):  # too small to be judged well
        result = unclouded.mask(tmp_path)
    assert (result.classes.values[40:50, 60:75] == 255).all()


def test_the_older_mask_of_one_band(tmp_path: Path) -> None:
    make_planet(tmp_path)
    flags = np.zeros((1, 90, 120), np.uint8)
    flags[0, 80:] = 1
    make_tif(tmp_path / f"{SCENE}_3B_AnalyticMS_DN_udm.tif", flags, pixel_m=3.0)
    scene = open_scene(tmp_path)
    assert np.isnan(scene.read(scene.geobox)[:, 80:]).all()


def test_without_metadata_the_radiometry_is_asked_for(tmp_path: Path) -> None:
    image = make_planet(tmp_path, xml=None)
    with pytest.raises(RadiometryError, match="holds radiances") as caught:
        open_scene(image)
    assert "reflectanceCoefficient" in caught.value.expected
    scene = open_scene(image, scale=2e-5, offset=0.0)
    assert {(record.source, record.nodata) for record in scene.radiometry.values()} == {("user", 0)}
    assert scene.datetime == "2022-06-01T10:10:31Z"
    assert open_scene(make_planet(tmp_path / "sr", "AnalyticMS_SR", xml=None)).radiometry["red"].scale == 1e-4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("two-images", InputError, "holds 2 images"),
        ("other-mask", InputError, "90 x 120"),
        ("no-mask", InputError, "3 bands"),
        ("no-number", InputError, "'much'"),
        ("entities", InputError, "entities"),
        ("sensor", InputError, "sensor was given"),
        ("bands", InputError, "given twice"),
        ("incomplete", RadiometryError, "holds radiances"),
        ("negative", RadiometryError, "scale"),
    ],
)
def test_folders_that_cannot_be_meant(tmp_path: Path, change: str, error: type, message: str) -> None:
    image = make_planet(tmp_path)
    xml = tmp_path / f"{SCENE}_3B_AnalyticMS_metadata.xml"
    options: dict[str, Any] = {}
    if change == "two-images":
        make_planet(tmp_path, "AnalyticMS_SR")
    elif change in ("other-mask", "no-mask"):
        shape = (8, 90, 121) if change == "other-mask" else (3, 90, 120)
        make_tif(tmp_path / f"{SCENE}_3B_udm2.tif", np.zeros(shape, np.uint8), pixel_m=3.0)
    elif change == "no-number":
        xml.write_text(metadata().replace("2.1e-05", "much"))
    elif change == "entities":
        xml.write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    elif change == "sensor":
        options["sensor"] = "planetscope-8b"
    elif change == "bands":
        options["bands"] = ["red", "RED"]
    elif change == "incomplete":
        xml.write_text(metadata(COEFFICIENTS[:3]))
    elif change == "negative":
        xml.write_text(metadata().replace("2.1e-05", "-2.1e-05"))
    with pytest.raises(error, match=message) as caught:
        open_scene(tmp_path, **options)
    assert caught.value.expected
    assert caught.value.remedy
    assert image.exists()


def test_a_stack_with_other_bands_is_an_ordinary_raster(tmp_path: Path) -> None:
    image = make_planet(tmp_path, bands=3)
    scene = open_scene(image, bands=["red", "green", "blue"], scale=1e-4)
    assert scene.sensor == "generic"


def test_bands_can_be_chosen_in_any_order(tmp_path: Path) -> None:
    make_planet(tmp_path)
    scene = open_scene(tmp_path, bands=["nir", "blue"])
    assert [record.scale for record in scene.radiometry.values()] == [3.6e-5, 2.0e-5]
