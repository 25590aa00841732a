"""Pictures of an evaluation: confusion, reliability, error maps, models side by side, CloudMamba's stages.

Needs matplotlib, the extra ``plot``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.sample import Sample
from ..errors import MissingDependencyError
from ..write.quicklook import colour_bands
from .evaluate import MaskEvaluation
from .evaluate_judge import JUDGED, judged_codes, translation
from .evaluate_models import Contestant, Said
from .evaluate_removal import Restored
from .targets import IGNORED

COLOURS: dict[str, tuple[float, float, float]] = {
    "clear": (0.82, 0.88, 0.80), "land": (0.72, 0.80, 0.62), "water": (0.45, 0.62, 0.80), "snow": (0.88, 0.90, 0.98),
    "thick": (0.90, 0.62, 0.00), "cloud": (0.90, 0.62, 0.00), "thin": (0.34, 0.71, 0.91), "shadow": (0.45, 0.25, 0.50),
}  # fmt: skip
"""Okabe and Ito's colours for cloud and thin cloud; those of the ground are pale."""

_MISSING = (0.15, 0.15, 0.15)
_RIGHT, _MISSED, _FALSE = (0.90, 0.90, 0.90), (0.84, 0.37, 0.00), (0.00, 0.45, 0.70)


def confusion_plot(evaluation: MaskEvaluation, path: Path) -> Path:
    """Draw how often each class was taken for each other, as share of the true class, into a PNG file."""
    table, names = evaluation.table().astype(np.float64), evaluation.classes
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    figure, grid = _grid(1, 1, 1.0 + 0.9 * len(names), 0.8 + 0.8 * len(names))
    axes = grid[0, 0]
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row in range(len(names)):
        for column in range(len(names)):
            dark = share[row, column] > 0.55
            axes.text(column, row, f"{100 * share[row, column]:.1f}", ha="center", va="center",
                      color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="prediction", ylabel="label", title=f"{evaluation.name}, % of the label's pixels")
    return _saved(figure, path)


def reliability_plot(evaluations: Sequence[MaskEvaluation], path: Path) -> Path:
    """Draw confidence against accuracy of every contestant with probabilities into a PNG file."""
    figure, grid = _grid(1, 1, 4.5, 4.2)
    axes = grid[0, 0]
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for one in evaluations:
        found = one.reliability()
        if np.isnan(found["error"]):
            continue
        axes.plot(found["confidence"], found["accuracy"], marker="o", markersize=3,
                  label=f"{one.name}, calibration error {found['error']:.3f}")  # fmt: skip
    axes.set(xlabel="confidence", ylabel="share of right pixels", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=7, loc="upper left")
    return _saved(figure, path)


def panels(
    sample: Sample, said: Mapping[str, Said], contestants: Sequence[Contestant], classes: str, path: Path
) -> Path:
    """Draw one image, its label, and every contestant's mask with its errors below, into a PNG file."""
    scheme = JUDGED[classes]
    truth = scheme.index(sample.sets)
    figure, axes = _grid(2, 2 + len(contestants), 2.4 * (2 + len(contestants)), 5.0)
    _show(axes[0, 0], true_colour(sample), "image")
    _show(axes[0, 1], coloured(truth, scheme.names), "label")
    for column, one in enumerate(contestants, start=2):
        places = translation(one.scheme, scheme)
        codes, _ = judged_codes(said[one.name], places, len(scheme.names))
        _show(axes[0, column], coloured(codes, scheme.names), one.name)
        _show(axes[1, column], error_map(truth, codes, scheme.cloud_groups()), "errors")
    from matplotlib.patches import Patch

    axes[1, 0].legend(handles=[Patch(color=COLOURS[name], label=name) for name in scheme.names], loc="upper left")
    named = (("cloud missed", _MISSED), ("cloud invented", _FALSE), ("other error", (0.8, 0.6, 0.7)), ("right", _RIGHT))
    axes[1, 1].legend(handles=[Patch(color=colour, label=name) for name, colour in named], loc="upper left")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(sample.name, fontsize=9)
    return _saved(figure, path)


def stages_plot(sample: Sample, said: Said, path: Path) -> Path | None:
    """Draw CloudMamba's coarse probability, uncertainty, acceptance, refined and fused maps; None without these."""
    if not said.maps:
        return None
    figure, grid = _grid(1, 1 + len(said.maps), 2.4 * (1 + len(said.maps)), 2.7)
    axes = grid[0]
    _show(axes[0], true_colour(sample), "image")
    for axis, (name, values) in zip(axes[1:], said.maps.items(), strict=True):
        axis.imshow(values, vmin=0, vmax=1, cmap="magma" if name == "uncertainty" else "gray")
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    return _saved(figure, path)


def removal_plot(made: Mapping[str, Sequence[Restored]], path: Path) -> Path:
    """Draw a cloudy patch, what every network made of it, and the clear one, into a PNG file."""
    first = next(iter(made.values()))[0]
    shown = {"cloudy": first.cloudy, **{name: parts[0].restored for name, parts in made.items()}, "clear": first.clear}
    figure, axes = _grid(1, len(shown), 2.4 * len(shown), 2.7)
    for axis, (name, image) in zip(axes[0], shown.items(), strict=True):
        rows = [min(row, len(image) - 1) for row in range(3)]
        _show(axis, np.clip(np.moveaxis(image[rows], 0, -1) / 0.3, 0, 1), name)
    return _saved(figure, path)


def coloured(codes: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float64]:
    """Class codes as colours, (y, x, 3)."""
    table = np.full((256, 3), _MISSING)
    table[: len(names)] = [COLOURS[name] for name in names]
    return table[codes]


def error_map(
    truth: NDArray[np.uint8], codes: NDArray[np.uint8], cloud: Sequence[int]
) -> NDArray[np.float64]:
    """Right, cloud missed, cloud invented and other errors as colours, (y, x, 3); dark where nothing is judged."""
    out = np.full((*truth.shape, 3), _MISSING)
    judged = (truth != IGNORED) & (codes != IGNORED)
    out[judged & (truth == codes)] = _RIGHT
    out[judged & (truth != codes)] = (0.8, 0.6, 0.7)
    is_cloud, found = np.isin(truth, cloud), np.isin(codes, cloud)
    out[judged & is_cloud & ~found] = _MISSED
    out[judged & ~is_cloud & found] = _FALSE
    return out


def true_colour(sample: Sample) -> NDArray[np.float32]:
    """The image in natural colours as far as its bands allow, (y, x, 3) from 0 to 1."""
    chosen = [sample.bands.index(band) for band in colour_bands(sample.bands)]
    image = np.asarray(sample.image[chosen], np.float32)
    low, high = np.nanpercentile(image, (1, 99)) if np.isfinite(image).any() else (0.0, 1.0)
    shown = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    out: NDArray[np.float32] = np.moveaxis(np.nan_to_num(shown), 0, -1)
    return out


def _show(axis: Any, image: NDArray[Any], title: str) -> None:
    axis.imshow(image)
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Any, NDArray[Any]]:
    """A figure that no window belongs to, and its axes (rows, columns)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingDependencyError.for_extra("matplotlib", "plot") from err
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _saved(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
