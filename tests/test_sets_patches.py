"""Data sets of high resolution and of patches, and a user's own folder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from unclouded.data import labels as lab
from unclouded.data.sets import DataSet, get, open_set
from unclouded.data.sets.cloud38 import SIDE, Cloud38
from unclouded.data.sets.cloudperu2 import CloudPeru2
from unclouded.data.sets.gf1_whu import Gf1Whu
from unclouded.data.sets.levir_cs import LevirCs
from unclouded.data.sets.on_cloud_n import OnCloudN
from unclouded.data.sets.user import Folder, read_description
from unclouded.data.tiff import write_tiff
from unclouded.errors import InputError, RadiometryError


def close(found: np.ndarray, expected: np.ndarray, rtol: float = 1e-6, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, expected, rtol, atol)


def stored(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def change(path: Path, action: Callable[[np.ndarray], None]) -> None:
    with rasterio.open(path, "r+") as file:
        data = file.read()
        action(data)
        file.write(data)


def by_name(data: DataSet, name: str) -> int:
    return [record.name for record in data.records].index(name)


@pytest.mark.parametrize("name", ["gf1_whu", "levir_cs", "cloudperu2", "on_cloud_n", "cloud38", "folder"])
def test_unknown_label_codes_are_refused(tmp_path: Path, name: str) -> None:
    get(name).make_fake(tmp_path)
    data = open_set(name, tmp_path)
    record = data.records[0]

    def spoil(codes: np.ndarray) -> None:
        codes[0, -1, -1] = 99

    change(record.files["label"], spoil)
    with pytest.raises(InputError, match=r"\[99\]"):
        data.read(record)


@pytest.mark.parametrize(
    ("name", "role"),
    [("gf1_whu", "image"), ("levir_cs", "label"), ("cloudperu2", "label"), ("on_cloud_n", "B08"),
     ("cloud38", "nir"), ("folder", "label")],
)  # fmt: skip
def test_a_missing_file_is_named_or_its_image_left_out(tmp_path: Path, name: str, role: str) -> None:
    get(name).make_fake(tmp_path)
    whole = open_set(name, tmp_path)
    whole.records[0].files[role].unlink()
    if name == "levir_cs":
        assert len(open_set(name, tmp_path)) == len(whole) - 1
    else:
        with pytest.raises(InputError, match=whole.records[0].files[role].stem):
            open_set(name, tmp_path)


def test_gaofen_counts_are_divided_by_1023_and_cut_there(tmp_path: Path) -> None:
    Gf1Whu.make_fake(tmp_path)
    path = Gf1Whu(tmp_path).records[0].files["image"]

    def brighten(counts: np.ndarray) -> None:
        counts[:, 20, 20] = 1500

    change(path, brighten)
    data = Gf1Whu(tmp_path)
    sample = data.read(data.records[0])
    counts = stored(path)
    assert (sample.level, sample.gsd_m, [band.common_name for band in sample.bands]) == (
        "counts", 16.0, ["blue", "green", "red", "nir"],
    )  # fmt: skip
    expected = np.where((counts == 0).all(axis=0), np.nan, np.minimum(counts, 1023) / 1023)
    close(sample.image, expected, atol=1e-6)
    assert sample.image[:, 20, 20] == pytest.approx(1.0)
    codes = stored(data.records[0].files["label"])[0]
    for code, mask in {0: lab.MISSING, 1: lab.CLEAR, 128: lab.SHADOW, 255: lab.CLOUD}.items():
        assert (sample.sets[codes == code] == mask).all()


def test_a_packed_gaofen_scene_is_read_whole_and_refused_in_windows(tmp_path: Path) -> None:
    Gf1Whu.make_fake(tmp_path)
    data = Gf1Whu(tmp_path)
    packed = next(record for record in data.records if record.files["image"].suffix == ".gz")
    assert np.isfinite(data.read(packed).image).any()
    parts = Gf1Whu(tmp_path, patch=16)
    with pytest.raises(InputError, match="tar -xzf"):
        parts.read(next(record for record in parts.records if record.scene == packed.scene))


def test_cloudmamba_split_is_drawn_or_taken_from_lists(tmp_path: Path) -> None:
    Gf1Whu.make_fake(tmp_path)
    data = Gf1Whu(tmp_path, patch=20)
    scenes = sorted({record.scene for record in data.records})

    def parts() -> dict[str, str]:
        split = data.assign("cloudmamba")
        return {record.scene: split[record.name] for record in data.records}

    drawn = parts()
    assert Counter(drawn.values()) == {"train": 3, "choose": 1, "test": 1}
    assert drawn == parts()
    (tmp_path / "train.txt").write_text("\n".join(scenes[1:]) + "\n")
    with pytest.raises(InputError, match=r"no test\.txt"):
        parts()
    (tmp_path / "test.txt").write_text(scenes[0] + "\n")
    listed = parts()
    assert listed[scenes[0]] == "test"
    assert Counter(listed.values()) == {"train": 3, "choose": 1, "test": 1}
    (tmp_path / "choose.txt").write_text(scenes[1] + "\n")
    with pytest.raises(InputError, match=r"in train\.txt and in choose\.txt"):
        parts()
    (tmp_path / "train.txt").write_text("\n".join(scenes[2:]) + "\n")
    assert parts() == {scene: "test" if n == 0 else "choose" if n == 1 else "train" for n, scene in enumerate(scenes)}
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(InputError, match="leave out 1 scenes"):
        parts()
    assert set(data.assign("random").values()) <= {"train", "choose", "test"}


def test_levir_snow_is_not_cloud_and_elevation_comes_along(tmp_path: Path) -> None:
    LevirCs.make_fake(tmp_path)
    data = LevirCs(tmp_path, dem=True)
    record = data.records[0]
    sample = data.read(record)
    codes = stored(record.files["label"])[0]
    gone = np.isnan(sample.image[0])
    assert gone[:3].all()
    assert (sample.sets[gone] == lab.MISSING).all()
    assert (sample.sets[(codes == 2) & ~gone] == lab.bits("snow")).all()
    assert (sample.sets[(codes == 0) & ~gone] == lab.bits("land", "water", "shadow")).all()
    assert [band.kind for band in sample.bands] == ["optical"] * 4 + ["dem"]
    assert np.array_equal(sample.image[4], stored(record.files["dem"])[0])
    assert sample.gsd_m == 160.0
    assert (record.tags["longitude"], record.tags["latitude"]) == (60.4, 30.9)
    held = data.assign("held-out")
    assert sorted(held.values()) == ["choose", "test", "test", "train", "train", "train"]
    assert sorted(data.assign().values()) == ["test"] * 2 + ["train"] * 4


def test_peru_patches(tmp_path: Path) -> None:
    CloudPeru2.make_fake(tmp_path)
    data = CloudPeru2(tmp_path)
    assert data.describe()["split"] == {"train": 6, "choose": 2}
    assert len({record.scene for record in data.records}) == 4
    sample = data.read(data.records[0])
    assert [band.name for band in sample.bands] == ["red", "green", "blue", "nir"]
    close(sample.image, stored(data.records[0].files["image"]) / 255, atol=1e-6)
    assert set(np.unique(sample.sets)) == {lab.NOT_CLOUD, lab.CLOUD}


def test_chips_of_one_place_stay_together(tmp_path: Path) -> None:
    OnCloudN.make_fake(tmp_path)
    data = OnCloudN(tmp_path)
    places = {record.name: record.tags["location"] for record in data.records}
    for scheme in data.schemes:
        split = data.assign(scheme)
        assert len({(places[name], part) for name, part in split.items()}) == len(set(places.values()))
    sample = data.read(data.records[0])
    blue = stored(data.records[0].files["B02"])[0]
    close(sample.image[0], np.where(blue == 0, np.nan, blue / 10000), atol=1e-6)
    assert sample.level == "boa"
    assert (sample.sets[:4] == lab.MISSING).all()


def test_chips_with_an_offset_are_refused(tmp_path: Path) -> None:
    OnCloudN.make_fake(tmp_path)
    path = tmp_path / "public" / "train_metadata.csv"
    path.write_text(path.read_text().replace("2020-04-29", "2023-04-29"))
    with pytest.raises(RadiometryError, match="2023"):
        OnCloudN(tmp_path)


def test_real_chips(shared_data: Path) -> None:
    data = OnCloudN(shared_data / "oncloudn")
    samples = list(data.samples())
    assert len(samples) == 2
    for sample in samples:
        assert sample.image.shape == (4, 512, 512)
        assert set(np.unique(sample.sets)) <= {lab.NOT_CLOUD, lab.CLOUD, lab.MISSING}
        cloud = sample.sets == lab.CLOUD
        assert sample.image[0][cloud].mean() > sample.image[0][sample.sets == lab.NOT_CLOUD].mean() + 0.1


def test_labels_of_whole_scenes_lie_where_their_patches_do(tmp_path: Path) -> None:
    """The fake's counts follow its labels, so that a shift by a pixel would show."""
    Cloud38.make_fake(tmp_path)
    data = Cloud38(tmp_path)
    seen = 0
    for record in data.records:
        sample = data.read(record)
        bright = stored(record.files["red"])[0] > 15000
        assert np.array_equal(sample.sets == lab.CLOUD, bright)
        assert np.array_equal(sample.sets == lab.MISSING, stored(record.files["red"])[0] == 0)
        seen += record.split == "test"
    assert seen == 2


