"""Training: losses, batches, exact resume."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from unclouded.classes import SEVEN  # noqa: E402
from unclouded.data import augment  # noqa: E402
from unclouded.data import labels as lab  # noqa: E402
from unclouded.data.default_corpus import FOLDS, S2, l8biome, with_roles  # noqa: E402
from unclouded.data.sample import Sample  # noqa: E402
from unclouded.descriptors import slot_weights  # noqa: E402
from unclouded.errors import InputError  # noqa: E402
from unclouded.scene import Band  # noqa: E402
from unclouded.train import checkpoint, lessons, student  # noqa: E402
from unclouded.train.batches import Batch, Crops  # noqa: E402
from unclouded.train.lessons import Lessons, make_lessons  # noqa: E402
from unclouded.train.scores import four_probabilities, predict_sample, summary, tally  # noqa: E402
from unclouded.train.tiles import MIXTURE, Tiles, blended, pasted  # noqa: E402

BANDS = tuple(S2.values())


def sample(name: str, split: str = "train", source: str = "l8biome", background: bool = False) -> Sample:
    rng = np.random.default_rng(len(name))
    image = rng.uniform(0.02, 0.3, (len(BANDS), 80, 72)).astype(np.float32)
    sets = np.full((80, 72), lab.CLEAR, np.uint8)
    if not background:
        image[:, 20:50, 10:40] += 0.5
        sets[20:50, 10:40] = lab.THICK
        sets[55:70, 10:40] = lab.SHADOW
    return Sample(name, source, name, split, image, sets, BANDS, 20.0, "toa", background)


SAMPLES = [
    sample("a"),
    sample("bb", background=True),
    sample("ccc", source="sen12mscr"),
    sample("dddd", "choose"),
    sample("eeeee", source="dsen2", background=True),
]
TRAIN = [one for one in SAMPLES if one.split == "train"]


def bright_is_cloud(image: np.ndarray, bands: tuple[Band, ...], level: str) -> np.ndarray:
    """A teacher of three probabilities."""
    cloud = (np.nan_to_num(image[1]) > 0.4).astype(np.float32)
    return np.stack([0.8 - 0.7 * cloud, 0.1 + 0.8 * cloud, np.full_like(cloud, 0.1) - 0.1 * cloud])


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    """Six lessons of :func:`bright_is_cloud`."""
    folder = tmp_path_factory.mktemp("lessons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "teacher_probability", bright_is_cloud)
        make_lessons(TRAIN, folder, 6, workers=1)
    return Lessons(folder)


TINY = student.Settings(
    options=(("widths", (8, 8, 8, 8)),), steps=6, batch=2, side=64, warm_up=2, check_every=3, precision="fp32",
    large_from=0.75, large_batch=1, large_side=128,
)  # fmt: skip


def test_the_loss_asks_the_coarse_question_first(taught: Lessons) -> None:
    """Thin called thick costs a fifth of its cross-entropy; cloud called clear costs all of it."""
    batch = Crops(taught, TRAIN, seed=1).batch(0, 1, 64)
    thin, thick, land = (SEVEN.index(name) for name in ("thin", "thick", "land"))
    batch.sets = torch.zeros(1, 7, 4, 4, dtype=torch.bool)
    batch.sets[:, thin] = True
    for teacher in (0.0, 1.0):  # the teacher says nothing, or cloud
        batch.taught = torch.tensor([0.0, teacher, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
        costs = {}
        for called in (thin, thick, land):
            logits = torch.zeros(1, 7, 4, 4)
            logits[:, called] = 20.0
            costs[called] = float(student.total_loss({"logits": logits}, batch, TINY))
        assert costs[thin] == pytest.approx(0, abs=1e-4)
        assert costs[thick] == pytest.approx(0.2 * 20, rel=1e-3)
        assert costs[land] == pytest.approx(20 - 0.8 * math.log(2), rel=1e-3)


def test_the_teacher_is_followed_where_it_is_unsure(taught: Lessons) -> None:
    """The loss is least where the network gives the teacher's probabilities."""
    batch = Crops(taught, TRAIN, seed=1).batch(0, 1, 64)
    batch.sets = torch.zeros(1, 7, 4, 4, dtype=torch.bool)
    batch.taught = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    logits = torch.zeros(1, 7, 4, 4, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        student.total_loss({"logits": logits}, batch, TINY).backward()
        optimiser.step()
    found = logits.detach().softmax(dim=1)[0, :, 0, 0]
    assert found[:3].sum() == pytest.approx(0.5, abs=0.02)
    assert found[3:5].sum() == pytest.approx(0.3, abs=0.02)
    assert found[5] == pytest.approx(0.2, abs=0.02)


def test_labels_do_not_overrule_the_teacher(taught: Lessons) -> None:
    """A label that the teacher denies moves nothing between clear, cloud and shadow, only inside its group."""
    batch = Crops(taught, TRAIN, seed=1).batch(0, 1, 64)
    batch.sets = torch.zeros(1, 7, 4, 4, dtype=torch.bool)
    batch.sets[:, SEVEN.index("thin")] = True
    batch.taught = torch.tensor([0.9, 0.1, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    logits = torch.zeros(1, 7, 4, 4)
    logits[:, :3], logits[:, 3:5] = math.log(0.9 / 3), math.log(0.1 / 2)
    logits[:, 5:] = -30.0
    logits.requires_grad_()
    student.total_loss({"logits": logits}, batch, TINY).backward()
    slope = logits.grad[0, :, 0, 0]
    assert slope[:3].abs().max() < 1e-6
    assert slope[SEVEN.index("thin")] < 0
    assert slope[3:5].sum().abs() < 1e-6


def test_batches_depend_on_seed_and_step_only(taught: Lessons) -> None:
    first, again = (Crops(taught, TRAIN, seed=5).batch(3, 4, 64) for _ in range(2))
    later = Crops(taught, TRAIN, seed=5).batch(4, 4, 64)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.sets, again.sets)
    assert torch.equal(first.taught, again.taught)
    assert not torch.equal(first.image, later.image)


def test_the_last_steps_see_large_crops(taught: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    batch = Crops.batch

    def watched(crops: Crops, step: int, n: int, side: int) -> Batch:
        drawn.append((step, n, side))
        return batch(crops, step, n, side)

    monkeypatch.setattr(Crops, "batch", watched)
    student.train(SAMPLES, taught, tmp_path, TINY)
    assert drawn == [(step, 2, 64) if step < 5 else (step, 1, 128) for step in range(6)]


def test_batches_are_well_formed(taught: Lessons) -> None:
    crops = Crops(taught, TRAIN, seed=1)
    for step in range(12):
        batch = crops.batch(step, 4, 64)
        assert torch.isfinite(batch.image).all()
        filled = batch.slots.sum(dim=1)
        assert set(filled.unique().tolist()) <= {0.0, 1.0}
        assert ((filled > 0).sum(dim=1) >= 2).all(), "two slots at least"
        missing = batch.sets[:, SEVEN.index("no-data")]
        assert (batch.image.abs().sum(dim=1)[missing] == 0).all()
        total = batch.taught.sum(dim=1)
        assert (total[missing] == 0).all()
        np.testing.assert_allclose(total[~missing], 1.0, atol=0.01)
        padding = batch.descriptors[:, :, :74].abs().sum(dim=2) == 0
        assert (batch.slots.sum(dim=2)[padding] == 0).all()


def test_pictures_have_labels_and_no_teacher(taught: Lessons) -> None:
    colours = tuple(S2[name] for name in ("B02", "B03", "B04"))
    image = np.random.default_rng(0).uniform(0, 1, (3, 80, 80)).astype(np.float32)
    sets = np.full((80, 80), lab.CLOUD, np.uint8)
    picture = Sample("p", "l8_bqa", "p", "train", image, sets, colours, 30.0, "counts")
    crops = Crops(taught, [picture], seed=1)
    found = [crops.crop(np.random.default_rng(seed), 64) for seed in range(80)]
    of_pictures = [crop for crop in found if not crop.taught.any()]
    assert 0 < len(of_pictures) < 20
    assert all((crop.sets == lab.CLOUD).all() and crop.bands == colours for crop in of_pictures)


def test_tiles_of_every_kind_are_whole() -> None:
    tiles = Tiles(TRAIN, seed=1, side=128)
    seen = set()
    for number in range(60):
        tile = tiles.draw(number)
        seen.add(tile.kind)
        assert tile.image.shape == (len(tile.bands), 128, 128)
        assert tile.sets.shape == (128, 128)
        assert (tile.sets > 0).all()
        assert np.isnan(tile.image).any(axis=0).sum() == (tile.sets == lab.MISSING).sum()
    assert seen == set(MIXTURE)
    np.testing.assert_array_equal(tiles.draw(7).image, Tiles(TRAIN, seed=1, side=128).draw(7).image)


def test_lessons_are_what_the_teacher_said_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "teacher_probability", bright_is_cloud)
    make_lessons(TRAIN, tmp_path, 3, workers=1)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    counted: list[int] = []
    make_lessons(TRAIN, tmp_path, 5, workers=2, progress=counted.append)
    assert counted == [4, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{number:05d}.npz" for number in range(5)]
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in times.items())
    tile, lesson = Tiles(TRAIN, seed=1).draw(2), Lessons(tmp_path).read(2)
    assert lesson.bands == tile.bands
    np.testing.assert_array_equal(lesson.sets, tile.sets)
    np.testing.assert_allclose(lesson.image, tile.image, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(lesson.taught, bright_is_cloud(tile.image, tile.bands, tile.level), atol=0.003)
    (tmp_path / "00000.npz").rename(tmp_path / "00009.npz")
    with pytest.raises(InputError, match="one of them number 9"):
        Lessons(tmp_path)


def test_a_blend_leaves_open_what_either_image_may_be() -> None:
    dark, bright = np.full((2, 4, 4), 0.1, np.float32), np.full((2, 4, 4), 0.9, np.float32)
    clear, thick = np.full((4, 4), lab.CLEAR, np.uint8), np.full((4, 4), lab.THICK, np.uint8)
    image, sets = blended(dark, clear, bright, thick, np.random.default_rng(0))
    assert 0.25 <= image.min() == image.max() <= 0.75
    assert (sets == lab.CLEAR | lab.THICK).all()


def test_band_choices_are_shares() -> None:
    assert sum(weight for weight, _ in augment.BAND_CHOICES) == pytest.approx(1.0)


def test_dropping_bands_keeps_two_slots_and_the_right_planes() -> None:
    image = np.arange(len(BANDS), dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    counts = set()
    for seed in range(60):
        kept, bands = augment.drop_bands(image, BANDS, np.random.default_rng(seed))
        assert np.count_nonzero(slot_weights(bands).sum(axis=0)) >= 2
        for plane, band in zip(kept, bands, strict=True):
            assert BANDS[int(plane[0, 0])] == band
        counts.add(len(bands))
    assert {3, 4} <= counts


def test_pictures_are_stretched_to_eight_bits() -> None:
    image = np.random.default_rng(0).uniform(0.05, 0.4, (3, 40, 40)).astype(np.float32)
    out = augment.stretched(image, np.random.default_rng(1))
    assert out.min() >= 0
    assert out.max() <= 1
    np.testing.assert_allclose(out * 255, np.round(out * 255), atol=1e-3)


def test_training_goes_on_exactly_after_a_stop(tmp_path: Path, taught: Lessons) -> None:
    torch.set_num_threads(1)
    whole = student.train(SAMPLES, taught, tmp_path / "whole", TINY)
    original = checkpoint.save

    class Killed(RuntimeError):
        pass

    def save_then_stop(folder: Path, name: str, state: dict) -> None:
        original(folder, name, state)
        if name == checkpoint.LAST and state["step"] == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(Killed):
            student.train(SAMPLES, taught, tmp_path / "parts", TINY)
    resumed = student.train(SAMPLES, taught, tmp_path / "parts", TINY)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert (tmp_path / "parts" / "log.csv").read_text(encoding="utf-8").count("\n") == 3


def test_a_run_stopped_early_is_the_beginning_of_the_whole(tmp_path: Path, taught: Lessons) -> None:
    torch.set_num_threads(1)
    whole = student.train(SAMPLES, taught, tmp_path / "whole", TINY).state_dict()
    for _ in range(2):
        student.train(SAMPLES, taught, tmp_path / "part", TINY, until=3)
        assert torch.load(tmp_path / "part" / "last.pt", weights_only=True)["step"] == 3
    rest = student.train(SAMPLES, taught, tmp_path / "part", TINY).state_dict()
    assert all(torch.equal(value, rest[key]) for key, value in whole.items())
    with pytest.raises(InputError, match="stop after 4 steps"):
        student.train(SAMPLES, taught, tmp_path / "part", TINY, until=4)


def test_other_settings_do_not_resume(tmp_path: Path, taught: Lessons) -> None:
    student.train(SAMPLES, taught, tmp_path, student.Settings(**{**TINY.__dict__, "steps": 1}))
    with pytest.raises(InputError, match="steps was 1, is 2"):
        student.train(SAMPLES, taught, tmp_path, student.Settings(**{**TINY.__dict__, "steps": 2}))


def test_scores_judge_only_what_labels_tell() -> None:
    one = sample("a")
    perfect = np.zeros(one.sets.shape, np.uint8)
    perfect[one.sets == lab.THICK] = 1
    perfect[one.sets == lab.SHADOW] = 3
    assert tally(one, perfect, "cloud").iou == 1.0
    assert tally(one, perfect, "shadow").iou == 1.0
    nothing = tally(one, np.zeros_like(perfect), "cloud")
    assert nothing.iou == 0.0
    assert nothing.balanced_accuracy == 0.5
    open_shadow = Sample(
        one.name, "x", "x", "test", one.image, np.full_like(one.sets, lab.NOT_CLOUD), BANDS, 20.0, "toa"
    )
    judged = tally(open_shadow, perfect, "shadow")
    assert judged.tp + judged.fn + judged.fp + judged.tn == 0
    assert np.isnan(judged.iou)


def test_probabilities_fold_to_four() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 3, 3)).astype(np.float32)
    four = four_probabilities(logits)
    np.testing.assert_allclose(four.sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(four[1] / four[2], np.exp(logits[4] - logits[3]), rtol=1e-4)


def test_summary_runs_a_network_on_whole_samples() -> None:
    from unclouded import models

    net = models.create("slots-unet", widths=(8, 8, 8, 8)).eval()
    logits = predict_sample(net, SAMPLES[0])
    assert logits.shape == (7, 80, 72)
    scores = summary([SAMPLES[0]], [logits])
    assert 0 <= scores["l8biome cloud IoU"] <= 1


def test_samples_have_to_fit() -> None:
    one = SAMPLES[0]
    with pytest.raises(InputError, match="labels"):
        Sample("x", "x", "x", "train", one.image, one.sets[:-1], BANDS, 20.0, "toa")


def test_images_that_people_labelled_never_train(shared_data: Path) -> None:
    samples = [*l8biome(shared_data), sample("a")]
    scenes = [one.scene for one in samples]
    assert len(set(scenes)) == len(scenes) == 24
    assert {one.split for one in samples[:-1]} == {f"fold{fold}" for fold in range(FOLDS)}
    assert [one.split for one in with_roles(samples)] == ["test"] * 23 + ["train"]


def test_pasted_clouds_bring_their_labels_and_cast_a_shadow() -> None:
    ground = np.full((len(BANDS), 64, 64), 0.2, np.float32)
    donor = ground.copy()
    donor[:, 20:44, 20:44] = 0.8
    sets = np.full((64, 64), lab.CLEAR, np.uint8)
    donor_sets = sets.copy()
    donor_sets[20:44, 20:44] = lab.THICK
    for seed in range(6):
        image, out = pasted(ground, sets, donor, donor_sets, BANDS, np.random.default_rng(seed))
        assert (out[25:39, 25:39] == lab.THICK).all()
        assert image[:, 32, 32].min() > 0.5
        open_edge = (out & lab.CLOUD > 0) & (out & lab.CLEAR > 0)
        assert open_edge.any()
        untouched = out == lab.CLEAR
        np.testing.assert_allclose(image[:, untouched], 0.2, atol=0.04)
        shadow = out == lab.SHADOW
        if shadow.any():
            assert image[7, shadow].max() < 0.16
