"""The command line: exit codes, stdout for data, stderr for talk, and that every command is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import rasterio
from affine import Affine

import unclouded
from unclouded import cli, errors, sensors
from unclouded.cli import _inputs, command_names, commands
from unclouded.cli._batch import run_each
from unclouded.cli._talk import Talk, table

from .fakes_command import Done, records, run, run_process


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small GeoTIFF in reflectance with named bands."""
    path = tmp_path / "picture.tif"
    rng = np.random.default_rng(0)
    values = rng.uniform(0.05, 0.3, (4, 100, 110)).astype(np.float32)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 4, "height": 100, "width": 110, "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(10, 0, 4e5, 0, -10, 5.8e6), **profile) as file:
        file.write(values)
        file.descriptions = ("blue", "green", "red", "nir")
    return path


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """A raster of integers that does not say what they mean."""
    path = tmp_path / "counts.tif"
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 3, "height": 80, "width": 80, "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(10, 0, 4e5, 0, -10, 5.8e6), **profile) as file:
        file.write(np.full((3, 80, 80), 2000, np.uint16))
    return path


def assert_three_parts(done: Done[str]) -> None:
    assert "Error" in done.stderr
    assert "\n  Expected: " in done.stderr
    assert "\n  To do:    " in done.stderr
    assert "Traceback" not in done.stderr


# The commands themselves ------------------------------------------------------------------------------------------


def test_every_file_is_a_command() -> None:
    files = {path.stem for path in Path(cli.__file__).parent.glob("[!_]*.py")}
    assert set(command_names()) == files
    assert {"mask", "info", "models", "sensors"} <= files


@pytest.mark.parametrize("name", command_names())
def test_every_command_has_help(name: str) -> None:
    found = commands.get_command(click.Context(commands), name)
    assert isinstance(found, click.Command)
    assert found.help
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: unclouded {name}")
    assert "--json" in done.stdout
    inner = found.commands.values() if isinstance(found, click.Group) else ()
    for command in (found, *inner):
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{name} {param.opts}"


