"""``unclouded eval``: judge runs, models and masks on a data set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._talk import Talk

if TYPE_CHECKING:
    from ..train.evaluate import Evaluation, Part, Test

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("data", metavar="NAME[=FOLDER]")
@click.option("--run", "runs", multiple=True, type=_FOLDER, metavar="FOLDER", help="A training run.")
@click.option("--model", "models", multiple=True, metavar="NAME|PATH", help="A packaged model, such as default.")
@click.option("--mask", "programs", multiple=True, metavar="NAME", help="A mask that the data set holds: s2cloudless.")
@click.option("--masks", "folders", multiple=True, metavar="FOLDER[=DECODER]", help="A folder of mask rasters.")
@click.option("--last", is_flag=True, help="Take the weights of a run's last epoch instead of the best.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the data set: level=l2a.")
@click.option("--scheme", help="How the data set is split. Default: its usual split.")
@click.option(
    "--part", type=click.Choice(["train", "choose", "test", "all"]), default="test", show_default=True,
    help="Which part of the split.",
)  # fmt: skip
@click.option("--where", multiple=True, metavar="TAG=VALUE", help="Keep images by their tags: biome=urban.")
@click.option("--limit", type=click.IntRange(min=1), help="Judge so many images at most.")
@click.option(
    "--classes", type=click.Choice(["four", "three", "five", "cloud"]), default="four", show_default=True,
    help="What is judged; three is clear, shadow, cloud; five has land, water and snow.",
)  # fmt: skip
@click.option("--by", multiple=True, metavar="TAG", help="Also by a tag, by scene, or by cover.")
@click.option("--bands", metavar="B02,B03,...", help="Give sensor-independent networks these bands only.")
@click.option("--no-sar", is_flag=True, help="Leave radar out.")
@click.option("--no-dem", is_flag=True, help="Leave elevation out.")
@click.option(
    "--hard", type=click.FloatRange(0, 1, min_open=True), metavar="SHARE",
    help="Also judge the share of the images that the first contestant is least sure of.",
)  # fmt: skip
@click.option("--absent-is-zero", is_flag=True, help="Count classes that do not occur as 0, as MSCloudCAM does.")
@click.option("--pictures", type=click.IntRange(min=0), default=0, show_default=True, help="Draw so many images.")
@click.option("-o", "--output", type=_FOLDER, metavar="FOLDER", help="Write JSON, Markdown and pictures there.")
@click.pass_context
def command(ctx: click.Context, data: str, output: Path | None, pictures: int, **given: Any) -> None:
    """Judge training runs, packaged models and other programs' masks on the data set NAME in FOLDER.

    Networks that rebuild images are judged by PSNR, SSIM, MAE and SAM over all, cloudy and clear pixels.

    Example: unclouded eval cloudsen12=/data/cloudsen12 --run runs/first --mask s2cloudless --by difficulty -o report
    """
    from rasterio.errors import NotGeoreferencedWarning

    from ..train.evaluate_report import write_report
    from ..train.run import load_run

    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # patches of data sets have no place on Earth
    talk = ctx.find_object(Talk) or Talk()
    if pictures and output is None:
        raise click.UsageError("--pictures needs --output.", ctx)
    loaded = [load_run(run) for run in given["runs"]]
    removal = bool(loaded) and loaded[0].config.task == "removal"
    if not (loaded or given["models"] or given["programs"] or given["folders"]):
        raise click.UsageError("Give something to judge: --run, --model, --mask or --masks.", ctx)
    if removal and (given["models"] or given["programs"] or given["folders"]):
        raise click.UsageError("Masks and networks that rebuild images are judged apart.", ctx)
    test = _test(data, given, "removal" if removal else "mask")
    with talk.progress(f"Judging on {test.title}") as progress:
        judge = _removal if removal else _masks
        found = judge(loaded, test, given, output if pictures else None, pictures, progress)
    text = _reported(found, given, output, write_report)
    for one in found:
        values = {key: None if math.isnan(value.value) else value.value for key, value in one.figures().items()}
        talk.emit({"name": one.name, "test": one.test, "images": len(one.images), **values})
    talk.put(text)


def _test(data: str, given: dict[str, Any], task: str) -> Test:
    import yaml

    from ..train.config import DataPart
    from ..train.evaluate import open_test

    name, _, folder = data.partition("=")

    def read(pairs: Sequence[str], option: str) -> dict[str, Any]:
        for pair in pairs:
            if not all(pair.partition("=")):
                raise click.BadParameter(f"'{pair}' is not of the form KEY=VALUE.", param_hint=option)
        return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}

    part = DataPart(
        name=name, root=Path(folder).expanduser() if folder else None, options=read(given["options"], "--option"),
        scheme=given["scheme"], where=read(given["where"], "--where"), limit=given["limit"],
    )  # fmt: skip
    which: Part = given["part"]
    return open_test(part, which, task=task)


def _masks(
    loaded: Sequence[Any], test: Test, given: dict[str, Any], folder: Path | None, pictures: int, progress: Any
) -> Sequence[Evaluation[Any]]:
    from ..train.evaluate import evaluate
    from ..train.evaluate_models import Contestant, HeldMask, MaskFolder, PackagedModel, TrainedRun

    bands = given["bands"].split(",") if given["bands"] else None
    which = "last" if given["last"] else "best"
    contestants: list[Contestant] = [
        TrainedRun(run, which, bands=bands, sar=not given["no_sar"], dem=not given["no_dem"]) for run in loaded
    ]
    contestants += [PackagedModel(name) for name in given["models"]]
    contestants += [HeldMask(name) for name in given["programs"]]
    for value in given["folders"]:
        path, _, decoder = value.partition("=")
        contestants.append(MaskFolder(path, decoder or None))
    watch: Callable[..., None] | None = None
    if folder is not None:
        watch = _mask_pictures(contestants, given["classes"], folder, pictures)
    found = evaluate(
        contestants, test, classes=given["classes"], absent_is_zero=given["absent_is_zero"], watch=watch,
        progress=progress,
    )  # fmt: skip
    if folder is not None:
        from ..train.evaluate_plots import confusion_plot, reliability_plot

        for one in found:
            confusion_plot(one, folder / f"confusion-{one.name}.png")
        reliability_plot(found, folder / "reliability.png")
    return found


def _mask_pictures(contestants: Sequence[Any], classes: str, folder: Path, pictures: int) -> Callable[..., None]:
    from ..train.evaluate_plots import panels, stages_plot

    drawn: list[str] = []

    def watch(record: Any, sample: Any, said: Any) -> None:
        if len(drawn) < pictures:
            drawn.append(record.name)
            panels(sample, said, contestants, classes, folder / f"panels-{len(drawn):03d}.png")
            for name, one in said.items():
                stages_plot(sample, one, folder / f"stages-{len(drawn):03d}-{name}.png")

    return watch


def _removal(
    loaded: Sequence[Any], test: Test, given: dict[str, Any], folder: Path | None, pictures: int, progress: Any
) -> Sequence[Evaluation[Any]]:
    from ..train.evaluate_plots import removal_plot
    from ..train.evaluate_removal import RemovalRun, Restorer, Untouched, evaluate_removal

    which = "last" if given["last"] else "best"
    restorers: list[Restorer] = [*(RemovalRun(run, which) for run in loaded), Untouched(loaded[0])]
    drawn: list[str] = []

    def watch(record: Any, made: Any) -> None:
        if folder is not None and len(drawn) < pictures:
            drawn.append(record.name)
            removal_plot(made, folder / f"restored-{len(drawn):03d}.png")

    return evaluate_removal(restorers, test, watch=watch, progress=progress)


def _reported(found: Sequence[Any], given: dict[str, Any], output: Path | None, write: Callable[..., str]) -> str:
    from ..train.evaluate_report import report_text

    if output is not None:
        return write(found, output, by=given["by"], hard=given["hard"])
    return report_text(found, by=given["by"], hard=given["hard"])
