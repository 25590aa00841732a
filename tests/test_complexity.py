"""What networks cost: counts against the libraries' and the papers', memory of a step against known tensors."""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from unclouded import models  # noqa: E402
from unclouded.cli import commands  # noqa: E402
from unclouded.errors import ModelError  # noqa: E402
from unclouded.models import complexity as cx  # noqa: E402
from unclouded.models.step_memory import LiveBytes, StepMemory, step_memory, training_steps  # noqa: E402
from unclouded.nn.kernel_basis import MFFBlock  # noqa: E402
from unclouded.nn.ss2d import SS2D  # noqa: E402
from unclouded.train.config_file import protocols, read_config  # noqa: E402

_NEEDED = ("transformers", "segmentation_models_pytorch", "torchvision")
baselines = pytest.mark.skipif(not all(map(find_spec, _NEEDED)), reason="needs the extra 'baselines'")

ROWS = {
    "smp.Unet/mobilenet_v2": ("unet-mobilenetv2", 13),
    "smp.Unet/resnet101": ("unet-resnet101", 13),
    "smp.DeepLabV3Plus/resnet34": ("deeplabv3plus-resnet34", 13),
    "smp.DeepLabV3Plus/resnet50": ("deeplabv3plus-resnet50", 13),
    "smp.DeepLabV3Plus/resnet101": ("deeplabv3plus-resnet101", 13),
    "smp.DeepLabV3Plus/mobilenet_v2": ("deeplabv3plus-mobilenetv2", 13),
    "smp.UnetPlusPlus/mobilenet_v2": ("unetplusplus-mobilenetv2", 13),
    "smp.UnetPlusPlus/resnet101": ("unetplusplus-resnet101", 13),
    "smp.DeepLabV3Plus/resnet101 (3 bands)": ("deeplabv3plus-resnet101", 3),
    "smp.Unet/resnet101 (3 bands)": ("unet-resnet101", 3),
    "smp.UnetPlusPlus/resnet101 (3 bands)": ("unetplusplus-resnet101", 3),
    "smp.DeepLabV3Plus/mobilenet_v2 (3 bands)": ("deeplabv3plus-mobilenetv2", 3),
    "smp.Unet/mobilenet_v2 (3 bands)": ("unet-mobilenetv2", 3),
    "smp.UnetPlusPlus/mobilenet_v2 (3 bands)": ("unetplusplus-mobilenetv2", 3),
    "smp.UPerNet/resnet50": ("upernet-resnet50", 13),
    "SegFormer/B0": ("segformer-b0", 13),
    "SegFormer/B2": ("segformer-b2", 13),
    "SegFormer/B5": ("segformer-b5", 13),
    "SegFormer/B3 (3 bands)": ("segformer-b3", 3),
    "SegFormer/B3, decoder width 512 (3 bands)": ("segformer-b3-narrow", 3),
    "Mask2Former/Swin-T (4 labels)": ("mask2former-swin-t", 13),
    "Mask2Former/Swin-T (3 bands, 150 labels)": ("mask2former-swin-t", 3),
    "UPerNet/Swin-T with auxiliary head": ("upernet-swin-t", 13),
}
"""Row of the reference's table: network here, bands."""

QUICK = ("smp.Unet/mobilenet_v2", "smp.DeepLabV3Plus/mobilenet_v2 (3 bands)", "SegFormer/B0")


@baselines
@pytest.mark.parametrize("row", [row if row in QUICK else pytest.param(row, marks=pytest.mark.slow) for row in ROWS])
def test_counts_are_those_of_the_libraries(shared_reference, row):
    known = json.loads((shared_reference / "complexity.json").read_text())["models"][row]
    name, bands = ROWS[row]
    found = cx.complexity(name, {"bands": bands, "classes": known["arguments"]["classes"]})
    assert found.parameters == pytest.approx(known["parameters"], rel=0.02)
    if not row.startswith("Mask2Former"):  # the library leaves out how queries become a map of classes
        assert found.multiply_adds / 1e9 == pytest.approx(known["torch_gmac"], rel=2e-3)


def test_every_row_of_the_reference_is_compared(shared_reference):
    assert set(json.loads((shared_reference / "complexity.json").read_text())["models"]) == set(ROWS)


@baselines
@pytest.mark.parametrize(
    "row",
    [row if row.model == "mscloudcam" else pytest.param(row, marks=pytest.mark.slow) for row in cx.published()],
    ids=lambda row: f"{row.printed}, {row.options['bands']} bands",
)
def test_published_figures(row):
    found = cx.complexity(row.model, row.options)
    assert found.published == row
    assert found.parameters == pytest.approx(row.parameters, rel=0.01)
    if row.multiply_adds:
        published = row.multiply_adds + (3.42e9 if row.model == "mscloudcam" else 0.0)
        assert found.multiply_adds == pytest.approx(published, rel=0.03)


