"""Runners: how models are found, that they compute the same, and what happens to broken ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unclouded.descriptors import SLOTS
from unclouded.errors import ModelError
from unclouded.infer.runner import find_model, load_runner, shipped
from unclouded.models.card import ModelCard


def inputs(n: int = 2, b: int = 3, h: int = 64, w: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    descriptors = np.zeros((n, b, len(SLOTS)), np.float32)
    descriptors[:, np.arange(b), np.arange(b) + 1] = 1.0
    return rng.random((n, b, h, w), dtype=np.float32), descriptors


def refused(model: Path | str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_runner(model)
    assert all((caught.value.found, caught.value.expected, caught.value.remedy))
    return caught.value


def test_shipped_models_run() -> None:
    for name in shipped():
        runner = load_runner(name, threads=1)
        assert runner.card.name == name
        image, descriptors = inputs()
        if runner.card.front_end == "slots":
            logits = runner.run(image, descriptors)
            assert logits.shape == (2, 7, 64, 96)
            assert logits.dtype == np.float32
            assert np.isfinite(logits).all()


@pytest.mark.parametrize("way", ["folder", "onnx", "card", "text", "home"])
def test_a_model_is_found_in_every_way(tiny: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    model: Path | str = {
        "folder": tiny,
        "onnx": tiny / "tiny.onnx",
        "card": tiny / "tiny.json",
        "text": str(tiny),
        "home": f"~/{tiny.name}",
    }[way]
    assert find_model(model).weights == tiny / "tiny.onnx"
    assert load_runner(model, threads=1).card.title == "Tiny network for tests"


def test_the_runner_computes_what_the_graph_says(tiny: Path) -> None:
    import onnx
    from onnx import numpy_helper

    kernel, bias = (numpy_helper.to_array(t) for t in onnx.load(str(tiny / "tiny.onnx")).graph.initializer)
    image, descriptors = inputs(1, 2, 32, 32)
    logits = load_runner(tiny, threads=1).run(image, descriptors)
    window = image[0, :, 10:17, 4:11]  # the surroundings of row 13, column 7
    expected = np.einsum("kbyx,byx->k", kernel[:, 1:3].astype(np.float64), window) + bias
    np.testing.assert_allclose(logits[0, :, 13, 7], expected, rtol=1e-4, atol=1e-5)


def test_threads_change_nothing(tiny: Path) -> None:
    image, descriptors = inputs()
    one, two = (load_runner(tiny, threads=n).run(image, descriptors) for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_runner_is_loaded_once_and_again_when_its_files_change(tiny: Path) -> None:
    first = load_runner(tiny, threads=1)
    assert load_runner(tiny, threads=1) is first
    card = ModelCard.load(tiny / "tiny.json")
    card.model_copy(update={"title": "Another title"}).save(tiny / "tiny.json")
    assert load_runner(tiny, threads=1).card.title == "Another title"


def test_unknown_names_and_missing_files(tiny: Path) -> None:
    assert "default" in refused("defualt").expected
    assert "tiny.json" in refused(tiny / "other" / "tiny.onnx").found
    (tiny / "tiny.onnx").rename(tiny / "moved.onnx")
    assert "no weights" in refused(tiny).found
    assert "moved.json" in refused(tiny / "moved.onnx").found
    (tiny / "tiny.json").unlink()
    assert "holds 0 cards" in refused(tiny).found


def test_a_folder_with_two_models_is_ambiguous(tiny: Path) -> None:
    shutil.copy(tiny / "tiny.json", tiny / "second.json")
    assert "2 cards (second.json, tiny.json)" in refused(tiny).found
    assert load_runner(tiny / "tiny.onnx", threads=1)


def test_weights_that_changed_are_noticed(tiny: Path) -> None:
    weights = tiny / "tiny.onnx"
    content = bytearray(weights.read_bytes())
    content[-40] ^= 1
    weights.write_bytes(content)
    assert "checksum" in refused(tiny).found


def test_damaged_weights(make_model: Callable[..., Path]) -> None:
    folder = make_model(sha256={})
    content = (folder / "tiny.onnx").read_bytes()
    (folder / "tiny.onnx").write_bytes(content[: len(content) // 2])
    assert "cannot load" in refused(folder).found
    (folder / "tiny.onnx").write_bytes(b"not a network")
    assert "cannot load" in refused(folder).found


def test_networks_with_other_inputs_or_outputs(make_model: Callable[..., Path], tiny: Path) -> None:
    import onnx

    assert "10 where 79" in refused(make_model("senseiv2", onnx.load(str(tiny / "tiny.onnx")),
                                               front_end="senseiv2", percentiles=True)).found  # fmt: skip
    assert "7 where 2" in refused(make_model("binary", classes=("clear", "cloud"))).found
    bands = ({"name": "B02", "min_nm": 446, "max_nm": 542}, {"name": "B03", "min_nm": 537, "max_nm": 582})
    graph = onnx.load(str(tiny / "tiny.onnx"))
    assert "descriptors" in refused(make_model("fixed", graph, front_end="bands", bands=bands)).found
    renamed = onnx.load(str(tiny / "tiny.onnx"))
    renamed.graph.input[0].name = "x"
    renamed.graph.node[0].input[1] = "x"
    assert "x, descriptors, logits" in refused(make_model("renamed", renamed)).found


def test_a_card_that_is_not_one(tiny: Path) -> None:
    (tiny / "tiny.json").write_text("{}", encoding="utf-8")
    assert "tiny.json is not valid" in refused(tiny).found


def test_torch_runs_the_same_network() -> None:
    pytest.importorskip("torch")
    name = shipped()[0]
    safetensors = find_model(name).weights.with_suffix(".safetensors")
    assert safetensors.is_file()
    image, descriptors = inputs(1)
    with_onnx = load_runner(name, threads=1).run(image, descriptors)
    with_torch = load_runner(safetensors, threads=1).run(image, descriptors)
    np.testing.assert_allclose(with_torch, with_onnx, atol=1e-4 * np.abs(with_onnx).max())


def test_torch_refuses_weights_of_another_architecture(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    card = ModelCard.load(find_model("default").card).model_copy(update={"name": "odd", "sha256": {}})
    card.save(tmp_path / "odd.json")
    save_file({"weight": torch.zeros(3)}, str(tmp_path / "odd.safetensors"))
    assert "do not fit the architecture" in refused(tmp_path).found
    (tmp_path / "odd.safetensors").write_bytes(b"\x08")
    assert "do not fit" in refused(tmp_path).found
