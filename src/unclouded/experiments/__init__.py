"""The papers' tables as files: what each row needs to be measured again, and what the paper prints for it. No torch.

A paper is a folder. Its ``_runs.yaml`` names the trainings that rows share; every other file is one table. The figures
are the papers', in the unit they are printed in; what a file does not give was not at hand. Rows of networks that
unclouded does not have say so (``absent``) and keep the printed figures.

    names()                          every table, e.g. "mscloudcam/table3"
    read_experiment("mscloudcam/table3")
"""

from __future__ import annotations

import difflib
import functools
from importlib.resources import files
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, first_fault

RUNS = "_runs.yaml"


class Part(BaseModel):
    """Base of the parts of an experiment: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSpec(Part):
    """A training that rows refer to.

    Attributes:
        extends: a protocol of :mod:`unclouded.train.config_file`.
        set: keys of its configuration with other values, dots between nested keys.
    """

    extends: str
    set: dict[str, Any] = Field(default_factory=dict)


class TestSpec(Part):
    """Images that rows are measured on.

    Attributes:
        data: name of the data set.
        options, scheme, where: see :class:`unclouded.train.config.DataPart`.
        part: ``test`` or another part of the split.
        classes: what is judged, see :data:`unclouded.train.evaluate_judge.JUDGED`.
    """

    __test__ = False

    data: str
    options: dict[str, Any] = Field(default_factory=dict)
    scheme: str | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    part: Literal["train", "choose", "test", "all"] = "test"
    classes: Literal["four", "three", "five", "cloud"] = "four"


class HardSpec(Part):
    """The share of the images that a run is least sure of."""

    by: str
    share: float = Field(default=0.1, gt=0, le=1)


class ModelSpec(Part):
    """A network whose cost is counted."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Row(Part):
    """One row of a table. Exactly one of ``run``, ``mask``, ``model``, ``shares`` and ``absent`` says what it is.

    Attributes:
        name: as in the paper.
        paper: printed figures, by name of the figure.
        test: on which images; None where the table has one test only.
        run: name of a training.
        mask: another program's mask that the data set holds.
        model: a network whose cost is counted.
        shares: count the classes of the test's labels.
        absent: why unclouded cannot measure the row.
        bands: optical bands that the network is given; None for all.
        sar, dem: whether it is given radar and elevation.
        cover: bin of cloud cover that counts, such as ``0-10 %``.
        hard: judge the images that a run is least sure of.
        note: what has to be known about the row.
    """

    name: str
    paper: dict[str, float] = Field(default_factory=dict)
    test: str | None = None
    run: str | None = None
    mask: str | None = None
    model: ModelSpec | None = None
    shares: bool = False
    absent: str | None = None
    bands: tuple[str, ...] | None = None
    sar: bool = True
    dem: bool = True
    cover: str | None = None
    hard: HardSpec | None = None
    note: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.run, self.mask, self.model, self.shares or None, self.absent]
        if sum(one is not None for one in kinds) != 1:
            raise ValueError(f"the row '{self.name}' has exactly one of run, mask, model, shares and absent")
        return self


class Experiment(Part):
    """One table of a paper.

    Attributes:
        title: what the table shows.
        source: paper and table.
        task: ``mask`` or ``removal``.
        tests: images by name.
        columns: figures in the order of the table.
        scale: that measured figures are multiplied with, 100 for percent.
        digits: after the point.
        rows: of the table.
        note: what has to be known to compare.
        name: ``paper/table``; follows from the file.
        runs: the paper's trainings that the rows need; follow from ``_runs.yaml``.
    """

    title: str
    source: str
    task: Literal["mask", "removal"] = "mask"
    tests: dict[str, TestSpec] = Field(default_factory=dict)
    columns: tuple[str, ...] = Field(min_length=1)
    scale: float = 100.0
    digits: int = 2
    rows: tuple[Row, ...] = Field(min_length=1)
    note: str = ""
    name: str = ""
    runs: dict[str, RunSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _together(self) -> Self:
        names = [row.name for row in self.rows]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"there are two rows '{min(doubled)}'")
        for row in self.rows:
            odd = [name for name in row.paper if name not in self.columns]
            if odd:
                raise ValueError(f"the row '{row.name}' has a figure '{odd[0]}' that is no column")
            if row.test is not None and row.test not in self.tests:
                raise ValueError(f"the row '{row.name}' names the test '{row.test}', which the file does not have")
            if row.test is None and (row.run or row.mask or row.shares) and len(self.tests) != 1:
                raise ValueError(f"the row '{row.name}' has to name its test: there are {len(self.tests)}")
            for run in [row.run, row.hard and row.hard.by]:
                if run and run not in self.runs:
                    raise ValueError(f"the row '{row.name}' names the run '{run}', which {RUNS} does not have")
        return self

    def test_of(self, row: Row) -> TestSpec | None:
        """The images that a row is measured on."""
        if row.test is not None:
            return self.tests[row.test]
        return next(iter(self.tests.values())) if len(self.tests) == 1 else None

    def needed_runs(self) -> dict[str, RunSpec]:
        """The trainings that the rows need, in their order."""
        wanted = [name for row in self.rows for name in (row.run, row.hard.by if row.hard else None) if name]
        return {name: self.runs[name] for name in wanted}

    def needed_data(self) -> tuple[str, ...]:
        """Names of the data sets that rows are measured on; the trainings may need further ones."""
        tests = [self.test_of(row) for row in self.rows if row.absent is None and row.model is None]
        return tuple(dict.fromkeys(test.data for test in tests if test is not None))


def names() -> list[str]:
    """Names of all tables, sorted.

    >>> "mscloudcam/table3" in names()
    True
    """
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in files(__name__).iterdir()
        if folder.is_dir() and not folder.name.startswith("_")
        for file in folder.iterdir()
        if file.name.endswith(".yaml") and file.name != RUNS
    )


def read_experiment(name: str) -> Experiment:
    """Read and check one table.

    Args:
        name: ``paper/table``, one of :func:`names`.

    Raises:
        InputError: there is no such table, or its file holds unknown keys or values out of range.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 3, 0.5)
        raise InputError(
            f"There is no experiment '{name}'.",
            expected=f"Names are {', '.join(names())}.",
            remedy=f"Did you mean {' or '.join(near)}?" if near else "See 'unclouded reproduce --list'.",
        )
    paper, _, table = name.partition("/")
    return make_experiment(_load(paper, f"{table}.yaml"), _load(paper, RUNS), name)


def make_experiment(values: Any, runs: Any, name: str) -> Experiment:
    """Check a table that is given as plain values, with the trainings of its paper.

    Raises:
        InputError: there are unknown keys or values out of range.
    """
    try:
        return Experiment.model_validate({**values, "name": name, "runs": runs})
    except ValidationError as err:
        raise InputError(
            f"The experiment '{name}' is not valid: {first_fault(err)}.",
            expected="Keys and values as in the class unclouded.experiments.Experiment.",
            remedy="Correct the file.",
        ) from err


@functools.cache
def _load(paper: str, file: str) -> Any:
    return yaml.safe_load((files(__name__) / paper / file).read_text(encoding="utf-8"))
