"""What radar and other dates are worth to removal: two real series of Sentinel-2 with Sentinel-1, under real clouds.

    python benchmarks/removal_series.py --data ../shared/data [--model removal] [--out series.json]

Every cloudy date that has a clear date within three days is restored, and compared with that clear date where the mask
calls the cloudy one hidden. Methods that use other dates are given earlier ones alone, none of them the truth. Both
sites (Belgium, 10 bands of 10 m; Tanzania, 6 bands of 20 m) are of 640 m; neither was trained on. Intervals are 95 % of
a bootstrap over the cloudy dates of both; two sites are no sample of the world.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import xarray

from unclouded import predict, restore
from unclouded.errors import UncloudedWarning
from unclouded.image_metrics import mae, psnr, spectral_angle
from unclouded.infer.baselines import BASELINES
from unclouded.infer.feather import dilated

NEAR_DAYS = 3
"""Days, at most, between a cloudy date and the clear one that it is compared with."""

HISTORY_DAYS = 60
"""Days, at most, that other dates are earlier."""

DATES = 3
"""Other dates, at most."""

WIDENED = 3
"""Pixels by which masks are widened, as :func:`unclouded.restore` does."""

Array = np.ndarray


@dataclass
class Site:
    """A series: days, reflectance (date, band, y, x), classes of its mask, and radar (day, 2, y, x)."""

    name: str
    gsd_m: float
    bands: list[str]
    days: Array
    images: Array
    classes: Array
    radar_days: Array
    radar: Array


@dataclass
class Case:
    """A cloudy date, the truth, and what there is beside it; other dates nearest first."""

    site: Site
    day: str
    cloudy: Array
    classes: Array
    truth: Array
    known: Array
    radar: Array | None
    history: Array
    history_classes: Array


def sites(root: Path) -> Iterator[Site]:
    """Every series below the folder, masked by the default model."""
    for folder in sorted(one for one in root.iterdir() if one.name != "dem"):
        fine, coarse = (sorted(folder.glob(f"S2_L2A_{side}m*.nc")) for side in (10, 20))
        planes, names = [], []
        for path, factor in (*((one, 1) for one in fine), *((one, 2 if fine else 1) for one in coarse)):
            with xarray.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as series:
                for name in (one for one in series.data_vars if one.startswith("B")):
                    counts = series[name].values.repeat(factor, 1).repeat(factor, 2)
                    planes.append(np.where(counts == 0, np.nan, counts * np.float32(1e-4)).astype(np.float32))
                    names.append(name)
                days = series.timestamp.values.astype("datetime64[D]")
        images = np.stack(planes, axis=1)
        with xarray.open_dataset(next(folder.glob("S1_*.nc")), engine="h5netcdf", mask_and_scale=False) as series:
            stored = np.stack([series[name].values for name in ("VV", "VH")], axis=1)
            radar = np.where(stored == 0, np.nan, stored * np.float32(1e-4)).astype(np.float32)
            radar_days = series.timestamp.values.astype("datetime64[D]")
        factor = images.shape[2] // radar.shape[2]
        gsd = 10.0 if fine else 20.0
        classes = np.stack([predict(one, names, sensor="sentinel2-l2a", resolution_m=gsd).classes for one in images])
        yield Site(
            folder.name, gsd, names, days, images, classes, radar_days, radar.repeat(factor, 2).repeat(factor, 3)
        )


def cases(site: Site) -> Iterator[Case]:
    """Cloudy dates with a clear one near."""
    hidden = np.isin(site.classes, (1, 2, 3)).mean(axis=(1, 2))
    missing = np.isnan(site.images).any(axis=1).mean(axis=(1, 2))
    clear = np.flatnonzero((hidden < 0.02) & (missing == 0))
    for index in np.flatnonzero((hidden > 0.2) & (missing == 0)):
        apart = np.abs((site.days[clear] - site.days[index]).astype(int))
        if not clear.size or apart.min() > NEAR_DAYS:
            continue
        truth = clear[apart.argmin()]
        age = (site.days[index] - site.days[clear]).astype(int)
        earlier = clear[(age > 0) & (age <= HISTORY_DAYS) & (clear != truth)][::-1][:DATES]
        if not earlier.size:
            continue
        nearest = np.abs((site.radar_days - site.days[index]).astype(int)).argmin()
        radar = site.radar[nearest] if np.isfinite(site.radar[nearest]).all() else None
        yield Case(
            site, str(site.days[index]), site.images[index], site.classes[index], site.images[truth],
            site.classes[truth] == 0, radar, site.images[earlier], site.classes[earlier],
        )  # fmt: skip


def methods(case: Case, model: str) -> dict[str, tuple[Array, Array | None]]:
    """Image and, where it is told, expected error of every method."""
    hidden = dilated(np.isin(case.classes, (1, 2, 3)), WIDENED)
    shown = np.stack([~dilated(one != 0, WIDENED) for one in case.history_classes])
    out: dict[str, tuple[Array, Array | None]] = {
        name: (BASELINES[name](case.cloudy, hidden, case.history, shown), None)
        for name in ("unchanged", "harmonic", "biharmonic", "nearest-date", "temporal-median")
    }
    common = {"sensor": "sentinel2-l2a", "resolution_m": case.site.gsd_m, "mask": case.classes, "model": model}
    for name, radar, dates in (
        ("default", None, 0),
        ("default, radar", case.radar, 0),
        ("default, radar, one date", case.radar, 1),
        (f"default, radar, {DATES} dates", case.radar, DATES),
    ):
        others = {"history": case.history[:dates], "history_masks": case.history_classes[:dates]} if dates else {}
        found = restore(case.cloudy, case.site.bands, sar=radar, **common, **others)
        out[name] = found.image, found.uncertainty
    return out


def interval(values: Array) -> tuple[float, float, float]:
    """Mean, and 95 % of the bootstrap."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    return float(values.mean()), *(float(one) for one in np.quantile(means, (0.025, 0.975)))


