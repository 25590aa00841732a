"""Sentinel-2 Cloud Mask Catalogue, KappaSet, CESBIO masks and SEN12MS-CR: labels, offsets, grids, names and parts."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from unclouded.data import labels as lab
from unclouded.data import sets
from unclouded.data.sets import DataSet
from unclouded.data.sets.s2_catalogue import label_sets
from unclouded.data.sets.sen12mscr import _CHOOSE, _TEST
from unclouded.data.tiff import read_tiff, write_tiff
from unclouded.errors import InputError, RadiometryError

# Sentinel-2 Cloud Mask Catalogue -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "clear", "cloud"),
    [
        # The example of METHODS B.8: forest, mountain and open water, no snow.
        ({"land": 1, "water": 1, "shadows_marked": 1}, lab.bits("land", "water"), lab.CLOUD),
        ({"shadows_marked": 1}, lab.CLEAR, lab.CLOUD),
        ({"snow": 1, "thin": 1, "shadows_marked": 0}, lab.bits("snow", "shadow"), lab.THIN),
        ({"land": 1, "thick": 1, "shadows_marked": 1}, lab.bits("land"), lab.THICK),
        ({"land": 1, "thin": 1, "thick": 1, "shadows_marked": 1}, lab.bits("land"), lab.CLOUD),
    ],
)
def test_tags_say_which_classes_are_possible(tags: dict[str, float], clear: int, cloud: int) -> None:
    assert label_sets(tags) == (clear, cloud, lab.SHADOW)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    sets.get("s2-catalogue").make_fake(tmp_path)
    return tmp_path


def test_tags_of_the_table_reach_the_labels(catalogue: Path) -> None:
    dataset = sets.open_set("s2-catalogue", catalogue)
    coast = dataset.records[2]
    assert coast.tags == {"shadows_marked": 1, "snow": 0, "water": 1, "land": 0, "thin": 1, "thick": 1}
    assert set(np.unique(dataset.read(coast).sets)) == {lab.IGNORED, lab.bits("water"), lab.CLOUD, lab.SHADOW}


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("snow/ice", "white", "snow cannot be told"),
        ("shadows_marked", "shadows", "shadows_marked cannot be told"),
        (",thin,", ",veil,", "thin cannot be told"),
        (",isolated,", ",rather_thin,", "thin cannot be told"),
    ],
)
def test_columns_are_checked(catalogue: Path, old: str, new: str, message: str) -> None:
    rewrite(catalogue / "classification_tags.csv", old, new)
    with pytest.raises(InputError, match=message) as caught:
        sets.open_set("s2-catalogue", catalogue)
    assert caught.value.remedy


def test_other_spellings_of_tags_are_understood(catalogue: Path) -> None:
    before = [record.tags for record in sets.open_set("s2-catalogue", catalogue).records]
    path = catalogue / "classification_tags.csv"
    rewrite(path, "forest/jungle,snow/ice,open_water", "Forest_Jungle,SNOW-ICE,Open Water")
    assert [record.tags for record in sets.open_set("s2-catalogue", catalogue).records] == before


def test_tags_other_than_0_and_1_are_refused(catalogue: Path) -> None:
    path = catalogue / "classification_tags.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    rows[2][rows[0].index("thin")] = "maybe"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    with pytest.raises(InputError, match=r"'thin' of .* holds 'maybe'"):
        sets.open_set("s2-catalogue", catalogue)


@pytest.mark.parametrize("change", ["channels", "type", "text"])
def test_arrays_of_another_form_are_refused(catalogue: Path, change: str) -> None:
    dataset = sets.open_set("s2-catalogue", catalogue)
    path = dataset.records[0].files["image"]
    image = np.load(path)
    if change == "text":
        path.write_text("no array")
    else:
        np.save(path, image[..., :12] if change == "channels" else image.astype(np.float64))
    with pytest.raises(InputError, match=r"\.npy (cannot be read|holds)"):
        dataset.read(dataset.records[0])


def test_the_split_of_sensei_needs_its_lists(catalogue: Path) -> None:
    dataset = sets.open_set("s2-catalogue", catalogue)
    assert Counter(dataset.assign("sensei-v1").values()) == {"train": 2, "choose": 1, "test": 1}
    shutil.rmtree(catalogue / "Sentinel-2-splits")
    with pytest.raises(InputError, match=r"has no lists train\.csv"):
        dataset.assign("sensei-v1")


# KappaSet ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kappa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kappa")
    sets.get("kappaset").make_fake(root)
    return root


def clear_reflectance(dataset: DataSet, index: int) -> float:
    sample = dataset.read(dataset.records[index])
    return float(np.median(sample.image[3][sample.sets == lab.CLEAR]))


def test_offset_of_later_baselines_is_taken_off(kappa: Path) -> None:
    dataset = sets.open_set("kappaset", kappa)
    assert "2022" in dataset.records[0].name
    # The same ground of 1500 counts, once stored with the offset of 1000 added and once without.
    assert clear_reflectance(dataset, 0) == pytest.approx(0.15, abs=1e-5)
    assert clear_reflectance(dataset, 1) == pytest.approx(0.15, abs=1e-5)
    assert [dataset.read(record).level for record in dataset.records] == ["toa", "toa", "toa", "boa"]


def test_subtiles_of_one_product_stay_together(kappa: Path) -> None:
    dataset = sets.open_set("kappaset", kappa)
    assert Counter(record.scene for record in dataset.records)["T35VLF_20200529T094041"] == 2


def test_only_images_without_cloud_and_shadow_are_backgrounds(catalogue: Path) -> None:
    dataset = sets.open_set("s2-catalogue", catalogue)
    marked, unmarked = dataset.records[0], dataset.records[1]
    assert not dataset.read(marked).background
    for record in (marked, unmarked):
        mask = np.load(record.files["label"])
        mask[...] = False
        mask[..., 0] = True
        np.save(record.files["label"], mask)
    assert dataset.read(marked).background
    assert not dataset.read(unmarked).background  # shadows may be there, only nobody marked them


def change_file(kappa: Path, folder: Path, **changes: object) -> DataSet:
    """One file with another product name, without a band, or with other values."""
    name = "T35VLF_20200529T094041_tile_0_0.nc"
    with xr.open_dataset(kappa / "tiles" / name, engine="h5netcdf") as stored:
        new = stored.load()
    if "product_name" in changes:
        new.attrs["product_name"] = changes["product_name"]
    if "drop" in changes:
        new = new.drop_vars(str(changes["drop"]))
    if "times" in changes:
        new["B04"] = new["B04"] * np.float32(changes["times"])  # type: ignore[arg-type]
    if "cut" in changes:
        new = new.isel(x=slice(0, 100))
    new.to_netcdf(folder / name, engine="h5netcdf")
    return sets.open_set("kappaset", folder)


@pytest.mark.parametrize("product", ["", "S2A_MSIL1C_20200529T094041_N9999_R036_T35VLF_20200529T115611"])
def test_unknown_baselines_have_to_be_said(kappa: Path, tmp_path: Path, product: str) -> None:
    dataset = change_file(kappa, tmp_path, product_name=product)
    with pytest.raises(RadiometryError, match="does not name a product of ESA") as caught:
        dataset.read(dataset.records[0])
    assert "offset=0" in caught.value.remedy
    told = sets.open_set("kappaset", tmp_path, offset=0)
    assert clear_reflectance(told, 0) == pytest.approx(0.15, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"drop": "B04"}, InputError, "no variables B04"),
        ({"drop": "B10"}, InputError, "has no band B10|but has no band B10"),
        ({"drop": "Label"}, InputError, "no variables Label"),
        ({"times": 65535}, RadiometryError, "divided by 65535"),
        ({"cut": True}, InputError, "The variable B01"),
    ],
)
def test_files_of_another_form_are_refused(
    kappa: Path, tmp_path: Path, changes: dict[str, object], error: type[InputError], message: str
) -> None:
    dataset = change_file(kappa, tmp_path, **changes)
    with pytest.raises(error) as caught:
        dataset.read(dataset.records[0])
    assert any(one in str(caught.value) for one in message.split("|"))


def test_damaged_netcdf_is_refused(kappa: Path, tmp_path: Path) -> None:
    (tmp_path / "T35VLF_20200529T094041_tile_0_0.nc").write_bytes(b"CDF")
    dataset = sets.open_set("kappaset", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        dataset.read(dataset.records[0])


# CESBIO --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cesbio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cesbio")
    sets.get("cesbio").make_fake(root)
    return root


def test_labels_lie_on_the_pixels_that_they_belong_to(cesbio: Path) -> None:
    for resolution, size in ((60, 40), (20, 120), (10, 240)):
        dataset = sets.open_set("cesbio", cesbio, resolution_m=resolution)
        sample = dataset.read(dataset.records[0])
        assert sample.image.shape == (13, size, size)
        assert sample.gsd_m == resolution
        middle = sample.image[3]
        for mask, reflectance in ((lab.bits("water"), 0.04), (lab.bits("land"), 0.13), (lab.SHADOW, 0.05)):
            assert np.nanmedian(middle[sample.sets == mask]) == pytest.approx(reflectance, abs=0.002)
        assert np.isnan(middle[sample.sets == lab.MISSING]).mean() > 0.9


def test_scenes_without_product_are_left_out_and_told(cesbio: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="unclouded"):
        dataset = sets.open_set("cesbio", cesbio)
    assert len(dataset) == 2
    assert "1 scenes have no product" in caplog.text
    assert "T34RGS" in caplog.text


def test_a_scene_in_both_folders_is_one_scene(cesbio: Path) -> None:
    dataset = sets.open_set("cesbio", cesbio, hollstein=True)
    assert len(dataset) == 3
    assert len({record.scene for record in dataset.records}) == 2
    assert set(dataset.assign().values()) == {"test"}


def test_products_are_found_by_tile_and_day_where_names_have_changed(cesbio: Path, tmp_path: Path) -> None:
    shutil.copytree(cesbio / "Reference_dataset", tmp_path / "Reference_dataset")
    for path in tmp_path.rglob("used_parameters.json"):
        facts = json.loads(path.read_text())
        facts["cloudy_product_name"] = "S2A_OPER_PRD_MSIL1C_PDMC_20161206T190000_R025_V20161206T152212_20161206T152212"
        path.write_text(json.dumps(facts))
    dataset = sets.open_set("cesbio", tmp_path, products=cesbio / "L1C")
    assert len(dataset) == 2
    for path in tmp_path.rglob("used_parameters.json"):
        path.unlink()  # the folders' names tell as much
    assert len(sets.open_set("cesbio", tmp_path, products=str(cesbio / "L1C"))) == 2


def test_scenes_of_unknown_tile_and_damaged_parameters_are_refused(cesbio: Path, tmp_path: Path) -> None:
    place = tmp_path / "Reference_dataset" / "Arles" / "Classification"
    source = next(cesbio.rglob("classification_map.tif"))
    write_tiff(place / "classification_map.tif", read_tiff(source))
    with pytest.raises(InputError, match=r"Tile and day of .*Arles cannot be told"):
        sets.open_set("cesbio", tmp_path)
    (place / "used_parameters.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        sets.open_set("cesbio", tmp_path)


def test_masks_of_another_grid_are_refused(cesbio: Path, tmp_path: Path) -> None:
    shutil.copytree(cesbio / "Reference_dataset", tmp_path / "Reference_dataset")
    dataset = sets.open_set("cesbio", tmp_path, products=cesbio / "L1C")
    path = dataset.records[0].files["label"]
    write_tiff(path, read_tiff(path))  # the same codes from another corner, with pixels of 10 m
    with pytest.raises(InputError, match="Both cover the same tile"):
        dataset.read(dataset.records[0])


def test_odd_resolutions_are_refused(cesbio: Path) -> None:
    with pytest.raises(InputError, match="The resolution is 25 m"):
        sets.open_set("cesbio", cesbio, resolution_m=25)


# SEN12MS-CR ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("triplets")
    sets.get("sen12mscr").make_fake(root)
    return root


def test_incomplete_triplets_are_left_out(triplets: Path) -> None:
    names = [record.name for record in sets.open_set("sen12mscr", triplets).records]
    assert len(names) == 6
    assert [name for name in names if "fall" in name] == ["ROIs1970_fall_65_p35"]


def test_places_are_compared_as_numbers(triplets: Path) -> None:
    split = sets.open_set("sen12mscr", triplets).assign("official")
    assert split["ROIs1158_spring_1_p30"] == "train"
    assert split["ROIs1158_spring_106_p32"] == "test"
    assert split["ROIs1158_spring_17_p31"] == "choose"


def test_published_split_has_ten_places_each() -> None:
    assert sum(map(len, _CHOOSE.values())) == sum(map(len, _TEST.values())) == 10
    assert all(not set(_CHOOSE[season]) & set(_TEST[season]) for season in _TEST)


def test_mmcanet_trains_on_spring_and_tests_on_all_seasons(triplets: Path) -> None:
    dataset = sets.open_set("sen12mscr", triplets)
    split = dataset.assign("mmcanet")
    for record in dataset.records:
        assert record.tags["season"] == "spring" or split[record.name] == "test"


def test_the_flat_packaging_holds_the_same(triplets: Path, tmp_path: Path) -> None:
    public = sets.open_set("sen12mscr", triplets)
    folders = {"s1": "s1", "clear": "s2_cloudFree", "cloudy": "s2_cloudy"}
    lines = []
    for number, record in enumerate(public.records):
        name = record.name.replace("_p", "_") if number % 2 else record.name  # both spellings occur
        for kind, folder in folders.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.tif").symlink_to(record.files[kind])
        lines.append(f"{number % 3 + 1}\ts1\ts2_cloudFree\ts2_cloudy\t{name}.tif")
    flat = sets.open_set("sen12mscr", tmp_path)
    assert [record.name for record in flat.records] == [record.name for record in public.records]
    for one, two in zip(flat.records, public.records, strict=True):
        np.testing.assert_array_equal(flat.read_pair(one).cloudy, public.read_pair(two).cloudy)
    assert flat.assign("official") == public.assign("official")
    with pytest.raises(InputError, match="No list in"):
        flat.assign("list")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert list(flat.assign("list").values()) == ["train", "choose", "test", "train", "choose", "test"]


def test_triplets_of_another_form_are_refused(triplets: Path, tmp_path: Path) -> None:
    shutil.copytree(triplets, tmp_path / "copy")
    dataset = sets.open_set("sen12mscr", tmp_path / "copy")
    record = dataset.records[0]
    radar = read_tiff(record.files["s1"])
    write_tiff(record.files["s1"], (10 ** (radar / 10)).astype(np.float32))
    with pytest.raises(InputError, match="Decibel are expected"):
        dataset.read_pair(record)
    write_tiff(record.files["s1"], radar)
    write_tiff(record.files["clear"], read_tiff(record.files["clear"])[:12])
    with pytest.raises(InputError, match="has 12 bands"):
        dataset.read_pair(record)


def test_real_triplets_in_the_public_layout(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "sen12mscr" / "triplets"
    kinds = {"s1": "s1", "clear": "s2", "cloudy": "s2_cloudy"}
    for path in source.glob("ROIs*.tif"):
        season, place, patch, kind = path.stem.rsplit("_", 3)
        folder = tmp_path / f"{season}_{kinds[kind]}" / f"{kinds[kind]}_{place}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{season}_{kinds[kind]}_{place}_{patch}.tif").symlink_to(path)
    dataset = sets.open_set("sen12mscr", tmp_path)
    assert dataset.assign() == {"ROIs1970_fall_139_p839": "test", "ROIs2017_winter_112_p797": "train"}
    for record in dataset.records:
        pair = dataset.read_pair(record)
        assert pair.sar is not None
        assert -20 < np.median(pair.sar[0]) < 0
        assert np.median(pair.sar[1]) < np.median(pair.sar[0])  # VV is the stronger one
        assert not np.isnan(pair.clear).any()
    autumn = dataset.read_pair(dataset.records[0])
    blue = [band.name for band in autumn.bands].index("B02")
    assert np.median(autumn.cloudy[blue]) > np.median(autumn.clear[blue])
