"""Evaluation: figures agree with scikit-learn, partial labels count, contestants are judged as they should be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unclouded.data import labels as lab
from unclouded.data import sets as data_sets
from unclouded.data.sample import Sample
from unclouded.data.sets.base import Record
from unclouded.data.simulated import SimulatedSet
from unclouded.errors import InputError
from unclouded.metrics import Confusion
from unclouded.scene import Band
from unclouded.train.config import DataPart
from unclouded.train.evaluate import MaskEvaluation, evaluate, open_test
from unclouded.train.evaluate_judge import JUDGED, judged_image, sensor_tag, translation
from unclouded.train.evaluate_models import MaskFolder, PackagedModel, Said, TrainedRun, kept_bands, said_of
from unclouded.train.evaluate_report import as_dict, report_text, write_report
from unclouded.train.evaluate_tables import Figure, bootstrap, figures_of
from unclouded.train.run import fit
from unclouded.train.targets import SCHEMES

metrics = pytest.importorskip("sklearn.metrics")

BAND = Band("B02", "blue", 446, 542, 10)
CODES = hnp.arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 3))


def counts(truth: np.ndarray, found: np.ndarray, size: int = 4) -> np.ndarray:
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (truth, found), 1)
    return table


def sample_of(sets: list[list[int]], name: str = "a") -> Sample:
    array = np.array(sets, np.uint8)
    return Sample(name, "x", name, "test", np.zeros((1, *array.shape), np.float32), array, (BAND,), 10.0, "toa")


def judged(said: Said, sets: list[list[int]], own: str = "four", by: str = "four"):
    data = SimulatedSet(images=1, choose=0, size=16)
    return judged_image(said, SCHEMES[own], Record("a", "a", {}), sample_of(sets), JUDGED[by], data)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_figures_agree_with_scikit_learn(data: st.DataObject) -> None:
    truth = data.draw(CODES)
    found = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, 3)))
    names = JUDGED["four"].names
    ours = figures_of({"classes": counts(truth, found)}, names)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found))
    there = sorted({*truth.tolist(), *found.tolist()})
    labels = {"labels": there, "average": None, "zero_division": np.nan}
    theirs = {
        "IoU": metrics.jaccard_score(truth, found, labels=there, average=None, zero_division=0),
        "F1": metrics.f1_score(truth, found, labels=there, average=None, zero_division=0),
        "precision": metrics.precision_score(truth, found, **labels),
        "recall": metrics.recall_score(truth, found, **labels),
    }
    for kind, values in theirs.items():
        for code, value in zip(there, values, strict=True):
            assert float(ours[f"{kind} {names[code]}"]) == pytest.approx(float(value), nan_ok=True), kind
    assert ours["mean IoU"] == pytest.approx(np.mean(theirs["IoU"]))
    for code, name in enumerate(names):
        if code in there:
            assert ours[f"accuracy {name}"] == pytest.approx(metrics.accuracy_score(truth == code, found == code))
        if 0 < (truth == code).sum() < truth.size:
            expected = metrics.balanced_accuracy_score(truth == code, found == code)
            assert ours[f"BA {name}"] == pytest.approx(expected)
        iou, f1 = float(ours[f"IoU {name}"]), float(ours[f"F1 {name}"])
        assert math.isnan(iou) == math.isnan(f1)
        if not math.isnan(iou):
            assert iou == pytest.approx(f1 / (2 - f1))


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
def test_figures_agree_with_the_confusion_class(table: np.ndarray) -> None:
    names = JUDGED["four"].names
    ours, other = figures_of({"classes": table}, names), Confusion(names, table)
    for name, scores in other.scores().items():
        for kind, value in (("IoU", scores.iou), ("F1", scores.f1), ("BA", scores.balanced_accuracy)):
            assert float(ours[f"{kind} {name}"]) == pytest.approx(value, nan_ok=True)
    assert float(ours["accuracy"]) == pytest.approx(other.overall_accuracy, nan_ok=True)
    assert float(ours["BA"]) == pytest.approx(other.balanced_accuracy, nan_ok=True)


def test_figures_are_vectorised_over_draws() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5, 4, 4))
    many = figures_of({"classes": tables, "cloud": tables[:, :2, :2]}, JUDGED["four"].names)
    for row in range(5):
        one = figures_of({"classes": tables[row], "cloud": tables[row, :2, :2]}, JUDGED["four"].names)
        for name, value in one.items():
            assert many[name][row] == pytest.approx(float(value), nan_ok=True)


def test_absent_classes_are_undefined_or_zero() -> None:
    table = np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]])
    names = ("clear", "shadow", "cloud")
    assert figures_of({"classes": table}, names)["mean IoU"] == 1
    assert figures_of({"classes": table}, names, absent_is_zero=True)["mean IoU"] == pytest.approx(2 / 3)


def test_intervals_hold_the_value_and_shrink_with_scenes() -> None:
    def mean(tables):
        return {"share": tables["n"][..., 0] / tables["n"].sum(axis=-1)}

    rng = np.random.default_rng(1)

    def width(scenes: int) -> float:
        hits = rng.integers(0, 11, scenes)
        found = bootstrap({"n": np.stack([hits, 10 - hits], axis=1)}, mean)["share"]
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(200) < 0.5 * width(12)
    few = bootstrap({"n": np.array([[1, 1], [2, 1]])}, mean)["share"]
    assert math.isnan(few.low)
    assert few.text() == "0.600"


def test_partial_labels_answer_the_questions_that_they_can() -> None:
    sets = [[lab.CLOUD, lab.NOT_CLOUD, lab.CLEAR, lab.THIN, lab.MISSING, lab.IGNORED, lab.CLOUD | lab.SHADOW]]
    image = judged(Said(np.array([[1, 0, 0, 1, 0, 0, 3]], np.uint8)), sets)
    assert image.classes.sum() == 2  # clear and thin are certain; cloud, not cloud and invalid are not
    assert image.classes[2, 1] == 1  # thin taken for thick
    assert image.questions["cloud"].tolist() == [[2, 0], [0, 2]]
    assert image.questions["invalid"].tolist() == [[1, 0], [0, 3]]
    assert image.cover == 0.5


def test_questions_add_probabilities() -> None:
    """Thin and thick together outweigh clear, although clear is the most probable class."""
    probability = np.array([0.4, 0.3, 0.3, 0.0], np.float32).reshape(4, 1, 1)
    image = judged(said_of(probability), [[lab.THICK]])
    assert image.classes[1, 0] == 1
    assert image.questions["cloud"][1, 1] == 1
    assert image.uncertainty == pytest.approx(0.6 * 4 / 3)


def test_seven_classes_are_judged_as_four_five_and_two() -> None:
    assert translation(SCHEMES["seven"], JUDGED["five"]) == (0, 1, 2, 3, 3, 4, -1)
    assert translation(SCHEMES["seven"], JUDGED["cloud"]) == (0, 0, 0, 1, 1, 0, -1)
    assert translation(SCHEMES["three"], JUDGED["four"]) == (0, 3, 1)
    with pytest.raises(InputError, match="judged by"):
        translation(SCHEMES["four"], JUDGED["five"])
    seven = np.zeros((7, 1, 1), np.float32)
    seven[:3] = 0.2  # land, water and snow together
    seven[4] = 0.4
    assert judged(said_of(seven), [[lab.CLEAR]], own="seven").classes[0, 0] == 1


def test_binary_masks_have_figures_of_cloud_alone() -> None:
    image = judged(Said(np.array([[1, 0]], np.uint8)), [[lab.THIN, lab.SHADOW]], own="cloud")
    found = MaskEvaluation("s2cloudless", "x", (image,), 0.0, "four", ("clear", "thick")).figures()
    assert found["cloud IoU"].value == 1
    assert not any(name.startswith(("IoU", "mean")) for name in found)


def test_reliability_is_the_calibration_error() -> None:
    from unclouded.infer.calibrate import expected_calibration_error

    rng = np.random.default_rng(2)
    probability = rng.dirichlet(np.ones(4), 400).T.reshape(4, 20, 20).astype(np.float32)
    truth = rng.integers(0, 4, (20, 20))
    image = judged(said_of(probability), lab.FOUR[truth].tolist())
    found = MaskEvaluation("x", "x", (image,), 0.0).reliability()
    assert found["error"] == pytest.approx(expected_calibration_error(probability, truth), abs=1e-6)


def test_hard_subset_and_groups(tmp_path: Path) -> None:
    base = judged(said_of(np.full((4, 1, 1), 0.25, np.float32)), [[lab.THICK]])
    images = tuple(
        replace(base, name=str(n), scene=str(n), uncertainty=u, cover=c, tags={"biome": b})
        for n, (u, c, b) in enumerate([(0.2, 0.05, "urban"), (0.9, 0.95, "water"), (0.5, 1.0, "water")])
    )
    found = MaskEvaluation("x", "x", images, 0.0)
    assert found.hardest(0.34) == ("1",)
    assert {key: len(value) for key, value in found.groups("biome").items()} == {"urban": 1, "water": 2}
    assert {key: len(value) for key, value in found.groups("cover").items()} == {"0-10 %": 1, "80-100 %": 2}
    with pytest.raises(InputError, match=r"No image"):
        found.groups("month")
    text = write_report([found], tmp_path, by=["biome"], hard=0.4)
    assert "by biome" in text
    stored = json.loads((tmp_path / "evaluation.json").read_text())
    assert stored == [json.loads(json.dumps(as_dict(found, ["biome"])))]
    mask = replace(found, images=tuple(replace(image, uncertainty=math.nan) for image in images))
    with pytest.raises(InputError, match="no probabilities"):
        report_text([mask], hard=0.1)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cloudsen12", {}, {"sentinel2-l1c"}), ("cloudsen12", {"level": "l2a"}, {"sentinel2-l2a"}),
        ("kappaset", {}, {"sentinel2-l1c", "sentinel2-l2a"}), ("levir_cs", {"dem": True}, {"gaofen1-wfv"}),
        ("cloud38", {}, {"landsat-oli-c1-l1"}), ("sparcs", {}, {"landsat-oli-c1-l1"}),
    ],
)  # fmt: skip
def test_the_sensor_is_told_from_bands_and_level(name: str, options: dict, expected: set, tmp_path: Path) -> None:
    data_sets.get(name).make_fake(tmp_path)
    data = data_sets.open_set(name, tmp_path, **options)
    assert {sensor_tag(data, sample)["sensor"] for sample in data.samples()} == expected


def test_trained_runs_see_images_as_in_training(tiny) -> None:
    """Counted over the images for model choice, the figures are those of the training log."""
    run = fit(tiny(steps=3, epochs=None, images_per_epoch=12, classes="four"))
    test = open_test(DataPart(name="simulated", options={"images": 8, "choose": 2, "size": 32}), "choose")
    found = evaluate([TrainedRun(run, "last")], test)[0].figures()
    logged = run.log()[-1]
    assert found["mean IoU"].value == pytest.approx(logged["mean IoU"], abs=1e-5)
    assert found["accuracy"].value == pytest.approx(logged["accuracy"], abs=1e-5)


def test_the_stages_of_cloudmamba_are_kept_and_drawn(tiny, tmp_path: Path) -> None:
    """Accepted where U = 1 - 2 |P - 0.5| lies below gamma; the fused map is the coarse one there, else the refined."""
    options = {"width": 4, "cap": 8, "levels": 2, "mamba": "none", "classes": 1}
    run = fit(
        tiny(
            model={"name": "cloudmamba", "options": options}, classes="cloud", loss={"kind": "cloudmamba"}, steps=1,
            epochs=None, bands=["B04", "B08", "B11"],
        )
    )  # fmt: skip
    test = open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 1, "size": 45}))
    contestant = TrainedRun(run, "last")
    sample = test.data.read(test.records[0])
    gamma = float(np.median(contestant.says(test.data, test.records[0], sample).maps["uncertainty"]))
    contestant.net.gamma = gamma  # so that a network that has learned nothing accepts half of the pixels
    said = contestant.says(test.data, test.records[0], sample)
    assert list(said.maps) == ["coarse", "uncertainty", "accepted", "refined", "fused"]
    coarse, unsure, accepted, refined, fused = said.maps.values()
    np.testing.assert_allclose(unsure, 1 - 2 * np.abs(coarse - 0.5), atol=1e-5)
    np.testing.assert_array_equal(accepted, unsure < gamma)
    assert 0 < accepted.mean() < 1
    np.testing.assert_allclose(fused, np.where(accepted == 1, coarse, refined), atol=1e-6)
    assert said.probability is not None
    np.testing.assert_allclose(said.probability[1], fused, atol=1e-6)
    pytest.importorskip("matplotlib")
    from unclouded.train.evaluate_plots import stages_plot

    assert stages_plot(sample, said, tmp_path / "stages.png") == tmp_path / "stages.png"
    assert stages_plot(sample, Said(said.codes), tmp_path / "none.png") is None


def test_images_larger_than_patches_are_covered(tiny) -> None:
    run = fit(tiny(steps=1, epochs=None))
    test = open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 1, "size": 75}))
    record = test.records[0]
    sample = test.data.read(record)
    said = TrainedRun(run).says(test.data, record, sample)
    assert said.probability is not None
    assert np.isfinite(said.probability).all()
    np.testing.assert_allclose(said.probability.sum(axis=0), 1, atol=1e-5)
    image = sample.image.copy()
    image[:, :3] = np.nan
    said = TrainedRun(run).says(test.data, record, replace(sample, image=image))
    assert (said.codes[:3] == 255).all()
    assert (said.codes[3:] != 255).all()


def test_scene_scaling_follows_the_test_scene(tiny) -> None:
    options = {"bands": ["B02", "B03", "B04"], "images": 4, "choose": 2, "test": 1, "size": 32}
    run = fit(
        tiny(
            model={"name": "mscloudcam", "options": {"embed": 24, "depths": [1] * 4, "heads": [1, 1, 2, 2]}},
            bands=["B02", "B03", "B04"], data=[{"name": "simulated", "options": options}], classes="four", batch=2,
            normalise={"mode": "percentile", "scope": "scene"}, steps=1, epochs=None, images_per_epoch=2,
        )
    )  # fmt: skip
    test = open_test(DataPart(name="simulated", options=options))
    contestant = TrainedRun(run)
    contestant.prepare(test.data, test.records)
    sample = test.data.read(test.records[0])
    before = contestant.says(test.data, test.records[0], sample).probability

    class Brighter(SimulatedSet):
        def read(self, record: Record) -> Sample:
            one = super().read(record)
            return replace(one, image=one.image * np.float32(0.5))

    shifted = Brighter(**options)
    contestant.prepare(shifted, test.records)
    after = contestant.says(shifted, test.records[0], shifted.read(test.records[0])).probability
    np.testing.assert_allclose(before, after, atol=5e-3)


def test_bands_are_left_out_by_name() -> None:
    bands = (BAND, Band("B03", "green", 537.5, 582.5, 10), Band("VV", None, None, None, 10, "sar"))
    sample = replace(sample_of([[1, 1]]), image=np.zeros((3, 1, 2), np.float32), bands=bands)
    assert [band.name for band in kept_bands(sample, ["green"]).bands] == ["B03", "VV"]
    assert [band.name for band in kept_bands(sample, None, sar=False).bands] == ["B02", "B03"]
    with pytest.raises(InputError, match="no band"):
        kept_bands(sample, ["nir"])


def test_masks_of_others_are_read_from_a_folder(tmp_path: Path) -> None:
    import rasterio

    test = open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 2, "size": 24}))
    with pytest.raises(InputError, match="no mask for 2 images"):
        MaskFolder(tmp_path).prepare(test.data, test.records)
    for record in test.records:
        truth = JUDGED["four"].index(test.data.read(record).sets)
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 24, "width": 24}
        with rasterio.open(tmp_path / f"{record.name}.tif", "w", **profile) as file:
            file.write(truth, 1)
    perfect = evaluate([MaskFolder(tmp_path, name="truth")], test)[0].figures()
    assert perfect["accuracy"].value == 1
    assert perfect["cloud F1"].value in (1.0, pytest.approx(math.nan, nan_ok=True))


def test_the_shipped_model_is_judged_and_drawn(tmp_path: Path) -> None:
    plots = pytest.importorskip("unclouded.train.evaluate_plots")
    pytest.importorskip("matplotlib")
    test = open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 1, "size": 64}))
    contestant, seen = PackagedModel(), []
    found = evaluate([contestant], test, watch=lambda record, sample, said: seen.append((sample, said)))
    assert found[0].figures()["accuracy"].value > 0.5
    sample, said = seen[0]
    stages = Said(said["default"].codes, None, {"coarse": np.zeros((64, 64), np.float32)})
    for path in (
        plots.panels(sample, said, [contestant], "four", tmp_path / "panels.png"),
        plots.confusion_plot(found[0], tmp_path / "confusion.png"),
        plots.reliability_plot(found, tmp_path / "reliability.png"),
        plots.stages_plot(sample, stages, tmp_path / "stages.png"),
    ):
        assert path.read_bytes()[:4] == b"\x89PNG"
    errors = plots.error_map(np.array([[1, 0, 0, 255]], np.uint8), np.array([[0, 1, 0, 0]], np.uint8), (1, 2))
    assert len(np.unique(errors.reshape(-1, 3), axis=0)) == 4  # missed, invented, right, not judged


def test_contestants_have_names_of_their_own() -> None:
    test = open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 1, "size": 16}))
    with pytest.raises(InputError, match="called alike"):
        evaluate([PackagedModel(), PackagedModel()], test)
    with pytest.raises(InputError, match="no image in the part 'choose'"):
        open_test(DataPart(name="simulated", options={"images": 1, "choose": 0, "test": 1, "size": 16}), "choose")


def test_figures_as_text() -> None:
    assert Figure(math.nan).text() == "-"
    assert Figure(0.9127).text(100, 2) == "91.27"
