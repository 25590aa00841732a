"""Everything that the pages say can be run is run, on small look-alikes; the rest is checked as far as that goes.

Of every page each Python block is compiled, each command's options are held against click, each other program's file,
target, module or extra has to exist. Then blocks are run in the order of the page, Python in one namespace, commands in
one folder. A block that cannot be run says so and why: ``<!-- not run: reason -->`` above it, or :data:`NOT_RUN` here.
"""

from __future__ import annotations

import ast
import datetime as dt
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.warp import transform_bounds

import unclouded
from unclouded import batch, cli, errors, models
from unclouded.data import sets
from unclouded.options import Options

from .fakes_command import run
from .fakes_docs import PAGES, PROGRAMS, ROOT, SHELL, Block, blocks, commands, make_inputs

NOT_RUN = {
    "docs/own-data.md": {"": "tests/test_docs_own_data.py runs it"},
    "docs/default-model.md": {"": "trains for hours on imagery that is not part of the project"},
    "docs/removal.md": {
        "default_removal": "trains on imagery that is not part of the project",
        "composite": "names an archive of the reader's; tests/test_composite.py runs the command",
    },
    "docs/experiments.md": {"unclouded": "judges and trains for hours; tests/test_cli_eval.py runs the commands small"},
    "docs/models-cost.md": {"": "measures for minutes; tests/test_complexity.py runs the command"},
    "docs/how-to/other-tools.md": {"def apply_datacube": "tests/test_docs_other_tools.py runs it, without openEO"},
}
"""Blocks that hold the text, or whole pages for "", and why they are not run."""

SMALLER = {"demo": ["--size", "240"], "simulate": ["--scenes", "1"], "--background": ["--size", "96"]}
"""What follows a command with these words here, so that it takes seconds and fits the look-alikes."""

STANDS_FOR = {"README.md": {"image": np.full((4, 96, 96), 0.05, np.float32)}}
"""What a page speaks of as the reader's own."""

LANGUAGES = {*SHELL, "python", "toml", "yaml", "csv", "text", "", "json", "ini", "xml"}
WITH_BLOCKS = [page for page in PAGES if blocks(page)]


def reason(block: Block) -> str:
    """Why a block is not run, or ""."""
    if block.reason:
        return block.reason
    return next((why for text, why in NOT_RUN.get(block.page, {}).items() if text in block.text), "")


# What can be said without running ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_blocks_are_well_formed(page: str) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: what language is '{block.language}'?"
        if block.language == "python":
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), block
        elif block.language == "toml":
            assert tomllib.loads(block.text), block
        elif block.language in SHELL:
            assert list(commands(block)), block


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_commands_have_what_they_name(page: str) -> None:
    for block in blocks(page):
        if block.language in SHELL:
            for pipeline in commands(block):
                for words in pipeline:
                    check_command(words, str(block))


def check_command(words: list[str], where: str) -> None:
    """Options against click or the program's source; files, targets, modules and extras against what is there."""
    program, *rest = words
    program = Path(program).name
    assert program in PROGRAMS, f"{where}: what is '{program}'?"
    if program == "torchrun":
        assert rest[rest.index("-m") + 1] == "unclouded", where
        check_command(["unclouded", *rest[rest.index("-m") + 2 :]], where)
    elif program == "unclouded":
        check_options(rest, where)
    elif program == "rio":
        assert rest[0] == "unclouded", where
        check_options(rest[1:], where)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), f"{where}: {words}"
    elif program == "pip" or rest[:2] == ["-m", "pip"]:
        check_extras(rest, where)
    elif program in ("python", "python3") and rest[:1] == ["-m"]:
        assert importlib.util.find_spec(rest[1]), f"{where}: no module {rest[1]}"
        for word in rest[2:]:
            assert not word.startswith("tests/") or (ROOT / word).exists(), f"{where}: no file {word}"
        if rest[1].startswith("unclouded"):
            check_script(ROOT / "src" / f"{rest[1].replace('.', '/')}.py", rest[2:], where)
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"{where}: no file {rest[0]}"
        check_script(ROOT / rest[0], rest[1:], where)


