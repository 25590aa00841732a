"""Removal on real imagery: a pair and a triplet of SEN12MS-CR, and the dates of a catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

import unclouded
from unclouded.infer.feather import dilated

from .fakes_removal import write_model

pytestmark = pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
LEVEL_1C = {"sensor": "sentinel2-l1c", "scale": 1e-4, "offset": 0.0, "nodata": 0.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), sar=0.1)


def untouched(result: unclouded.Removal, source: Path, hidden: np.ndarray, bands: tuple[str, ...]) -> None:
    """Files are sound, and what is clear is what was read."""
    for product in ("restored", "restored_provenance", "restored_uncertainty"):
        assert cog_validate(str(result.outputs[product]), strict=True)[0]
    with rasterio.open(source) as file:
        names = list(file.descriptions)
        before = np.stack([file.read(names.index(name) + 1) for name in bands])
    with rasterio.open(result.outputs["restored"]) as file:
        assert file.descriptions == bands
        assert file.dtypes == ("uint16",) * len(bands)
        same = (file.read() == before).all(axis=0)
    assert hidden.any()
    assert same[~dilated(hidden, 7)].all()
    assert same[result.provenance.values == 0].all()
    assert (result.provenance.values[hidden] != 0).all()
    assert not same[hidden].all()


@pytest.mark.parametrize("name", ["t0581", "ROIs1970_fall_139_p839"])
def test_a_triplet_with_radar(shared_data: Path, model: Path, tmp_path: Path, name: str) -> None:
    folder = shared_data / "sen12mscr" / "triplets"
    source = folder / f"{name}_cloudy.tif"
    found = unclouded.mask(source, **LEVEL_1C).classes.values
    radar = folder / f"{name}_s1.tif"
    result = unclouded.remove(source, sar=radar, mask=found, model=str(model), output=tmp_path / "with", **LEVEL_1C)
    untouched(result, source, np.isin(found, (1, 2, 3)), ("B02", "B03", "B04", "B08"))
    without = unclouded.remove(source, mask=found, model=str(model), **LEVEL_1C)
    assert (result.provenance.values == without.provenance.values).all()
    with rasterio.open(radar) as file:
        vv = file.read(1) * (file.scales[0] if file.dtypes[0] == "int16" else 1)
    deep = np.isin(found, (1, 2, 3))
    added = (result.image.values - without.image.values)[:, deep]
    expected = np.broadcast_to(0.1 * np.clip((vv + 25) / 25, 1e-3, 1)[deep], added.shape)
    usual = np.abs(added - expected) < 2e-4  # some rebuilt numbers end at the smallest that can be stored
    assert usual.mean() > 0.95


def test_a_pair_with_the_clear_date(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "sen12mscr" / "pairs"
    cloudy, clear = (folder / f"ROIs1868_summer_102_p500_{kind}.tif" for kind in ("cloudy", "clear"))
    result = unclouded.remove(cloudy, history=[clear], model="none", output=tmp_path, **LEVEL_1C)
    found = unclouded.mask(cloudy, **LEVEL_1C).classes.values
    names = tuple(band.name for band in unclouded.open_scene(cloudy, **LEVEL_1C).bands)
    assert result.bands == names
    assert len(names) == 13
    untouched(result, cloudy, np.isin(found, (1, 2, 3)), names)
    assert result.counts[2] > 0.9 * np.isin(found, (1, 2, 3)).sum()


def test_dates_of_a_catalogue(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "stac" / "mapchete_s2_l2a" / "sentinel-2-l2a"
    items = sorted(folder.glob("*/*.json"))
    assert len(items) == 5
    scenes = [unclouded.open_scene(item) for item in items]
    covers = [float(np.isin(unclouded.mask(scene).classes.values, (1, 2, 3)).mean()) for scene in scenes]
    worst = int(np.argmax(covers))
    assert covers[worst] > 0.3
    others = [scene for scene in scenes if scene is not scenes[worst]]
    result = unclouded.remove(scenes[worst], history=others, model="none", output=tmp_path)
    for product in ("restored", "restored_provenance", "restored_uncertainty"):
        assert cog_validate(str(result.outputs[product]), strict=True)[0]
    source = items[worst].parent
    for index, name in enumerate(result.bands):
        with rasterio.open(source / f"{name}.tif") as file:
            same = result.stored.values[index] == file.read(1)
        assert same[result.provenance.values == 0].all()
    assert result.counts[2] > 0.95 * covers[worst] * result.provenance.size
    assert [date["id"] for date in result.item.properties["unclouded:dates"]]
    left = unclouded.mask(result.outputs["restored"], sensor="sentinel2-l2a", level="boa").classes.values
    assert np.isin(left, (1, 2)).mean() < 0.25 * covers[worst]