def test_cross_attention_of_mscloudcam():
    with torch.device("meta"):
        net = models.create("mscloudcam")
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(47.44e6, rel=1e-3)
    assert sum(p.numel() for p in net.cam.parameters()) == 1_772_544


def test_scans_are_counted_step_by_step():
    block, counted = SS2D(6, expand=2, state=5), cx.Counted()
    with counted.watching(block):
        block(torch.zeros(2, 6, 3, 7))
    once = 0
    for _direction in range(4):
        for _image in range(2):
            for _step in range(3 * 7):
                for _channel in range(12):
                    once += 2  # dt u, D u
                    once += 5 * 4  # dt A, B (dt u), a h + ., C h + .
    assert counted.scan == once
    block(torch.zeros(1, 6, 3, 7))
    assert counted.scan == once  # nothing is counted outside


def test_mixed_kernels_cost_what_an_ordinary_grouped_convolution_costs():
    block, counted = MFFBlock(8), cx.Counted()
    with torch.no_grad(), counted.watching(block):
        block(torch.zeros(1, 8, 5, 6))
    assert counted.kernels == 5 * 6 * 8 * 4 * 9


def test_costs_grow_with_the_pixels():
    small, large = (cx.complexity("cloudmamba", {"preset": "tiny", "levels": 3}, side=side) for side in (32, 64))
    assert large.multiply_adds == pytest.approx(4 * small.multiply_adds, rel=1e-6)
    assert large.scan == 4 * small.scan > 0
    assert large.parameters == small.parameters


def test_speed_is_measured_on_this_machine():
    speed = cx.complexity("slots-unet", side=32, time_it=True, batch=2, rounds=3).speed
    assert 0 < speed.latency < 60
    assert speed.images_per_second > 0
    assert speed.threads == torch.get_num_threads()


@pytest.mark.slow
@baselines
@pytest.mark.parametrize("name", models.names())
def test_every_network_can_be_counted(name):
    cost = cx.complexity(name, side=64)
    assert cost.parameters > 1e4
    assert cost.multiply_adds > 64 * 64 * cost.bands


# Memory of a training step


def test_storages_are_counted_once_and_let_go():
    with LiveBytes() as live:
        x = torch.zeros(1000)  # 4000 bytes, rounded up to blocks
        assert live.now == 4096
        view = x.view(10, 100)[:5]
        assert live.now == 4096
        del x
        assert live.now == 4096
        del view
        assert live.now == 0
        assert live.peak == 4096


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_step_of_a_linear_chain(device):
    torch.manual_seed(0)
    w = 1 << 20
    net = torch.nn.Sequential(torch.nn.Linear(1024, 1024, bias=False), torch.nn.Linear(1024, 1, bias=False)).to(device)
    x = torch.zeros(1 << 12, 1024, device=device)
    found = step_memory(net, lambda: net(x).sum())
    assert found.parameters == 4 * (w + 1024)
    # Two moments, and one step counter for each of the two weights.
    assert found.state == pytest.approx(2 * found.parameters, abs=2048)
    # The hidden map and its gradient; the input is made outside, and the map is gone when the weights get theirs.
    assert found.peak == pytest.approx(found.parameters + found.state + 2 * 4 * x.numel(), rel=0.001)


@pytest.mark.parametrize("name", ["slots-unet", "mscloudcam", "cloudmamba", "mmcanet"])
def test_memory_without_values_is_memory_with_values(name):
    from unclouded.models.step_memory import training_loss

    options = {
        "mscloudcam": {"embed": 24, "depths": [1] * 4, "heads": [1, 1, 2, 2]},
        "cloudmamba": {"preset": "tiny", "levels": 2},
        "mmcanet": {"widths": (8, 16, 32), "blocks": (1, 1, 1)},
    }.get(name, {})
    peaks = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for device in ("cpu", "meta"):
            net = models.create(name, **options).to(device).train()
            inputs = cx.example_inputs(net, 2, 32, torch.device(device))
            peaks[device] = step_memory(net, lambda net=net, inputs=inputs: training_loss(net, inputs)).peak
    finally:
        torch.set_num_threads(threads)
    # Scans and band sines work in smaller pieces on a CPU.
    assert peaks["meta"] == pytest.approx(peaks["cpu"], rel=0.15)


def test_reserve_is_left_free():
    assert StepMemory(0, 0, 21 * 10**9).fits(24 * 10**9)
    assert not StepMemory(0, 0, 22 * 10**9).fits(24 * 10**9)