def check_options(words: list[str], where: str) -> None:
    """Commands exist and their options are known, without their values being looked at."""
    ctx = click.Context(cli.commands, info_name="unclouded")
    command: click.Command = cli.commands
    while isinstance(command, click.Group):
        ahead = [word for word in words if not word.startswith("-")]
        if not ahead:
            break
        found = command.get_command(ctx, ahead[0])
        assert found is not None, f"{where}: there is no command '{ahead[0]}'"
        words = [word for index, word in enumerate(words) if index != words.index(ahead[0])]
        command, ctx = found, click.Context(found, info_name=ahead[0], parent=ctx)
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    for word in words:
        word = word.strip("[]")
        if word.startswith("-") and word != "-":
            name = word.split("=")[0]
            assert name in known or (command is cli.commands and name == "--version"), (
                f"{where}: '{ctx.command_path}' has no option {name}"
            )


def check_script(path: Path, words: list[str], where: str) -> None:
    """Options of a program that is no command of this one, by its source."""
    source = path.read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word.split("=")[0]}"' in source, f"{where}: {path.name} has no option {word}"


def check_extras(words: list[str], where: str) -> None:
    """Extras and constraint files that ``pip install`` names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        for extra in re.findall(r"\[([\w,]+)\]", word):
            assert set(extra.split(",")) <= set(project["optional-dependencies"]), f"{where}: {word}"
        if word.endswith(".txt"):
            assert (ROOT / word).is_file(), f"{where}: no file {word}"


def test_reasons_are_still_needed() -> None:
    for page, reasons in NOT_RUN.items():
        for text in reasons:
            assert any(text in block.text for block in blocks(page)), f"{page}: nothing holds '{text}' any more"


def test_a_wrong_command_is_noticed() -> None:
    for words in (
        ["unclouded", "mask", "x", "--no-such-option"], ["unclouded", "nonsense"], ["make", "nonsense"],
        ["pip", "install", ".[nonsense]"], ["python", "nonsense.py"], ["curl", "x"],
        ["python", "benchmarks/accuracy.py", "--nonsense"], ["unclouded", "models", "nonsense"],
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_command(words, "here")
    check_command(["torchrun", "--nproc-per-node", "4", "-m", "unclouded", "train", "-c", "mmcanet"], "here")


# Running -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that pages name, made once."""
    folder = tmp_path_factory.mktemp("pages")
    make_inputs(folder)
    return folder