def test_version() -> None:
    done = run_process("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"unclouded {unclouded.__version__}")


def test_help_is_quick() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "unclouded", "--help"], capture_output=True, text=True, check=True
    )
    for heavy in ("torch", "rasterio", "onnxruntime", "xarray", "pystac"):
        assert f" {heavy}\n" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("mask",),
        ("mask", "x"),
        ("mask", "x", "-o", "out", "--tile", "100"),
        ("mask", "x", "-o", "out", "--resume", "--overwrite"),
        ("info", "--level", "x", "a"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    done = run_process(*words) if words == ("nonsense",) else run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--json", "sensors", "list"), ("sensors", "--json", "list"), ("sensors", "list", "--json")]
)
def test_global_options_stand_anywhere(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert [one["name"] for one in records(done)] == sensors.names()


def test_sensors() -> None:
    done = run("sensors", "show", "sentinel2-l1c")
    assert done.returncode == 0
    assert "B10" in done.stdout
    assert "cirrus" in done.stdout
    unknown = run("sensors", "show", "nope")
    assert unknown.returncode == 3
    assert_three_parts(unknown)


def test_models() -> None:
    (card,) = records(run("models", "show", "default", "--json"))
    assert card["name"] == "default"
    assert card["name"] in run("models", "list").stdout
    shown = run("models", "show", "default").stdout
    for limit in card["limits"]:
        assert f"- {limit}" in shown
    assert re.search(r"^toa +\d\.\d", shown, re.MULTILINE), "a row of the calibration"
    assert not re.search(r"[{[]|\d\.\d{8}", shown), "neither Python's brackets nor digits that mean nothing"
    unknown = run_process("models", "show", "nope")
    assert unknown.returncode == 5
    assert_three_parts(unknown)


# info -------------------------------------------------------------------------------------------------------------


def test_info(picture: Path) -> None:
    text = run("info", picture)
    assert text.returncode == 0, text.stderr
    assert "nir" in text.stdout
    found, summary = records(run("info", picture, "--json", "--level", "toa"))
    assert found["level"] == "toa"
    assert len(found["bands"]) == 4
    assert summary["summary"]["done"] == 1


def test_unreadable_input_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").write_bytes(b"")
    for source in (tmp_path / "empty.tif", tmp_path / "absent.SAFE", tmp_path / "*.jp2"):
        done = run_process("info", source) if source.suffix == ".SAFE" else run("info", source)
        assert done.returncode == 3, done.stderr
        assert_three_parts(done)


def test_unknown_radiometry_is_exit_code_4(counts: Path) -> None:
    done = run_process("info", counts, "--bands", "red=1,green=2,blue=3")
    assert done.returncode == 4, done.stderr
    assert_three_parts(done)
    assert "--scale" in done.stderr
    told = ("--scale", "0.0001", "--offset", "0", "--level", "toa")
    assert run("info", counts, "--bands", "red=1,green=2,blue=3", *told).returncode == 0


def test_one_failure_of_several_is_exit_code_1(picture: Path, counts: Path, tmp_path: Path) -> None:
    done = run_process("--json", "info", tmp_path / "absent.tif", picture, counts)
    assert done.returncode == 1
    first, second, third, last = records(done)
    assert [first["status"], second["status"], third["status"]] == ["failed", "done", "failed"]
    assert all(first["error"][part] for part in ("type", "found", "expected", "remedy"))
    assert last["summary"]["failed"] == 2
    assert [one["input"] for one in last["summary"]["failures"]] == [str(tmp_path / "absent.tif"), str(counts)]
    assert "failed: " + str(counts) in done.stderr


def test_names_from_stdin_and_patterns(picture: Path) -> None:
    from_stdin = run("--json", "info", "-", stdin=f"{picture}\n\n")
    from_pattern = run("--json", "info", picture.parent / "pic*.tif")
    assert records(from_stdin)[0]["id"] == records(from_pattern)[0]["id"] == "picture"
    assert run("info", "-", stdin="\n").returncode == 3


def test_quiet_and_verbose(tmp_path: Path) -> None:
    absent = tmp_path / "absent.tif"
    assert "Error" in run("-q", "info", absent).stderr
    assert "Traceback" in run("-vv", "info", absent).stderr


def test_log_file(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    run("info", tmp_path / "absent.tif", "--log-file", log)
    assert "InputError" in log.read_text()
    done = run("info", tmp_path / "absent.tif", "--log-file", tmp_path / "no" / "run.log")
    assert done.returncode != 0
    assert "no/run.log" in done.stderr.replace("\\", "/")


def test_a_reader_of_stdout_that_goes_away_is_no_traceback() -> None:
    line = f"{sys.executable} -m unclouded sensors list | head -c 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == ""


# Parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("red=3, nir=4", {"red": 3, "nir": 4}), ("blue,green", ["blue", "green"]), (None, None)],
)
def test_bands(text: str | None, parsed: object) -> None:
    assert _inputs._parse_bands(None, None, text) == parsed  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["red=0", "red=x", "=3", "red=1,red=2", "red=1,green", "", "a,,b", "red=-1"])
def test_wrong_bands(text: str) -> None:
    with pytest.raises(click.BadParameter):
        _inputs._parse_bands(None, None, text)  # type: ignore[arg-type]


def test_fail_fast_stops_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    tried = []

    def work(source: str) -> dict[str, Any]:
        tried.append(source)
        if source == "b":
            raise errors.RadiometryError("Found.", expected="Expected.", remedy="Do.")
        return {"status": "done"}

    talk = Talk()
    talk.change(as_json=True)
    assert run_each(talk, ["a", "b", "c", "d"], work, fail_fast=True) == 1
    assert tried == ["a", "b"]
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert (summary["done"], summary["failed"], summary["not-tried"]) == (1, 1, 2)
    assert run_each(talk, ["b"], work) == 4
    talk.close()


def test_an_unforeseen_error_is_counted_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def work(source: str) -> dict[str, Any]:
        if source == "a":
            raise ZeroDivisionError("no")
        return {"status": "done"}

    talk = Talk()
    assert run_each(talk, ["a", "b"], work) == 1
    talk.close()
    assert "ZeroDivisionError: no" in capsys.readouterr().err


def test_an_interrupt_is_never_a_failure_of_a_scene() -> None:
    def work(source: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    talk = Talk()
    with pytest.raises(KeyboardInterrupt):
        run_each(talk, ["a", "b"], work)
    talk.close()


def test_table_of_nothing() -> None:
    assert table(["a", "bb"], []) == "a  bb"
