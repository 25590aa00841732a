"""Calibration, cards and export of runs, and that their models mask scenes; the commands of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from unclouded import sensors
from unclouded.classes import SEVEN
from unclouded.errors import InputError, ModelError
from unclouded.infer.runner import load_runner
from unclouded.models.card import ModelCard
from unclouded.train.finish import calibrate, calibration_of, card_of, export_run
from unclouded.train.run import Run, fit, load_run
from unclouded.train.targets import SCHEMES

DATA = [{"name": "simulated", "options": {"images": 8, "choose": 3, "size": 32}}]
MAMBA = {"name": "cloudmamba", "options": {"width": 4, "cap": 8, "levels": 2, "mamba": "none", "classes": 1}}


def test_calibration_minimises_the_loss_of_the_images_for_model_choice(tiny) -> None:
    run = fit(tiny(data=DATA, batch=1, epochs=8, optimiser={"rate": 1e-2}))
    assert calibration_of(run) == {}
    found = calibrate(run)
    assert set(found) == {"toa", "default"}
    assert calibration_of(run) == found
    net, patches = run.network(), run.patches()
    batches = [batch for item in patches.judged for batch in patches.patches_of(item)]

    def loss(temperature: float) -> float:
        total = 0.0
        for batch in batches:
            with torch.no_grad():
                p = (net(batch.image, batch.beside) / temperature).softmax(dim=1)
            possible = (batch.target[:, None] >> torch.arange(7)[:, None, None]) & 1
            known = batch.target != 0
            total -= float(((p * possible).sum(dim=1)[known]).log().mean())
        return total

    best = found["toa"].temperature
    assert loss(best) < min(loss(best * 1.3), loss(best / 1.3))


def test_a_sensor_independent_run_becomes_a_model(tiny, tmp_path: Path) -> None:
    run = fit(tiny(data=DATA, title="A test", patch={"size": 32, "ground_m": [15, 40]}))
    calibrate(run)
    card = export_run(run, tmp_path / "model", name="test", licence="CC0-1.0")
    assert (card.front_end, card.classes, card.grid_m, card.coarsest_m) == ("slots", SEVEN, 15.0, 40.0)
    assert card.licence == "CC0-1.0"
    assert card.training[0].labels == "simulated"
    assert card.training[0].images == 8
    assert card.calibration == calibration_of(run)
    assert {figure.metric for figure in card.figures} >= {"mean IoU", "cloud IoU"}
    assert ModelCard.load(tmp_path / "model/test.json") == card
    batch = run.patches().draw(0, 0)
    logits = load_runner(tmp_path / "model").run(batch.image.numpy(), batch.beside.numpy())
    with torch.no_grad():
        expected = run.network()(batch.image, batch.beside).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_a_run_with_fixed_bands_carries_their_scaling(tiny, tmp_path: Path) -> None:
    run = fit(
        tiny(data=DATA, epochs=1, model=MAMBA, classes="cloud", bands=["nir08", "red", "green"],
             loss={"kind": "cloudmamba"}, normalise={"mode": "percentile"})
    )  # fmt: skip
    calibrate(run)
    card = export_run(run, tmp_path / "model")
    assert card.name == "run"
    assert [band.name for band in card.bands] == ["B8A", "B04", "B03"]
    assert card.classes == ("cloud",)
    assert card.scaling.mode == "percentile"
    assert card.scaling.low == run.normalisers.common.low
    assert len(card.scaling.high) == 3
    session = onnxruntime.InferenceSession(tmp_path / "model/run.onnx")
    assert session.get_inputs()[0].shape[1] in (3, "b")


def test_the_exported_model_masks_an_array(tiny, tmp_path: Path) -> None:
    import unclouded

    run = fit(
        tiny(data=DATA, epochs=1, model=MAMBA | {"options": {**MAMBA["options"], "classes": 4}}, classes="four",
             bands=["B02", "B03", "B04", "B8A"], loss={"outputs": {"coarse": 1.0, "refined": 1.0}},
             normalise={"mode": "standardise"})
    )  # fmt: skip
    export_run(run, tmp_path / "model")
    sample = run.patches().sources[0].data.read(run.patches().judged[0].record)
    names = [band.name for band in sensors.bands_of("sentinel2-l1c")]
    image, model = np.tile(sample.image, (1, 3, 3)), str(tmp_path / "model")
    found = unclouded.predict(image, names, sensor="sentinel2-l1c", model=model, resolution_m=20.0)
    classes = np.asarray(getattr(found, "classes", found))
    assert classes.shape[-2:] == (96, 96)
    assert set(np.unique(classes)) <= {0, 1, 2, 3}


def test_a_scene_scaling_says_so(tiny) -> None:
    run = fit(
        tiny(data=DATA, epochs=1, model=MAMBA, classes="cloud", bands=["red"], loss={"kind": "cloudmamba"},
             normalise={"mode": "percentile", "scope": "scene"})
    )  # fmt: skip
    card = card_of(run, "x")
    assert (card.scaling.scope, card.scaling.low) == ("scene", ())
    assert len(load_run(run.folder).normalisers.scenes) == 11


def test_a_removal_run_has_no_probabilities(tiny, tmp_path: Path) -> None:
    small = {"widths": [4, 8], "blocks": [1, 1], "low": 0, "decoder_blocks": 1}
    run = fit(
        tiny(data=DATA, epochs=1, task="removal", model={"name": "mmcanet", "options": small}, sar=False,
             bands=["B04", "B03", "B02"], loss={"kind": "l1-ssim"}, select="PSNR", pictures=1)
    )  # fmt: skip
    assert run.log()[0]["PSNR"] > 0
    with pytest.raises(InputError, match="give no probabilities"):
        calibrate(run)
    card = card_of(run, "x")
    assert (card.task, card.classes, card.sar) == ("removal", (), ())
    assert [band.name for band in card.bands] == ["B04", "B03", "B02"]


def test_bands_that_a_card_cannot_describe_are_told(tiny) -> None:
    run = fit(tiny(data=DATA, epochs=1, model=MAMBA, classes="cloud", bands=["red"], loss={"kind": "cloudmamba"}))
    run.facts["bands"][0]["kind"] = "thermal"
    with pytest.raises(ModelError, match="a band of kind 'thermal'"):
        card_of(run, "x")


def test_nothing_pretrained_is_fetched_for_weights_from_a_file(tiny) -> None:
    run = fit(tiny(data=DATA, epochs=1))
    other = Run(**{**vars(run), "options": {**run.options, "pretrained": True}})
    assert "pretrained" not in card_of(other, "x").options


def test_the_commands(tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unclouded.cli import main

    def call(*words: str) -> tuple[int, list[dict]]:
        with pytest.raises(SystemExit) as left:
            main([*words, "--json"])
        return int(left.value.code or 0), [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    path = tmp_path / "run.yaml"
    path.write_text(tiny(data=DATA).dump(), encoding="utf-8")
    out = str(tmp_path / "out")
    code, (shown,) = call("train", "-c", str(path), "--set", "epochs=1", "-o", out, "--data", "x=y", "--dry-run")
    assert (code, shown["epochs"], shown["output"], shown["roots"]) == (0, 1, out, {"x": "y"})
    assert not Path(out).exists()
    code, (done,) = call("train", "-c", str(path), "--set", "epochs=1", "-o", out)
    assert (code, done["status"], done["epoch"]) == (0, "done", 1)
    assert call("train", "-c", str(path), "--set", "epochs=1", "-o", out) == (1, [])
    code, (again,) = call("train", "-c", str(path), "--set", "epochs=1", "-o", out, "--resume")
    assert (code, again["step"]) == (0, done["step"])
    code, levels = call("calibrate", out)
    assert (code, [one["level"] for one in levels]) == (0, ["toa", "default"])
    code, (exported,) = call("export", out, "-o", str(tmp_path / "model"), "--name", "mine")
    assert (code, exported["name"]) == (0, "mine")
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"mine.json", "mine.onnx", "mine.safetensors"}
    assert call("train", "-c", str(path), "--set", "epoch=1") == (3, [])
    assert call("train", "-c", str(path), "--data", "nothing")[0] == 2
    code, listed = call("train", "--list")
    assert code == 0
    assert "mscloudcam" in {one["name"] for one in listed}
    assert call("calibrate", str(tmp_path / "model")) == (3, [])


def test_schemes_have_names_that_cards_know() -> None:
    from unclouded.classes import OUTPUT_OF

    for scheme in SCHEMES.values():
        assert set(scheme.names) <= set(OUTPUT_OF)
