"""What the contract over all models does not ask of comparison networks and of SEnSeI in front of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from unclouded import models
from unclouded.errors import InputError, ModelError
from unclouded.models.senseiv1 import Candidates, SEnSeIv1
from unclouded.normalise import Normaliser

_NEEDED = ("transformers", "segmentation_models_pytorch", "torchvision")
needs_extra = pytest.mark.skipif(not all(map(find_spec, _NEEDED)), reason="needs the extra 'baselines'")

TINY = {
    "depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16,
}  # fmt: skip


@pytest.mark.skipif(find_spec("torchvision") is None, reason="needs the extra 'baselines'")
def test_torchvision_is_imported_after_a_failed_attempt_too():
    code = (
        "import unclouded.nn.timm_guard as guard\n"
        "try:\n    import torchvision\nexcept RuntimeError as err:\n    assert 'nms' in str(err)\n"
        "vision = guard.import_torchvision()\n"
        "assert vision.ops.nms and vision is guard.import_torchvision()\n"
        "from torchvision.transforms import InterpolationMode"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@needs_extra
def test_unet_holds_the_percentile_normalisation():
    torch.manual_seed(0)
    low, high = (0.1, 0.0, 0.2), (0.5, 1.0, 0.2)
    net = models.create("unet-mobilenetv2", bands=3, low=low, high=high).eval()
    plain = models.create("unet-mobilenetv2", bands=3).eval()
    plain.net.load_state_dict(net.net.state_dict())
    image = torch.rand(1, 3, 64, 64)
    scaled = Normaliser("percentile", low=low, high=high).apply(image[0].numpy())
    with torch.no_grad():
        torch.testing.assert_close(net(image), plain(torch.from_numpy(scaled)[None]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="one pair of percentiles"):
        models.create("unet-mobilenetv2", bands=3, low=(0.1,), high=(0.2,))


@needs_extra
def test_segformer_starts_from_a_stored_checkpoint_with_other_bands_and_classes(tmp_path):
    torch.manual_seed(0)
    donor = models.create("segformer-b0", bands=3, classes=9, **TINY)
    donor.net.save_pretrained(tmp_path)
    net = models.create("segformer-b0", bands=6, classes=4, pretrained=str(tmp_path), **TINY).eval()
    ours, theirs = net.net.state_dict(), donor.net.state_dict()
    fresh = [key for key in ours if ours[key].shape != theirs[key].shape]
    assert all("stages.0.patch_embeddings" in key or "classifier" in key for key in fresh)
    assert len(fresh) == 3
    kept = [key for key in ours if key not in fresh]
    assert all(torch.equal(ours[key], theirs[key]) for key in kept if "patch_embeddings" not in key)
    assert net(torch.rand(1, 6, 64, 64)).shape == (1, 4, 64, 64)


@needs_extra
def test_mask2former_learns_from_matched_queries():
    pytest.importorskip("scipy")
    torch.manual_seed(0)
    net = models.create(
        "mask2former-swin-t", bands=3, classes=3, queries=6, hidden_dim=32, feature_size=32, mask_feature_size=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=32, encoder_feedforward_dim=32,
        train_num_points=64, backbone={"depths": [1] * 4, "num_heads": [1, 1, 2, 2], "embed_dim": 16},
    )  # fmt: skip
    target = torch.zeros(2, 50, 64, dtype=torch.long)
    target[:, 20:, 30:] = 2
    target[:, :4] = 255
    image = torch.rand(2, 3, 50, 64) * 0.1 + (target == 2)[:, None]
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    values = []
    for _ in range(25):
        loss = net.loss(image, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]
    with pytest.raises(InputError, match="no labelled pixel"):
        net.loss(image, torch.full_like(target, 255))


@needs_extra
@pytest.mark.parametrize(
    ("name", "library", "backbone"),
    [
        ("mask2former-swin-t", "Swin", {"depths": [1] * 4, "num_heads": [1, 1, 2, 2], "embed_dim": 16}),
        (
            "mask2former-dinov2", "Dinov2WithRegisters",
            {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
        ),
    ],
)  # fmt: skip
def test_mask2former_starts_from_a_stored_backbone_with_other_bands(tmp_path, name, library, backbone):
    from unclouded.nn.timm_guard import import_transformers

    transformers = import_transformers()
    more = {"patch_size": 14, "num_register_tokens": 4} if name.endswith("dinov2") else {}
    torch.manual_seed(0)
    donor = getattr(transformers, f"{library}Model")(getattr(transformers, f"{library}Config")(**backbone, **more))
    donor.save_pretrained(tmp_path)
    small = {
        "queries": 6, "hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_layers": 1,
        "decoder_layers": 3, "num_attention_heads": 2, "dim_feedforward": 32, "encoder_feedforward_dim": 32,
    }  # fmt: skip
    net = models.create(name, bands=5, pretrained=str(tmp_path), backbone=backbone, **small)
    ours = net.net.model.pixel_level_module.encoder.state_dict()
    same = 0
    for key, value in donor.state_dict().items():
        (mine,) = [found for own, found in ours.items() if own.endswith(key)] or [None]
        if mine is not None and mine.shape == value.shape:
            assert torch.equal(mine, value), key
            same += 1
        else:
            assert "projection" in key or mine is None
    assert same > 20
    with torch.no_grad():
        assert net.eval()(torch.rand(1, 5, 56, 56)).shape == (1, 4, 56, 56)


@needs_extra
def test_mask2former_scores_follow_its_queries():
    from unclouded.models.baselines_mask2former import Mask2Former

    classes = torch.full((1, 2, 4), -30.0)
    classes[0, 0, 1] = classes[0, 1, 2] = 30.0  # queries of class 1 and 2; column 3 is no class
    masks = torch.full((1, 2, 8, 8), -30.0)
    masks[0, 0, :, :4] = 30.0
    masks[0, 1, :, 4:] = 30.0
    logits = Mask2Former._scores(classes, masks, torch.zeros(1, 1, 8, 8))
    assert (logits.argmax(1)[0, :, :4] == 1).all()
    assert (logits.argmax(1)[0, :, 4:] == 2).all()


@needs_extra
def test_sensei_says_what_it_recovers():
    torch.manual_seed(0)
    image, descriptors = torch.rand(2, 4, 64, 64), torch.randn(2, 4, 79)
    for recovery in ("paper", "released"):
        net = models.create("senseiv2-segformer-b0", segmenter_options=TINY, recovery=recovery)
        out = net.outputs(image, descriptors)
        assert out["recovery_loss"].item() > 0
        out["recovery_loss"].backward()
        assert net.front.before.linears[0].weight.grad.abs().sum() > 0
    net = models.create("senseiv2-segformer-b0", segmenter_options=TINY, recovery="none")
    assert "recovery_loss" not in net.outputs(image, descriptors)
    with pytest.raises(ModelError, match="no recovery 'half'"):
        models.create("senseiv2-segformer-b0", recovery="half")


def test_sensei_v1_learns_which_bands_are_present():
    torch.manual_seed(0)
    front, task = SEnSeIv1(), Candidates()
    optimiser = torch.optim.Adam([*front.parameters(), *task.parameters()], lr=2e-3)
    pool = torch.rand(8, 3) * 1.5 - 0.2
    values = []
    for _ in range(80):
        picks = torch.stack([torch.randperm(8)[:4] for _ in range(8)])
        image = torch.rand(8, 4, 4, 4)
        features = front(image, pool[picks]).flatten(2)
        present = torch.zeros(8, 8, dtype=torch.bool).scatter_(1, picks, True)
        truth = torch.zeros(8, 8, 16).scatter_(1, picks[..., None].expand(8, 4, 16), image.flatten(2))
        loss = task.loss(features, pool.expand(8, 8, 3), present, truth) + 1e-5 * front.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert sum(values[-10:]) < 0.9 * sum(values[:10])


def test_sensei_v1_multiplies_bands_by_their_features():
    front = SEnSeIv1().double().eval()
    image, descriptors = torch.rand(2, 3, 5, 6, dtype=torch.float64), torch.rand(2, 3, 3, dtype=torch.float64)
    descriptors[1, 2] = 0.0
    with torch.no_grad():
        out, features = front.encode(image, descriptors)
        expected = torch.stack(
            [
                sum(features[i, b, :, None, None] * (image[i, b] + 0.5) for b in range(real)) / real
                for i, real in ((0, 3), (1, 2))
            ]
        )
    torch.testing.assert_close(out, expected)
    with pytest.raises(InputError, match="sensei_v1_descriptors"):
        front(image, torch.rand(2, 3, 79, dtype=torch.float64))
