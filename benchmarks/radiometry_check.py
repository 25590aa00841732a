"""How often the check of radiometry is wrong: real images as they are, with an offset forgotten, and applied twice.

    python benchmarks/radiometry_check.py --data DATA [--json FILE]

Every product is looked at as the readers open it, and every other calibrated image of the default model's sources; no
image twice. An offset of 0.1 added to a right image is what forgetting it looks like; taken away, what applying it
twice does.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.data.default_corpus import read_corpus
from unclouded.radiometry import CHECKED, suspicion
from unclouded.readers import open_scene

LARGE = 256
"""Pixels along the shorter side above which an image counts as large."""

SAID = {"scale": 1e-4, "offset": 0.0}
"""For Sentinel-2 images of before baseline 04.00 that came without metadata."""

PRODUCTS: dict[str, dict[str, float]] = {
    "safe_s2_l2a_60m/*.SAFE": {}, "safe_s2_small/*.SAFE": SAID, "safe_s2_small/L1C_*": SAID,
    "landsat/L*": {}, "landsat/l8_sat_testdata": {}, "landsat/small_60px/L*": {},
    "stac/*/*_SR_stac.json": {}, "stac/s2_cog_29RKH/*.json": {}, "stac/*/*/*/*.json": {},
    "multimodal/bigearthnet_s1s2/BigEarthNet-S2-Example/*": SAID,
}  # fmt: skip
"""Where products lie, and what the user has to say of them."""

PRODUCTS_AGAIN = ("landsat_l1", "landsat_l2", "safe_60m", "mapchete", "desert")
"""Sources of the corpus that are made from these products."""

OFFSET = np.float32(0.1)

Samples = dict[str, NDArray[np.float32]]


def corpus(data: Path) -> Iterator[tuple[str, int, Samples]]:
    """Name, shorter side and reflectances of every calibrated image of the corpus that is no product."""
    for sample in read_corpus(data):
        if sample.level == "counts" or sample.source in PRODUCTS_AGAIN:
            continue
        by_name = {band.common_name: place for place, band in reversed(list(enumerate(sample.bands)))}
        found = {}
        for group in CHECKED:
            common = next((name for name in group if name in by_name), None)
            if common is not None:
                plane = sample.image[by_name[common]].astype(np.float32)
                found[common] = plane[np.isfinite(plane)]
        yield f"{sample.source}/{sample.name}", min(sample.image.shape[1:]), found


def products(data: Path) -> Iterator[tuple[str, int, Samples]]:
    """The same of products, as the readers sample them."""
    for pattern, said in PRODUCTS.items():
        for path in sorted(data.glob(pattern)):
            scene = open_scene(path, **said)  # type: ignore[arg-type]
            by_name = {band.common_name: band.name for band in reversed(scene.bands)}
            found = {}
            for group in CHECKED:
                common = next((name for name in group if name in by_name), None)
                if common is not None:
                    source = scene.sources[by_name[common]]
                    found[common] = source.sample(scene.radiometry[by_name[common]])  # type: ignore[attr-defined]
            yield f"{path.parent.name}/{path.name}", min(scene.geobox.shape), found


def main() -> None:
    """Print one line for each size class, and the images that raise a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True, help="folder of real imagery")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, side, found in (*corpus(arguments.data), *products(arguments.data)):
            if sum(values.size for values in found.values()) < 5000:  # below this, the readers do not look either
                continue
            told = {
                "as it is": suspicion(found),
                "forgotten": suspicion({band: values + OFFSET for band, values in found.items()}),
                "twice": suspicion({band: values - OFFSET for band, values in found.items()}),
            }
            rows.append({"name": name, "side": side, **{case: text is not None for case, text in told.items()}})
    figures = {}
    for title, chosen in (
        (f"{LARGE} pixels and more", [row for row in rows if row["side"] >= LARGE]),
        ("smaller", [row for row in rows if row["side"] < LARGE]),
    ):
        count = len(chosen)
        tally = {case: sum(bool(row[case]) for row in chosen) for case in ("as it is", "forgotten", "twice")}
        figures[title] = {"images": count, **tally}
        print(
            f"{title}: {count} images; false alarms {tally['as it is']}; noticed: forgotten {tally['forgotten']}, "
            f"applied twice {tally['twice']}"
        )
    for row in rows:
        if row["as it is"]:
            print(f"  false alarm: {row['name']} ({row['side']} pixels)")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"figures": figures, "images": rows}, indent=1))


if __name__ == "__main__":
    main()
