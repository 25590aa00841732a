"""Accuracy of the default model on images labelled by people, which it was not trained on, beside a peer.

    python benchmarks/accuracy.py --data DATA --models runs/default/models-1 [--seeds FOLDER...] [--peer] [--buffer PX]
        [--json FILE] [--card CARD] [--pictures FOLDER]

The network has seen none of these images. Its calibration, which sets where cloud begins, was fitted on them: so every
image is scored with one that has not seen its fold, and --models is the folder where `default_model finish` wrote them.
The shipped calibration has seen all. --seeds names the folders of further trainings, of which all bands are judged.
--buffer grows the clouds of every contestant
by so many pixels before they are scored. Counts are pooled over the pixels of a set; intervals are 95 % bootstrap
intervals over scenes (none for fewer than four). Shadow is judged only in images that hold a shadow label. The peer is
ukis-csmask 1.0.0 (Apache-2.0), on the same pixels, at the pixel size it was made for (20 m for 10 m images):
pip install --no-deps ukis-csmask==1.0.0. Two more tables say what the uncertainty is worth: how often cloud and clear
are confused among the surest and the least sure pixels, and what is left without the least sure tenth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unclouded
from unclouded.data import default_corpus
from unclouded.data import labels as lab
from unclouded.data.sample import Sample
from unclouded.models.card import Figure, ModelCard

SETS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "l8biome (Landsat-8 TOA, 7 bands)": default_corpus.l8biome,
    "oncloudn (Sentinel-2 L2A, 4 bands)": default_corpus.oncloudn,
    "ukis (Landsat-7 TOA, 6 bands)": default_corpus.ukis,
    "95-cloud (8-bit RGB)": default_corpus.rgb8,
}
SUBSETS: dict[str, tuple[float, ...] | None] = {
    "all": None,
    "rgb-nir": (490, 560, 660, 850),
    "rgb": (490, 560, 660),
}
Counts = NDArray[np.int64]


def counts(sample: Sample, codes: NDArray[np.uint8]) -> dict[str, Counts]:
    """(tp, fp, fn, tn) of cloud, of shadow where it is labelled, and of thick among true clouds found as cloud."""
    sets = sample.sets
    cloud = (sets != 0) & (sets & ~np.uint8(lab.CLOUD) == 0)
    clear = (sets != 0) & (sets & np.uint8(lab.CLOUD | lab.MISSING) == 0)
    out = {"cloud": _four(cloud, np.isin(codes, (1, 2)), cloud | clear)}
    shadow = sets == lab.SHADOW
    if shadow.any():
        out["shadow"] = _four(shadow, codes == 3, (sets != 0) & (shadow | (sets & np.uint8(lab.SHADOW) == 0)))
    thin, thick = sets == lab.THIN, sets == lab.THICK
    if thin.any() or thick.any():
        out["thick"] = _four(thick, codes == 1, (thin | thick) & np.isin(codes, (1, 2)))
    return out


def _four(truth: NDArray[np.bool_], found: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Counts:
    pairs = ((truth, found), (~truth, found), (truth, ~found), (~truth, ~found))
    return np.array([(a & b & judged).sum() for a, b in pairs], np.int64)


def iou(c: Counts) -> float:
    """Intersection over union."""
    return float(c[0] / (c[0] + c[1] + c[2])) if c[:3].sum() else float("nan")


def balanced(c: Counts) -> float:
    """Mean recall of both sides."""
    if c[0] + c[2] == 0 or c[1] + c[3] == 0:
        return float("nan")
    return float(0.5 * (c[0] / (c[0] + c[2]) + c[3] / (c[1] + c[3])))


def interval(rows: Sequence[Counts], figure: Callable[[Counts], float]) -> tuple[float, float] | None:
    """95 % bootstrap interval over scenes."""
    if len(rows) < 4:
        return None
    rng = np.random.default_rng(0)
    table = np.stack(rows)
    drawn = [figure(table[rng.integers(len(table), size=len(table))].sum(axis=0)) for _ in range(1000)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def ours(sample: Sample, subset: tuple[float, ...] | None, models: Path) -> unclouded.Prediction:
    """What the network says of a sample, calibrated without the sample's fold."""
    keep = list(range(len(sample.bands)))
    if subset is not None:
        keep = [int(np.argmin([abs(band.centre_nm - want) for band in sample.bands])) for want in subset]
    bands = [(sample.bands[row].min_nm, sample.bands[row].max_nm) for row in keep]
    image = sample.image[keep].astype(np.float32)
    model = models / f"{sample.split}.onnx"
    return unclouded.predict(image, bands, resolution_m=sample.gsd_m, level=sample.level, model=model)