def lowered(error: Array, told: Array) -> float:
    """Share by which the mean error falls where the fifth that is least certain is left out."""
    keep = told <= np.quantile(told, 0.8)
    return float(1 - error[keep].mean() / error.mean())


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--model", default="removal")
@click.option("--out", type=click.Path(path_type=Path))
def main(data: Path, model: str, out: Path | None) -> None:
    """Measure and print a table."""
    warnings.simplefilter("ignore", UncloudedWarning)
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    told: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
    count: dict[str, int] = defaultdict(int)
    for site in sites(data / "multimodal/worldcereal_series"):
        for case in cases(site):
            hidden = dilated(np.isin(case.classes, (1, 2, 3)), WIDENED) & case.known
            if hidden.sum() < 100:
                continue
            count[site.name] += 1
            truth = np.clip(case.truth, 0, 1)
            for name, (image, expected) in methods(case, model).items():
                image = np.clip(image, 0, 1)
                for key, metric in (("psnr", psnr), ("mae", mae), ("sam", spectral_angle)):
                    rows[name][key].append(metric(image, truth, hidden))
                if expected is not None:
                    told[name].append((np.abs(image - truth).mean(axis=0)[hidden], expected[hidden]))
    click.echo(", ".join(f"{number} dates of {name}" for name, number in count.items()))
    click.echo("\n| method | psnr cloudy | mae cloudy | sam cloudy |\n| --- | --- | --- | --- |")
    for name, found in rows.items():
        cells = [interval(np.array(found[key])) for key in ("psnr", "mae", "sam")]
        digits = (1, 4, 1)
        text = (f"{m:.{d}f} ({a:.{d}f}, {b:.{d}f})" for (m, a, b), d in zip(cells, digits, strict=True))
        click.echo(f"| {name} | {' | '.join(text)} |")
    steps: Sequence[tuple[str, str]] = [
        ("default", "unchanged"), ("default", "biharmonic"), ("default", "harmonic"), ("default, radar", "default"),
        ("default, radar, one date", "default, radar"), ("default, radar, one date", "nearest-date"),
        (f"default, radar, {DATES} dates", "nearest-date"), (f"default, radar, {DATES} dates", "temporal-median"),
    ]  # fmt: skip
    for one, other in steps:
        for key in ("psnr", "sam"):
            mean, low, high = interval(np.array(rows[one][key]) - np.array(rows[other][key]))
            click.echo(f"{one} minus {other}, {key}: {mean:+.2f} ({low:+.2f}, {high:+.2f})")
    for name, parts in told.items():
        error, expected = (np.concatenate(one) for one in zip(*parts, strict=True))
        made, best = (100 * lowered(error, one) for one in (expected, error))
        click.echo(
            f"uncertainty of {name}: mae {error.mean():.4f}, expected {expected.mean():.4f}, leaving out a fifth lowers"
            f" the error by {made:.0f} % (a perfect ranking: {best:.0f} %)"
        )
    if out is not None:
        out.write_text(json.dumps({"count": count, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