@pytest.fixture
def place(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with these files, to work in; what a page registers is forgotten afterwards."""
    folder = tmp_path / "here"
    shutil.copytree(inputs, folder)
    monkeypatch.chdir(folder)
    sets.names()
    monkeypatch.setattr(sets, "_REGISTRY", dict(sets._REGISTRY))
    if importlib.util.find_spec("torch"):
        models.names()
    monkeypatch.setattr(models, "_REGISTRY", dict(models._REGISTRY))
    return folder


def to_run(page: str) -> list[Block]:
    """Blocks of a page that are run."""
    return [block for block in blocks(page) if block.language in (*SHELL, "python") and not reason(block)]


@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if to_run(page)])
def test_the_page_runs(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "page", **STANDS_FOR.get(page, {})}
    for block in to_run(page):
        # Look-alikes are noise around a square: that the radiometry check finds them strange says nothing of the page.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.UncloudedWarning)
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), names)
            else:
                run_commands(block)
    capsys.readouterr()


def run_commands(block: Block) -> None:
    """The commands of this program; others are only checked, see above."""
    for *before, (program, *words) in commands(block):
        if Path(program).name != "unclouded" or words[:1] == ["view"]:  # which serves until it is stopped
            continue
        given = ""
        for other in before:
            assert other[0] == "find", f"{block}: only find may come before the pipe here"
            given = subprocess.run(other, capture_output=True, text=True, check=True).stdout
        words += [more for word in words for more in SMALLER.get(word, [])]
        done = run(*(one for word in words for one in expanded(word)), stdin=given)
        assert done.returncode == 0, f"{block}: unclouded {' '.join(words)}\n{done.stderr}"


def expanded(word: str) -> list[str]:
    """Names that fit a pattern, as a shell gives them."""
    found = sorted(str(path) for path in Path().glob(word)) if "*" in word and not os.path.isabs(word) else []
    return found or [word]


def test_the_configuration_of_the_page_on_training_is_valid(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from unclouded.train.config_file import read_config

    found = [block for block in blocks("docs/training.md") if block.language == "yaml"]
    path = tmp_path / "run.yaml"
    path.write_text(found[0].text, encoding="utf-8")
    config = read_config(str(path))
    assert config.batch == 8
    assert config.accumulate == 4


@pytest.mark.parametrize("library", ["dask_jobqueue", "dask_kubernetes.operator", "coiled"])
def test_blocks_for_clusters_that_nobody_has_here_call_what_there_is(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries of clusters are stood in for; that the batch takes what it is given is looked at."""
    distributed = pytest.importorskip("distributed")
    (block,) = [one for one in blocks("docs/scale.md") if re.search(rf"^(from|import) {library}\b", one.text, re.M)]
    for end in range(1, library.count(".") + 2):
        monkeypatch.setitem(sys.modules, ".".join(library.split(".")[:end]), MagicMock())
    monkeypatch.setattr(distributed, "Client", MagicMock())
    signature, given = inspect.signature(batch.run), []

    def record(*args: object, **settings: object) -> None:
        bound = signature.bind(*args, **settings)
        batch._settings(Options(), bound.arguments.get("changes", {}))
        given.append(bound.arguments)

    monkeypatch.setattr(batch, "run", record)
    exec(compile(block.text, str(block), "exec"), {"items": []})
    assert isinstance(given[0]["client"], MagicMock)
    assert given[0]["changes"] == {"resume": True}


@pytest.mark.filterwarnings("ignore::unclouded.errors.UncloudedWarning")
def test_the_block_on_cubes_runs_on_items(place: Path) -> None:
    pytest.importorskip("odc.stac")
    import pystac
    from pystac import Asset
    from shapely.geometry import box, mapping

    with rasterio.open("scene.tif") as file:
        stored, profile, affine = file.read(), {**file.profile, "count": 1}, file.transform
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    item = pystac.Item(
        "one", mapping(box(*bounds)), list(bounds), dt.datetime(2024, 6, 15, tzinfo=dt.UTC),
        {"proj:code": str(profile["crs"]), "proj:shape": stored.shape[1:], "proj:transform": list(affine)[:6]},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )  # fmt: skip
    for name, plane in zip(("blue", "green", "red", "nir"), stored, strict=True):
        with rasterio.open(f"{name}.tif", "w", **profile) as out:
            out.write(plane, 1)
        item.add_asset(name, Asset(str(place / f"{name}.tif"), media_type=pystac.MediaType.COG, roles=["data"]))
    (block,) = [one for one in blocks("docs/scale.md") if "odc.stac.load" in one.text]
    names: dict[str, Any] = {"items": [item]}
    exec(compile(block.text, str(block), "exec"), names)
    assert names["found"].classes.chunks is not None, "nothing is computed before it is asked for"
    codes = names["found"].classes.isel(time=0).values
    eager = unclouded.mask(names["cube"].isel(time=0).compute(), level="boa", scale=0.0001, offset=-0.1)
    np.testing.assert_array_equal(codes, eager.classes)
    assert np.isfinite(names["clear"].red.values[0][codes == 0]).all()


# The site -------------------------------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        """mkdocs has tags of its own; their values do not matter here."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)

    def entries(part: object) -> Iterator[str]:
        for value in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            if isinstance(value, str):
                yield value
            else:
                yield from entries(value)

    listed = set(entries(site["nav"]))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there <= listed
    made = listed - there
    assert made == set(made_pages())


def made_pages() -> list[str]:
    """Names of the pages that the hooks make, by their source: the hooks themselves need mkdocs."""
    tree = ast.parse((ROOT / "docs" / "_hooks" / "pages.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "PAGES":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError("the hooks make no pages")


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    spec = importlib.util.spec_from_file_location("roles", ROOT / "docs" / "_hooks" / "roles.py")
    assert spec is not None
    assert spec.loader is not None
    roles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(roles)
    text = "Sum, see :func:`plus`.\n\n>>> 1 + 1\n2\n\nArgs:\n    a, b: numbers,\n        both.\n\nExample:\n"
    assert roles.markdown(f"{text}    plus(1, 1)") == (
        "Sum, see `plus`.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    a: numbers,\n        both.\n    b: numbers,\n"
        "        both.\n\nExample:\n    ```python\n    plus(1, 1)\n    ```"
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"((?:https?:)?//[^\"]*)", page.read_text())
        assert not loaded, page
    assert "--max-missed-cloud" in (tmp_path / "reference" / "commands.html").read_text()
    assert "conformal" in (tmp_path / "reference" / "parts.html").read_text().casefold()