def widened(codes: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Class codes with every cloud grown by so many pixels."""
    if pixels == 0:
        return codes
    cloud = np.isin(codes, (1, 2))
    reach = np.hypot(*np.mgrid[-pixels : pixels + 1, -pixels : pixels + 1]) <= pixels
    padded = np.pad(cloud, pixels)
    grown = np.zeros_like(cloud)
    for y, x in np.argwhere(reach):
        grown |= padded[y : y + codes.shape[0], x : x + codes.shape[1]]
    return np.where(grown & ~cloud & (codes != 255), np.uint8(2), codes)


def peer(sample: Sample, size: int) -> NDArray[np.uint8] | None:
    """Class codes of ukis-csmask with its 6- or 4-band model (its cloud counts as thick), or None if bands lack."""
    from ukis_csmask.mask import CSmask

    wanted = {"blue": 490, "green": 560, "red": 660, "nir": 850, "swir16": 1610, "swir22": 2200}
    names = list(wanted)[:size]
    rows = []
    for name in names:
        distance = [abs(band.centre_nm - wanted[name]) for band in sample.bands]
        if min(distance) > 70:
            return None
        rows.append(int(np.argmin(distance)))
    image = np.nan_to_num(sample.image[rows].astype(np.float32))
    factor = 2 if sample.gsd_m < 15 else 1
    h, w = (length // factor * factor for length in image.shape[1:])
    small = image[:, :h, :w].reshape(len(rows), h // factor, factor, w // factor, factor).mean(axis=(2, 4))
    level = "l2a" if sample.level == "boa" else "l1c"
    mask = CSmask(np.moveaxis(small, 0, -1).copy(), band_order=names, product_level=level, nodata_value=-1).csm
    codes = np.array([0, 1, 3], np.uint8)[mask[..., 0]]
    full = np.zeros(image.shape[1:], np.uint8)
    full[:h, :w] = codes.repeat(factor, 0).repeat(factor, 1)
    return full


def calibration_error(probability: Sequence[NDArray[np.float32]], truth: Sequence[NDArray[np.bool_]]) -> float:
    """Expected calibration error of the cloud probability, 15 equal bins."""
    p, t = np.concatenate(list(probability)), np.concatenate(list(truth))
    place = np.minimum((p * 15).astype(int), 14)
    gaps = [
        abs(p[place == k].mean() - t[place == k].mean()) * (place == k).mean()
        for k in range(15)
        if (place == k).any()
    ]
    return float(sum(gaps))


def measure(data: Path, models: Path, seeds: Sequence[Path], with_peer: bool, buffer: int) -> dict[str, Any]:
    """All figures, by set and by contestant."""
    report: dict[str, Any] = {}
    for title, read in SETS.items():
        samples = [sample for sample in read(data) if sample.split.startswith("fold")]
        found: dict[str, list[tuple[Sample, NDArray[np.uint8]]]] = {}
        probability, truth = [], []
        doubt: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
        for name, subset in SUBSETS.items():
            if subset is None or len(samples[0].bands) > len(subset):
                said = [ours(sample, subset, models) for sample in samples]
                found[f"unclouded, {name}"] = [(s, p.classes) for s, p in zip(samples, said, strict=True)]
                if subset is None:
                    probability, truth = judged_pixels(samples, said)
                    doubt = [doubted(sample, one) for sample, one in zip(samples, said, strict=True)]
        for folder in seeds:
            rows = [(sample, ours(sample, None, folder).classes) for sample in samples]
            found[f"unclouded, all, {folder.name}"] = rows
        if with_peer:
            for size in (6, 4):
                codes = [(sample, peer(sample, size)) for sample in samples]
                known = [(sample, one) for sample, one in codes if one is not None]
                if known:
                    found[f"ukis-csmask, {size} bands"] = known
        report[title] = {
            "images": len(samples),
            "calibration error of cloud probability": round(calibration_error(probability, truth), 4),
            "uncertainty": uncertainty_table(doubt),
            "results": {
                name: figures([counts(sample, widened(codes, buffer)) for sample, codes in rows])
                for name, rows in found.items()
            },
        }
    return report


def judged_pixels(
    samples: Sequence[Sample], said: Sequence[unclouded.Prediction]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Probability of cloud, and whether it is cloud, where the labels tell."""
    probability, truth = [], []
    for sample, one in zip(samples, said, strict=True):
        share = one.probability[1] + one.probability[2]
        cloud = (sample.sets != 0) & (sample.sets & ~np.uint8(lab.CLOUD) == 0)
        judged = (cloud | ((sample.sets != 0) & (sample.sets & np.uint8(lab.CLOUD) == 0))) & np.isfinite(share)
        probability.append(share[judged])
        truth.append(cloud[judged])
    return probability, truth


def doubted(sample: Sample, said: unclouded.Prediction) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Uncertainty of the pixels whose label tells cloud from clear, and whether they were confused."""
    cloud = (sample.sets != 0) & (sample.sets & ~np.uint8(lab.CLOUD) == 0)
    judged = cloud | ((sample.sets != 0) & (sample.sets & np.uint8(lab.CLOUD) == 0))
    judged &= np.isfinite(said.uncertainty)
    return said.uncertainty[judged], (np.isin(said.classes, (1, 2)) != cloud)[judged]


def uncertainty_table(rows: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> dict[str, Any]:
    """Share of confused pixels by tenth of uncertainty, and with and without the least sure tenth."""
    doubt, wrong = (np.concatenate(list(part)) for part in zip(*rows, strict=True))
    order = np.argsort(doubt, kind="stable")
    tenths = [round(float(part.mean()), 4) for part in np.array_split(wrong[order], 10)]
    return {
        "confused by tenth, surest first": tenths,
        "right": round(1 - float(wrong.mean()), 4),
        "right without the least sure tenth": round(1 - float(wrong[order[: int(0.9 * wrong.size)]].mean()), 4),
    }


def pictures(data: Path, models: Path, folder: Path) -> None:
    """One picture per set: the images with the most confused pixels, what people and the network called cloud.

    Not of 95-Cloud's pictures, whose licence does not allow to pass them on.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    colours = {"clear": "#404040", "cloud in both": "#ffffff", "false alarm": "#e66100", "missed": "#1a85ff"}
    folder.mkdir(parents=True, exist_ok=True)
    for title, read in SETS.items():
        if read is default_corpus.rgb8:
            continue
        rows = []
        for sample in (one for one in read(data) if one.split.startswith("fold")):
            said = ours(sample, None, models)
            tally = counts(sample, said.classes)["cloud"]
            rows.append((float(tally[1:3].sum() / max(1, tally.sum())), sample, said))
        rows.sort(key=lambda row: -row[0])
        worst = rows[:6]
        figure, axes = plt.subplots(3, len(worst), figsize=(2.1 * len(worst) + 0.4, 6.6), squeeze=False)
        for column, (share, sample, said) in enumerate(worst):
            wanted = (660, 560, 490)
            show = [int(np.argmin([abs(band.centre_nm - centre) for band in sample.bands])) for centre in wanted]
            rgb = np.nan_to_num(sample.image[show].astype(np.float32)).transpose(1, 2, 0)
            cloud = (sample.sets != 0) & (sample.sets & ~np.uint8(lab.CLOUD) == 0)
            found = np.isin(said.classes, (1, 2))
            judged = cloud | ((sample.sets != 0) & (sample.sets & np.uint8(lab.CLOUD) == 0))
            codes = np.where(judged, cloud * found + 2 * (~cloud & found) + 3 * (cloud & ~found), 0)
            axes[0, column].imshow(np.clip(rgb / max(0.3, float(np.percentile(rgb, 98))), 0, 1))
            axes[1, column].imshow(codes, cmap=ListedColormap(list(colours.values())), vmin=0, vmax=3)
            axes[2, column].imshow(said.uncertainty, cmap="magma", vmin=0, vmax=1)
            axes[0, column].set_title(f"{sample.name[:16]}\n{share:.0%} confused", fontsize=8)
        for axis in axes.ravel():
            axis.set_xticks([])
            axis.set_yticks([])
        for axis, text in zip(axes[:, 0], ("image", "cloud", "uncertainty"), strict=True):
            axis.set_ylabel(text)
        patches = [Patch(facecolor=colour, edgecolor="black", label=name) for name, colour in colours.items()]
        figure.legend(handles=patches, loc="lower center", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0.04, 1, 1))
        figure.savefig(folder / f"default-worst-{title.split()[0]}.png", dpi=60)
        plt.close(figure)


