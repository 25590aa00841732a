"""Real ground that the default removal model learns on: clear scenes, radar images, and cloudy dates beside clear ones.

Every image is brought to the 13 bands of Sentinel-2 in their order; bands that a sensor does not have stay missing. A
band of another sensor takes the place of the one of the same common name (see :data:`PLACES`).

The split goes by place (:data:`SPLIT`), so that no ground is in two parts. All else trains.
"""

from __future__ import annotations

import csv
import datetime as dt
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ..api import predict
from ..data.default_corpus import S2, backgrounds, surfaces
from ..scene import Band
from ..simulate.optics import air

BANDS: tuple[Band, ...] = tuple(S2.values())
"""Inputs and outputs of the model, in their order."""

PLACES = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge071": "B05", "rededge075": "B06",
    "rededge078": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11",
    "swir22": "B12",
}  # fmt: skip
"""Place of a band by its common name."""

SPLIT = {
    "unknown_group_d": "test", "unknown_group_e": "test", "ROIs1970_fall_139": "test", "ROIs2017_winter_102": "test",
    "unknown_group_a": "choose", "ROIs1868_summer_100": "choose", "ROIs1868_summer_101": "choose",
    "ROIs1868_summer_102": "choose",
}  # fmt: skip
"""Places that are kept from training: on ``choose`` recipes are compared, ``test`` is only reported."""


_CLEAR, _CLOUDY = 0.013, 0.5
"""Shares of cloud up to which dates of the series count as clear, and from which their clouds are of use."""


RAISED = "_toa"
"""End of the names of copies that :func:`raised` makes."""


@dataclass(frozen=True)
class Ground:
    """One place without cloud, and where there is one its cloudy date.

    Attributes:
        name: unique.
        source: where it comes from.
        place: what the split goes by.
        split: ``train``, ``choose`` or ``test``.
        clear: reflectance, (13, y, x) float16; NaN in missing bands and pixels.
        level: ``toa`` or ``boa``.
        gsd_m: pixel size in metres.
        sar: backscatter in decibel, VV and VH, (2, y, x) float32, or None.
        cloudy: reflectance of the cloudy date, (13, y, x) float16, or None.
        classes: mask of the cloudy date by the default mask model, (y, x) uint8, or None.
        changed: the ground differs between both dates; only the sky of the cloudy one is of use.
    """

    name: str
    source: str
    place: str
    split: str
    clear: NDArray[np.float16]
    level: str
    gsd_m: float
    sar: NDArray[np.float32] | None = None
    cloudy: NDArray[np.float16] | None = None
    classes: NDArray[np.uint8] | None = None
    changed: bool = False


