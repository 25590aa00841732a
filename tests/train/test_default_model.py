"""The last step of the default model: every image is judged with a calibration that has not seen its quarter."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from safetensors.torch import load_file  # noqa: E402

from unclouded import models  # noqa: E402
from unclouded.data import labels as lab  # noqa: E402
from unclouded.data.default_corpus import FOLDS, OLI  # noqa: E402
from unclouded.data.sample import Sample  # noqa: E402
from unclouded.models.card import ModelCard  # noqa: E402
from unclouded.train import default_model  # noqa: E402
from unclouded.train.scores import predict_sample  # noqa: E402

BANDS = tuple(OLI[name] for name in ("B2", "B3", "B4", "B5"))


def labelled(number: int) -> Sample:
    rng = np.random.default_rng(number)
    image = rng.uniform(0.02, 0.3, (len(BANDS), 64, 64)).astype(np.float32)
    image[:, 10:40, 10:40] += 0.5
    sets = np.full((64, 64), lab.CLEAR, np.uint8)
    sets[10:40, 10:40] = lab.THICK
    name, split = f"image{number}", f"fold{number % FOLDS}"
    return Sample(name, "l8biome", name, split, image, sets, BANDS, 30.0, "toa")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of a tiny network."""
    monkeypatch.setattr(default_model, "OPTIONS", {"widths": (8, 8, 8, 8)})
    with (tmp_path / "corpus.pickle").open("wb") as stream:
        pickle.dump([labelled(number) for number in range(6)], stream)
    (tmp_path / "base-1").mkdir()
    net = models.create(default_model.ARCHITECTURE, **default_model.OPTIONS)
    torch.save({"mean": net.state_dict()}, tmp_path / "base-1" / "last.pt")
    return tmp_path


def test_a_quarter_is_judged_with_a_calibration_from_the_others(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[set[str]] = []
    original = default_model.fit_calibration

    def noted(samples: list[Sample], logits: list[np.ndarray]) -> Any:
        used.append({sample.name for sample in samples})
        for sample, values in zip(samples, logits, strict=True):
            np.testing.assert_array_equal(values, predict_sample(net, sample))
        return original(samples, logits)

    net = default_model.network(work, 1)
    monkeypatch.setattr(default_model, "fit_calibration", noted)
    default_model.main(["finish", "--work", str(work), "--out", str(tmp_path / "out")], standalone_mode=False)
    everything = {f"image{number}" for number in range(6)}
    parts = [{name for name in everything if int(name[-1]) % FOLDS != fold} for fold in range(FOLDS)]
    assert used == [*parts, everything]
    for folder, name in ((tmp_path / "out", "default"), *((work / "models-1", f"fold{fold}") for fold in range(FOLDS))):
        shipped = load_file(folder / f"{name}.safetensors")
        assert all(torch.equal(value, shipped[key]) for key, value in net.state_dict().items())
        assert ModelCard.load(folder / f"{name}.json").calibration
