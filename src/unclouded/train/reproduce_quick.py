"""The toy form of a reproduction: made-up copies of the data sets, tiny networks, four steps.

Its figures mean nothing; that they come out shows that the way is free.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import sets
from ..errors import InputError
from .config import DataPart, RunConfig
from .config_file import make_config
from .evaluate import Part, Test, open_test

QUICK_STEPS, QUICK_SIDE, QUICK_IMAGES = 4, 64, 2

_SIMULATED: dict[str, Any] = {"images": 0, "choose": 0, "test": QUICK_IMAGES, "size": QUICK_SIDE}

_SEGFORMER: dict[str, Any] = {
    "depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16,
}  # fmt: skip
_MASK2FORMER: dict[str, Any] = {
    "queries": 6, "hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_layers": 1,
    "decoder_layers": 3, "num_attention_heads": 2, "dim_feedforward": 32, "encoder_feedforward_dim": 32,
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "mscloudcam": {"embed": 24, "depths": [1] * 4, "heads": [1, 1, 2, 2]},
    "cloudmamba": {"width": 8, "cap": 16, "levels": 3},
    "mmcanet": {"widths": [8, 16, 32], "blocks": [1, 1, 1], "decoder_blocks": 1},
    "mpir": {"widths": [8, 16, 32], "blocks": [1, 1, 1], "decoder_blocks": 1},
    "segformer": _SEGFORMER,
    "senseiv1-segformer": {"segmenter_options": _SEGFORMER},
    "senseiv2-segformer": {"segmenter_options": _SEGFORMER},
    "senseiv1-deeplabv3plus": {"segmenter_options": {}},
    "senseiv2-deeplabv3plus": {"segmenter_options": {}},
    "mask2former-swin-t": {
        "backbone": {"depths": [1] * 4, "num_heads": [1, 1, 2, 2], "embed_dim": 16}, **_MASK2FORMER,
    },
    "mask2former-dinov2": {
        "backbone": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
        **_MASK2FORMER,
    },
}  # fmt: skip
"""Options that make a network tiny, by the beginning of its name."""


def quick_config(config: RunConfig) -> RunConfig:
    """The same training at toy size."""
    values = config.model_dump(mode="json")
    model = values["model"]
    start = max((name for name in TINY if model["name"].startswith(name)), key=len, default=None)
    kept = {key: value for key, value in model["options"].items() if key != "pretrained"}
    model["options"] = {**kept, **(TINY[start] if start else {})}
    values |= {
        "patch": {**values["patch"], "size": QUICK_SIDE, "cut": "random", "judge": "centre"},
        "batch": 2, "accumulate": 1, "steps": QUICK_STEPS, "epochs": None, "images_per_epoch": 2 * QUICK_STEPS,
        "schedule": {}, "stopping": None, "pictures": 0, "workers": 0, "threads": 1, "accelerator": "cpu",
        "data": [quick_data(part) for part in values["data"]],
    }  # fmt: skip
    return make_config(values, "the quick form")


def quick_data(part: Mapping[str, Any]) -> dict[str, Any]:
    """A data set of a configuration with few images, uncut."""
    cutting = ("patch", "stride", "edge", "empty")  # made-up scenes are smaller than a patch
    options = {key: value for key, value in part["options"].items() if key not in cutting}
    return {**part, "options": options, "limit": QUICK_IMAGES, "choose_share": 0.5}


def make_fake(name: str, folder: Path) -> None:
    """Write the made-up copy of a data set, complete or not at all; one that is there stays."""
    if not folder.exists():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        sets.get(name).make_fake(partial)
        partial.rename(folder)


def quick_test(part: DataPart, which: Part, task: str) -> Test:
    """Images of a made-up copy to judge on; other images stand in for parts and tags that the copy does not have.

    For a folder of one's own, which may hold anything, simulated Sentinel-2 scenes stand in.
    """
    if part.name == "folder":
        part, which = DataPart(name="simulated", options=_SIMULATED), "test"
    small = DataPart.model_validate({**quick_data(part.model_dump()), "choose_share": 0.0})
    whole = small.model_copy(update={"where": {}})
    reason: InputError | None = None
    for one, chosen in ((small, which), (whole, which), (whole, "all")):
        try:
            return open_test(one, chosen, task=task)
        except InputError as err:
            reason = err
    assert reason is not None
    raise reason