def test_patches_beside_their_metadata_become_reflectance(tmp_path: Path) -> None:
    Cloud38.make_fake(tmp_path)
    data = Cloud38(tmp_path)
    samples = {record.name: (data.read(record), record) for record in data.records}
    assert {sample.level for sample, _ in samples.values()} == {"toa", "counts"}
    for sample, record in samples.values():
        dn = stored(record.files["nir"])[0].astype(np.float64)
        expected = (2e-5 * dn - 0.1) / math.sin(math.radians(50)) if sample.level == "toa" else dn / 65535
        close(sample.image[3], np.where(dn == 0, np.nan, expected), atol=1e-5)
        assert [band.name for band in sample.bands] == ["B4", "B3", "B2", "B5"]


def test_lists_of_patches_with_data(tmp_path: Path) -> None:
    Cloud38.make_fake(tmp_path)
    assert len(Cloud38(tmp_path)) == 10
    some = Cloud38(tmp_path, nonempty=True)
    assert sorted(record.split for record in some.records) == ["test", "test", "train"]
    for path in tmp_path.rglob("*nonempty.csv"):
        path.unlink()
    with pytest.raises(InputError, match="nonempty"):
        Cloud38(tmp_path, nonempty=True)


def test_real_pictures_of_95_cloud(shared_data: Path) -> None:
    data = Cloud38(shared_data / "rgb8")
    assert len(data) == 13
    table = np.genfromtxt(shared_data / "rgb8" / "l8_95cloud.csv", delimiter=",", names=True, dtype=None, encoding=None)
    for row in table:
        record = data.records[by_name(data, Path(row["rgb"]).name.removesuffix("_rgb.png"))]
        sample = data.read(record)
        assert record.scene == row["scene"]
        assert sample.image.shape == (3, SIDE, SIDE)
        assert sample.level == "counts"
        assert np.mean(sample.sets == lab.CLOUD) == pytest.approx(row["cloud_fraction"], abs=6e-4)
        assert np.mean(sample.sets != lab.MISSING) == pytest.approx(row["valid_fraction"], abs=0.02)


