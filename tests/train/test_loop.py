"""The loop: accumulation, workers, resuming after kills, early stopping, several processes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from unclouded import models
from unclouded.data.simulated import SimulatedSet
from unclouded.errors import InputError, ModelError, OutputError, UncloudedWarning
from unclouded.models.unet_small import SlotsUNet
from unclouded.nn.timm_guard import import_transformers
from unclouded.train import checkpoint
from unclouded.train.config_file import read_config
from unclouded.train.loop import drawn
from unclouded.train.run import fit, load_run, start_from, without_download
from unclouded.train.tasks import Loss

MAMBA = {  # without batch normalisation, so that the company in a batch changes nothing
    "model": {"name": "cloudmamba", "options": {"width": 4, "cap": 8, "levels": 2, "mamba": "none", "classes": 2}},
    "classes": "cloud",
    "bands": ["B04", "B08", "B11"],
    "loss": {"kind": "set-cross-entropy", "outputs": {"coarse": 1.0, "refined": 1.0}},
    "optimiser": {"kind": "sgd", "rate": 0.1, "momentum": 0.0},
}


def state(folder: Path, name: str = checkpoint.LAST) -> dict:
    return checkpoint.read(folder / name)


def assert_same(one: Path, other: Path) -> None:
    """Weights, averages, optimiser and position agree bit for bit, and so does the log but for the time it took."""
    first, second = state(one), state(other)
    for part in ("net", "mean"):
        assert (first[part] is None) == (second[part] is None)
        for key, value in (first[part] or {}).items():
            assert torch.equal(value, second[part][key]), key
    for key, values in first["optimiser"]["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second["optimiser"]["state"][key][name]))
    without = {"seconds"}
    assert {k: v for k, v in first["position"].items() if k not in without} == {
        k: v for k, v in second["position"].items() if k not in without
    }
    assert rows(one) == rows(other)
    best, again = state(one, checkpoint.BEST), state(other, checkpoint.BEST)
    assert best["step"] == again["step"]
    assert all(torch.equal(value, again["net"][key]) for key, value in best["net"].items())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def test_a_run_learns_and_can_be_found_again(tiny) -> None:
    config = tiny(
        data=[{"name": "simulated", "options": {"images": 16, "choose": 4, "size": 32}}],
        optimiser={"rate": 5e-3}, epochs=6, select="mean IoU", average=0.9, pictures=2,
    )  # fmt: skip
    run = fit(config)
    log = run.log()
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["train loss"] < 0.9 * log[0]["train loss"]
    again = load_run(run.folder)
    assert again.config == config
    position = state(run.folder)["position"]
    assert position["best"] == pytest.approx(max(row["mean IoU"] for row in log), rel=1e-5)
    for which in ("best", "last"):
        net = again.network(which)
        expected = state(run.folder, {"best": checkpoint.BEST, "last": checkpoint.LAST}[which])["mean"]
        assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())
    assert sorted(path.name for path in (run.folder / "pictures").iterdir()) == [
        f"epoch-{epoch:04d}.png" for epoch in range(1, 7)
    ]
    assert list((run.folder / "tensorboard").iterdir())
    assert not list(run.folder.glob(".*")), "nothing half-written is left"


def test_accumulated_batches_are_one_large_batch(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where batches differ in how much of them is labelled: the step is the mean over all judged pixels."""
    original = SimulatedSet.read

    def partly(self, record):
        sample = original(self, record)
        sample.sets[: 3 * (record.index % 8)] = 0
        return sample

    monkeypatch.setattr(SimulatedSet, "read", partly)
    whole = fit(tiny(**MAMBA, batch=8, epochs=2, output=str(tmp_path / "whole")))
    parts = fit(tiny(**MAMBA, batch=2, accumulate=4, epochs=2, output=str(tmp_path / "parts")))
    assert state(parts.folder)["step"] == state(whole.folder)["step"] == 2
    still = {**MAMBA, "optimiser": {"kind": "sgd", "rate": 1e-12}}
    start = fit(tiny(**still, batch=8, epochs=1, output=str(tmp_path / "start")))
    moved = 0.0
    for key, value in state(whole.folder)["net"].items():
        torch.testing.assert_close(state(parts.folder)["net"][key], value, rtol=1e-4, atol=1e-6)
        moved = max(moved, float((value - state(start.folder)["net"][key]).abs().max()))
    assert moved > 1e-3, "there was something to agree on"
    for one, other in zip(whole.log(), parts.log(), strict=True):
        assert one["train loss"] == pytest.approx(other["train loss"], rel=1e-5)


