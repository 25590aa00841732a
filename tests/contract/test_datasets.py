"""What every data set of the registry has to do. A new data set is tested by being registered.

Each is opened on the copy that its ``make_fake`` writes, in the layout of the real one.
"""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray

from unclouded import sensors
from unclouded.classes import SEVEN
from unclouded.data import labels as lab
from unclouded.data import sets
from unclouded.data.sample import Sample
from unclouded.data.sets import DataSet
from unclouded.errors import InputError

NAMES = sets.names()
MASKS = [name for name in NAMES if sets.get(name).task == "mask"]
PAIRS = [name for name in NAMES if sets.get(name).task == "removal"]
CUT = [name for name in NAMES if "patch" in sets.options(name)]
STRANGE = 77
"""A label code that no data set has."""
CONTAINERS = (".taco", ".tortilla", ".mlstac")
"""Files that hold many images; their readers' own tests spoil them."""

Fake = Callable[[str], Path]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """Folder with the made-up copy of a data set, written once; tests leave it as it is."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            sets.get(name).make_fake(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="module")
def opened(fake: Fake) -> Callable[[str], DataSet]:
    """The data set on its made-up copy."""
    return lambda name: sets.open_set(name, fake(name))


def read(dataset: DataSet, index: int = 0) -> np.ndarray:
    """Pixels of a record, whatever the task: the image, and labels or the clear image, in one array."""
    record = dataset.records[index]
    if dataset.task == "removal":
        pair = dataset.read_pair(record)
        return np.concatenate([pair.cloudy, pair.clear])
    sample = dataset.read(record)
    return np.concatenate([sample.image, sample.sets[None]])


def assert_three_parts(err: InputError) -> None:
    assert err.found
    assert err.expected
    assert err.remedy


# What a data set says of itself ------------------------------------------------------------------------------------


def test_the_registry_has_the_data_sets_of_the_specification() -> None:
    assert {
        "cesbio", "cloudsen12", "cloudsen12-memmap", "cloudsen12-plus", "kappaset", "s2-catalogue", "sen12mscr",
    } <= set(NAMES)  # fmt: skip
    with pytest.raises(InputError, match="no data set called 'imagenet'") as caught:
        sets.get("imagenet")
    assert_three_parts(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_complete(name: str) -> None:
    kind = sets.get(name)
    assert kind.name == name == name.lower()
    for text in (kind.title, kind.licence, kind.citation, kind.obtain, kind.expected_layout(), kind.find.__doc__):
        assert text
        assert text.strip() == text or text is kind.find.__doc__
    assert kind.homepage.startswith(("https://", "http://")) or name == "folder"
    assert set(kind.sensors) <= set(sensors.names())
    assert kind.task in ("mask", "removal")
    assert kind.schemes
    assert all(0 <= mask < 2 ** len(SEVEN) for mask in kind.labels.values())
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_and_schemes_are_refused(name: str, opened: Callable[[str], DataSet], fake: Fake) -> None:
    with pytest.raises(InputError, match="no option 'colour'") as caught:
        sets.open_set(name, fake(name), colour="blue")
    assert_three_parts(caught.value)
    with pytest.raises(InputError, match="no split called 'lucky'") as caught:
        opened(name).assign("lucky")
    assert_three_parts(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_options_have_the_values_that_they_are_said_to_have(name: str, fake: Fake) -> None:
    told = sets.options(name)
    assert all(value is not inspect.Parameter.empty for value in told.values())
    plain, explicit = sets.open_set(name, fake(name)), sets.open_set(name, fake(name), **told)
    assert plain.records == explicit.records


# Records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_records_are_unique_sorted_and_have_their_files(name: str, opened: Callable[[str], DataSet]) -> None:
    records = opened(name).records
    assert len(records) >= 2
    names = [record.name for record in records]
    assert names == sorted(set(names))
    assert len({record.scene for record in records}) >= 2
    for record in records:
        assert record.scene
        assert record.split in ("train", "choose", "test", "")
        assert record.files
        assert all(path.exists() for path in record.files.values())
        assert all(isinstance(value, str | float | int) for value in record.tags.values())


@pytest.mark.parametrize("name", NAMES)
def test_records_are_found_without_reading_pixels(
    name: str, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fake(name)

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(rasterio.io.DatasetReader, "read", forbidden)
    monkeypatch.setattr(np, "load", forbidden)
    monkeypatch.setattr(np, "memmap", forbidden)
    monkeypatch.setattr(np, "fromfile", forbidden)
    monkeypatch.setattr(xarray, "open_dataset", forbidden)
    assert len(sets.open_set(name, root)) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_no_split_cuts_through_a_scene(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    for scheme in dataset.schemes:
        split = dataset.assign(scheme)
        assert set(split) == {record.name for record in dataset.records}
        assert set(split.values()) <= {"train", "choose", "test", ""}
        assert any(split.values())
        parts = defaultdict(set)
        for record in dataset.records:
            parts[record.scene].add(split[record.name])
        assert all(len(found - {""}) <= 1 for found in parts.values()), scheme
        assert split == dataset.assign(scheme)
    assert dataset.assign() == dataset.assign(dataset.schemes[0])


@pytest.mark.parametrize("name", NAMES)
def test_description_is_plain_and_counts(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    told = json.loads(json.dumps(dataset.describe()))
    assert told["name"] == name
    assert told["records"] == len(dataset) == len(dataset.records)
    assert sum(told["split"].values()) == len(dataset)
    assert 2 <= told["scenes"] <= told["records"]


# Pixels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKS)
def test_every_sample_has_bands_sets_and_plausible_values(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    seen = 0
    for record in dataset.records:
        sample = dataset.read(record)
        assert isinstance(sample, Sample)
        assert (sample.name, sample.source, sample.scene) == (record.name, name, record.scene)
        assert sample.image.dtype in (np.float16, np.float32)
        assert sample.image.shape == (len(sample.bands), *sample.sets.shape)
        assert sample.sets.dtype == np.uint8
        assert sample.sets.max() < 2 ** len(SEVEN)
        assert sample.level in ("toa", "boa", "counts")
        assert sample.gsd_m > 0
        assert len({band.name for band in sample.bands}) == len(sample.bands)
        light = [index for index, band in enumerate(sample.bands) if band.kind == "optical"]
        assert light
        for index in light:
            assert sample.bands[index].centre_nm > 300
        values = sample.image[light]
        missing = np.isnan(values).all(axis=0)
        assert np.isin(sample.sets[missing], (lab.IGNORED, lab.MISSING)).all(), "labels where nothing was measured"
        assert not missing.all()
        median = float(np.nanmedian(values))
        assert 0 < median < 1.5, "not reflectance, or pictures brought to 0 to 1"
        seen |= int(np.bitwise_or.reduce(np.unique(sample.sets)))
    assert all(not mask or mask & seen for mask in dataset.labels.values()), "a label code does not occur"


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_has_two_images_and_backscatter(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    for record in dataset.records:
        pair = dataset.read_pair(record)
        assert (pair.name, pair.scene) == (record.name, record.scene)
        assert pair.cloudy.shape == pair.clear.shape == (len(pair.bands), *pair.clear.shape[1:])
        assert pair.cloudy.dtype == pair.clear.dtype == np.float32
        assert 0 < np.nanmedian(pair.clear) < 1.5
        if pair.sar is not None:
            assert pair.sar.shape == (2, *pair.clear.shape[1:])
            assert -40 < np.nanmedian(pair.sar) < 5
    with pytest.raises(InputError, match="no labels") as caught:
        dataset.read(dataset.records[0])
    assert_three_parts(caught.value)


@pytest.mark.parametrize("name", MASKS)
def test_masks_have_no_pairs(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    with pytest.raises(InputError, match="no pairs") as caught:
        dataset.read_pair(dataset.records[0])
    assert_three_parts(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_made_up_copies_repeat_themselves(name: str, opened: Callable[[str], DataSet], tmp_path: Path) -> None:
    first = opened(name)
    kind = sets.get(name)
    kind.make_fake(tmp_path / "again")
    again = sets.open_set(name, tmp_path / "again")
    assert [record.name for record in again.records] == [record.name for record in first.records]
    np.testing.assert_array_equal(read(again), read(first))
    kind.make_fake(tmp_path / "other", seed=1)
    other = sets.open_set(name, tmp_path / "other")
    assert any(
        one.shape != two.shape or not np.array_equal(one, two, equal_nan=True)
        for one, two in ((read(other, index), read(first, index)) for index in range(min(len(other), len(first))))
    ), "the seed changes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_process_reads_the_same(name: str, opened: Callable[[str], DataSet]) -> None:
    dataset = opened(name)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.records == dataset.records
    np.testing.assert_array_equal(read(copy), read(dataset))


@pytest.mark.parametrize("name", CUT)
def test_windows_are_parts_of_their_scene(name: str, opened: Callable[[str], DataSet], fake: Fake) -> None:
    whole = opened(name)
    first = whole.records[0]
    sample = whole.read(first)
    patch = max(8, min(sample.sets.shape) // 2)
    windows = sets.open_set(name, fake(name), patch=patch)
    mine = [record for record in windows.records if record.name.startswith(first.name)]
    assert mine
    for record in mine:
        part = record.window
        assert part is not None
        assert (part.height, part.width) == (patch, patch)
        rows, cols = slice(part.row, part.row + patch), slice(part.col, part.col + patch)
        got = windows.read(record)
        np.testing.assert_array_equal(got.sets, sample.sets[rows, cols])
        np.testing.assert_allclose(got.image, sample.image[:, rows, cols], rtol=1e-6)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_the_data_set_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for root in (tmp_path / "empty", tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InputError) as caught:
            sets.open_set(name, root)
        assert_three_parts(caught.value)
        assert str(root) in caught.value.found


@pytest.mark.parametrize("name", MASKS)
def test_unknown_label_codes_are_refused(name: str, fake: Fake, tmp_path: Path) -> None:
    shutil.copytree(fake(name), tmp_path / "copy")
    dataset = sets.open_set(name, tmp_path / "copy")
    record = dataset.records[0]
    assert "label" in record.files, "the label raster has the role 'label'"
    path = record.files["label"]
    if path.suffix in CONTAINERS:
        pytest.skip("spoiled in the tests of its reader")
    spoil(path)
    with pytest.raises(InputError) as caught:
        sets.open_set(name, tmp_path / "copy").read(record)
    assert_three_parts(caught.value)
    assert path.name in caught.value.found
    assert path.suffix == ".npy" or str(STRANGE) in caught.value.found


def spoil(path: Path) -> None:
    """Write a code into the middle of a label raster that its data set does not have."""
    if path.suffix == ".npy":
        stored = np.load(path)
        stored[stored.shape[0] // 2, stored.shape[1] // 2] = False  # one bit for each class, none set
        np.save(path, stored)
    elif path.suffix == ".nc":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "r+") as file:
            file["Label"][200, 200] = STRANGE
    elif path.suffix == ".dat":
        data = bytearray(path.read_bytes())
        data[512 * 256 + 256] = STRANGE
        path.write_bytes(bytes(data))
    else:
        with rasterio.open(path) as file:
            image, profile = file.read(), file.profile
        image[:, image.shape[1] // 2, image.shape[2] // 2] = STRANGE
        with rasterio.open(path, "w", **profile) as file:
            file.write(image)
