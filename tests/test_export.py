"""Export: what a network of fixed bands is given, in which order and scale, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import unclouded  # noqa: E402
from unclouded.errors import ModelError  # noqa: E402
from unclouded.infer.arrays import array_scene  # noqa: E402
from unclouded.infer.runner import load_runner  # noqa: E402
from unclouded.models.card import ModelCard  # noqa: E402
from unclouded.sensors import bands_of  # noqa: E402
from unclouded.train.export import export  # noqa: E402

S2 = {band.name: band for band in bands_of("sentinel2-l1c")}
ORDER = ("B11", "B02", "B8A")
CLASSES = ("shadow", "clear", "thin", "thick")
REFLECTANCE = {"B02": 0.3, "B03": 0.9, "B08": 0.7, "B8A": 0.45, "B11": 0.15}


class Mix(nn.Module):
    """Every class is a weighted sum of the bands: what comes out says what went in."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1)
        generator = torch.Generator().manual_seed(4)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image)


def card(**changes: Any) -> ModelCard:
    inputs = [
        {"name": name, "common_name": S2[name].common_name, "min_nm": S2[name].min_nm, "max_nm": S2[name].max_nm}
        for name in ORDER
    ]
    settings = {
        "name": "mix", "title": "Mix", "version": "1", "architecture": "none", "front_end": "bands", "bands": inputs,
        "classes": CLASSES, "licence": "none", "parameters": 1, "grid_m": 10.0,
    }  # fmt: skip
    return ModelCard.model_validate(settings | changes)


def scene(**values: float) -> unclouded.Scene:
    values = values or REFLECTANCE
    image = np.stack([np.full((64, 96), value, np.float32) for value in values.values()])
    image[:, 5, 7] = np.nan
    return array_scene(
        image, [S2[name] for name in values], sensor="sentinel2-l1c", level="toa", resolution_m=10.0, nodata=None
    )


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({}, (0.15, 0.3, 0.45)),
        ({"mode": "divide-3000"}, (0.5, 1.0, 1.5)),
        ({"mode": "percentile", "low": (0.1, 0.1, 0.1), "high": (0.2, 0.9, 0.3)}, (0.5, 0.25, 1.0)),
        ({"mode": "standardise", "mean": (0.1, 0.1, 0.1), "std": (0.1, 0.1, 0.5)}, (0.5, 2.0, 0.7)),
        ({"mode": "standardise", "scope": "scene"}, (0.0, 0.0, 0.0)),
    ],
)
def test_bands_arrive_in_the_networks_order_and_scale(
    tmp_path: Path, scaling: dict[str, Any], expected: tuple[float, ...]
) -> None:
    net = Mix()
    export(net, card(scaling=scaling), tmp_path)
    weight, bias = (p.detach().double().numpy() for p in (net.conv.weight[:, :, 0, 0], net.conv.bias))
    power = np.exp(weight @ np.array(expected) + bias)
    share = dict(zip(CLASSES, power / power.sum(), strict=True))
    result = unclouded.mask(scene(), model=tmp_path, tile=64, halo=0)
    found = result.probability.values
    assert np.isnan(found[:, 5, 7]).all()
    found[:, 5, 7] = found[:, 0, 0]
    wanted = np.array([share[name] for name in ("clear", "thick", "thin", "shadow")])
    np.testing.assert_allclose(found, np.broadcast_to(wanted[:, None, None], found.shape), atol=1e-5)
    assert result.classes.values[5, 7] == 255


def test_a_scene_without_a_band_of_the_network(tmp_path: Path) -> None:
    export(Mix(), card(), tmp_path)
    with pytest.raises(ModelError, match=r"no band for the model's B11 \(1541-1683 nm\)"):
        unclouded.mask(scene(B02=0.3, B8A=0.4, B04=0.2), model=tmp_path)


def test_the_card_travels_with_the_weights(tmp_path: Path) -> None:
    import onnx
    from safetensors import safe_open

    made = export(Mix(), card(), tmp_path)
    assert ModelCard.load(tmp_path / "mix.json") == made
    assert made.parameters == 16
    with safe_open(tmp_path / "mix.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["card"])["bands"][0]["name"] == "B11"
    props = {one.key: one.value for one in onnx.load(str(tmp_path / "mix.onnx")).metadata_props}
    assert json.loads(props["card"])["classes"] == list(CLASSES)


def test_without_onnx_an_older_graph_does_not_stay(tmp_path: Path) -> None:
    export(Mix(), card(), tmp_path)
    assert set(export(Mix(), card(), tmp_path, onnx=False).sha256) == {"safetensors"}
    assert not (tmp_path / "mix.onnx").exists()


class OneSize(Mix):
    any_size = False

    def forward(self, image: Tensor) -> Tensor:
        rows = int(image.shape[2])  # a constant once it is traced
        return self.conv(F.interpolate(image, (rows, rows), mode="nearest"))[..., : int(image.shape[3])]


def test_networks_of_one_size_get_tiles_of_that_size(tmp_path: Path) -> None:
    made = export(OneSize(), card(stride=28), tmp_path)
    assert made.tile == 504
    made = export(OneSize(), card(stride=28, tile=112), tmp_path)
    runner = load_runner(tmp_path, 1)
    assert runner.run(np.zeros((1, 3, 112, 112), np.float32)).shape == (1, 4, 112, 112)
    result = unclouded.mask(scene(), model=tmp_path, tile=64, halo=0)  # the model's own tile counts
    assert np.isfinite(result.probability.values[:, 6:]).all()
    (tmp_path / "mix.json").write_text(made.model_copy(update={"tile": 56}).model_dump_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="112 where 56"):
        load_runner(tmp_path, 1)


def test_a_network_whose_export_depends_on_the_size_is_refused(tmp_path: Path) -> None:
    net = OneSize()
    net.any_size = True
    with pytest.raises(ModelError) as caught:
        export(net, card(), tmp_path)
    assert "any_size" in caught.value.remedy or "ONNX" in caught.value.found
    assert list(tmp_path.iterdir()) == [], "nothing half-written stays"


class Spectrum(Mix):
    def forward(self, image: Tensor) -> Tensor:
        return self.conv(torch.linalg.inv(image[..., :32, :32]).abs())


def test_operations_without_onnx_form_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="has no ONNX form") as caught:
        export(Spectrum(), card(), tmp_path)
    assert caught.value.remedy
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
