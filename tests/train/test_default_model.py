"""The last step of the default model: every image is judged by the network that has not seen its quarter."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

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
    """A finished run of a tiny network: five refinements with weights of their own."""
    monkeypatch.setattr(default_model, "OPTIONS", {"widths": (8, 8, 8, 8)})
    with (tmp_path / "corpus.pickle").open("wb") as stream:
        pickle.dump([labelled(number) for number in range(6)], stream)
    for seed, left_out in enumerate(("none", *map(str, range(FOLDS)))):
        torch.manual_seed(seed)
        folder = tmp_path / f"refined-1-without-{left_out}"
        folder.mkdir()
        net = models.create(default_model.ARCHITECTURE, **default_model.OPTIONS)
        torch.save({"mean": net.state_dict()}, folder / "last.pt")
    return tmp_path


def test_an_image_calibrates_through_the_network_that_has_not_seen_it(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[dict[str, np.ndarray]] = []
    original = default_model.fit_calibration

    def noted(samples: list[Sample], logits: list[np.ndarray]) -> Any:
        used.append({sample.name: values for sample, values in zip(samples, logits, strict=True)})
        return original(samples, logits)

    monkeypatch.setattr(default_model, "fit_calibration", noted)
    default_model.main(["finish", "--work", str(work), "--out", str(tmp_path / "out")], standalone_mode=False)
    everything = {f"image{number}" for number in range(6)}
    assert [set(one) for one in used] == [
        {name for name in everything if int(name[-1]) % FOLDS != fold} for fold in range(FOLDS)
    ] + [everything]
    for one in used:
        for name, values in one.items():
            sample = labelled(int(name[-1]))
            net = default_model.network(work, 1, sample.split.removeprefix("fold"))
            np.testing.assert_array_equal(values, predict_sample(net, sample))

    def weights(folder: Path, name: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(folder / f"{name}.safetensors")

    for name, left_out in (("default", "none"), *((f"fold{fold}", str(fold)) for fold in range(FOLDS))):
        folder = tmp_path / "out" if left_out == "none" else work / "models-1"
        shipped, net = weights(folder, name), default_model.network(work, 1, left_out)
        assert all(torch.equal(value, shipped[key]) for key, value in net.state_dict().items())
        assert ModelCard.load(folder / f"{name}.json").calibration
