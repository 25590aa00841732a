"""Every protocol of the papers trains a step at toy size, on fake copies of its data sets."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from unclouded.data import sets
from unclouded.train.config_file import make_config, protocols, read_config
from unclouded.train.run import fit

SEGFORMER = {
    "depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16,
}  # fmt: skip
SMALL = {
    "mscloudcam": {"embed": 24, "depths": [1] * 4, "heads": [1, 1, 2, 2], "pretrained": False},
    "senseiv2-segformer-b2": {"segmenter_options": SEGFORMER},
    "cloudmamba": {"width": 4, "cap": 8, "levels": 2, "preset": "tiny"},
    "unet-mobilenetv2": {"pretrained": False},
    "slots-unet": {"widths": [8, 8]},
    **{
        name: {"widths": [8, 16], "blocks": [1, 1], "low": 0}
        for name in ("mmcanet", "mmcanet-l", "mpir1", "mpir2", "mpir3", "mpir4")
    },
}


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fake copies of all data sets that protocols name."""
    root = tmp_path_factory.mktemp("fakes")
    named = {part.name for name in protocols() for part in read_config(name).data} - {"simulated"}
    for name in named:
        sets.get(name).make_fake(root / name)
    for packed in (root / "gf1_whu").glob("*.tar.gz"):  # windows are read from unpacked scenes
        shutil.unpack_archive(packed, packed.parent, filter="data")
        packed.unlink()
    return {name: str(root / name) for name in named}


@pytest.mark.slow
@pytest.mark.parametrize("name", protocols())
def test_a_protocol_trains_on_its_data_sets(name: str, fakes: dict[str, str], tmp_path: Path) -> None:
    values = yaml.safe_load(read_config(name).dump())
    if values["model"]["name"] not in ("slots-unet", "cloudmamba", "mscloudcam") and "mpir" not in name:
        pytest.importorskip("segmentation_models_pytorch")
        assert find_spec("transformers")
    values["model"]["options"] |= SMALL[values["model"]["name"]]
    if values["model"]["start"]:
        base = _toy(yaml.safe_load(read_config("cloudmamba-base").dump()), fakes, tmp_path / "base")
        base["model"]["options"] |= SMALL["cloudmamba"]
        values["model"]["start"] = str(fit(make_config(base)).folder)
    config = make_config(_toy(values, fakes, tmp_path / "run"))
    run = fit(config)
    assert [row["step"] for row in run.log()] == [1]
    assert run.log()[0]["train loss"] >= 0
    assert (run.folder / "best.pt").exists() or config.select != "loss"


def _toy(values: dict, fakes: dict[str, str], output: Path) -> dict:
    """One step on few images and small patches; all else as the protocol says."""
    for part in values["data"]:
        part["limit"], part["choose_share"] = 3, 0.4
        if part["name"] == "simulated":
            part["options"] = {"images": 4, "choose": 1, "size": 96}
        for key in ("patch", "stride"):
            if key in part["options"]:
                part["options"][key] = 32
    values["patch"]["size"] = 64 if values["task"] == "removal" else 32
    values |= {"roots": fakes, "batch": 2, "epochs": None, "steps": 1, "threads": 1, "accelerator": "cpu"}
    return values | {"pictures": 1, "output": str(output)}