def test_parts_make_up_the_papers_batch():
    for step in training_steps().values():
        assert step.batch * step.accumulate == step.paper_batch, step.name
        assert step.model in models.names()


STEP_OF = {"unet-mobilenetv2": "unet-mobilenetv2-percentile"}
"""Network of a protocol: its step, where the names differ."""


@pytest.mark.parametrize("name", protocols())
def test_protocols_train_in_parts_that_fit(name):
    config = read_config(name)
    step = training_steps()[STEP_OF.get(config.model.name, config.model.name)]
    assert step.model == config.model.name
    assert config.batch <= step.batch
    assert config.batch * config.accumulate == step.paper_batch
    assert config.patch.size == (128 if name == "simulated" else step.side)


def test_every_preset_of_the_five_systems_has_a_step():
    from unclouded.models.cloudmamba import PRESETS
    from unclouded.models.senseiv2 import PRESETS as ENCODERS

    steps = training_steps().values()
    systems = ("mscloudcam", "cloudmamba", "unet-mobilenetv2", "mmcanet", "mpir", "sensei")
    generic = {"sensei"}  # any of the others by another name
    assert {step.model for step in steps} >= {name for name in models.names() if name.startswith(systems)} - generic
    assert {step.options.get("preset", "paper") for step in steps if step.model == "cloudmamba"} == set(PRESETS)
    encoders = {step.options.get("front", "medium") for step in steps if step.model == "senseiv2-segformer-b2"}
    assert encoders == set(ENCODERS)


QUICK_STEPS = ("mscloudcam", "senseiv2-segformer-b0")


@baselines
@pytest.mark.parametrize(
    "name", [name if name in QUICK_STEPS else pytest.param(name, marks=pytest.mark.slow) for name in training_steps()]
)
def test_the_default_part_of_a_step_fits_24_gigabytes(name):
    step, row = training_steps()[name], page("step")[name]
    found = step.memory()
    assert found.fits(24 * 10**9)
    assert row[:2] == [str(step.side), str(step.paper_batch)]
    assert row[4] == f"{step.accumulate} x {step.batch}"
    assert float(row[5]) == pytest.approx(found.peak / 1e9, rel=0.01)


def test_the_page_has_every_step_and_every_network():
    assert list(page("step")) == list(training_steps())
    assert set(page("network")) == set(models.names())


def page(first):
    """Rows of the table of docs/models-cost.md whose first column is called so, by that column."""
    lines = iter((Path(__file__).parents[1] / "docs" / "models-cost.md").read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(str.strip, lines))
    return {row[0]: row[1:] for row in rows}


def test_command(tmp_path):
    run = CliRunner().invoke(commands, ["models", "complexity", "mscloudcam"])
    assert run.exit_code == 0, run.output
    assert "47.446" in run.output
    assert "38.98" in run.output
    assert "without the cross-attention" in run.output
    run = CliRunner().invoke(commands, ["models", "complexity", "slots-unet", "--markdown", "--side", "64"])
    assert run.output.splitlines()[1].startswith("| --- | ---: |")
    run = CliRunner().invoke(commands, ["models", "complexity", "slots-unet", "--json"])
    assert json.loads(run.output)["bands"] == 13
    run = CliRunner().invoke(commands, ["models", "complexity", "unet-mobilenetv2-percentile", "--memory", "--json"])
    told = json.loads(run.output)
    assert told["paper_batch"] == told["batch"] * told["accumulate"] == 16
    assert told["default"]["peak"] > told["default"]["parameters"] + told["default"]["state"]


def test_measured_times_stand_beside_the_published(monkeypatch):
    monkeypatch.setattr(cx, "measure_speed", lambda *_, **__: cx.Speed(0.25, 0.5, 3.0, 4, 1, "a processor"))
    run = CliRunner().invoke(commands, ["models", "complexity", "mscloudcam", "--time", "--markdown"])
    header, _, row, *notes = run.output.splitlines()
    found = dict(zip(header.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=False))
    assert (found["ms an image"], found["processor ms"], found["images a second"]) == ("250", "500", "3.0")
    assert (found["published ms"], found["published images a second"]) == ("15.9", "62.7")
    assert any("A100" in note for note in notes)
    assert any("a processor" in note for note in notes)


def test_unknown_names_are_told():
    for argument in ("resnet", "--memory"):
        words = ["models", "complexity", "resnet", *([argument] if argument.startswith("-") else [])]
        run = CliRunner().invoke(commands, words)
        assert isinstance(run.exception, ModelError)
        assert "resnet" in str(run.exception)
