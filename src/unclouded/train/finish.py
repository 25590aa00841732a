"""What follows training: calibration on images for model choice, a card, and files that ``unclouded mask`` runs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError, ModelError
from ..infer.calibrate import fit_temperature
from ..models.card import BandInput, Calibration, Figure, ModelCard, RadarInput, Scaling, TrainingSource
from ..write.atomic import write_text
from .export import export
from .patches import SAR_RANGE_DB
from .run import Run, without_download
from .targets import SCHEMES

CALIBRATION = "calibration.json"
PIXELS = 20000
"""Pixels drawn from each image, so that large images do not decide alone."""


def calibrate(run: Run, which: str = "best") -> dict[str, Calibration]:
    """Fit one temperature per radiometric level on the images for model choice, and write it into the run's folder.

    Args:
        run: a finished run.
        which: weights of the ``best`` epoch or the ``last``.

    Returns:
        Calibrations by level, and ``default`` over all levels that are reflectance.

    Raises:
        InputError: the run is one of removal, or no pixel has a label.
    """
    if run.config.task != "mask":
        raise InputError(
            "Networks that rebuild images give no probabilities.",
            expected="Masks are calibrated.",
            remedy="Leave calibration out.",
        )
    names = SCHEMES[run.config.classes].names
    net, patches = run.network(which), run.patches()
    levels = [source["level"] for source in run.facts["sources"]]
    drawn: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = defaultdict(list)
    rng = np.random.default_rng(run.config.seed)
    for item in patches.judged:
        pair = _pixels(net, patches.patches_of(item), len(names), rng)
        if pair is None:
            continue
        drawn[levels[item.source]].append(pair)
        if levels[item.source] != "counts":
            drawn["default"].append(pair)
    out = {}
    for level, pairs in drawn.items():
        logits = np.concatenate([pair[0] for pair in pairs], axis=1)
        sets = np.concatenate([pair[1] for pair in pairs], axis=1)
        out[level] = fit_temperature(logits, sets, f"{len(pairs)} images of the part 'choose'", names)
    if not out:
        raise InputError(
            "No image for model choice has a labelled pixel.",
            expected="Temperature is fitted on labelled pixels.",
            remedy="Check the labels of the data set.",
        )
    values = {level: one.model_dump(mode="json") for level, one in out.items()}
    write_text(run.folder / CALIBRATION, json.dumps(values, indent=1) + "\n", "calibration")
    return out


def calibration_of(run: Run) -> dict[str, Calibration]:
    """The run's calibration, empty if it was never calibrated."""
    path = run.folder / CALIBRATION
    if not path.exists():
        return {}
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {level: Calibration.model_validate(one) for level, one in values.items()}


def card_of(run: Run, name: str, *, version: str = "0.1.0", licence: str = "") -> ModelCard:
    """The card of a run's network: inputs, scaling, classes, data, figures, calibration.

    Args:
        run: a finished run.
        name: of the model and its files.
        version: of the model.
        licence: of the weights; empty says that it was not stated.

    Raises:
        ModelError: the network's inputs are ones that a card cannot describe.
    """
    config, facts = run.config, run.facts
    fixed = run.front_end == "fixed"
    bands = [BandInput(**{key: band[key] for key in BandInput.model_fields}) for band in _optical(facts["bands"])]
    names = SCHEMES[config.classes].names
    if config.task == "removal":
        names = ()
    elif run.options.get("classes") == 1:
        names = ("cloud",)
    ground = config.patch.ground_m
    (vv_low, vv_high), (vh_low, vh_high) = SAR_RANGE_DB
    radar = (
        RadarInput(name="vv", low_db=vv_low, high_db=vv_high),
        RadarInput(name="vh", low_db=vh_low, high_db=vh_high),
    )
    return ModelCard(
        name=name,
        title=config.title or f"{config.model.name}, trained with unclouded",
        version=version,
        architecture=config.model.name,
        options=without_download(run.options),
        task=config.task,
        front_end="bands" if fixed else run.front_end,  # type: ignore[arg-type]
        percentiles=run.descriptor > 74,
        bands=tuple(bands) if fixed else (),
        sar=radar if config.task == "removal" and config.sar else (),
        scaling=_scaling(run) if fixed else Scaling(),
        grid_m=ground[0] if ground else min(facts["gsd_m"]),
        coarsest_m=ground[1] if ground else max(facts["gsd_m"]),
        classes=names,
        calibration={} if config.task == "removal" else calibration_of(run),
        training=tuple(
            TrainingSource(
                name=source["title"],
                labels="simulated" if source["name"] == "simulated" else "human",
                images=source["images"]["train"],
                licence=source["licence"],
                use="training and model choice",
            )
            for source in facts["sources"]
        ),
        figures=_figures(run),
        licence=licence or "not stated; the training data keep their own licences",
        parameters=facts["parameters"],
    )


