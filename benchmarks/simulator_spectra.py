"""Spectra of simulated clouds, shadows and snow beside real ones.

    python benchmarks/simulator_spectra.py --data DATA [--out docs/images/simulator-spectra.png]

Real: the Landsat-8 Biome patches with masks drawn by people, and Sentinel-2 patches of SEN12MS-CR (thick and thin cloud
and shadow by the weak masks of one place and by three dates that are wholly cloud; snow by two dates of one place).
Simulated: 60 random scenes of each sensor, ground made up. Prints the 10th, 50th and 90th percentile of every band, and
how far the medians lie apart in units of half the real range.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from unclouded.scene import Band
from unclouded.sensors import bands_of, load
from unclouded.simulate.scenes import draw_scene

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SCENES = 60
SIZE = 192
CLASSES = ("thick cloud", "thin cloud", "shadow", "clear", "snow")
OLI = bands_of("landsat-oli-c2-l1", ["B2", "B3", "B4", "B5", "B6", "B7", "B9"])
MSI = bands_of("sentinel2-l1c")

Spectra = dict[str, NDArray[np.float32]]


def main() -> None:
    """Gather, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with l8biome and sen12mscr")
    parser.add_argument("--out", type=Path, default=Path("docs/images/simulator-spectra.png"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    compared = {
        "Landsat-8, masks by people": (OLI, gathered(landsat(arguments.data), 7), simulated("landsat-oli-c2-l1", OLI)),
        "Sentinel-2, weak masks": (MSI, gathered(sentinel(arguments.data), 13), simulated("sentinel2-l1c", MSI)),
    }
    figure, axes = plt.subplots(len(compared), len(CLASSES), figsize=(17, 6.6), sharey=True, layout="constrained")
    for line, (title, (bands, real, made)) in zip(axes, compared.items(), strict=True):
        print(f"\n{title}")
        for axis, name in zip(line, CLASSES, strict=True):
            if name in real and name in made:
                tell(name, bands, real[name], made[name])
                draw(axis, bands, real[name], made[name])
            axis.set_title(f"{title}: {name}", fontsize=8)
    axes[0][0].legend(fontsize=8)
    figure.supxlabel("wavelength, nm (1375 nm is the cirrus band)")
    figure.supylabel("reflectance, top of atmosphere")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=80)


def gathered(pieces: Iterator[tuple[str, NDArray[np.float32]]], count: int) -> Spectra:
    """At most 3000 pixels of each image and class, by class: (band, pixel)."""
    found: dict[str, list[NDArray[np.float32]]] = {}
    for name, pixels in pieces:
        if pixels.shape[1] >= 100:
            found.setdefault(name, []).append(pixels[:, :: max(1, pixels.shape[1] // 3000)])
    assert all(len(one) == count for parts in found.values() for one in parts)
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}


def landsat(data: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Pixels of the Biome patches."""
    for path in sorted((data / "l8biome/images").glob("*.tif")):
        image = read(path)[:7] * np.float32(1e-4)
        mask = read(data / "l8biome/masks" / path.name)[0]
        for code, name in ((255, "thick cloud"), (192, "thin cloud"), (64, "shadow")):
            yield name, image[:, mask == code]
        yield ("snow" if path.stem.startswith("SnowIce") else "clear"), image[:, mask == 128]


def sentinel(data: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Pixels of the SEN12MS-CR patches."""
    folder = data / "sen12mscr"
    for path in sorted((folder / "weak").glob("*.png")):
        image = read(folder / "pairs" / f"{path.stem.removesuffix('_weak')}_cloudy.tif") * np.float32(1e-4)
        mask = read(path)[0]
        for code, name in ((1, "thick cloud"), (2, "thin cloud"), (3, "shadow")):
            yield name, image[:, mask == code]
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        image = read(folder / row["path"]) * np.float32(1e-4) if row["role"] in ("series", "clear") else None
        if image is None:
            continue
        if row["role"] == "series" and row["cloud_fraction_weak"] == "1.000":
            yield "thick cloud", image.reshape(13, -1)
        elif row["role"] == "clear" and "spring_26" in row["roi"]:
            bright = (image[2] > 0.35) & (image[11] < 0.25)
            yield "snow", image[:, bright]
        elif row["role"] == "clear":
            yield "clear", image.reshape(13, -1)


def simulated(sensor: str, bands: tuple[Band, ...]) -> Spectra:
    """Pixels of random simulated scenes."""

    def pieces() -> Iterator[tuple[str, NDArray[np.float32]]]:
        names = [band.name for band in load(sensor).bands if band.kind in ("optical", "thermal")]
        rows = [names.index(band.name) for band in bands]
        green, infrared = (next(r for r, b in zip(rows, bands, strict=True) if b.common_name == name)
                           for name in ("green", "swir16"))  # fmt: skip
        for number in range(SCENES):
            drawn = draw_scene(load(sensor), SIZE, 1, number)
            image, classes = drawn.sky.image, drawn.sky.classes
            index = (image[green] - image[infrared]) / (image[green] + image[infrared])
            snow = (classes == 0) & (image[green] > 0.35) & (index > 0.4)
            seen = classes == 3
            seen &= ~drawn.sky.ambiguous
            parts = {"thick cloud": classes == 1, "thin cloud": classes == 2, "shadow": seen, "snow": snow,
                     "clear": (classes == 0) & ~snow}  # fmt: skip
            for name, here in parts.items():
                yield name, image[rows][:, here]

    return gathered(pieces(), len(bands))


def tell(name: str, bands: tuple[Band, ...], real: NDArray[np.float32], made: NDArray[np.float32]) -> None:
    """Print a Markdown table of one class."""
    print(f"\n| {name} | " + " | ".join(band.name for band in bands) + " |")
    print("|---|" + "---|" * len(bands))
    ranges = [np.percentile(one, [10, 50, 90], axis=1) for one in (real, made)]
    for title, values in zip(("real", "simulated"), ranges, strict=True):
        print(f"| {title} | " + " | ".join(f"{low:.2f} **{mid:.2f}** {high:.2f}" for low, mid, high in values.T) + " |")
    apart = (ranges[1][1] - ranges[0][1]) / np.maximum(0.5 * (ranges[0][2] - ranges[0][0]), 0.01)
    print("| apart | " + " | ".join(f"{one:+.1f}" for one in apart) + " |")


def draw(axis: plt.Axes, bands: tuple[Band, ...], real: NDArray[np.float32], made: NDArray[np.float32]) -> None:
    """Medians and ranges from the 10th to the 90th percentile, by wavelength."""
    order = np.argsort([band.centre_nm for band in bands])
    wavelengths = np.array([band.centre_nm for band in bands])[order]
    for values, colour, label in ((real, "black", "real"), (made, "tab:red", "simulated")):
        low, middle, high = np.percentile(values, [10, 50, 90], axis=1)
        axis.fill_between(wavelengths, low[order], high[order], color=colour, alpha=0.15, linewidth=0)
        axis.plot(wavelengths, middle[order], "o-", color=colour, markersize=3, linewidth=1, label=label)
    axis.set_ylim(0, 1.1)
    axis.tick_params(labelsize=7)


def read(path: Path) -> NDArray[np.generic]:
    """All bands of a raster."""
    with rasterio.open(path) as file:
        return np.asarray(file.read())


if __name__ == "__main__":
    main()
