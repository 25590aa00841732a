"""Import of published checkpoints: nothing in a file is executed, nothing is lost unsaid, and the model masks."""

from __future__ import annotations

import collections
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from safetensors.numpy import save_file

torch = pytest.importorskip("torch")
needs_baselines = pytest.mark.skipif(
    not all(map(find_spec, ("segmentation_models_pytorch", "transformers"))), reason="needs the extra 'baselines'"
)

import unclouded  # noqa: E402
from unclouded import models  # noqa: E402
from unclouded.cli._import import import_  # noqa: E402
from unclouded.errors import InputError, ModelError, OutputError, UncloudedError  # noqa: E402
from unclouded.models.card import ModelCard  # noqa: E402
from unclouded.models.checkpoint import read_checkpoint  # noqa: E402
from unclouded.models.importing import band_inputs, import_checkpoint  # noqa: E402
from unclouded.models.released import KINDS  # noqa: E402
from unclouded.sensors import bands_of  # noqa: E402

from .fakes_command import run  # noqa: E402
from .fakes_products import make_safe  # noqa: E402
from .fakes_scene import UTM_GRID, make_scene  # noqa: E402

SENTINEL2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]


class Bomb:
    """Runs a program when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def unet_tensors(bands: int = 13) -> dict[str, Any]:
    """A checkpoint of the U-Net under the names of its library, with weights that differ."""
    torch.manual_seed(1)
    net = models.create("unet-mobilenetv2", bands=bands).net
    return {key: value.clone() for key, value in net.state_dict().items()}


def told(caught: pytest.ExceptionInfo[UncloudedError]) -> str:
    assert all((caught.value.found, caught.value.expected, caught.value.remedy))
    return str(caught.value)


def test_a_program_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    exploded = tmp_path / "exploded"
    file = tmp_path / "bomb.ckpt"
    torch.save({"state_dict": {"encoder.features.0.0.weight": torch.zeros(3)}, "extra": Bomb(exploded)}, file)
    torch.load(file, weights_only=False)
    assert exploded.is_dir(), "the test's bomb is none"
    exploded.rmdir()
    with pytest.raises(ModelError) as caught:
        import_checkpoint("unet-mobv2", file, tmp_path / "model")
    assert "mkdir" in told(caught)
    assert caught.value.exit_code == 5
    assert not exploded.exists()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "cut-old", "archive", "safetensors", "module", "numbers"])
def test_files_of_other_kinds_are_told(tmp_path: Path, kind: str) -> None:
    file = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "text":
        file.write_text("<!DOCTYPE html>\n", encoding="utf-8")
    elif kind in ("empty", "safetensors"):
        file.write_bytes(b"" if kind == "empty" else b"\x08")
    elif kind == "archive":
        np.savez(tmp_path / "x.npz", a=np.zeros(3))
        (tmp_path / "x.npz").rename(file)
    elif kind == "module":
        torch.save(torch.nn.Linear(2, 2), file)
    elif kind == "numbers":
        torch.save({"epoch": 3}, file)
    else:
        torch.save({"a": torch.zeros(1000)}, file, _use_new_zipfile_serialization=kind == "cut")
        file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError) as caught:
        read_checkpoint(file)
    assert str(file) in told(caught)
    assert ("torch.nn.modules.linear.Linear" in str(caught.value)) == (kind == "module")


def test_missing_files_are_told(tmp_path: Path) -> None:
    for name in ("none.pt", "none.safetensors"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_checkpoint(tmp_path / name)


@needs_baselines
@pytest.mark.parametrize(
    "way",
    ["lightning", "safetensors", *(pytest.param(way, marks=pytest.mark.slow) for way in ("plain", "parallel", "old"))],
)
def test_every_way_of_saving_gives_the_same_network(tmp_path: Path, way: str) -> None:
    tensors = unet_tensors()
    file = tmp_path / "weights.pt"
    if way == "plain":
        torch.save(collections.OrderedDict(tensors), file)
    elif way == "old":
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    elif way == "lightning":
        named = {f"model.{key}": value for key, value in tensors.items()}
        torch.save({"state_dict": named | {"loss.weight": torch.ones(4)}, "epoch": 3, "hyper_parameters": {}}, file)
    elif way == "parallel":
        torch.save({"model": {f"module.{key}": value for key, value in tensors.items()}}, file)
    else:
        file = tmp_path / "weights.safetensors"
        save_file({key: value.numpy() for key, value in tensors.items()}, file)
    made = import_checkpoint("unet-mobv2", file, tmp_path / "model")
    assert made.unexpected == (("loss.weight",) if way == "lightning" else ())
    card = ModelCard.load(made.path)
    assert card == made.card
    assert card.licence == "CC-BY-NC-4.0"
    assert "isp-uv-es/cloudsen12_models" in card.source
    assert [band.name for band in card.bands] == SENTINEL2
    assert card.classes == ("clear", "thick", "thin", "shadow")
    assert card.scaling.mode == "none"
    stored = read_checkpoint(made.path.with_suffix(".safetensors"))
    for key, value in tensors.items():
        assert torch.equal(stored[f"net.{key}"], value), key


@needs_baselines
def test_what_is_missing_or_of_another_shape_is_told(tmp_path: Path) -> None:
    tensors = unet_tensors()
    file = tmp_path / "weights.pt"
    torch.save({key: value for key, value in tensors.items() if "decoder.blocks.0" not in key}, file)
    with pytest.raises(ModelError) as caught:
        import_checkpoint("unet-mobv2", file, tmp_path / "model")
    assert "net.decoder.blocks.0.conv1.0.weight" in told(caught)
    assert "and 7 more" in str(caught.value)
    torch.save(tensors | {"segmentation_head.0.bias": torch.zeros(5)}, file)
    with pytest.raises(ModelError, match=r"net.segmentation_head.0.bias is \(5,\) where \(4,\) is needed"):
        import_checkpoint("unet-mobv2", file, tmp_path / "model")
    torch.save(tensors | {"something.else": torch.zeros(5)}, file)
    assert import_checkpoint("unet-mobv2", file, tmp_path / "model").unexpected == ("something.else",)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"unet-mobv2.json", "unet-mobv2.safetensors"}
    with pytest.raises(OutputError, match="--overwrite"):
        import_checkpoint("unet-mobv2", file, tmp_path / "model")
    with pytest.raises(ModelError, match="is not one of MSCloudCAM"):
        import_checkpoint("mscloudcam", file, tmp_path / "model")


@needs_baselines
def test_counters_may_be_missing(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({key: value for key, value in unet_tensors(4).items() if "num_batches" not in key}, file)
    made = import_checkpoint("unet-mobv2", file, tmp_path / "m", bands=["B08", "B04", "B03", "B02"], licence="CC0-1.0")
    assert [band.name for band in made.card.bands] == ["B08", "B04", "B03", "B02"]
    assert made.card.licence == "CC0-1.0"


def test_bands_have_to_fit_the_network() -> None:
    assert [one.name for one in band_inputs("sentinel2-l1c", None, 13)] == SENTINEL2
    with pytest.raises(ModelError, match="takes 13 bands, and sentinel2-l2a has 12"):
        band_inputs("sentinel2-l2a", None, 13)
    with pytest.raises(ModelError, match="takes 3 bands, and 2 are named"):
        band_inputs("sentinel2-l1c", ["B02", "B03"], 3)
    with pytest.raises(InputError, match="has no optical band B13"):
        band_inputs("sentinel2-l1c", ["B13"], 1)


@pytest.mark.slow
def test_mscloudcam_with_published_names(tmp_path: Path, shared_reference: Path) -> None:
    rows = json.loads((shared_reference / "mscloudcam_c13_256.json").read_text())["models"]["Swin_CrossAttn_4W"]
    rng = torch.Generator().manual_seed(2)
    tensors = {}
    for key, shape, kind, *_ in rows["state_dict"]:
        value = 0.02 * torch.randn(shape, generator=rng) if "float" in kind else torch.zeros(shape, dtype=torch.long)
        tensors[key] = value.abs() + 0.5 if key.endswith("running_var") else value
    tensors["swin.layers_0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)  # follows from the size, older timm stores it
    file = tmp_path / "best.pth"
    torch.save({f"module.{key}": value for key, value in tensors.items()}, file)
    with pytest.raises(ModelError, match="--licence"):
        import_checkpoint("mscloudcam", file, tmp_path / "model")
    made = import_checkpoint("mscloudcam", file, tmp_path / "model", licence="by agreement", onnx=True)
    assert made.unexpected == ()
    assert made.card.parameters == rows["parameters"]
    assert made.card.options["fusion"] == "bypass"
    assert made.card.scaling.mode == "divide-3000"
    scene = make_scene(GeoBox((120, 160), UTM_GRID.affine, UTM_GRID.crs), bands=bands_of("sentinel2-l1c"))
    result = unclouded.mask(scene, model=made.path, tile=128, halo=32)
    assert np.isfinite(result.probability.values[:, 20:]).all()


@needs_baselines
@pytest.mark.slow
@pytest.mark.parametrize("size", ["B0", "B2"])
def test_sensei_with_published_names_gives_the_published_outputs(
    tmp_path: Path, shared_reference: Path, size: str
) -> None:
    """Through the file, the importer and the runner, in float32."""
    from .conformance.conftest import Vectors
    from .conformance.test_senseiv2_segformer import _descriptors

    reference = Vectors(shared_reference, "senseiv2_segformer")
    file = tmp_path / "weights.pt"
    torch.save({key: torch.from_numpy(value) for key, value in reference.weights(f"FullModel_{size}").items()}, file)
    config = tmp_path / "config.yaml"
    config.write_text("NAME: published\nMODEL_TYPE: Segformer\nCLASSES: 7\nSEnSeIv2: senseiv2-medium.yaml\n")
    made = import_checkpoint("sensei-v2", file, tmp_path / "model", config=config, onnx=size == "B0")
    assert made.path.name == "published.json"
    assert made.unexpected == ()
    assert len(made.left_out) == 10
    assert not any("changed places" in limit for limit in made.card.limits)  # seven classes have one order
    assert made.card.licence == "GPL-3.0"
    image = reference.input(size)
    for kind in made.card.sha256:
        runner = unclouded.infer.runner.load_runner(made.path.with_suffix(f".{kind}"), 1)
        logits = runner.run(image, _descriptors(size, image)[None].astype(np.float32))
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        reference.check(f"{size}:probabilities", shares / shares.sum(axis=1, keepdims=True), 1e-5, 2e-5)
    config.write_text("MODEL_TYPE: DeepLabv3+\nDEEPLAB_CONFIG: resnet50\n")
    with pytest.raises(ModelError, match="MODEL_TYPE: DeepLabv3"):
        import_checkpoint("sensei-v2", file, tmp_path / "other", config=config)


def sensei_deeplab(classes: int = 4) -> dict[str, Any]:
    """A checkpoint with published names, made by turning this package's names back."""
    net = models.create(
        "sensei", segmenter="deeplabv3plus-resnet50", segmenter_options={"upsampling": 1}, form="released",
        recovery="none", classes=classes,
    )  # fmt: skip
    from unclouded.models.senseiv2_released import encoder_key

    published = [
        *(f"blocks.1.layers.{4 * i + j}.{leaf}" for i in range(3) for j in (0, 2) for leaf in ("weight", "bias")),
        *(
            f"blocks.2.layers.{i}.{part}"
            for i in range(2)
            for part in (
                "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
                "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
                "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
            )
        ),
        *(
            f"blocks.3.{head}_head.layers.{i}.{leaf}"
            for head in ("frequency", "phase_offset", "gain") for i in (0, 2, 3, 5) for leaf in ("weight", "bias")
        ),
        *(f"blocks.3.norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    ]  # fmt: skip
    state = net.state_dict()
    out = {f"senseiv2.{key}": state[f"front.{encoder_key(key)}"] for key in published}
    start = "segmenter.net."
    out |= {f"segmenter.{key[len(start) :]}": value for key, value in state.items() if key.startswith(start)}
    assert len(out) == len(state)
    return out


@needs_baselines
@pytest.mark.slow
def test_sensei_with_deeplab_masks_a_scene(tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "weights.pt"
    torch.save(sensei_deeplab(), file)
    made = import_checkpoint("sensei-v2", file, tmp_path / "model")
    card = made.card
    assert (card.front_end, card.encoding, card.percentiles) == ("senseiv2", "nm", True)
    assert card.classes == ("clear", "thin", "thick", "shadow")
    assert any("changed places" in limit for limit in card.limits)
    assert card.options["segmenter"] == "deeplabv3plus-resnet50"
    scene = make_scene(GeoBox((70, 90), UTM_GRID.affine, UTM_GRID.crs))  # four bands: any will do
    result = unclouded.mask(scene, model=tmp_path / "model", tile=160, halo=32)
    assert np.isfinite(result.probability.values[:, 20:]).all()


@needs_baselines
def test_a_segformer_without_sensei_takes_fixed_bands(tmp_path: Path) -> None:
    back = {"q_proj": "self.query", "k_proj": "self.key", "v_proj": "self.value", "o_proj": "output.dense"}
    tensors = {}
    for key, value in models.create("segformer-b0", bands=13, classes=4).net.state_dict().items():
        key = key.replace("attention.sequence_reduction.sequence_reduction.", "attention.self.sr.")
        key = key.replace("attention.sequence_reduction.layer_norm", "attention.self.layer_norm")
        for new, old in back.items():
            key = key.replace(f"attention.{new}", f"attention.{old}")
        key = key.replace("mlp.fc1", "mlp.dense1").replace("mlp.fc2", "mlp.dense2")
        key = key.replace("layernorm_before", "layer_norm_1").replace("layernorm_after", "layer_norm_2")
        key = key.replace("decode_head.linear_projections", "decode_head.linear_c")
        parts = key.split(".")
        if parts[1] == "stages":
            if parts[3] == "patch_embeddings":
                parts = ["segformer", "encoder", "patch_embeddings", parts[2], *parts[4:]]
            elif parts[3] == "blocks":
                parts = ["segformer", "encoder", "block", parts[2], *parts[4:]]
            else:
                parts = ["segformer", "encoder", "layer_norm", parts[2], *parts[4:]]
        tensors["segmenter." + ".".join(parts)] = value
    torch.save(tensors, tmp_path / "weights.pt")
    made = import_checkpoint("sensei-v2", tmp_path / "weights.pt", tmp_path / "model", name="plain")
    assert made.unexpected == ()
    assert made.card.architecture == "segformer-b0"
    assert [band.name for band in made.card.bands] == SENTINEL2
    assert made.card.classes == ("clear", "thin", "thick", "shadow")
    assert any("changed places" in limit for limit in made.card.limits)


def test_the_command_knows_every_kind() -> None:
    (kinds,) = (one.type.choices for one in import_.params if one.name == "kind")
    assert list(kinds) == list(KINDS)


@needs_baselines
def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "UNetMobV2_V2.pt"
    torch.save(unet_tensors() | {"strange": torch.zeros(2)}, file)
    done = run("models", "import", "unet-mobv2", str(file), "-o", str(tmp_path / "model"), "--name", "u")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "model" / "u.json")]
    assert "not mapped: strange" in done.stderr
    assert "CC-BY-NC-4.0" in done.stderr
    again = run("models", "import", "unet-mobv2", str(file), "-o", str(tmp_path / "model"), "--name", "u", "--json")
    assert again.returncode == 1
    assert again.stdout == ""
    product = make_safe(tmp_path, size_m=1200)
    words = ("-o", tmp_path / "out", "--model", tmp_path / "model", "--tile", 128, "--halo", 32, "--threads", 1)
    done = run("mask", product, *words)
    assert done.returncode == 0, done.stderr
    item = json.loads(Path(done.stdout.strip()).read_text(encoding="utf-8"))
    assert item["properties"]["unclouded:model"]["name"] == "u"
    lacking = run("mask", make_safe(tmp_path, "L2A", size_m=1200), *words)
    assert lacking.returncode == 5
    assert "B10 (1337-1413 nm)" in lacking.stderr
    wrong = run("models", "import", "mscloudcam", str(file), "-o", str(tmp_path / "other"))
    assert wrong.returncode == 5
    assert not (tmp_path / "other").exists()