def read_grounds(root: Path) -> Iterator[Ground]:
    """Every place below ``root``, the folder that docs/removal.md describes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield from _sen12mscr(root / "sen12mscr")
        yield from _bigearthnet(root / "multimodal/bigearthnet_s1s2")
        yield from _worldcereal(root / "multimodal/worldcereal_monthly")
        for source in (surfaces, backgrounds):
            for sample in source(root):
                if not sample.background:
                    continue
                image = placed(sample.image.astype(np.float32), sample.bands)
                radar = None
                if sample.source == "sen1floods11":
                    radar = _read(root / "multimodal/sen1floods11/Spain_7370579_S1Hand.tif").astype(np.float32)
                elif sample.source == "bigearthnet_v2":
                    path = root / f"more/bigearthnet_v2/{sample.name}_s1.tif"
                    radar = _read(path)[::-1].astype(np.float32) if path.exists() else None  # stored as VH, VV
                yield Ground(
                    sample.name, sample.source, sample.scene, "train", image, sample.level, sample.gsd_m, radar
                )


def placed(image: NDArray[np.float32], bands: Sequence[Band]) -> NDArray[np.float16]:
    """Planes in the places of Sentinel-2's bands, (13, y, x) float16, NaN where there is none.

    >>> nir = Band("B5", "nir08", 851, 879, 30.0)
    >>> np.isfinite(placed(np.ones((1, 2, 2), np.float32), [nir])).all(axis=(1, 2)).nonzero()[0].tolist()
    [8]
    """
    out = np.full((len(BANDS), *image.shape[1:]), np.nan, np.float16)
    names = [band.name for band in BANDS]
    for plane, band in zip(image, bands, strict=True):
        if band.common_name in PLACES:
            out[names.index(PLACES[band.common_name])] = plane
    return out


def _sen12mscr(root: Path) -> Iterator[Ground]:
    with (root / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    pairs: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if row["pair_id"] and row["role"] in ("cloudy", "clear", "s1"):
            pairs.setdefault(row["pair_id"], {})[row["role"]] = row
    for name, parts in pairs.items():
        if "clear" not in parts:
            continue
        clear = _toa(root / parts["clear"]["path"])
        sar = None
        if "s1" in parts:
            stored = _read(root / parts["s1"]["path"])
            sar = stored.astype(np.float32) * np.float32(0.01 if stored.dtype.kind == "i" else 1)
        cloudy: NDArray[np.float16] | None = None
        classes = None
        if "removal" in parts["clear"]["usable_for"]:
            image = _toa(root / parts["cloudy"]["path"])
            classes = predict(image, [band.name for band in BANDS], sensor="sentinel2-l1c").classes
            cloudy = image.astype(np.float16)
        place = parts["clear"]["roi"]
        yield Ground(
            name, "sen12mscr", place, SPLIT.get(place, "train"), clear.astype(np.float16), "toa", 10.0, sar, cloudy,
            classes,
        )  # fmt: skip
    series = {row["date"]: row for row in rows if row["role"] == "series"}
    cover = {date: float(row["cloud_fraction_weak"]) for date, row in series.items()}
    shown = [date for date, share in cover.items() if share <= _CLEAR]
    for row in rows:
        place, split, name = row["roi"], SPLIT.get(row["roi"], "train"), Path(row["path"]).stem
        if (row["role"] == "clear" and not row["pair_id"]) or row["date"] in shown:
            alone_clear = _toa(root / row["path"]).astype(np.float16)
            yield Ground(name, "sen12mscr", place, split, alone_clear, "toa", 10.0)
        elif cover.get(row["date"], 0.0) >= _CLOUDY:
            image = _toa(root / row["path"])
            day = dt.date.fromisoformat(row["date"])
            apart = {date: abs(dt.date.fromisoformat(date) - day) for date in shown}
            nearest = min(shown, key=lambda date: apart[date])
            under = _toa(root / series[nearest]["path"]).astype(np.float16)
            classes = predict(image, [band.name for band in BANDS], sensor="sentinel2-l1c").classes
            yield Ground(
                name, "sen12mscr", place, split, under, "toa", 10.0, None, image.astype(np.float16), classes, True
            )


def _bigearthnet(root: Path) -> Iterator[Ground]:
    """Pairs of the BigEarthNet examples; radar and optical folders end in the same numbers."""
    for folder in sorted((root / "BigEarthNet-S2-Example").iterdir()):
        number = "_".join(folder.name.split("_")[-2:])
        radar = next((root / "BigEarthNet-S1-Example").glob(f"S1*_{number}"))
        sar = np.stack([_read(radar / f"{radar.name}_{name}.tif")[0] for name in ("VV", "VH")]).astype(np.float32)
        image = np.full((len(BANDS), *sar.shape[1:]), np.nan, np.float16)
        for place, band in enumerate(BANDS):
            path = folder / f"{folder.name}_{band.name}.tif"
            if path.exists():
                plane = _read(path)[0] * np.float32(1e-4)
                factor = sar.shape[1] // plane.shape[0]
                image[place] = plane.repeat(factor, 0).repeat(factor, 1)
        yield Ground(folder.name, "bigearthnet_s1s2", folder.name, "train", image, "boa", 10.0, sar)


def _worldcereal(root: Path) -> Iterator[Ground]:
    """Monthly composites of one place with radar, whose decibels are 20 log10 of the stored numbers less 83."""
    import xarray

    names = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"]
    for path in sorted(root.glob("*.nc")):
        with xarray.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as months:
            stored = {name: months[name.replace("B0", "B")].values.view(np.uint16) for name in names}
            radar = np.stack([months[name].values.view(np.uint16) for name in ("VV", "VH")], axis=1)
        for month, powers in enumerate(radar):
            planes = np.stack([stored[name][month] for name in names])
            if (planes == 65535).any() or (powers == 0).any():
                continue
            image = placed(planes.astype(np.float32) * np.float32(1e-4), [S2[name] for name in names])
            decibel = (20 * np.log10(powers.astype(np.float32)) - 83).astype(np.float32)
            yield Ground(f"worldcereal_{month}", "worldcereal", "worldcereal", "train", image, "boa", 10.0, decibel)


def raised(grounds: Sequence[Ground]) -> list[Ground]:
    """Copies of surface reflectance as the top of the atmosphere would show it, in all 13 bands.

    Air scatters light upwards and ozone absorbs, as in :mod:`unclouded.simulate.optics`; bands that were not measured,
    and those of water vapour, follow from the others by the linear relation that clear Sentinel-2 images of the
    training places have at the top of the atmosphere.

    Args:
        grounds: places; those without surface reflectance are not copied.

    Returns:
        The copies, without cloudy dates. None where no place is known in all bands at the top of the atmosphere.
    """
    whole = [
        one for one in grounds
        if one.level == "toa" and one.split == "train" and np.isfinite(one.clear[:, ::8, ::8]).any(axis=(1, 2)).all()
    ]  # fmt: skip
    if not whole:
        return []
    pixels = np.concatenate([one.clear[:, ::8, ::8].reshape(len(BANDS), -1) for one in whole], axis=1)
    pixels = pixels[:, np.isfinite(pixels).all(axis=0)].astype(np.float64)
    air_of = [air(band, "toa", mu0=0.8) for band in BANDS]
    vapour = np.array([one.vapour > 0 for one in air_of])
    path = np.array([one.path for one in air_of])[:, None, None]
    through = np.array([one.ozone for one in air_of])[:, None, None]
    out = []
    for one in grounds:
        if one.level != "boa" or one.split != "train":
            continue
        surface = one.clear.astype(np.float32)
        there = np.isfinite(surface).any(axis=(1, 2)) & ~vapour
        if there.sum() < 5:  # too little to say what the others are
            continue
        seen = path + (1 - path) * through * surface
        design = np.concatenate((pixels[there], np.ones((1, pixels.shape[1]))))
        ridge = 1e-5 * pixels.shape[1] * np.eye(len(design))
        lines = np.linalg.solve(design @ design.T + ridge, design @ pixels[~there].T)  # (present + 1, missing)
        given = np.concatenate((seen[there], np.ones_like(seen[:1])))
        seen[~there] = np.maximum(np.einsum("pm,pyx->myx", lines, given), 0.0005)
        out.append(replace(one, name=one.name + RAISED, level="toa", clear=seen.astype(np.float16), cloudy=None))
    return out


def _toa(path: Path) -> NDArray[np.float32]:
    counts = _read(path)
    image = counts.astype(np.float32) * np.float32(1e-4)
    image[:, (counts == 0).all(axis=0)] = np.nan
    return image


def _read(path: Path) -> NDArray[np.generic]:
    with rasterio.open(path) as dataset:
        return dataset.read()
