"""Runs: train what a configuration says, and find a finished run again.

    run = fit(read_config("mscloudcam", ["roots.cloudsen12=/data", "output=runs/first"]))
    run = load_run("runs/first")
    net = run.network()

A run's folder holds ``config.yaml`` (every key written out), ``run.json`` (what followed from the data: bands,
normalisation, number of images), ``last.pt`` and ``previous.pt`` to go on from, ``best.pt``, ``log.csv``,
``tensorboard/`` and ``pictures/``.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import models
from ..classes import CLASSES
from ..errors import InputError, ModelError, OutputError
from ..scene import Band
from ..write.atomic import write_text
from . import checkpoint
from .config import RunConfig
from .config_file import read_config
from .corpus import Normalisers, Source, choose_bands, fingerprint, fit_normalisers, open_sources
from .job import Job
from .journal import TABLE, Journal, panel
from .loop import drawn, make_fabric
from .loop import run as run_loop
from .optim import Schedule, freeze, make_optimiser
from .patches import Patches
from .targets import SCHEMES
from .tasks import Loss, MaskScores, counter, predicted, weight_of

log = logging.getLogger("unclouded")

CONFIG, FACTS = "config.yaml", "run.json"

NEUTRAL = ("title", "roots", "output", "workers", "pictures", "checkpoint_minutes")
"""Keys that do not change what is learned: a resumed run may have others."""

_COLOURS = {one.name.removesuffix("-cloud").removeprefix("cloud-"): one.color for one in CLASSES}
_COLOURS["cloud"] = (255, 255, 255)


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        folder: where it is.
        config: its configuration.
        options: of the network, complete.
        front_end: of the network.
        descriptor: entries of a SEnSeI-v2 descriptor, else 0.
        normalisers: its scaling.
        facts: what else followed from the data: ``bands`` (of networks with fixed bands), ``sources``, ``parameters``.
    """

    folder: Path
    config: RunConfig
    options: dict[str, Any]
    front_end: str
    descriptor: int
    normalisers: Normalisers
    facts: dict[str, Any]

    def network(self, which: str = "best") -> nn.Module:
        """The network with the weights of the ``best`` epoch or the ``last`` one, in eval mode on the CPU.

        Averaged weights are taken where the run averages.

        Raises:
            InputError: the run has not come that far.
        """
        name = {"best": checkpoint.BEST, "last": checkpoint.LAST}[which]
        net = models.create(self.config.model.name, **without_download(self.options)).eval()
        net.load_state_dict(_weights(checkpoint.read(self.folder / name)))
        return net

    def log(self) -> list[dict[str, float]]:
        """The rows of the log, one for each epoch."""
        with (self.folder / TABLE).open(newline="", encoding="utf-8") as stream:
            return [
                {key: float(value) if value else math.nan for key, value in row.items()}
                for row in csv.DictReader(stream)
            ]

    def patches(self) -> Patches:
        """The run's batches again, from the data where its configuration says they are."""
        return Patches(
            self.config, open_sources(self.config), self.normalisers, self.front_end, self.descriptor
        )


def fit(
    config: RunConfig, *, resume: bool = False, progress: Callable[[float], None] | None = None
) -> Run:
    """Train a network as a configuration says.

    Args:
        config: see :mod:`unclouded.train.config`.
        resume: go on with the run in ``config.output``, if there is one.
        progress: called with the share done.

    Returns:
        The finished run.

    Raises:
        OutputError: the output folder holds a run, and ``resume`` was not asked for.
        InputError: data or configuration do not fit together.
        ModelError: the network cannot be made, or its loss is no longer a number.
        MissingDependencyError: the extra ``train`` is not installed.
    """
    folder = config.output
    if not resume and (folder / checkpoint.LAST).exists():
        raise OutputError(
            f"The folder {folder} holds a training run.",
            expected="A new run begins in a new folder.",
            remedy="Pass --resume to go on with it, or choose another output.",
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = make_fabric(config.accelerator, config.devices, config.nodes, config.precision)
    fabric.launch()
    sources = open_sources(config)
    if not any(source.records["choose"] for source in sources):
        raise InputError(
            "The data have no image for model choice.",
            expected="Weights are chosen by images that are not trained on.",
            remedy="Set data.0.choose_share=0.1 to put a tenth of the training scenes aside.",
        )
    torch.manual_seed(config.seed)
    net, options = make_network(config)
    if fabric.global_rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / checkpoint.LAST).exists():
            log.info("going on with the run in %s", folder)
        else:
            _store(config, sources, net, options)
    fabric.barrier()
    run = load_run(folder)
    patches = Patches(config, sources, run.normalisers, run.front_end, run.descriptor)
    loss = Loss(config, net)
    job = Job(
        net=net,
        optimiser=make_optimiser(net, config.optimiser),
        schedule=Schedule(config.schedule, config.optimiser.rate, config.accumulate),
        draw=patches.draw,
        loss=loss,
        weight=weight_of,
        judge=lambda judged: judge(judged, patches, loss, fabric),
        epochs=config.epochs or 1,
        images=patches.order.length,
        batch=config.batch,
        steps=config.steps,
        identity=_identity(config, sources, fabric.world_size),
        seed=config.seed,
        clip=config.clip,
        average=config.average,
        select=config.select,
        patience=None if config.stopping is None else config.stopping.patience,
        least=0.0 if config.stopping is None else config.stopping.least,
        workers=config.workers,
        checkpoint_minutes=config.checkpoint_minutes,
        picture=(lambda judged, journal, epoch: _picture(judged, patches, journal, epoch)) if config.pictures else None,
    )
    run_loop(job, folder, fabric, progress)
    return run