def export_run(
    run: Run, out: Path, *, name: str | None = None, which: str = "best", version: str = "0.1.0", licence: str = ""
) -> ModelCard:
    """Write a run's network as safetensors and ONNX with its card, checked equal to torch.

    Args:
        run: a finished run.
        out: folder for the three files.
        name: of the model; None takes the name of the run's folder.
        which: weights of the ``best`` epoch or the ``last``.
        version, licence: for the card.

    Raises:
        ModelError: ONNX and torch disagree, or a card cannot describe the network.
    """
    card = card_of(run, name or run.folder.resolve().name, version=version, licence=licence)
    return export(run.network(which), card, out)


def _pixels(
    net: torch.nn.Module, batches: Any, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Logits (k, n) and possible groups (k, n) of pixels drawn from the patches of one image, None without labels."""
    logits, masks = [], []
    for batch in batches:
        given = (batch.image,) if batch.beside is None else (batch.image, batch.beside)
        with torch.no_grad():
            found = net(*given).float()
        if found.shape[1] == 1:  # log-odds: clear has the score 0
            found = torch.cat([torch.zeros_like(found), found], dim=1)
        logits.append(found.movedim(1, 0).flatten(1).numpy())
        masks.append(batch.target.flatten().numpy())
    values, sets = np.concatenate(logits, axis=1), np.concatenate(masks)
    judged = np.flatnonzero(sets)
    if not judged.size:
        return None
    pick = rng.choice(judged, PIXELS)
    return values[:, pick], (sets[pick] >> np.arange(count, dtype=np.uint8)[:, None] & 1).astype(bool)


def _optical(bands: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    for band in bands or []:
        if band["kind"] != "optical":
            raise ModelError(
                f"The network takes '{band['name']}', a band of kind '{band['kind']}'.",
                expected="A card describes optical bands, and radar for removal.",
                remedy="Use the run's checkpoint with unclouded.train.run.load_run, or train without this band.",
            )
    return bands or []


def _scaling(run: Run) -> Scaling:
    kept = run.normalisers
    if kept.common is None:
        return Scaling(mode=kept.mode, scope="scene")  # type: ignore[arg-type]
    one = kept.common
    return Scaling(mode=kept.mode, low=one.low, high=one.high, mean=one.mean, std=one.std)  # type: ignore[arg-type]


def _figures(run: Run) -> tuple[Figure, ...]:
    """Scores of the best epoch on the images for model choice."""
    rows = run.log()
    best = max(rows, key=lambda row: _rank(run.config.select, row.get(run.config.select, math.nan)))
    images = sum(source["images"]["choose"] for source in run.facts["sources"])
    data = "part for model choice: " + ", ".join(source["title"] for source in run.facts["sources"])
    outside = ("epoch", "step", "rate", "seconds", "train loss", "loss")
    return tuple(
        Figure(data=data, metric=metric, value=value, images=images, note=f"epoch {int(best['epoch'])}")
        for metric, value in best.items()
        if metric not in outside and math.isfinite(value)
    )


def _rank(name: str, value: float) -> float:
    if math.isnan(value):
        return -math.inf
    return -value if name in ("loss", "MAE", "SAM") else value