def test_the_number_of_workers_changes_nothing(tiny, tmp_path: Path) -> None:
    augment = [{"name": "turn"}, {"name": "usual-bands"}, {"name": "noise"}]
    runs = [
        fit(tiny(augment=augment, batch=2, workers=workers, output=str(tmp_path / f"workers-{workers}")))
        for workers in (0, 2)
    ]
    assert_same(runs[0].folder, runs[1].folder)


def test_phases_change_rate_and_accumulation(tiny) -> None:
    phases = [{"epoch": 0, "rate": 1e-3}, {"epoch": 1, "rate": 1e-4, "accumulate": 4}]
    run = fit(tiny(batch=2, epochs=2, schedule={"kind": "phases", "phases": phases}))
    assert [row["step"] for row in run.log()] == [4, 5]
    assert [row["rate"] for row in run.log()] == pytest.approx([1e-3, 1e-4])


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("32", torch.float32)])
def test_the_network_runs_in_the_precision_asked_for(
    tiny, monkeypatch: pytest.MonkeyPatch, precision: str, kind: torch.dtype
) -> None:
    """In training; it is judged in full precision, as it will be used. Losses are given numbers in full precision."""
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    judged: set[torch.dtype] = set()
    plain, loss = SlotsUNet.outputs, Loss.of

    def watched(net, *given):
        found = plain(net, *given)
        seen[net.training].add(found["logits"].dtype)
        return found

    def of(self, outputs, *rest):
        judged.add(outputs["logits"].dtype)
        return loss(self, outputs, *rest)

    monkeypatch.setattr(SlotsUNet, "outputs", watched)
    monkeypatch.setattr(Loss, "of", of)
    fit(tiny(precision=precision, epochs=1))
    assert seen == {True: {kind}, False: {torch.float32}}
    assert judged == {torch.float32}


def test_muon_resumes_exactly(tiny, tmp_path: Path) -> None:
    parts = {"optimiser": {"kind": "muon", "rate": 5e-3, "momentum": 0.95}, "epochs": 3}
    whole = fit(tiny(**parts, output=str(tmp_path / "whole")))
    config = tiny(**parts, output=str(tmp_path / "parts"))

    def stop(done: float) -> None:
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, progress=stop)
    assert state(config.output)["position"]["epoch"] == 1
    again = fit(config, resume=True)
    assert_same(whole.folder, again.folder)
    assert whole.log()[-1]["train loss"] < whole.log()[0]["train loss"]


def test_a_run_ends_at_its_number_of_steps(tiny) -> None:
    run = fit(tiny(batch=2, epochs=None, steps=6))
    assert [row["step"] for row in run.log()] == [4, 6]


def test_early_stopping_waits_for_its_patience(tiny) -> None:
    config = tiny(epochs=50, optimiser={"rate": 1e-12}, stopping={"patience": 3, "least": 0.01}, select="accuracy")
    run = fit(config)
    assert len(run.log()) == 4, "the first epoch is the best, three more are waited for"
    assert state(run.folder)["position"]["best_epoch"] == 1
    assert fit(config, resume=True).log() == run.log(), "a run that has ended stays as it is"


def test_a_plateau_is_remembered(tiny) -> None:
    still = {**MAMBA, "optimiser": {"kind": "sgd", "rate": 1e-12}}
    run = fit(tiny(**still, epochs=3, schedule={"kind": "plateau", "patience": 0}, select="accuracy"))
    assert [row["rate"] for row in run.log()] == pytest.approx([1e-12, 1e-12, 1e-13])
    assert state(run.folder)["plateau"]["share"] == pytest.approx(0.01)


def test_other_configurations_do_not_resume_and_existing_runs_are_kept(tiny) -> None:
    config = tiny(epochs=1)
    fit(config)
    with pytest.raises(OutputError, match="holds a training run") as caught:
        fit(config)
    assert "--resume" in caught.value.remedy
    with pytest.raises(InputError, match="batch was 4, is 2"):
        fit(tiny(epochs=1, batch=2), resume=True)
    more = [{"name": "simulated", "options": {"images": 9, "choose": 2, "size": 32}}]
    with pytest.raises(InputError, match=r"data was .*; images was"):
        fit(tiny(epochs=1, data=more), resume=True)
    fit(tiny(epochs=1, workers=1, title="another", pictures=3), resume=True)


