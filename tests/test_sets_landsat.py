"""Landsat validation sets: layouts, calibration with numbers from documents, codes, splits, windows."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.data import labels as lab
from unclouded.data.sets import _fakes, open_set
from unclouded.data.sets._fakes import ETM_RADIANCE, write_etm_metadata
from unclouded.data.sets._scenes import windows
from unclouded.data.sets.base import Record
from unclouded.data.sets.cca_ext import CcaExt
from unclouded.data.sets.l7irish import L7Irish
from unclouded.data.sets.l8biome import L8Biome
from unclouded.data.sets.sparcs import COLOURS, Sparcs
from unclouded.data.tiff import write_tiff
from unclouded.errors import InputError, RadiometryError, UncloudedError
from unclouded.readers.landsat import calibration


@pytest.fixture(scope="module", params=["usgs", "one-raster"])
def biome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("l8biome")
    L8Biome.make_fake(root, layout=request.param)
    return root


@pytest.fixture(scope="module", params=["usgs", "one-raster"])
def irish(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("l7irish")
    L7Irish.make_fake(root, layout=request.param)
    return root


def close(found: np.ndarray, expected: np.ndarray, rtol: float = 1e-6, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, expected, rtol, atol)


def stored(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def plane(data: L8Biome | L7Irish | Sparcs, record: Record, band: str) -> np.ndarray:
    path, index = data.planes(record)[band]
    return stored(path)[index - 1].astype(np.float64)


def test_biome_becomes_reflectance_and_kelvin(biome: Path) -> None:
    """Landsat 8-9 Data Users Handbook: (2e-5 DN - 0.1) / sin(elevation), and K2 / ln(K1 / L + 1)."""
    data = L8Biome(biome)
    record = data.records[2]
    elevation = float(re.search(r"SUN_ELEVATION = ([\d.]+)", record.files["mtl"].read_text())[1])  # type: ignore[index]
    sample = data.read(record)
    assert (sample.level, sample.gsd_m, [band.name for band in sample.bands][:2]) == ("toa", 30.0, ["B1", "B2"])
    dn = plane(data, record, "B4")
    expected = np.where(dn == 0, np.nan, (2e-5 * dn - 0.1) / math.sin(math.radians(elevation)))
    close(sample.image[3], expected, atol=1e-5)
    dn = plane(data, record, "B10")
    with np.errstate(divide="ignore"):
        kelvin = np.where(dn == 0, np.nan, 1321.08 / np.log(774.89 / (3.342e-4 * dn + 0.1) + 1))
    close(sample.image[9], kelvin, atol=2e-3)
    assert [band.kind for band in sample.bands][9:] == ["thermal", "thermal"]


def test_converted_scenes_are_read_where_counts_or_metadata_are_missing(tmp_path: Path) -> None:
    L8Biome.make_fake(tmp_path, layout="converted")
    data = L8Biome(tmp_path)
    record = data.records[0]
    sample, path = data.read(record), record.files["converted"]
    dn, missing = stored(path).astype(np.float64), stored(record.files["label"])[0] == 0
    assert [band.name for band in sample.bands] == ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "B10", "B11"]
    assert (np.isnan(sample.image) == missing).all()
    close(sample.image[3], np.where(missing, np.nan, dn[3] / 1e4), atol=1e-6)
    close(sample.image[8], np.where(missing, np.nan, dn[8] / 100 + 273.15), atol=1e-3)
    windows = L8Biome(tmp_path, patch=16)
    part = windows.records[4]
    row, col, height, width = part.window  # type: ignore[misc]
    cut = sample.image[:, row : row + height, col : col + width]
    np.testing.assert_array_equal(windows.read(part).image, cut)
    with pytest.raises(RadiometryError, match="holds reflectance"):
        (counts := L8Biome(tmp_path, level="counts")).read(counts.records[0])
    _fakes.write_oli_metadata(path.with_name(f"{record.scene}_MTL.txt"), record.scene)
    write_tiff(path.with_name(f"{record.scene}.TIF"), np.full((11, 48, 40), 9000, np.uint16), **_fakes.grid(30.0))
    assert "converted" not in L8Biome(tmp_path).records[0].files, "counts with their metadata come first"


@pytest.mark.parametrize(
    ("bands", "dtype", "kelvin", "said"),
    [(9, "int16", False, "has 9 bands"), (10, "uint16", False, "uint16"), (10, "int16", True, "degrees")],
)
def test_converted_scenes_of_another_form_are_refused(
    tmp_path: Path, bands: int, dtype: str, kelvin: bool, said: str
) -> None:
    L8Biome.make_fake(tmp_path, layout="converted")
    data = L8Biome(tmp_path)
    path = data.records[0].files["converted"]
    image = stored(path)[:bands].astype(dtype)
    image[8:] += 27315 if kelvin else 0
    write_tiff(path, image, **_fakes.grid(30.0))
    again = L8Biome(tmp_path)
    with pytest.raises(UncloudedError, match=said):
        again.read(again.records[0])


def test_pan_lies_on_the_grid_of_the_others(tmp_path: Path) -> None:
    """In the layout of the USGS band 8 has 15 m and half a pixel of its own."""
    L8Biome.make_fake(tmp_path)
    data = L8Biome(tmp_path, bands=["B4", "B8"], level="counts")
    sample = data.read(data.records[0])
    assert sample.image.shape == (2, 48, 40)
    valid = np.isfinite(sample.image).all(axis=0)
    assert np.corrcoef(sample.image[0][valid], sample.image[1][valid])[0, 1] > 0.97


def test_shadow_is_possible_where_a_scene_has_none_labelled(biome: Path) -> None:
    data = L8Biome(biome, patch=16)
    seen = Counter()
    for record in data.records:
        codes = data.read_codes(record)
        expected = lab.CLEAR if 64 in stored(record.files["label"]) else lab.NOT_CLOUD
        sets = data.read_sets(record)
        assert set(np.unique(sets[codes == 128])) <= {expected}
        assert set(np.unique(sets[codes == 0])) <= {lab.MISSING}
        seen[expected] += int((codes == 128).any() and not (codes == 64).any())
    assert seen[lab.CLEAR] > 0  # windows without shadow of scenes with shadow
    assert seen[lab.NOT_CLOUD] > 0


def test_windows_are_parts_of_the_scene(biome: Path) -> None:
    whole, parts = L8Biome(biome), L8Biome(biome, patch=16, stride=10, edge="align")
    scenes = {record.scene: whole.read(record) for record in whole.records[:2]}
    for record in parts.records:
        if record.scene not in scenes:
            continue
        row, col, height, width = record.window  # type: ignore[misc]
        sample, scene = parts.read(record), scenes[record.scene]
        assert np.array_equal(sample.sets, scene.sets[row : row + height, col : col + width])
        cut = scene.image[:, row : row + height, col : col + width]
        assert np.allclose(sample.image, cut, atol=1e-5, rtol=1e-5, equal_nan=True)
    assert {tuple(record.window)[2:] for record in parts.records} == {(16, 16)}  # type: ignore[arg-type]
    assert len({record.scene for record in parts.records}) == 6


def test_windows_without_labels_can_be_left_out(biome: Path) -> None:
    everything, some = L8Biome(biome, patch=8), L8Biome(biome, patch=8, empty=False)
    left = {record.name for record in everything.records} - {record.name for record in some.records}
    assert left
    for record in everything.records:
        assert (record.name in left) == bool((everything.read_sets(record) == lab.MISSING).all())


def test_counts_on_request_and_metadata_missing(biome: Path, tmp_path: Path) -> None:
    data = L8Biome(biome, level="counts", bands=["red", "nir08"])
    record = data.records[0]
    sample = data.read(record)
    assert sample.level == "counts"
    assert [band.name for band in sample.bands] == ["B4", "B5"]
    dn = plane(data, record, "B5")
    close(sample.image[1], np.where(dn == 0, np.nan, dn * 1e-4), atol=1e-4)
    bare = Record(record.name, record.scene, {key: path for key, path in record.files.items() if key != "mtl"})
    with pytest.raises(RadiometryError, match="level='counts'"):
        L8Biome(biome).read(bare)


def test_biome_splits_go_by_scene(biome: Path) -> None:
    for scheme in L8Biome.schemes:
        split = L8Biome(biome, patch=16).assign(scheme)
        whole = L8Biome(biome).assign(scheme)
        for name, part in split.items():
            assert part == whole[name.split("_")[0]]
    assert set(L8Biome(biome).assign("sensei").values()) == {"train"}
    assert Counter(L8Biome(biome).assign("mscloudcam").values()) == {"train": 3, "choose": 1, "test": 2}


def test_unknown_codes_and_missing_bands_are_refused(tmp_path: Path) -> None:
    L8Biome.make_fake(tmp_path)
    data = L8Biome(tmp_path)
    record = data.records[0]
    with rasterio.open(record.files["label"], "r+") as file:
        codes = file.read(1)
        codes[5, 5] = 77
        file.write(codes, 1)
    with pytest.raises(InputError, match=r"\[77\]"):
        data.read(record)
    data.records[1].files["B3"].unlink()
    again = L8Biome(tmp_path)
    with pytest.raises(InputError, match="no raster of B3"):
        again.read(again.records[1])
    with pytest.raises(InputError, match="edge='align'"):
        L8Biome(tmp_path, stride=5)
    with pytest.raises(InputError, match="It is 'toa'"):
        open_set("l8biome", tmp_path, level="boa")
    with pytest.raises(InputError, match="B12"):
        open_set("l8biome", tmp_path, bands=["B12"])


def test_real_biome_patches(shared_data: Path) -> None:
    data = L8Biome(shared_data / "l8biome")
    assert len(data) == 23
    assert len({record.tags["biome"] for record in data.records}) == 8
    samples = {sample.name: sample for sample in data.samples()}
    for sample in samples.values():
        assert sample.image.shape == (8, 256, 256)
        assert sample.image[7].min() > 200
        assert sample.image[7].max() < 340
        assert 0 <= np.median(sample.image[:6]) < 1.2
    shaded = {sample.scene for sample in samples.values() if (sample.sets == lab.SHADOW).any()}
    assert shaded == {"Forest_05", "Forest_08", "GrassCrops_02", "Shrubland_00"}
    for sample in samples.values():
        clear = lab.CLEAR if sample.scene in shaded else lab.NOT_CLOUD
        assert set(np.unique(sample.sets)) <= {clear, lab.SHADOW, lab.THIN, lab.THICK}
    thick = np.concatenate([s.image[0][s.sets == lab.THICK] for s in samples.values()])
    clear = np.concatenate([s.image[0][(s.sets & lab.CLEAR) > 0] for s in samples.values() if s.scene[:4] != "Snow"])
    assert np.median(thick) > 2 * np.median(clear)


def test_irish_becomes_reflectance_and_kelvin(irish: Path) -> None:
    """Chander et al. 2009: pi L d^2 / (ESUN sin(elevation)); day 162 of the year has d = 1.0154."""
    data = L7Irish(irish)
    record = data.records[1]
    sample = data.read(record)
    elevation = float(re.search(r"SUN_ELEVATION = ([\d.]+)", record.files["mtl"].read_text())[1])  # type: ignore[index]
    high, low = ETM_RADIANCE["3"]
    dn = plane(data, record, "B3")
    radiance = (high - low) / 254 * (dn - 1) + low
    expected = math.pi * radiance * 1.0154**2 / (1533.0 * math.sin(math.radians(elevation)))
    close(sample.image[2], np.where(dn == 0, np.nan, expected), rtol=2e-3, atol=1e-4)
    assert [band.name for band in sample.bands][5:7] == ["B6_VCID_1", "B6_VCID_2"]
    if "image" in record.files:
        dn = plane(data, record, "B6_VCID_1")
        radiance = 17.04 / 254 * (dn - 1)
        kelvin = 1282.71 / np.log(666.09 / np.where(radiance > 0, radiance, np.nan) + 1)
        close(sample.image[5], np.where(dn == 0, np.nan, kelvin), rtol=1e-4)


def test_irish_conventions_are_told_apart(irish: Path) -> None:
    data = L7Irish(irish)
    found = Counter()
    for record in data.records:
        codes, sets = data.read_codes(record), data.read_sets(record)
        convention = data.convention(record)
        shadowed = (64 if convention == "documented" else 0) in codes
        found[convention, shadowed] += 1
        fill = plane(data, record, "B1") == 0
        assert (sets[fill] == lab.MISSING).all()
        assert fill.any()
        assert set(np.unique(sets[codes == 128])) == {
            lab.THICK if convention == "second" else lab.CLEAR if shadowed else lab.NOT_CLOUD
        }
        bright = plane(data, record, "B1")
        assert bright[(sets & lab.CLOUD) > 0].mean() > bright[(sets & lab.CLEAR) > 0].mean()
    assert set(found) == {(name, flag) for name in ("documented", "second") for flag in (True, False)}
    assert {record.tags["zone"] for record in data.records} == {"austral", "boreal", "mid_latitude_north"}


def test_irish_corrected_masks_on_request(tmp_path: Path) -> None:
    L7Irish.make_fake(tmp_path)
    with pytest.raises(InputError, match="holds no image"):
        L7Irish(tmp_path, mask="2019")
    first = L7Irish(tmp_path).records[0].files["label"]
    first.with_name("p226_r98_mask2019.tif").write_bytes(first.read_bytes())
    (record,) = L7Irish(tmp_path, mask="2019").records
    assert record.files["label"].name == "p226_r98_mask2019.tif"
    with pytest.raises(InputError, match="2020"):
        L7Irish(tmp_path, mask="2020")  # type: ignore[arg-type]


def test_metadata_of_before_2012(tmp_path: Path) -> None:
    """Ranges become factors: gain (LMAX - LMIN) / (QCALMAX - QCALMIN), and LMIN belongs to QCALMIN."""
    path = tmp_path / "L71001_MTL.txt"
    write_etm_metadata(path)
    sensor, found = calibration(path, ["B1", "B6_VCID_2"], thermal=(666.09, 1282.71))
    assert sensor.name == "landsat-etm-c1-l1"
    record, constants = found["B6_VCID_2"]
    assert record.scale * 1 + record.offset == pytest.approx(3.2)
    assert record.scale * 255 + record.offset == pytest.approx(12.65)
    assert constants == (666.09, 1282.71)
    with pytest.raises(RadiometryError, match="does not say"):
        calibration(path, ["B6_VCID_2"])
    with pytest.raises(InputError, match="no band 'B9'"):
        calibration(path, ["B9"])
    path.write_text(path.read_text().replace("QCALMAX_BAND1 = 255.0", "QCALMAX_BAND1 = 1.0"))
    with pytest.raises(InputError, match="from 1 to 1"):
        calibration(path, ["B1"])


def test_irish_mask_of_neither_convention_is_refused(tmp_path: Path) -> None:
    L7Irish.make_fake(tmp_path)
    data = L7Irish(tmp_path)
    record = next(record for record in data.records if data.convention(record) == "second")
    with rasterio.open(record.files["label"], "r+") as file:
        codes = file.read(1)
        codes[0, 0] = 128
        file.write(codes, 1)
    with pytest.raises(InputError, match="upper left pixel"):
        data.read(record)


def test_sparcs_codes_and_colours_mean_the_same(tmp_path: Path) -> None:
    Sparcs.make_fake(tmp_path / "osu")
    Sparcs.make_fake(tmp_path / "usgs", release="usgs")
    osu, usgs = Sparcs(tmp_path / "osu"), Sparcs(tmp_path / "usgs")
    assert [record.name for record in osu.records] == [record.name for record in usgs.records]
    for one, other in zip(osu.records, usgs.records, strict=True):
        assert one.files["label"].suffix != other.files["label"].suffix
        assert np.array_equal(osu.read(one).sets, usgs.read(other).sets)
        codes = stored(one.files["label"])[0]
        assert (osu.read_sets(one)[codes == 6] == lab.bits("land", "water")).all()
        assert (osu.read_sets(one)[codes <= 1] == lab.SHADOW).all()
    assert len({record.scene for record in osu.records}) == 5
    assert len(set(COLOURS.values())) == len(COLOURS) == len(Sparcs.labels)
    split = osu.assign()
    assert split[osu.records[0].name] == split[osu.records[1].name]  # two pieces of one scene


def test_sparcs_colours_with_loss_are_refused(tmp_path: Path) -> None:
    Sparcs.make_fake(tmp_path, release="usgs")
    data = Sparcs(tmp_path)
    path = data.records[0].files["label"]
    picture = stored(path)
    picture[0, 3, 3] = 130
    picture[1:, 3, 3] = 128
    with rasterio.open(path, "w", driver="PNG", count=3, dtype="uint8", height=40, width=40) as file:
        file.write(picture)
    with pytest.raises(InputError, match="#828080"):
        data.read(data.records[0])


def test_cca_ext_is_for_testing_and_knows_no_shadow(tmp_path: Path) -> None:
    CcaExt.make_fake(tmp_path)
    data = CcaExt(tmp_path)
    assert set(data.assign().values()) == {"test"}
    assert [record.tags["satellite"] for record in data.records] == ["Landsat 8", "Landsat 9"]
    assert {record.tags["sensor"] for record in data.records} == {"landsat-oli-c2-l1"}
    sample = data.read(data.records[1])
    assert set(np.unique(sample.sets)) == {lab.MISSING, lab.NOT_CLOUD, lab.THIN, lab.THICK}
    with rasterio.open(data.records[0].files["label"], "r+") as file:
        codes = file.read(1)
        codes[0, 0] = 64
        file.write(codes, 1)
    with pytest.raises(InputError, match=r"\[64\]"):
        data.read(data.records[0])
    (data.records[1].files["label"].parent / "other_mask.img").write_bytes(b"")
    with pytest.raises(InputError, match="2 files that could be the mask"):
        CcaExt(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 70), cols=st.integers(1, 70), patch=st.integers(1, 40), share=st.floats(0.1, 1.0)
)
def test_aligned_windows_cover_everything_and_dropped_ones_are_full(
    rows: int, cols: int, patch: int, share: float
) -> None:
    stride = max(1, round(patch * share))
    seen = np.zeros((rows, cols), int)
    found = list(windows((rows, cols), patch, stride, "align"))
    assert len(set(found)) == len(found)
    for row, col, height, width in found:
        assert row + height <= rows
        assert col + width <= cols
        seen[row : row + height, col : col + width] += 1
    assert seen.min() >= 1
    for window in windows((rows, cols), patch, stride):
        assert tuple(window)[2:] == (patch, patch)
        assert window.row % stride == window.col % stride == 0


def test_levir_grid_of_cloudmamba() -> None:
    """27,612 patches of 3,068 scenes: nine of 512 for a scene of about 1320 x 1200."""
    assert len(list(windows((1320, 1200), 512, 512, "align"))) == 9
