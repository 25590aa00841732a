"""Pictures of simulated Sentinel-2 scenes for docs/simulator.md.

    python benchmarks/simulator_pictures.py [--out docs/images/simulator-scenes.jpg]

Columns: ground in natural colours; the scene; the scene in short-wave infrared, near infrared and red; the band at
1.38 um; the truth (white thick, blue thin, violet shadow, red shadow that nobody could see).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from unclouded.sensors import bands_of
from unclouded.simulate.clouds import Layer, simulate_clouds
from unclouded.simulate.surface import procedural_surface

SIDE = 220
SCENES = (
    ("farmland", (Layer("cumulus", 0.25, 1500, 30, 0.0), Layer("cirrus", 0.4, 9500, 2.0, 1.0))),
    ("mountains", (Layer("stratus", 0.4, 7000, 50, 0.9, 0.6),)),
    ("ice", (Layer("altocumulus", 0.4, 4000, 12, 0.5),)),
    ("coast", (Layer("fractus", 0.25, 1200, 15, 0.0),)),
    ("desert", (Layer("haze", 0.8, 1500, 2.0, 0.0), Layer("cumulus", 0.1, 2500, 40, 0.0))),
)
COLOURS = np.array([[60, 60, 60], [255, 255, 255], [120, 180, 255], [150, 90, 200]], np.uint8)


def main() -> None:
    """Draw them all below each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/simulator-scenes.jpg"))
    out = parser.parse_args().out
    lines = [line(landscape, layers, seed) for seed, (landscape, layers) in enumerate(SCENES, start=2)]
    picture = np.moveaxis(np.concatenate(lines), -1, 0)
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    out.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        out, "w", driver="JPEG", quality=85, width=picture.shape[2], height=picture.shape[1], count=3, dtype="uint8"
    ) as file:
        file.write(picture)


def line(landscape: str, layers: tuple[Layer, ...], seed: int) -> NDArray[np.uint8]:
    """One scene in five pictures, (y, x, colour) uint8."""
    bands = bands_of("sentinel2-l1c")
    rows = {band.name: row for row, band in enumerate(bands)}
    natural, infrared = ([rows[name] for name in names] for names in (("B04", "B03", "B02"), ("B11", "B8A", "B04")))
    sun = {"sun_zenith_deg": 48.0, "sun_azimuth_deg": 155.0}
    ground = procedural_surface(bands, (SIDE, SIDE), 20.0, seed, landscape=landscape, **sun)
    sky = simulate_clouds(ground, bands, resolution_m=20.0, seed=seed, layers=layers, **sun)
    truth = COLOURS[sky.classes]
    truth[sky.ambiguous] = (220, 40, 40)
    cirrus = shown(sky.image[[rows["B10"]] * 3] * 4)
    return np.concatenate(
        [shown(ground[natural]), shown(sky.image[natural]), shown(sky.image[infrared]), cirrus, truth], axis=1
    )


def shown(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Reflectance as the eye likes it, (y, x, colour) uint8."""
    return np.moveaxis(np.clip(255 * np.clip(image * 1.1, 0, 1) ** (1 / 2.2), 0, 255).astype(np.uint8), 0, -1)


if __name__ == "__main__":
    main()