def test_damaged_checkpoints_give_way_to_the_one_before(tiny, tmp_path: Path) -> None:
    whole = fit(tiny(epochs=3, output=str(tmp_path / "whole")))
    config = tiny(epochs=3, output=str(tmp_path / "damaged"))
    fit(config)
    path = tmp_path / "damaged" / checkpoint.LAST
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.warns(UncloudedWarning, match="goes on from the checkpoint before"):
        fit(config, resume=True)
    assert_same(whole.folder, tmp_path / "damaged")
    path.write_bytes(b"")
    (tmp_path / "damaged" / checkpoint.PREVIOUS).write_bytes(b"PK")
    with (
        pytest.warns(UncloudedWarning, match="goes on from the checkpoint before"),
        pytest.raises(InputError, match="cannot be read"),
    ):
        fit(config, resume=True)


def test_a_loss_that_is_no_number_ends_the_run(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Loss.of
    monkeypatch.setattr(Loss, "of", lambda *args: original(*args) * (np.inf if args[3] == 1 else 1))
    with pytest.raises(ModelError, match="The loss is inf at step 2") as caught:
        fit(tiny())
    assert "optimiser.rate" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"select": "mean iou"}, InputError, "There is no score 'mean iou'"),
        ({"model": {"name": "unet-mobilenetv2"}}, InputError, "does not say which bands"),
        ({"model": {"name": "slots-unet", "options": {"width": 3}}}, ModelError, "does not take these options"),
        ({"model": {"name": "mmcanet"}}, ModelError, "the network is for 'mask'"),
        ({"data": [{"name": "simulated", "options": {"choose": 0}}]}, InputError, "no image for model choice"),
        ({"model": {"name": "slots-unet", "start": "nowhere.pt"}}, InputError, "nowhere.pt cannot be read"),
    ],
)
def test_what_does_not_fit_together_is_told_before_training(tiny, changes: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        fit(tiny(**changes))
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize("behind", ["", "senseiv2-"])
def test_nothing_pretrained_is_needed_once_a_run_has_weights(tiny, tmp_path: Path, behind: str) -> None:
    """Also where the network that started from them lies behind a front end."""
    pytest.importorskip("transformers")
    transformers = import_transformers()
    size = {"depths": [1] * 4, "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2]}
    size["decoder_hidden_size"] = 16
    start = tmp_path / "start"
    transformers.SegformerModel(transformers.SegformerConfig(**size)).save_pretrained(start)
    options = {**size, "pretrained": str(start)}
    model = {"name": f"{behind}segformer-b2", "options": {"segmenter_options": options} if behind else options}
    run = fit(tiny(model=model, bands=None if behind else ["B02", "B03"], steps=1, epochs=None))
    shutil.rmtree(start)
    weights = state(run.folder, checkpoint.BEST)["net"]
    net = load_run(run.folder).network()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert "pretrained" not in str(without_download(run.options))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_workers_keep_their_parts(tiny, workers: int) -> None:
    with pytest.raises(InputError, match="has no band 'pan'") as caught:
        list(drawn(_fails, [0, 1], workers))
    assert caught.value.remedy == "Choose another."


def _fails(place: int) -> None:
    raise InputError("It has no band 'pan'.", expected="It has others.", remedy="Choose another.")


def test_folders_without_a_run_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no training run"):
        load_run(tmp_path)


def test_a_refiner_starts_from_its_base_and_leaves_it_alone(tiny, tmp_path: Path) -> None:
    """CloudMamba in two runs."""
    options = MAMBA["model"]["options"]
    common = {key: value for key, value in MAMBA.items() if key not in ("model", "loss")}
    base = fit(
        tiny(**common, model={"name": "cloudmamba", "options": {**options, "stages": 1}}, loss={"kind": "cloudmamba"},
             output=str(tmp_path / "base"))
    )  # fmt: skip
    frozen = ["stem.*", "encoder.*", "down.*", "decoder.*", "heads.*"]
    model = {"name": "cloudmamba", "options": options, "start": str(base.folder), "freeze": frozen}
    refined = fit(tiny(**common, model=model, loss={"kind": "cloudmamba"}, output=str(tmp_path / "refiner")))
    first, second = base.network("best").state_dict(), refined.network("last").state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert {key.split(".")[0] for key in second if key not in first} == {"aggregate", "refiner", "refined_head"}
    torch.manual_seed(refined.config.seed)
    fresh = models.create("cloudmamba", **refined.options)
    assert not torch.equal(fresh.state_dict()["refiner.up.0.weight"], second["refiner.up.0.weight"])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"net": {"weight": torch.zeros(3, 2)}, "mean": None}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="'weight' has no place or another shape"):
        start_from(torch.nn.Linear(2, 2), tmp_path / "other.pt")
    torch.save({"net": {"weight": torch.ones(2, 2)}, "mean": None}, tmp_path / "part.pt")
    net = torch.nn.Linear(2, 2)
    assert start_from(net, tmp_path / "part.pt") == ["bias"]
    assert (net.weight == 1).all()


