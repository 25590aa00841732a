"""CloudSEN12 and CloudSEN12+: levels, scribbles, radar, padding, splits and what is refused, in all four packagings."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unclouded.data import containers, sets
from unclouded.data import labels as lab
from unclouded.data.sets import Record, _cloudsen12, cloudsen12_plus
from unclouded.data.sets.cloudsen12 import _split_codes
from unclouded.data.tiff import read_tiff, write_tiff
from unclouded.errors import InputError, UncloudedWarning

LAYOUTS = ("cloudsen12", "cloudsen12-memmap", "cloudsen12-plus")
EVERYTHING = {"level": "l2a", "kind": "scribble", "with_sar": True, "with_dem": True, "with_aot": True}
Fake = Callable[[str], Path]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """Made-up copies, each written once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            make = cloudsen12_plus.make_fake_mlstac if name == "mlstac" else sets.get(name).make_fake
            make(made[name])
        return made[name]

    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_level_2a_with_aerosol_radar_and_elevation(name: str, fake: Fake) -> None:
    dataset = sets.open_set(name, fake(name), **EVERYTHING)
    sample = dataset.read(dataset.records[0])
    names = [band.name for band in sample.bands]
    assert names[:13] == [
        "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12", "AOT",
    ]  # fmt: skip
    assert sample.level == "boa"
    expected = {"vv": -9.5, "vh": -16.0, "angle": 38.0, "elevation": 320.0}
    if name == "cloudsen12-plus":
        del expected["angle"]
    assert names[13:] == list(expected)
    assert [band.kind for band in sample.bands[13:]] == ["sar"] * (len(expected) - 1) + ["dem"]
    np.testing.assert_allclose(sample.image[13:, 5, 5], list(expected.values()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_scribbles_join_border_and_centre(name: str, fake: Fake) -> None:
    dataset = sets.open_set(name, fake(name), kind="scribble")
    seen = {int(mask) for sample in dataset.samples() for mask in np.unique(sample.sets)}
    assert seen == {lab.CLEAR, lab.THICK, lab.THIN, lab.SHADOW, lab.IGNORED}


def test_scribble_and_dense_tables_agree_on_classes() -> None:
    assert {code: _cloudsen12.SCRIBBLE[code] for code in (0, 1, 2, 3, 4, 5, 6)} == {
        0: lab.CLEAR, 1: lab.THICK, 2: lab.THICK, 3: lab.THIN, 4: lab.THIN, 5: lab.SHADOW, 6: lab.SHADOW,
    }  # fmt: skip
    assert [_cloudsen12.HIGH[code] for code in range(4)] == lab.FOUR.tolist()


@pytest.mark.parametrize("name", ["cloudsen12-memmap", "cloudsen12-plus", "mlstac"])
def test_padding_is_ignored_unless_it_is_to_be_kept(name: str, fake: Fake) -> None:
    layout = "cloudsen12-plus" if name == "mlstac" else name
    dataset, kept = (sets.open_set(layout, fake(name), keep_padding=keep) for keep in (False, True))
    one, two = dataset.read(dataset.records[0]), kept.read(kept.records[0])
    padding = np.zeros((512, 512), bool)
    padding[-3:], padding[:, :3] = True, True
    np.testing.assert_array_equal(np.isnan(one.image).all(axis=0), padding)
    assert (one.sets[padding] == lab.IGNORED).all()
    assert (two.sets[padding] == lab.CLEAR).all()
    assert (two.image[:, padding] == 0).all()
    np.testing.assert_array_equal(one.sets[~padding], two.sets[~padding])


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_of_other_programs_come_in_output_classes(name: str, fake: Fake) -> None:
    dataset = sets.open_set(name, fake(name))
    assert isinstance(dataset, _cloudsen12.CloudSen12Base)
    record = dataset.records[0]
    mask = dataset.third_party(record, "sen2cor")
    sample = dataset.read(record)
    valid = ~np.isnan(sample.image[0])
    assert (mask[valid & (sample.sets == lab.THICK)] == 1).all()  # code 9 of Sen2Cor
    assert (mask[valid & (sample.sets == lab.CLEAR)] == 0).all()  # code 4
    with pytest.raises(InputError, match="The option program is 'maja'"):
        dataset.third_party(record, "maja")


def test_probabilities_are_no_mask(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12"), tmp_path / "copy")
    dataset = sets.open_set("cloudsen12", tmp_path / "copy")
    assert isinstance(dataset, _cloudsen12.CloudSen12Base)
    record = dataset.records[0]
    folder = record.files["label"].parent
    write_tiff(folder / "s2cloudless.tif", np.full((509, 509), 40, np.uint8))
    with pytest.raises(InputError, match=r"holds the codes \[40\]"):
        dataset.third_party(record, "s2cloudless")
    (folder / "fmask.tif").unlink()
    with pytest.raises(InputError, match="0 files like fmask"):
        dataset.third_party(record, "fmask")


def test_only_clear_patches_are_backgrounds(tmp_path: Path) -> None:
    image = np.full((13, 512, 512), 900, np.uint16)
    dataset = taco(tmp_path, 512, image, np.zeros((1, 512, 512), np.uint8))
    assert dataset.read(dataset.records[0]).background
    dataset = taco(tmp_path, 512, image, np.full((1, 512, 512), 99, np.uint8))
    assert not dataset.read(dataset.records[0]).background  # without label


# Splits ------------------------------------------------------------------------------------------------------------


def rows(places: list[int], tags: dict[str, float] | None = None) -> list[Record]:
    """Records of these places, in order of their names."""
    return [Record(f"{number:05d}", f"ROI_{place:04d}", {}, "train", tags or {}) for number, place in enumerate(places)]


def test_sequential_split_is_the_one_of_mscloudcam_where_every_place_has_five_dates() -> None:
    split = _cloudsen12._sequential(rows([number // 5 for number in range(10_000)]))
    assert [split[f"{number:05d}"] for number in (0, 8499, 8500, 8999, 9000, 9999)] == [
        "train", "train", "choose", "choose", "test", "test",
    ]  # fmt: skip
    assert Counter(split.values()) == {"train": 8500, "choose": 500, "test": 1000}


def test_sequential_split_never_divides_a_place() -> None:
    places = [number // 7 for number in range(1000)]
    split = _cloudsen12._sequential(rows(places))
    for place in set(places):
        assert len({split[f"{number:05d}"] for number, other in enumerate(places) if other == place}) == 1


@pytest.mark.parametrize(
    ("latitude", "month", "used", "north"),
    [
        (40.0, 6.0, True, True), (-40.0, 6.0, True, False), (10.0, 6.0, False, False), (70.0, 6.0, False, False),
        (40.0, 7.0, False, False),
    ],
)  # fmt: skip
def test_temperate_june(latitude: float, month: float, used: bool, north: bool) -> None:
    (record,) = rows([0], {"latitude": latitude, "month": month})
    assert _cloudsen12._is_temperate_june(record) is used
    assert _cloudsen12._is_temperate_june(record, north_only=True) is north


def test_temperate_june_needs_place_and_date() -> None:
    with pytest.raises(InputError, match="Place or date"):
        _cloudsen12._is_temperate_june(rows([0])[0])


@pytest.mark.parametrize(
    ("date", "month"),
    [("2019-06-12", 6), ("2019-06-12 10:10:31", 6), ("20191112T101031_x", 11), (1560333000.0, 6), ("1560333000", None)],
)
def test_dates_in_all_forms(date: object, month: float | None) -> None:
    assert _cloudsen12.place_tags(date, "").get("month") == month


def test_sizes_tell_which_code_is_the_test_part() -> None:
    def table(ones: int, twos: int) -> list[dict[str, str]]:
        values = ["0"] * 8490 + ["1"] * ones + ["2"] * twos
        return [{"label_type": "high", "test": value} for value in values]

    where = Path("cloudsen12_metadata.csv")
    assert _split_codes(table(975, 535), where) == {"0": "train", "1": "test", "2": "choose"}
    assert _split_codes(table(535, 975), where) == {"0": "train", "1": "choose", "2": "test"}
    with pytest.raises(InputError, match="holds 3"):
        _split_codes([{"label_type": "high", "test": "3"}], where)


def test_without_its_table_only_the_split_in_order_can_be_had(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12"), tmp_path / "copy")
    (tmp_path / "copy" / "cloudsen12_metadata.csv").unlink()
    dataset = sets.open_set("cloudsen12", tmp_path / "copy")
    assert set(dataset.assign("mscloudcam").values()) <= {"train", "choose", "test"}
    for scheme in ("official", "temperate-june"):
        with pytest.raises(InputError, match="have no split"):
            dataset.assign(scheme)


def test_a_table_without_its_columns_is_refused(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12"), tmp_path / "copy")
    path = tmp_path / "copy" / "cloudsen12_metadata.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["roi_id", "label_type"], ["ROI_0000", "high"]])
    with pytest.raises(InputError, match="has the columns roi_id, label_type"):
        sets.open_set("cloudsen12", tmp_path / "copy")


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "l3"}, "The option level is 'l3'"),
        ({"kind": "low"}, "The option kind is 'low'"),
        ({"with_aot": True}, "aerosol layer is asked for at level l1c"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str, fake: Fake) -> None:
    with pytest.raises(InputError, match=message):
        sets.open_set("cloudsen12", fake("cloudsen12"), **options)


def test_further_codes_may_be_ignored(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12"), tmp_path / "copy")
    dataset = sets.open_set("cloudsen12", tmp_path / "copy", ignore_codes=[77])
    label = dataset.records[0].files["label"]
    codes = read_tiff(label)
    codes[:, :50] = 77
    write_tiff(label, codes)
    assert (dataset.read(dataset.records[0]).sets[:50] == lab.IGNORED).all()
    with pytest.raises(InputError, match=r"holds the codes \[77\]"):
        sets.open_set("cloudsen12", tmp_path / "copy").read(dataset.records[0])


def test_linear_backscatter_is_refused(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12"), tmp_path / "copy")
    dataset = sets.open_set("cloudsen12", tmp_path / "copy", with_sar=True)
    path = dataset.records[0].files["s1"]
    write_tiff(path, (10 ** (read_tiff(path) / 10)).astype(np.float32))
    with pytest.raises(InputError, match="Decibel are expected"):
        dataset.read(dataset.records[0])


def test_unused_arrays_may_be_missing_and_used_ones_are_named(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("cloudsen12-memmap") / "val", tmp_path / "val")
    for path in (tmp_path / "val").glob("*.dat"):
        if path.name.startswith(("L2A", "S1", "EXTRA")):
            path.unlink()
    dataset = sets.open_set("cloudsen12-memmap", tmp_path)
    assert dataset.read(dataset.records[0]).image.shape == (13, 512, 512)
    radar = sets.open_set("cloudsen12-memmap", tmp_path, with_sar=True)
    with pytest.raises(InputError, match=r"S1_VV\.dat is missing"):
        radar.read(radar.records[0])


@pytest.mark.parametrize("stem", ["LABEL_manual_hq", "L1C_B8A"])
def test_cut_arrays_are_refused(fake: Fake, tmp_path: Path, stem: str) -> None:
    def read() -> None:
        dataset = sets.open_set("cloudsen12-memmap", tmp_path)
        dataset.read(dataset.records[0])

    shutil.copytree(fake("cloudsen12-memmap") / "val", tmp_path / "val")
    read()
    path = tmp_path / "val" / f"{stem}.dat"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{stem}\.dat has"):
        read()


def test_the_release_without_labels_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "cloudfree").mkdir()
    with pytest.raises(InputError, match="holds the release without labels"):
        sets.open_set("cloudsen12-memmap", tmp_path)


# CloudSEN12+ -------------------------------------------------------------------------------------------------------


def test_mlstac_holds_what_taco_holds(fake: Fake) -> None:
    dataset = sets.open_set("cloudsen12-plus", fake("mlstac"))
    assert dataset.assign() == {"0_high": "train", "1_high": "choose", "2_high": "test"}
    sample = dataset.read(dataset.records[0])
    assert sample.image.shape == (13, 512, 512)
    assert len(set(np.unique(sample.sets))) == 5
    for option in ({"level": "l2a"}, {"with_sar": True}):
        other = sets.open_set("cloudsen12-plus", fake("mlstac"), **option)
        with pytest.raises(InputError, match="holds level L1C only"):
            other.read(other.records[0])


def test_mlstac_needs_its_table(fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake("mlstac"), tmp_path / "copy")
    table = tmp_path / "copy" / "train" / "metadata.parquet"
    rows = [row | {"datapoint_id": "other"} for row in containers.read_parquet(table)]
    table.write_bytes(containers.parquet_bytes(rows))
    with pytest.raises(InputError, match="No column of"):
        sets.open_set("cloudsen12-plus", tmp_path / "copy")
    table.unlink()
    with pytest.raises(InputError, match=r"metadata\.parquet is missing"):
        sets.open_set("cloudsen12-plus", tmp_path / "copy")


def taco(folder: Path, side: int, image: np.ndarray, codes: np.ndarray, **more: object) -> sets.DataSet:
    """CloudSEN12+ with one made-up patch."""
    row = cloudsen12_plus.fake_row(0, "train", "high") | {"real_proj_shape": side} | more
    sample = cloudsen12_plus.fake_sample({"s2l1c": image, "target": codes})
    containers.write_tortilla(folder / "cloudsen12-l1c.0000.part.taco", [(row, sample)], taco=True)
    return sets.open_set("cloudsen12-plus", folder, size=None)


def test_unknown_codes_in_containers_are_refused(tmp_path: Path) -> None:
    dataset = taco(tmp_path, 512, np.full((13, 512, 512), 900, np.uint16), np.full((1, 512, 512), 77, np.uint8))
    with pytest.raises(InputError, match=r"0000\.part\.taco holds the codes \[77\]") as caught:
        dataset.read(dataset.records[0])
    assert caught.value.expected
    assert caught.value.remedy


def test_padding_that_is_not_empty_is_warned_of(tmp_path: Path) -> None:
    dataset = taco(tmp_path, 509, np.full((13, 512, 512), 900, np.uint16), np.zeros((1, 512, 512), np.uint8))
    with pytest.warns(UncloudedWarning, match="padded from 509 to 512 pixels, but not with empty"):
        dataset.read(dataset.records[0])


def test_unpadded_patches_are_read_as_they_are(tmp_path: Path) -> None:
    dataset = taco(tmp_path, 509, np.full((13, 509, 509), 900, np.uint16), np.zeros((1, 509, 509), np.uint8))
    sample = dataset.read(dataset.records[0])
    assert sample.sets.shape == (509, 509)
    np.testing.assert_allclose(sample.image, 0.09)


def test_sizes_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    dataset = taco(tmp_path, 509, np.full((13, 600, 600), 900, np.uint16), np.zeros((1, 600, 600), np.uint8))
    with pytest.raises(InputError, match="600 x 600"):
        dataset.read(dataset.records[0])


def test_a_sample_without_image_is_refused_by_the_names_of_its_files(tmp_path: Path) -> None:
    dataset = taco(tmp_path, 512, np.full((3, 512, 512), 900, np.uint16), np.zeros((1, 512, 512), np.uint8))
    with pytest.raises(InputError, match="holds s2l1c, target"):
        dataset.read(dataset.records[0])


def test_a_table_of_another_version_is_refused_by_its_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks roi_id"):
        taco(tmp_path, 509, np.ones((13, 9, 9), np.uint16), np.zeros((1, 9, 9), np.uint8), roi_id=None)


def test_patches_are_chosen_by_size(tmp_path: Path) -> None:
    taco(tmp_path, 2000, np.full((13, 40, 40), 900, np.uint16), np.zeros((1, 40, 40), np.uint8))
    with pytest.raises(InputError, match="holds no image"):
        sets.open_set("cloudsen12-plus", tmp_path)
    assert len(sets.open_set("cloudsen12-plus", tmp_path, size=2000)) == 1
    with pytest.raises(InputError, match="The option size is '512'"):
        sets.open_set("cloudsen12-plus", tmp_path, size=512)


def test_radar_needs_the_extra_files(fake: Fake, tmp_path: Path) -> None:
    for path in fake("cloudsen12-plus").glob("*l1c*"):
        (tmp_path / path.name).symlink_to(path)
    dataset = sets.open_set("cloudsen12-plus", tmp_path, with_sar=True)
    with pytest.raises(InputError, match="The files called 'extra' hold no sample"):
        dataset.read(dataset.records[0])


def test_damaged_images_in_containers_are_refused(tmp_path: Path) -> None:
    row = cloudsen12_plus.fake_row(0, "train", "high")
    inner = containers.tortilla_bytes([({"tortilla:id": "s2l1c"}, b"no image"), ({"tortilla:id": "target"}, b"")])
    containers.write_tortilla(tmp_path / "cloudsen12-l1c.0000.part.taco", [(row, inner)], taco=True)
    dataset = sets.open_set("cloudsen12-plus", tmp_path)
    with pytest.raises(InputError, match=r"vsisubfile.*part\.taco") as caught:
        dataset.read(dataset.records[0])
    assert caught.value.remedy