def load_run(folder: str | os.PathLike[str]) -> Run:
    """A run by its folder.

    Raises:
        InputError: the folder does not hold a run.
    """
    path = Path(folder).expanduser()
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        config = read_config(path / CONFIG).model_copy(update={"output": path})
        return Run(
            path, config, facts.pop("options"), facts.pop("front_end"), facts.pop("descriptor"),
            Normalisers.from_dict(facts.pop("normalisers")), facts,
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as err:
        if isinstance(err, InputError) and (path / CONFIG).exists():
            raise
        raise InputError(
            f"The folder {path} holds no training run: {err}.",
            expected=f"It has {CONFIG} and {FACTS}, which 'unclouded train' writes.",
            remedy="Name the folder that was the run's output.",
        ) from err


def make_network(config: RunConfig) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run with its first weights, frozen where asked for, and its complete options.

    Raises:
        InputError: the configuration lacks the bands that the network needs.
        ModelError: there is no such network or option, or the weights to start from do not fit.
    """
    part = config.model
    bands = None if config.bands is None else len(config.bands)
    if config.task == "removal":
        options: dict[str, Any] = {"bands": bands, "sar_bands": 2 if config.sar else 0, **part.options}
    else:
        options = {"classes": len(SCHEMES[config.classes].names), **part.options}
    try:
        if config.task == "mask" and bands is not None:
            try:
                net = models.create(part.name, **{"bands": bands, **options})
                options = {"bands": bands, **options}
            except TypeError as err:
                if "'bands'" not in str(err):
                    raise
                net = models.create(part.name, **options)  # sensor-independent: the descriptors say what bands are
        else:
            net = models.create(part.name, **options)
    except TypeError as err:
        raise ModelError(
            f"The network '{part.name}' does not take these options: {err}.",
            expected=f"model.options holds options of the network's class, and the network is for '{config.task}'.",
            remedy="Correct model.options, or the task of the run.",
        ) from err
    if getattr(net, "task", "mask") != config.task:
        raise ModelError(
            f"The network '{part.name}' is for the task '{getattr(net, 'task', 'mask')}'.",
            expected=f"The task of this run is '{config.task}'.",
            remedy="Choose another network, or another task.",
        )
    if config.task == "mask" and _front_end(net) == "fixed" and bands is None:
        raise InputError(
            f"The configuration does not say which bands the network '{part.name}' is given.",
            expected="A network without band descriptors needs 'bands', in their order.",
            remedy="Add for example 'bands: [blue, green, red, nir]'.",
        )
    if config.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if part.start is not None:
        start_from(net, Path(part.start).expanduser())
    if part.freeze:
        log.info("%d numbers are frozen", freeze(net, part.freeze))
    return net, options


def without_download(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network whose weights come from a file: nothing pretrained is fetched for it, nor for its parts."""
    return {
        key: without_download(value) if isinstance(value, Mapping) else value
        for key, value in options.items()
        if key != "pretrained"
    }


def start_from(net: nn.Module, path: Path) -> list[str]:
    """Give a network the weights of a run's best epoch, a checkpoint, or a safetensors file.

    Parameters that the file does not have keep their values: a second stage starts from the first.

    Returns:
        Names of these parameters.

    Raises:
        InputError: the file cannot be read.
        ModelError: it holds weights that the network has no place for, or none at all that it has.
    """
    if path.suffix == ".safetensors":
        try:
            state: dict[str, Tensor] = load_file(path)
        except (OSError, ValueError, RuntimeError) as err:
            raise InputError(
                f"The weights {path} cannot be read: {err}.",
                expected="It is a safetensors file.",
                remedy="Correct model.start.",
            ) from err
    else:
        state = _weights(checkpoint.read(path / checkpoint.BEST if path.is_dir() else path))
    own = net.state_dict()
    odd = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    missing = [name for name in own if name not in state]
    if odd or len(missing) == len(own):
        raise ModelError(
            f"The weights {path} do not fit the network: '{odd[0] if odd else missing[0]}' has no place or another"
            " shape.",
            expected="They come from the same network, or from a part of it.",
            remedy="Correct model.start, or the options of the network.",
        )
    net.load_state_dict(state, strict=False)
    log.info("%d of %d weights come from %s", len(own) - len(missing), len(own), path)
    return missing


def judge(net: nn.Module, patches: Patches, loss: Loss, fabric: Any) -> dict[str, float]:
    """Scores of a network on the images for model choice, counted over all processes."""
    counts = counter(patches.config)
    places = range(fabric.global_rank, patches.judge_count(), fabric.world_size)
    for batches in drawn(patches.judge, places, patches.config.workers):
        for batch in batches:
            moved = batch.to(fabric.device)
            outputs, value = loss.judged(net, moved)
            counts.add(outputs, moved, value)
    if fabric.world_size > 1:
        for one in counts.tensors():
            one.copy_(fabric.all_reduce(one.to(fabric.device), reduce_op="sum"))
    return counts.scores()


def _store(config: RunConfig, sources: Sequence[Source], net: nn.Module, options: Mapping[str, Any]) -> None:
    """Write what the run follows, before its first step."""
    front = _front_end(net)
    bands, gsd_m, levels = _probe(config, sources)
    facts = {
        "options": options,
        "front_end": front,
        "descriptor": int(net.front.used) if front == "senseiv2" else 0,  # type: ignore[union-attr, arg-type]
        "bands": None if bands is None else [asdict(band) for band in bands],
        "gsd_m": gsd_m,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "sources": [
            {
                "name": source.part.name, "title": source.data.title, "licence": source.data.licence, "level": level,
                "images": {split: len(records) for split, records in source.records.items()},
            }
            for source, level in zip(sources, levels, strict=True)
        ],
        "normalisers": fit_normalisers(sources, config).as_dict(),
    }  # fmt: skip
    write_text(config.output / CONFIG, config.dump(), "config")
    write_text(config.output / FACTS, json.dumps(facts, indent=1) + "\n", "run")


def _probe(
    config: RunConfig, sources: Sequence[Source]
) -> tuple[tuple[Band, ...] | None, list[float], list[str]]:
    """Bands where the run fixes them, and pixel size and level of every source, from its first image."""
    chosen: tuple[Band, ...] | None = None
    sizes, levels = [], []
    for source in sources:
        record = next(record for split in ("train", "choose", "test") for record in source.records[split])
        if config.task == "removal":
            pair = source.data.read_pair(record)
            image, bands, gsd_m, level = pair.cloudy, pair.bands, pair.gsd_m, ""
        else:
            sample = source.data.read(record)
            image, bands, gsd_m, level = np.asarray(sample.image, np.float32), sample.bands, sample.gsd_m, sample.level
        if config.bands is not None:
            _, found = choose_bands(image, bands, config.bands, f"Image '{record.name}' of '{source.part.name}'")
            chosen = chosen or found
        sizes.append(float(gsd_m))
        levels.append(level)
    return chosen, sizes, levels


def _identity(config: RunConfig, sources: Sequence[Source], world: int) -> str:
    values = {key: value for key, value in config.model_dump(mode="json").items() if key not in NEUTRAL}
    values["data"] = [{key: one for key, one in part.items() if key != "root"} for part in values["data"]]
    values |= {"images": fingerprint(sources), "processes": world}
    return json.dumps(values, sort_keys=True)


def _front_end(net: nn.Module) -> str:
    return str(getattr(net, "front_end", "fixed"))


def _weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = state.get("mean") or state["net"]
    return found


def _picture(net: nn.Module, patches: Patches, journal: Journal, epoch: int) -> None:
    """Image, label and prediction side by side, or cloudy, restored and clear."""
    rows = []
    config = patches.config
    device = next(net.parameters()).device
    net.eval()
    for number in range(min(config.pictures, len(patches.judged))):
        batch, bands = patches.shown(number)
        given = [part.to(device) for part in (batch.image, batch.beside) if part is not None]
        with torch.no_grad():
            found = net(*given).float().cpu()
        image = batch.image[0].numpy()
        if config.task == "removal":
            rows.append(panel(image, bands, [found[0].numpy(), batch.target[0].numpy()]))
            continue
        counts = MaskScores(config.classes)
        truth = counts.certain[batch.target.long()][0].numpy()
        codes = predicted(found, counts.members)[0].numpy().astype(np.uint8)
        rows.append(panel(image, bands, [truth, codes], [_COLOURS[name] for name in counts.names]))
    if rows:
        journal.picture(epoch, np.concatenate(rows, axis=1))
