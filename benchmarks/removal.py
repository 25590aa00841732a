"""How well hidden ground is rebuilt: the default removal model against simpler ways, on places it has never seen.

    python benchmarks/removal.py --work runs/removal [--model removal.onnx] [--pictures docs/images]

Real test: cloudy and clear dates of the places held out by ``unclouded.train.removal_pairs.SPLIT``. Weeks may lie
between both dates, and the ground changes; no method can know that. Simulated test: clouds drawn over the clear dates
of the same places, where the truth is exact. ``runs/removal`` is what ``unclouded.train.default_removal`` made. What
radar and other dates are worth is told by removal_series.py.

Pixels that a mask calls clear are never touched, so every method equals the input there. Intervals are bootstraps over
places; with so few places they are wide, and a difference inside them means nothing.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from unclouded import predict
from unclouded.errors import UncloudedWarning
from unclouded.image_metrics import mae, psnr, spectral_angle, ssim
from unclouded.infer.baselines import biharmonic
from unclouded.infer.onnx_runner import OnnxRunner
from unclouded.models.card import ModelCard
from unclouded.models.fill_unet import MEAN, STD, fill
from unclouded.simulate.clouds import simulate_clouds
from unclouded.train.default_removal import grounds, network
from unclouded.train.removal_grounds import BANDS, Ground
from unclouded.train.removal_pairs import as_inputs

RED, NIR = 3, 7
TESTS = ("real", "simulated")
WEIGHTS = Path("src/unclouded/weights/removal.onnx")
COVERS = (0.3, 0.7)
LEAST_CLEAR = 0.01
"""Share of an image that has to be clear for its clear pixels to be compared with the clear date."""

MASKED = ("input unchanged", "default")
"""Methods whose result is masked again."""

Array = np.ndarray
Case = tuple[str, str, Array, Array, Array, Array | None]
"""Name, place, clear image, cloudy image, classes, radar."""


class Methods:
    """Every way to rebuild, by name; each takes a case and returns the image and, where it tells it, its error."""

    def __init__(self, model: Path, work: Path) -> None:
        self.runner = OnnxRunner(ModelCard.load(model.with_suffix(".json")), model, 1)
        self.dsen2cr, self.steps = network(work, "dsen2cr", 1)

    def all(self) -> dict[str, Callable[[Case], tuple[Array, Array | None]]]:
        return {
            "input unchanged": lambda case: (np.nan_to_num(case[3]), None),
            "inpainting (pull-push)": self._filled,
            "inpainting (biharmonic)": self._biharmonic,
            "DSen2-CR, same data": self._dsen2cr,
            "default, without radar": lambda case: self._default(case, radar=False),
            "default": self._default,
        }

    def _filled(self, case: Case) -> tuple[Array, None]:
        image, _, marks = as_inputs(case[3], case[4], None)
        mean, std = (torch.tensor(part).view(1, -1, 1, 1) for part in (MEAN, STD))
        scaled, known = (torch.from_numpy(image)[None] - mean) / std, 1 - torch.from_numpy(marks[None, :1])
        found = (fill(scaled * known, known) * std + mean)[0].numpy()
        return np.where(marks[0] > 0, found, image), None

    def _biharmonic(self, case: Case) -> tuple[Array, None]:
        image, _, marks = as_inputs(case[3], case[4], None)
        none = np.zeros((0, *image.shape), np.float32), np.zeros((0, *image.shape[1:]), bool)
        return biharmonic(image, marks[0] > 0, *none), None

    def _dsen2cr(self, case: Case) -> tuple[Array, None]:
        image, radar, marks = as_inputs(case[3], case[4], case[5])
        with torch.no_grad():
            found = self.dsen2cr(torch.from_numpy(image)[None], torch.from_numpy(radar)[None])[0].numpy()
        return np.where(marks[0] > 0, found, image), None

    def _default(self, case: Case, radar: bool = True) -> tuple[Array, Array]:
        image, sar, marks = as_inputs(case[3], case[4], case[5] if radar else None)
        found, log_scale = self.runner.restore(image[None], sar[None], marks[None])
        assert log_scale is not None
        told = self.runner.card.expected_error
        error = np.exp(log_scale[0, 0]) * (told.factor if told else 1.0)
        return np.where(marks[0] > 0, found[0], image), error


def real_cases(places: Sequence[Ground]) -> list[Case]:
    return [
        (one.name, one.place, one.clear.astype(np.float32), one.cloudy.astype(np.float32), one.classes, one.sar)
        for one in places
        if one.split == "test" and one.cloudy is not None and one.classes is not None and not one.changed
    ]


def simulated_cases(places: Sequence[Ground]) -> list[Case]:
    out = []
    for number, one in enumerate(one for one in places if one.split == "test" and not one.changed):
        for draw, cover in enumerate(COVERS):
            clear = one.clear.astype(np.float32)
            sky = simulate_clouds(clear, BANDS, resolution_m=10.0, seed=1000 + 10 * number + draw, cover=cover)
            out.append((f"{one.name}-{draw}", one.place, clear, sky.image, sky.classes, one.sar))
    return out


def hidden_of(case: Case) -> Array:
    known = np.isfinite(case[2]).all(axis=0) & np.isfinite(case[3]).all(axis=0)
    return (as_inputs(case[3], case[4], None)[2][0] > 0) & known


def ndvi(image: Array) -> Array:
    return (image[NIR] - image[RED]) / np.maximum(image[NIR] + image[RED], 0.02)


def measured(case: Case, image: Array) -> dict[str, float]:
    clear, hidden = np.clip(case[2], 0, 1), hidden_of(case)
    image = np.clip(image, 0, 1)
    row = {
        "psnr all": psnr(image, clear), "ssim all": ssim(image, clear), "mae all": mae(image, clear),
        "sam all": spectral_angle(image, clear), "psnr cloudy": psnr(image, clear, hidden),
        "mae cloudy": mae(image, clear, hidden), "sam cloudy": spectral_angle(image, clear, hidden),
        "ndvi cloudy": float(np.abs(ndvi(image) - ndvi(clear))[hidden].mean()),
    }  # fmt: skip
    kept = ~hidden & np.isfinite(case[2]).all(axis=0)
    if kept.mean() > LEAST_CLEAR:
        row |= {"psnr clear": psnr(image, clear, kept), "sam clear": spectral_angle(image, clear, kept)}
    return row


def run(cases: Sequence[Case], methods: Methods) -> tuple[dict[str, list[dict]], dict[str, float]]:
    rows: dict[str, list[dict]] = defaultdict(list)
    errors, told = [], []
    for case in cases:
        hidden = hidden_of(case)
        if not hidden.any():
            continue
        for name, method in methods.all().items():
            if case[5] is None and name == "default, without radar":
                continue  # the same as the default
            image, expected = method(case)
            row = measured(case, image)
            if name in MASKED:
                found = predict(image, [band.name for band in BANDS], sensor="sentinel2-l1c").classes
                row["still hidden"] = float(np.isin(found, (1, 2, 3)).mean())
            rows[name].append({"name": case[0], "place": case[1], "radar": case[5] is not None, **row})
            if name == "default" and expected is not None:
                errors.append(np.abs(image - case[2]).mean(axis=0)[hidden])
                told.append(expected[hidden])
    error, expected = np.concatenate(errors), np.concatenate(told)
    keep = expected <= np.quantile(expected, 0.8)
    sure = {
        "mae": float(error.mean()),
        "expected": float(expected.mean()),
        "mae of the surest 80 %": float(error[keep].mean()),
        "lowered by": float(1 - error[keep].mean() / error.mean()),
        "lowered by a perfect ranking": float(1 - error[error <= np.quantile(error, 0.8)].mean() / error.mean()),
        "rank correlation": float(np.corrcoef(ranks(error), ranks(expected))[0, 1]),
    }
    return dict(rows), sure


def ranks(values: Array) -> Array:
    return np.argsort(np.argsort(values))


def interval(rows: Sequence[dict], key: str, base: Sequence[dict] | None = None) -> tuple[float, float, float]:
    """Mean, and 95 % of the bootstrap over places; of the difference to ``base`` where that is given."""
    other = {row["name"]: row[key] for row in base} if base is not None else {}
    by_place: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if key in row and (base is None or row["name"] in other):
            by_place[row["place"]].append(row[key] - other.get(row["name"], 0.0))
    groups = [np.array(values) for values in by_place.values()]
    rng = np.random.default_rng(0)
    means = [
        np.concatenate([groups[index] for index in rng.integers(len(groups), size=len(groups))]).mean()
        for _ in range(2000)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.concatenate(groups).mean()), float(low), float(high)


def table(rows: dict[str, list[dict]]) -> str:
    keys = ("psnr all", "ssim all", "psnr cloudy", "mae cloudy", "sam cloudy", "ndvi cloudy", "still hidden")
    lines = ["| method | " + " | ".join(keys) + " |", "|" + " --- |" * (len(keys) + 1)]
    for name, found in rows.items():
        cells = []
        for key in keys:
            if not any(key in row for row in found):
                cells.append("")
                continue
            mean, low, high = interval(found, key)
            digits = 1 if "psnr" in key or "sam" in key else 3
            cells.append(f"{mean:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pictures(cases: Sequence[Case], methods: Methods, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    titles = ["cloudy date", "inpainting", "DSen2-CR", "default model", "expected error", "clear date"]
    figure, axes = plt.subplots(len(cases), len(titles), figsize=(2.2 * len(titles), 2.3 * len(cases)), squeeze=False)
    ways = methods.all()
    for axis_row, case in zip(axes, cases, strict=True):
        shown = [case[3], *(ways[key](case)[0] for key in ("inpainting (pull-push)", "DSen2-CR, same data"))]
        image, error = ways["default"](case)
        shown += [image, np.where(hidden_of(case), error, 0), case[2]]
        white = float(np.nanpercentile(case[2][1:4], 99)) * 1.15
        for axis, picture, title in zip(axis_row, shown, titles, strict=True):
            if picture.ndim == 2:
                axis.imshow(picture, vmin=0, vmax=0.08, cmap="magma")
            else:
                axis.imshow(np.clip(np.nan_to_num(picture[[3, 2, 1]].transpose(1, 2, 0)) / white, 0, 1))
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


@click.command()
@click.option("--work", type=click.Path(exists=True, path_type=Path), default=Path("runs/removal"))
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=WEIGHTS)
@click.option("--pictures", "folder", type=click.Path(path_type=Path))
@click.option("--test", "tests", multiple=True, type=click.Choice(TESTS), default=TESTS, help="Default: both.")
def main(work: Path, model: Path, folder: Path | None, tests: tuple[str, ...]) -> None:
    """Measure, print tables, and write removal.json below WORK."""
    warnings.simplefilter("ignore", UncloudedWarning)
    torch.set_num_threads(1)
    places = grounds(work)
    methods = Methods(model, work)
    out = {}
    click.echo(f"DSen2-CR after {methods.steps} steps")
    for title, make in (("real", real_cases), ("simulated", simulated_cases)):
        if title not in tests:
            continue
        cases = make(places)
        rows, sure = run(cases, methods)
        out[title] = {"rows": rows, "uncertainty": sure}
        click.echo(f"\n{title}: {len(cases)} images of {len({case[1] for case in cases})} places\n\n{table(rows)}\n")
        untouched = [row for row in rows["input unchanged"] if "psnr clear" in row]
        told = [
            f"{one} {interval(untouched, f'{key} clear')[0]:.1f} {unit}" for one, key, unit in
            (("PSNR", "psnr", "dB"), ("SAM", "sam", "degrees"))
        ]  # fmt: skip
        click.echo(f"pixels that both show, untouched, {len(untouched)} images: {', '.join(told)}")
        click.echo("uncertainty: " + ", ".join(f"{key} {value:.4f}" for key, value in sure.items()))
        for name in rows:
            if name != "default":
                for key in ("psnr all", "psnr cloudy", "sam cloudy"):
                    mean, low, high = interval(rows["default"], key, rows[name])
                    click.echo(f"default minus {name}, {key}: {mean:+.2f} ({low:+.2f}, {high:+.2f})")
        if folder is not None:
            pictures([case for case in cases if case[5] is not None][:5], methods, folder / f"removal-{title}.jpg")
    (work / "removal.json").write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
