"""``unclouded datasets``: list and show, with and without a folder, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclouded.data import sets

from .fakes_command import records, run


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up copy of the Sentinel-2 Cloud Mask Catalogue."""
    root = tmp_path_factory.mktemp("catalogue")
    sets.get("s2-catalogue").make_fake(root)
    return root


def test_list_names_every_data_set() -> None:
    done = run("datasets", "list")
    assert done.returncode == 0
    for name in sets.names():
        assert f"\n{name} " in done.stdout
    told = records(run("datasets", "list", "--json"))
    assert [one["name"] for one in told] == sets.names()
    assert {one["task"] for one in told} == {"mask", "removal"}


@pytest.mark.parametrize("name", sets.names())
def test_show_tells_licence_labels_and_how_to_get_it(name: str) -> None:
    (told,) = records(run("datasets", "show", name, "--json"))
    kind = sets.get(name)
    assert told["licence"] == kind.licence
    assert told["obtain"] == kind.obtain
    assert told["labels"].keys() == {str(code) for code in kind.labels}
    assert told["splits"] == list(kind.schemes)
    done = run("datasets", "show", name.replace("-", "_"))
    assert done.returncode == 0
    assert kind.citation in done.stdout


def test_show_counts_what_a_folder_holds(catalogue: Path) -> None:
    (told,) = records(run("datasets", "show", "s2-catalogue", catalogue, "--shares", "--json"))
    assert told["records"] == told["scenes"] == 4
    assert sum(told["splits"]["random"].values()) == 4
    assert sum(told["shares"].values()) == pytest.approx(1)
    dataset = sets.open_set("s2-catalogue", catalogue)
    assert told["shares"] == sets.shares(dataset.samples())
    done = run("datasets", "show", "s2-catalogue", catalogue, "--shares")
    assert "random: 2 train, 2 test" in done.stdout
    assert "thin|thick: 16." in done.stdout


def test_show_says_why_a_split_cannot_be_had(catalogue: Path, tmp_path: Path) -> None:
    for part in ("subscenes", "masks", "classification_tags.csv"):
        (tmp_path / part).symlink_to(catalogue / part)
    (told,) = records(run("datasets", "show", "s2-catalogue", tmp_path, "--json"))
    assert told["splits"]["sensei-v1"].startswith("not available: ")
    assert "train.csv" in told["splits"]["sensei-v1"]


def test_options_are_passed_on(tmp_path: Path) -> None:
    sets.get("cesbio").make_fake(tmp_path)
    words = ("datasets", "show", "cesbio", tmp_path, "--json")
    (whole,) = records(run(*words))
    (cut,) = records(run(*words, "--set", "patch=20", "--set", "hollstein=true"))
    assert (whole["records"], cut["records"]) == (2, 12)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nope",), 3, "no data set called 'nope'"),
        (("kappaset", "--shares"), 2, "need the folder ROOT"),
        (("s2-catalogue", "ROOT", "--set", "colour=blue"), 3, "no option 'colour'"),
        (("s2-catalogue", "ROOT", "--set", "colour"), 2, "is not OPTION=VALUE"),
        (("s2-catalogue", "ROOT", "--set", "colour=[blue"), 2, "cannot be read as a value"),
        (("kappaset", "ROOT"), 3, "holds no image of KappaSet"),
        (("kappaset", "ROOT/absent"), 3, "is not a folder"),
    ],
)
def test_mistakes_are_told(catalogue: Path, words: tuple[str, ...], code: int, message: str) -> None:
    done = run("datasets", "show", *(word.replace("ROOT", str(catalogue)) for word in words))
    assert done.returncode == code
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