def own(root: Path, text: str, image: np.ndarray | None = None, **profile: object) -> Folder:
    write_tiff(root / "images" / "a.tif", np.full((2, 8, 8), 700, np.uint16) if image is None else image, **profile)
    write_tiff(root / "labels" / "a.tif", np.zeros((8, 8), np.uint8), **profile)
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return Folder(root)


GENERIC = "bands: [red, nir]\nlevel: boa\nclasses: {0: not-cloud}\n"


def test_own_scale_comes_from_the_text_the_tags_or_the_sensor(tmp_path: Path) -> None:
    said = own(tmp_path / "a", GENERIC + "scale: 0.001\noffset: -0.1\nnodata: 5\n")
    assert said.read(said.records[0]).image == pytest.approx(0.6)
    tagged = own(tmp_path / "b", GENERIC)
    with rasterio.open(tmp_path / "b" / "images" / "a.tif", "r+") as file:
        file.scales, file.offsets = (0.0002, 0.0002), (-0.02, -0.02)
    assert tagged.read(tagged.records[0]).image == pytest.approx(0.12)
    decimal = own(tmp_path / "c", GENERIC, np.full((2, 8, 8), 0.3, np.float32))
    assert decimal.read(decimal.records[0]).image == pytest.approx(0.3)
    fixed = own(tmp_path / "d", "sensor: landsat-oli-c2-l2\nbands: [SR_B4, SR_B5]\nclasses: {0: cloud}\n")
    sample = fixed.read(fixed.records[0])
    assert sample.image == pytest.approx(700 * 2.75e-5 - 0.2)
    assert sample.level == "boa"
    unknown = own(tmp_path / "e", GENERIC)
    with pytest.raises(RadiometryError, match="nothing says"):
        unknown.read(unknown.records[0])


