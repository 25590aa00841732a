"""Losses and scores of a run, task by task."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unclouded import losses, models
from unclouded.data import labels as lab
from unclouded.errors import InputError, ModelError
from unclouded.metrics import confusion
from unclouded.models.cloudmamba import cloudmamba_loss
from unclouded.train.config import LossPart
from unclouded.train.patches import Batch
from unclouded.train.targets import SCHEMES, cloud_certain
from unclouded.train.tasks import Loss, MaskScores, RemovalScores, is_better, predicted, weight_of

CERTAIN = np.array([lab.CLEAR, lab.THICK, lab.THIN, lab.SHADOW], np.uint8)


class Net(torch.nn.Module):
    """Returns what it is told to."""

    def __init__(self, **found: torch.Tensor) -> None:
        super().__init__()
        self.found = found

    def outputs(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.found


def batch_of(sets: np.ndarray, classes: str = "four") -> Batch:
    scheme = SCHEMES[classes]
    n, h, w = sets.shape
    maps = (torch.from_numpy(one(sets)) for one in (scheme.bits, scheme.index, cloud_certain))
    return Batch(torch.zeros(n, 2, h, w), None, *maps)


def some_sets(seed: int = 0, ignored: bool = True) -> np.ndarray:
    sets = np.random.default_rng(seed).choice(CERTAIN, (2, 8, 8))
    if ignored:
        sets[0, :2] = lab.IGNORED
        sets[1, :, 3] = lab.CLOUD
    return sets


def loss_of(config, net: torch.nn.Module, batch: Batch, step: int = 0) -> float:
    return float(Loss(config, net)(net, batch, step).detach())


def test_cross_entropy_of_certain_labels_is_torchs(tiny) -> None:
    batch, logits = batch_of(some_sets()), torch.randn(2, 4, 8, 8)
    expected = float(F.cross_entropy(logits, torch.where(batch.index == 255, -100, batch.index.long())))
    assert loss_of(tiny(classes="four", loss={"kind": "cross-entropy"}), Net(logits=logits), batch) == pytest.approx(
        expected, rel=1e-5
    )
    whole = batch_of(some_sets(ignored=False))
    expected = float(F.cross_entropy(logits, whole.index.long()))
    for loss in ({"kind": "set-cross-entropy"}, {"kind": "cross-entropy"}):
        assert loss_of(tiny(classes="four", loss=loss), Net(logits=logits), whole) == pytest.approx(expected, rel=1e-5)


def test_outputs_are_weighed(tiny) -> None:
    """MSCloudCAM: the two auxiliary maps count 0.4 each."""
    batch, logits = batch_of(some_sets()), torch.randn(2, 4, 8, 8)
    one = loss_of(tiny(classes="four"), Net(logits=logits), batch)
    three = tiny(classes="four", loss={"outputs": {"logits": 1.0, "aux1": 0.4, "aux2": 0.4}})
    assert loss_of(three, Net(logits=logits, aux1=logits, aux2=logits), batch) == pytest.approx(1.8 * one, rel=1e-5)
    with pytest.raises(InputError, match="needs 'aux1'"):
        loss_of(three, Net(logits=logits), batch)


def test_class_weights_weigh_certain_pixels(tiny) -> None:
    sets = np.full((1, 2, 1), lab.CLEAR, np.uint8)
    sets[0, 0] = lab.SHADOW
    logits = torch.zeros(1, 4, 2, 1)
    logits[0, 0, 0] = 5.0
    each = F.cross_entropy(logits, torch.tensor([[[3], [0]]]), reduction="none").flatten()
    config = tiny(classes="four", loss={"class_weights": {"shadow": 4.0}})
    expected = float((4 * each[0] + each[1]) / 5)
    assert loss_of(config, Net(logits=logits), batch_of(sets)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="no class 'shade'"):
        Loss(tiny(loss={"class_weights": {"shade": 4.0}}), Net())


def test_dice_and_binary_losses_are_those_of_the_losses(tiny) -> None:
    batch, logits = batch_of(some_sets(), "cloud"), torch.randn(2, 1, 8, 8)
    known = batch.index != 255
    expected = losses.bce_dice(logits[:, 0], torch.where(known, batch.index, 0), valid=known)
    config = tiny(classes="cloud", loss={"kind": "bce-dice"})
    assert loss_of(config, Net(logits=logits), batch) == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(InputError, match="met 2 maps"):
        loss_of(config, Net(logits=torch.randn(2, 2, 8, 8)), batch)
    batch, logits = batch_of(some_sets()), torch.randn(2, 4, 8, 8)
    target = torch.where(batch.index == 255, -1, batch.index.long())
    found = loss_of(tiny(classes="four", loss={"kind": "dice"}), Net(logits=logits), batch)
    assert found == pytest.approx(float(losses.dice(logits, target)), rel=1e-6)
    both = loss_of(tiny(classes="four", loss={"kind": "cross-entropy-dice"}), Net(logits=logits), batch)
    entropy = loss_of(tiny(classes="four", loss={"kind": "cross-entropy"}), Net(logits=logits), batch)
    assert both == pytest.approx(found + entropy, rel=1e-5)


def test_cloudmamba_is_supervised_on_every_level_and_stage(tiny) -> None:
    net = models.create("cloudmamba", bands=2, width=4, cap=8, levels=2, preset="tiny")
    sets = np.random.default_rng(0).choice(np.array([lab.CLOUD, lab.NOT_CLOUD, lab.IGNORED], np.uint8), (2, 16, 16))
    batch = batch_of(sets, "cloud")
    config = tiny(classes="cloud", loss={"kind": "cloudmamba"})
    outputs = net.outputs(batch.image)
    assert {"coarse", "refined", "level2"} <= set(outputs)
    known = batch.index != 255
    expected = cloudmamba_loss(outputs, torch.where(known, batch.index.long(), 0), known)
    assert loss_of(config, net, batch) == pytest.approx(float(expected), rel=1e-5)


def test_recovery_and_its_warm_up(tiny) -> None:
    """SEnSeI-v2: the rest counts (step / 5000) squared, recovery counts fully from the start."""
    batch, logits = batch_of(some_sets()), torch.randn(2, 4, 8, 8)
    net = Net(logits=logits, recovery_loss=torch.tensor(0.5))
    config = tiny(classes="four", loss={"recovery": 2.0, "recovery_warm_up": 5000})
    alone = loss_of(tiny(classes="four", loss={"recovery": 0.0}), net, batch)
    for step, share in ((0, 0.0), (2500, 0.25), (5000, 1.0), (9000, 1.0)):
        assert loss_of(config, net, batch, step) == pytest.approx(1.0 + share * alone, rel=1e-5)


def test_senseiv1_is_penalised_for_its_last_layers(tiny) -> None:
    from unclouded.models.senseiv1 import L1_WEIGHT, SEnSeIv1

    batch, net = batch_of(some_sets()), Net(logits=torch.randn(2, 4, 8, 8))
    net.front = SEnSeIv1(8)
    alone = loss_of(tiny(classes="four"), net, batch)
    penalised = loss_of(tiny(classes="four", loss={"penalty": L1_WEIGHT}), net, batch)
    assert penalised == pytest.approx(alone + 1e-5 * float(net.front.penalty().detach()), rel=1e-6)
    assert penalised > alone


def test_stages_of_removal_are_compared_with_their_own_targets(tiny) -> None:
    net = models.create("mpir4", bands=3, sar_bands=0, widths=(4, 8), blocks=(1, 1), low=0, decoder_blocks=1)
    clear = torch.rand(1, 3, 32, 32)
    batch = Batch(torch.rand(1, 3, 32, 32), None, clear)
    config = tiny(task="removal", bands=["B04", "B03", "B02"], model={"name": "mpir4"}, loss={"kind": "l1-ssim"})
    outputs = net.outputs(batch.image)
    expected = losses.l1_ssim(outputs["image"], clear) + losses.l1_ssim(outputs["stage1"], F.avg_pool2d(clear, 2))
    assert loss_of(config, net, batch) == pytest.approx(float(expected), rel=1e-5)


def test_the_networks_own_loss_skips_images_without_labels(tiny) -> None:
    class Own(torch.nn.Module):
        def loss(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return torch.tensor(float(len(image)), requires_grad=True)

    sets = some_sets()
    sets[0] = lab.IGNORED
    config = tiny(classes="four", loss={"kind": "own"})
    assert loss_of(config, Own(), batch_of(sets)) == 1.0
    assert loss_of(config, Own(), batch_of(np.zeros_like(sets))) == 0.0
    with pytest.raises(ModelError, match="no loss of its own"):
        Loss(config, Net())


@pytest.mark.parametrize("kind", ["set-cross-entropy", "set-mse", "cross-entropy", "dice", "cross-entropy-dice"])
def test_nothing_labelled_costs_nothing_and_has_gradients(tiny, kind: str) -> None:
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    loss = Loss(tiny(classes="four", loss={"kind": kind}), Net(logits=logits))
    value = loss(Net(logits=logits), batch_of(np.zeros((2, 8, 8), np.uint8)), 0)
    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.isfinite(logits.grad).all()


def test_weights_of_batches() -> None:
    sets = some_sets()
    assert weight_of(batch_of(sets)) == float((sets != lab.IGNORED).sum())
    assert weight_of(Batch(torch.zeros(3, 1, 2, 2), None, torch.zeros(3, 1, 2, 2))) == 3.0


def test_scores_are_those_of_the_confusion_table() -> None:
    rng = np.random.default_rng(1)
    counts = MaskScores("four")
    truths, founds = [], []
    for seed in range(3):
        sets, logits = some_sets(seed), torch.from_numpy(rng.normal(size=(2, 4, 8, 8)).astype(np.float32))
        counts.add({"logits": logits}, batch_of(sets), 0.5)
        truths.append(SCHEMES["four"].index(sets))
        founds.append(logits.argmax(dim=1).numpy())
    table = confusion(np.stack(truths), np.stack(founds).astype(np.uint8), SCHEMES["four"].names)
    scores = counts.scores()
    assert scores["loss"] == 0.5
    assert scores["mean IoU"] == pytest.approx(table.mean_iou)
    assert scores["accuracy"] == pytest.approx(table.overall_accuracy)
    for name, one in table.scores().items():
        assert scores[f"IoU {name}"] == pytest.approx(one.iou)


def test_cloud_is_judged_where_thin_or_thick_is_open() -> None:
    sets = np.array([[[lab.CLOUD, lab.CLOUD, lab.NOT_CLOUD, lab.IGNORED]]], np.uint8)
    logits = torch.full((1, 4, 1, 4), -9.0)
    for place, group in enumerate((1, 0, 2, 2)):  # thick, clear, thin, thin
        logits[0, group, 0, place] = 9.0
    counts = MaskScores("four")
    counts.add({"logits": logits}, batch_of(sets), 0.0)
    scores = counts.scores()
    assert scores["cloud IoU"] == pytest.approx(1 / 3)  # one found, one missed, one false
    assert scores["cloud BA"] == pytest.approx(0.25)
    assert math.isnan(scores["mean IoU"]), "no pixel is certain among the four"


def test_seven_classes_are_scored_as_four() -> None:
    counts = MaskScores("seven")
    sets = np.array([[[lab.CLEAR, lab.THIN]]], np.uint8)
    logits = torch.tensor([1.0, 1.0, 1.0, 1.5, 0.0, 0.0, 9.0]).view(1, 7, 1, 1).repeat(1, 1, 1, 2)
    assert predicted(logits, counts.members).tolist() == [[[0, 0]]], "land, water and snow together beat thin"
    counts.add({"logits": logits}, batch_of(sets, "seven"), 1.0)
    assert counts.scores()["IoU clear"] == pytest.approx(0.5)


def test_scores_of_removal() -> None:
    counts = RemovalScores()
    clear = torch.rand(2, 3, 16, 16)
    found = clear.clone()
    found[1] = (clear[1] * 0.5 + 0.2).clamp(0, 1)
    counts.add({"image": found}, Batch(clear, None, clear), 0.25)
    scores = counts.scores()
    mse = float(((found[1] - clear[1]).double() ** 2).mean())
    assert scores["PSNR"] == pytest.approx((100.0 - 10 * math.log10(mse)) / 2, rel=1e-6)
    assert scores["loss"] == 0.25
    assert 0 < scores["SSIM"] < 1


def test_better_is_lower_for_errors() -> None:
    assert is_better("MAE", 0.1, 0.2)
    assert not is_better("PSNR", 30.0, 30.0)
    assert not is_better("PSNR", 30.05, 30.0, least=0.1)
    assert is_better("loss", 5.0, None)


def test_the_binary_single_map() -> None:
    found = predicted(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2), MaskScores("cloud").members)
    assert found.tolist() == [[[0, 1]]]


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        LossPart(kind="focal")
