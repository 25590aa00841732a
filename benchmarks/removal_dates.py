"""Whether the error expected of ground taken from another date is right in size, and ranks pixels: three real series.

    python benchmarks/removal_dates.py --data ../shared/data

Clear dates lose drawn gaps, which the best earlier date of at most 60 days fills, matched as ``unclouded.remove`` does.
Series: Sentinel-2 L1C in Italy (13 bands, 10 m), L2A in Belgium (10 bands, 10 m) and in the Alps (4 bands, 120 m).
Printed are mean error and mean expected error, and by how much leaving out the fifth of pixels that is least certain
lowers the mean error: with the expected error, with one error for each cell of 64 pixels, and at best.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import rasterio
import xarray

from unclouded.infer.change import Change
from unclouded.infer.feather import dilated
from unclouded.infer.matching import match
from unclouded.simulate.noise import blur

CLEAR = (4, 5, 6, 7, 11)
"""Classes of SCL that are ground: vegetation, bare, water, unclassified, snow."""

ITALY = ("2018-05-31", "2018-08-09", "2018-09-03", "2018-09-28", "2018-10-23", "2018-11-12")
DAYS, DATES, ALIKE = 60, 4, 1.25

Array = np.ndarray
Date = tuple[dt.date, Array, Array]
"""Day, reflectance (band, y, x), clear pixels (y, x)."""


def series(root: Path) -> Iterator[tuple[str, list[Date]]]:
    """Every series with its dates."""
    out = []
    for day in ITALY:
        with rasterio.open(root / f"sen12mscr/series/ROIs2017_146_patch0_{day}.tif") as file:
            image = file.read().astype(np.float32) * np.float32(1e-4)
        out.append((dt.date.fromisoformat(day), image, np.ones(image.shape[1:], bool)))
    yield "Italy", out
    (fine,) = (root / "multimodal/worldcereal_series").glob("*/S2_L2A_10m*.nc")
    coarse = fine.with_name(fine.name.replace("10m", "20m", 1))
    planes = []
    for path, factor in ((fine, 1), (coarse, 2)):
        with xarray.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as stack:
            planes += [stack[name].values.repeat(factor, 1).repeat(factor, 2) for name in stack if name[0] == "B"]
            days = [dt.date.fromisoformat(str(one)[:10]) for one in stack.timestamp.values]
            scl = stack["SCL"].values.repeat(2, 1).repeat(2, 2) if "SCL" in stack else None
    images = np.stack(planes, 1).astype(np.float32) * np.float32(1e-4)
    yield "Belgium", [(day, one, np.isin(codes, CLEAR)) for day, one, codes in zip(days, images, scl, strict=True)]
    out = []
    for path in sorted((root / "stac/mapchete_s2_l2a").rglob("*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        if item.get("type") != "Feature":
            continue
        layers = []
        for name in ("B02", "B03", "B04", "B08", "SCL"):
            with rasterio.open(path.parent / f"{name}.tif") as file:
                layers.append(file.read(1))
        day = dt.date.fromisoformat(item["properties"]["datetime"][:10])
        out.append((day, np.stack(layers[:4]).astype(np.float32) * np.float32(1e-4), np.isin(layers[4], CLEAR)))
    yield "Alps", sorted(out, key=lambda date: date[0])


def cases(dates: list[Date]) -> Iterator[tuple[Array, Array, Array]]:
    """Errors, expected errors, and those of cells, in the gaps of every date."""
    rng = np.random.default_rng(0)
    good = [date for date in dates if date[2].mean() > 0.9]
    for day, target, clear in good:
        earlier = [date for date in good if 0 < (day - date[0]).days <= DAYS]
        for _ in range(2):
            field = blur(rng.normal(size=clear.shape).astype(np.float32), float(np.exp(rng.uniform(1.4, 2.8))))
            gap = field > np.quantile(field, rng.uniform(0.4, 0.8))
            fits = []
            for other_day, source, shown in sorted(earlier, key=lambda date: day - date[0])[:DATES]:
                common = clear & shown & ~dilated(gap, 3)
                if common.sum() >= 64:
                    found = match(target, source, common)
                    rank = math.floor(math.log(max(found.expected, 1e-6)) / math.log(ALIKE)), day - other_day
                    fits.append((rank, found, source, shown, common))
            if not fits:
                continue
            _, found, source, shown, common = min(fits, key=lambda fit: fit[0])
            use = gap & clear & shown
            if use.sum() < 50:
                continue
            made = found.apply(source, 0, gap.shape)
            error = np.abs(made - target).mean(axis=0)
            flat = Change.of(np.zeros_like(made), error, common)  # no kinds of ground: places alone
            told = found.change.errors(made, 0, gap.shape)
            yield error[use], told[use], flat.errors(np.zeros_like(made), 0, gap.shape)[use]


def lowered(error: Array, told: Array) -> float:
    """Share by which the mean error falls where the fifth that is least certain is left out."""
    keep = told <= np.quantile(told, 0.8)
    return float(1 - error[keep].mean() / error.mean())


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
def main(data: Path) -> None:
    """Measure and print a table."""
    click.echo("| series | cases | mean error | expected / found | lowered by | by place alone | at best |")
    click.echo("| --- " * 7 + "|")
    for name, dates in series(data):
        found: dict[str, list[float]] = defaultdict(list)
        for error, told, flat in cases(dates):
            found["error"].append(float(error.mean()))
            found["told"].append(float(told.mean()))
            for key, by in (("lowered", told), ("flat", flat), ("best", error)):
                found[key].append(lowered(error, by))
        mean = {key: float(np.mean(values)) for key, values in found.items()}
        click.echo(
            f"| {name} | {len(found['error'])} | {mean['error']:.4f} | {mean['told'] / mean['error']:.2f} |"
            f" {100 * mean['lowered']:.0f} % | {100 * mean['flat']:.0f} % | {100 * mean['best']:.0f} % |"
        )


if __name__ == "__main__":
    main()
