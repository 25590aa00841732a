"""Measure a table of a paper again: train or load what its rows need, and put both figures side by side.

Trainings lie in ``runs/NAME`` of the output folder. Tables share them, and one that was cut short goes on.

The quick form goes the whole way at toy size, see :mod:`unclouded.train.reproduce_quick`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data import sets
from ..data.labels import class_names
from ..data.sets.base import shares
from ..errors import InputError
from ..experiments import Experiment, Row, RunSpec, read_experiment
from ..models.complexity import complexity
from ..write.atomic import write_text
from .config import DataPart, RunConfig
from .config_file import read_config
from .evaluate import Evaluation, Test, evaluate, open_test
from .evaluate_judge import JUDGED
from .evaluate_models import Contestant, HeldMask, TrainedRun
from .evaluate_removal import RemovalRun, evaluate_removal
from .evaluate_tables import Figure, markdown
from .reproduce_quick import QUICK_SIDE, make_fake, quick_config, quick_test
from .run import Run, fit, load_run

COUNTS = ("images", "scenes", "train", "choose", "test")
"""Columns that are numbers, whatever the scale of the table."""


@dataclass(frozen=True)
class Line:
    """One row of a reproduced table.

    Attributes:
        row: what it is.
        measured: figures by column, empty where unclouded cannot measure the row.
    """

    row: Row
    measured: Mapping[str, Figure]


@dataclass(frozen=True)
class Reproduction:
    """A table with printed and measured figures.

    Attributes:
        experiment: the table.
        lines: its rows.
        quick: whether this was the toy form.
    """

    experiment: Experiment
    lines: tuple[Line, ...]
    quick: bool

    def text(self) -> str:
        """The table in Markdown: printed and measured for every column that has either."""
        table = self.experiment
        used = [
            column for column in table.columns
            if any(column in line.row.paper or column in line.measured for line in self.lines)
        ]  # fmt: skip
        header = ["", *(f"{column}, {kind}" for column in used for kind in ("paper", "measured"))]
        rows = [
            [line.row.name, *(cell for column in used for cell in self._cells(line, column))] for line in self.lines
        ]
        said = [(line.row.name, note) for line in self.lines for note in (line.row.absent, line.row.note) if note]
        notes = [f"- {name}: {note}" for name, note in said]
        parts = [f"# {table.title}\n", f"{table.source}.\n", table.note + "\n" if table.note else ""]
        if self.quick:
            parts.append("**Toy size: made-up data, tiny networks, a few steps. The measured figures mean nothing.**\n")
        parts += [markdown(header, rows), "\n".join(notes) + "\n" if notes else ""]
        return "\n".join(part for part in parts if part)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values; what is undefined is None."""
        return {
            "name": self.experiment.name,
            "title": self.experiment.title,
            "source": self.experiment.source,
            "note": self.experiment.note,
            "quick": self.quick,
            "rows": [
                {
                    "name": line.row.name,
                    "absent": line.row.absent,
                    "note": line.row.note,
                    "paper": dict(line.row.paper),
                    "measured": {
                        column: [_plain(value * self._scale(column)) for value in (one.value, one.low, one.high)]
                        for column, one in line.measured.items()
                    },
                }
                for line in self.lines
            ],
        }

    def _cells(self, line: Line, column: str) -> tuple[str, str]:
        digits = 0 if column in COUNTS else self.experiment.digits
        printed = line.row.paper.get(column)
        found = line.measured.get(column)
        return (
            "-" if printed is None else f"{printed:.{digits}f}",
            "-" if found is None else found.text(self._scale(column), digits),
        )

    def _scale(self, column: str) -> float:
        return 1.0 if column in COUNTS else self.experiment.scale


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        root: a folder with one folder for each data set, called after it.
        roots: folders of data sets by name.
        output: where runs and tables go.
        trained: folders of runs that exist, by the name of the training.
    """

    output: Path
    root: Path | None = None
    roots: Mapping[str, Path] | None = None
    trained: Mapping[str, Path] | None = None

    def of(self, name: str, alone: bool = False) -> Path:
        """Folder of a data set; with ``alone`` the root itself may be it.

        Raises:
            InputError: nothing says where it is.
        """
        if name in (self.roots or {}):
            return (self.roots or {})[name]
        if self.root is not None:
            for folder in (self.root / name, self.root / name.replace("-", "_"), self.root / name.replace("_", "-")):
                if folder.is_dir():
                    return folder
            if alone and self.root.is_dir():
                return self.root
        kind = sets.get(name)
        raise InputError(
            f"It was not said where the data set '{name}' is.",
            expected=f"{kind.title} lies in a folder '{name}' of the data folder. {kind.obtain}",
            remedy=f"Pass --data FOLDER with a folder '{name}' in it, or --data {name}=FOLDER; or --quick for a trial.",
        )


def reproduce(
    name: str,
    places: Places,
    *,
    quick: bool = False,
    changes: Sequence[str] = (),
    progress: Callable[[str], None] = lambda said: None,
) -> Reproduction:
    """Measure a table again and write ``PAPER-TABLE.md`` and ``.json`` into the output folder.

    Args:
        name: ``paper/table``, see :func:`unclouded.experiments.names`.
        places: where data, output and finished runs are.
        quick: the whole way at toy size, without data.
        changes: ``key=value`` for every training, such as ``devices=4`` or ``batch=2``.
        progress: told what is being done.

    Raises:
        InputError: there is no such table, or data are missing.
        MissingDependencyError: a network or data set needs a library that is not installed.
    """
    experiment = read_experiment(name)
    work = places.output / "quick" if quick else places.output
    if quick:
        places = Places(work, work / "data")
        for data in _data_of(experiment):
            make_fake(data, work / "data" / data)
    runs = {
        key: _trained(key, spec, places, quick, changes, progress) for key, spec in experiment.needed_runs().items()
    }
    evaluations = _evaluated(experiment, runs, places, quick, progress)
    lines = []
    for row in experiment.rows:
        measured: Mapping[str, Figure] = {}
        if row.model is not None:
            progress(f"counting {row.model.name}")
            measured = _cost(row, quick)
        elif row.shares:
            measured = _shares(_opened(experiment, row, places, quick))
        elif row.absent is None:
            measured = _figures(row, _key(experiment, row), experiment, evaluations)
        lines.append(Line(row, {column: measured[column] for column in experiment.columns if column in measured}))
    out = Reproduction(experiment, tuple(lines), quick)
    stem = name.replace("/", "-")
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / f"{stem}.md", out.text(), stem)
    write_text(work / f"{stem}.json", json.dumps(out.as_dict(), indent=1) + "\n", stem)
    return out


def run_config(spec: RunSpec, changes: Sequence[str] = ()) -> RunConfig:
    """The configuration of a training, without the places of its data."""
    given = [f"{key}={json.dumps(value)}" for key, value in spec.set.items()]
    return read_config(spec.extends, [*given, *changes])


def _data_of(experiment: Experiment) -> tuple[str, ...]:
    """Names of all data sets that a table needs, those of its trainings included."""
    trained = [part.name for spec in experiment.needed_runs().values() for part in run_config(spec).data]
    return tuple(dict.fromkeys([*experiment.needed_data(), *trained]))


def _trained(
    key: str, spec: RunSpec, places: Places, quick: bool, changes: Sequence[str], progress: Callable[[str], None]
) -> Run:
    if key in (places.trained or {}):
        return load_run((places.trained or {})[key])
    config = run_config(spec, changes)
    alone = len(config.data) == 1
    roots = {part.name: places.of(part.name, alone) for part in config.data if part.root is None}
    config = config.model_copy(
        update={"roots": {**config.roots, **roots}, "output": places.output / "runs" / f"{spec.extends}-{key}"}
    )
    if quick:
        config = quick_config(config)
    progress(f"training {key}")
    return fit(config, resume=True)


_Key = tuple[str, str | None, str | None, tuple[str, ...] | None, bool, bool]
"""What makes two rows the same measurement: test, run, mask, bands, radar, elevation."""


def _key(experiment: Experiment, row: Row) -> _Key:
    return (row.test or next(iter(experiment.tests), ""), row.run, row.mask, row.bands, row.sar, row.dem)


def _evaluated(
    experiment: Experiment, runs: Mapping[str, Run], places: Places, quick: bool, progress: Callable[[str], None]
) -> dict[_Key, Evaluation[Any]]:
    """Everything that rows are made of, each test read once."""
    wanted: dict[str, dict[_Key, Row]] = {}
    for row in experiment.rows:
        if row.run or row.mask:
            keys = [(_key(experiment, row), row)]
            if row.hard is not None:
                by = row.model_copy(update={"run": row.hard.by, "mask": None, "name": f"{row.hard.by} for {row.name}"})
                keys.append((_key(experiment, by), by))
            for key, one in keys:
                wanted.setdefault(key[0], {}).setdefault(key, one)
    device = "cuda" if torch.cuda.is_available() and not quick else "cpu"
    out: dict[_Key, Evaluation[Any]] = {}
    for name, rows in wanted.items():
        progress(f"judging {len(rows)} on {experiment.tests[name].data}")
        first = next(iter(rows.values()))
        test = _opened(experiment, first, places, quick)
        found: Sequence[Evaluation[Any]]
        if experiment.task == "removal":
            found = evaluate_removal(
                [RemovalRun(runs[str(row.run)], name=row.name, device=device) for row in rows.values()], test
            )
        else:
            contestants: list[Contestant] = [_contestant(row, runs, device) for row in rows.values()]
            found = evaluate(contestants, test, classes=experiment.tests[name].classes)
        out |= dict(zip(rows, found, strict=True))
    return out


def _contestant(row: Row, runs: Mapping[str, Run], device: str) -> Contestant:
    if row.mask is not None:
        return HeldMask(row.mask, name=row.name)
    run = runs[str(row.run)]
    return TrainedRun(run, name=row.name, device=device, bands=row.bands, sar=row.sar, dem=row.dem)


def _figures(
    row: Row, key: _Key, experiment: Experiment, evaluations: Mapping[_Key, Evaluation[Any]]
) -> Mapping[str, Figure]:
    evaluation = evaluations[key]
    if row.hard is not None:
        ranked: Any = evaluations[_key(experiment, row.model_copy(update={"run": row.hard.by, "mask": None}))]
        return evaluation.figures(evaluation.named(ranked.hardest(row.hard.share)))
    if row.cover is not None:
        return evaluation.figures(evaluation.groups("cover").get(row.cover, ()))
    return evaluation.figures()


def _opened(experiment: Experiment, row: Row, places: Places, quick: bool) -> Test:
    spec = experiment.test_of(row)
    assert spec is not None
    alone = len(_data_of(experiment)) == 1
    part = DataPart(
        name=spec.data, root=places.of(spec.data, alone), options=spec.options, scheme=spec.scheme, where=spec.where
    )
    if not quick:
        return open_test(part, spec.part, task=experiment.task)
    return quick_test(part, spec.part, experiment.task)


def _cost(row: Row, quick: bool) -> dict[str, Figure]:
    assert row.model is not None
    cost = complexity(row.model.name, row.model.options, side=QUICK_SIDE if quick else None)
    return {
        "parameters M": Figure(cost.parameters / 1e6),
        "multiply-adds G": Figure(cost.multiply_adds / 1e9),
    }


def _shares(test: Test) -> dict[str, Figure]:
    """Numbers of images, and share of the labelled pixels of every class of the four."""
    split = test.data.assign()
    counted = {name: sum(split[record.name] == name for record in test.records) for name in ("train", "choose", "test")}
    out = {name: Figure(float(count)) for name, count in counted.items()}
    out |= {
        "images": Figure(float(len(test.records))),
        "scenes": Figure(float(len({record.scene for record in test.records}))),
    }
    found = shares(test.data.read(record) for record in test.records)
    scheme = JUDGED["four"]
    for name, group in zip(scheme.names, scheme.groups, strict=True):
        bits = sum(1 << one for one in group)
        inside = [value for names, value in found.items() if names and not _bits(names) & ~bits]
        out[name] = Figure(sum(inside))
    return out


def _bits(names: str) -> int:
    return next(mask for mask in range(256) if class_names(mask) == names)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