def test_own_pixel_size_and_missing_pixels(tmp_path: Path) -> None:
    image = np.full((2, 8, 8), 700, np.uint16)
    image[:, 2] = 0
    data = own(tmp_path / "a", GENERIC + "scale: 0.0001\n", image, nodata=0)
    sample = data.read(data.records[0])
    assert sample.gsd_m == pytest.approx(10)
    assert np.isnan(sample.image[:, 2]).all()
    assert (sample.sets[2] == lab.MISSING).all()
    assert (np.delete(sample.sets, 2, axis=0) == lab.NOT_CLOUD).all()
    nowhere = own(tmp_path / "b", GENERIC + "scale: 0.0001\n", image, crs=None, transform=None)
    with pytest.raises(InputError, match="gsd_m"):
        nowhere.read(nowhere.records[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bands: [red, nir]\nclasses: {0: clear}\n", "give a sensor, or bands and level"),
        (GENERIC + "colour: blue\n", "colour"),
        (GENERIC + "offset: 0.1\n", "an offset needs a scale"),
        (GENERIC.replace("not-cloud", "overcast"), "'overcast' is no class"),
        (GENERIC.replace("0:", "300:"), "300 is not between"),
        (GENERIC + "images: images/a.tif\n", "images needs a"),
        (GENERIC + "scene: '['\n", "regular expression"),
        ("{", "cannot be read"),
        ("- red\n", "not valid"),
    ],
)
def test_own_descriptions_with_mistakes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_description(path)


def test_own_splits_with_mistakes_are_refused(tmp_path: Path) -> None:
    Folder.make_fake(tmp_path)
    listed = tmp_path / "splits.csv"
    whole = listed.read_text()
    assert Folder(tmp_path).describe()["split"] == {"train": 3, "choose": 1, "test": 1}
    listed.write_text(whole.replace("place4,test\n", ""))
    with pytest.raises(InputError, match="leaves out 'place4'"):
        Folder(tmp_path).assign()
    listed.write_text(whole + "place9,test\n")
    with pytest.raises(InputError, match="place9"):
        Folder(tmp_path)
    listed.write_text(whole.replace("place4,test", "place4,exam"))
    with pytest.raises(InputError, match="exam"):
        Folder(tmp_path)
    listed.write_text("name,split,scene\n" + "".join(f"place{i},{'test' if i else 'train'},same\n" for i in range(5)))
    with pytest.raises(InputError, match="scene 'same' into two splits"):
        Folder(tmp_path).assign()
    listed.unlink()
    assert set(Folder(tmp_path).assign().values()) == {"train", "choose", "test"}


def test_a_real_image_in_a_folder_of_its_own(shared_data: Path, tmp_path: Path) -> None:
    """Landsat 7 with codes of its own, described from elsewhere."""
    text = tmp_path / "ukis.yaml"
    text.write_text(
        "bands: [blue, green, red, nir, swir16, swir22]\nlevel: toa\ngsd_m: 30\n"
        "images: '*_image.tif'\nlabels: '{stem}_label.tif'\n"
        "classes: {0: shadow, 1: water, 2: snow, 3: land, 4: cloud}\n",
        encoding="utf-8",
    )
    data = open_set("folder", shared_data / "ukis", description=text)
    assert len(data) == 1
    sample = data.read(data.records[0])
    assert sample.image.shape == (6, 512, 512)
    assert set(np.unique(sample.sets)) == {lab.SHADOW, lab.bits("water"), lab.bits("land"), lab.CLOUD}
    blue = sample.image[0]
    assert blue[sample.sets == lab.CLOUD].mean() > 1.5 * blue[sample.sets == lab.bits("land")].mean()