def figures(rows: Sequence[dict[str, Counts]]) -> dict[str, Any]:
    """Pooled figures with intervals."""
    out: dict[str, Any] = {}
    for question, name, figure in (
        ("cloud", "cloud IoU", iou),
        ("cloud", "cloud BA", balanced),
        ("shadow", "shadow IoU", iou),
        ("thick", "thin/thick BA", balanced),
    ):
        there = [row[question] for row in rows if question in row]
        if there:
            value = figure(np.sum(there, axis=0))
            if np.isfinite(value):
                out[name] = {"value": round(value, 4), "interval": interval(there, figure)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of the networks of the folds")
    parser.add_argument("--seeds", type=Path, nargs="*", default=[], help="the same of further trainings")
    parser.add_argument("--buffer", type=int, default=0, help="pixels that every contestant's clouds are grown by")
    parser.add_argument("--peer", action="store_true", help="measure ukis-csmask on the same pixels too")
    parser.add_argument("--json", type=Path, help="also write the figures as JSON")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the worst images of every set")
    parser.add_argument("--card", type=Path, help="write our figures into this model card")
    arguments = parser.parse_args()
    report = measure(arguments.data, arguments.models, arguments.seeds, arguments.peer, arguments.buffer)
    for title, part in report.items():
        print(f"\n### {title}: {part['images']} images, ", end="")
        print(f"calibration error of cloud probability {part['calibration error of cloud probability']:.3f}\n")
        columns = ("cloud IoU", "cloud BA", "shadow IoU", "thin/thick BA")
        print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
        for name, row in part["results"].items():
            cells = []
            for column in columns:
                cell = row.get(column)
                span = cell and cell["interval"]
                text = f"{cell['value']:.3f}" if cell else "-"
                cells.append(text + (f" ({span[0]:.2f}-{span[1]:.2f})" if span else ""))
            print(f"| {name} | " + " | ".join(cells) + " |")
        doubt = part["uncertainty"]
        tenths = " ".join(f"{100 * share:.1f}" for share in doubt["confused by tenth, surest first"])
        print(f"\nconfused, % by tenth of uncertainty, surest first: {tenths}")
        rest = doubt["right without the least sure tenth"]
        print(f"right {doubt['right']:.3f}, without the least sure tenth {rest:.3f}")
    if arguments.pictures:
        pictures(arguments.data, arguments.models, arguments.pictures)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2, default=lambda value: None) + "\n", encoding="utf-8")
    if arguments.card:
        card = ModelCard.load(arguments.card)
        card.model_copy(update={"figures": card_figures(report)}).save(arguments.card)


def card_figures(report: dict[str, Any]) -> tuple[Figure, ...]:
    """Our figures as a model card holds them."""
    out = []
    for title, part in report.items():
        error = part["calibration error of cloud probability"]
        out.append(Figure(data=title, metric="calibration error of cloud", value=error, images=part["images"]))
        for name, row in part["results"].items():
            if name.removeprefix("unclouded, ") in SUBSETS:
                for metric, cell in row.items():
                    span = cell["interval"]
                    note = f"bands: {name.removeprefix('unclouded, ')}"
                    note += f"; 95 % interval over scenes {span[0]:.2f} to {span[1]:.2f}" if span else ""
                    figure = Figure(data=title, metric=metric, value=cell["value"], images=part["images"], note=note)
                    out.append(figure)
    return tuple(out)


if __name__ == "__main__":
    main()