def killed_until_done(config, kills: int, seed: int) -> int:
    """Run in processes that are killed at random moments after they have got on, then to the end; kills that hit."""
    rng = np.random.default_rng(seed)
    context = multiprocessing.get_context("forkserver")
    modules = [f"unclouded.models.{module.name}" for module in pkgutil.iter_modules(models.__path__)]
    context.set_forkserver_preload(["unclouded.train.run", "torch.utils.tensorboard", "lightning_fabric", *modules])
    hits = 0
    for attempt in range(kills + 1):
        process = context.Process(target=fit, args=(config,), kwargs={"resume": True})
        before = _steps(config.output)
        process.start()
        if attempt < kills:
            deadline = time.monotonic() + 600
            while process.is_alive() and _steps(config.output) == before and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(float(rng.uniform(0, 0.25)))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                hits += 1
        process.join(900)
        if attempt == kills:
            assert process.exitcode == 0
    return hits


def _steps(folder: Path) -> float:
    try:
        return (folder / checkpoint.LAST).stat().st_mtime_ns
    except OSError:
        return 0


def test_a_killed_run_ends_as_if_it_had_not_been(tiny, tmp_path: Path) -> None:
    """Checkpoints after every step; kill -9 at random moments, in writing, in scoring, in between."""
    changes = {
        "epochs": 5, "batch": 2, "average": 0.9, "checkpoint_minutes": 0.0, "select": "mean IoU", "clip": 1.0,
        "schedule": {"kind": "cosine", "warm_up": 3}, "augment": [{"name": "turn"}, {"name": "usual-bands"}],
    }  # fmt: skip
    whole = fit(tiny(**changes, output=str(tmp_path / "whole")))
    config = tiny(**changes, output=str(tmp_path / "killed"))
    assert killed_until_done(config, kills=2, seed=5) >= 1
    assert_same(whole.folder, tmp_path / "killed")


@pytest.mark.slow
def test_ten_kills_change_nothing_with_dropout_workers_and_plateau(tiny, tmp_path: Path) -> None:
    changes = {
        "model": {"name": "senseiv2-unet", "options": {"widths": [8, 8], "channels": 8}},
        "epochs": 15, "batch": 2, "accumulate": 2, "workers": 1, "checkpoint_minutes": 0.0, "select": "mean IoU",
        "schedule": {"kind": "plateau", "patience": 1, "factor": 0.5}, "stopping": {"patience": 30},
        "augment": [{"name": "turn"}, {"name": "sample-bands"}, {"name": "noise"}], "pictures": 1,
    }  # fmt: skip
    whole = fit(tiny(**changes, output=str(tmp_path / "whole")))
    config = tiny(**changes, output=str(tmp_path / "killed"))
    assert killed_until_done(config, kills=10, seed=1) == 10
    assert_same(whole.folder, tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tiny, tmp_path: Path) -> None:
    whole = fit(tiny(**MAMBA, batch=4, epochs=2, output=str(tmp_path / "whole")))
    config = tiny(**MAMBA, batch=2, epochs=2, output=str(tmp_path / "two"))
    path = tmp_path / "two.yaml"
    path.write_text(config.dump(), encoding="utf-8")
    assert read_config(path) == config
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "unclouded", "train",
        "-c", str(path),
    ]  # fmt: skip
    given = {"capture_output": True, "text": True, "timeout": 900, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    done = subprocess.run(command, **given)
    assert done.returncode == 0, done.stderr[-3000:]
    two = load_run(tmp_path / "two")
    for key, value in whole.network("last").state_dict().items():
        torch.testing.assert_close(two.network("last").state_dict()[key], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(whole.log(), two.log(), strict=True):
        for name in ("train loss", "loss", "mean IoU", "cloud IoU"):
            assert other[name] == pytest.approx(one[name], rel=1e-4), name
    again = subprocess.run([*command, "--resume"], **given)
    assert again.returncode == 0, again.stderr[-3000:]
    with pytest.raises(InputError, match="processes was 2, is 1"):
        fit(config, resume=True)
