"""The rasters of a scene: encoding, COG layout, overviews, and that they are complete or absent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from unclouded.classes import CLASSES, NO_DATA
from unclouded.errors import OutputError
from unclouded.write.atomic import partial_folder, replace_file, write_text
from unclouded.write.product import ProductWriter

UTM = Affine(10, 0, 300_000, 0, -10, 5_000_000)


def grid(rows: int, cols: int) -> GeoBox:
    return GeoBox((rows, cols), UTM, "EPSG:32633")


def layers(rows: int, cols: int, seed: int = 0) -> tuple[NDArray, NDArray, NDArray]:
    """Blocky classes with a missing edge, and percentages that fit them."""
    rng = np.random.default_rng(seed)
    # Only 0 and 3: an interpolating overview would show itself by making 1 and 2.
    classes = rng.choice(np.uint8([0, 3]), (rows, cols))
    classes[: rows // 5, : cols // 3] = NO_DATA
    empty = classes == NO_DATA
    uncertainty = np.where(empty, NO_DATA, rng.integers(0, 101, (rows, cols))).astype(np.uint8)
    probability = np.where(empty, NO_DATA, rng.integers(0, 101, (4, rows, cols))).astype(np.uint8)
    return classes, uncertainty, probability


def write(folder: Path, rows: int, cols: int, strip: int = 200, geobox: GeoBox | None = None) -> dict[str, Path]:
    classes, uncertainty, probability = layers(rows, cols)
    with ProductWriter(
        folder, "scene", geobox or grid(rows, cols), probability=True, tags={"UNCLOUDED_MODEL": "default"}
    ) as writer:
        for row in range(0, rows, strip):
            cut = slice(row, row + strip)
            writer.write_rows(row, classes[cut], uncertainty[cut], probability[:, cut])
        return writer.finish()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write(tmp_path_factory.mktemp("out"), 1300, 1100)


@pytest.mark.parametrize("product", ["mask", "uncertainty", "prob"])
def test_is_a_valid_cog(written: dict[str, Path], product: str) -> None:
    valid, errors, warnings = cog_validate(written[product], strict=True)
    assert valid
    assert not errors
    assert not warnings


def test_values_come_back(written: dict[str, Path]) -> None:
    expected = layers(1300, 1100)
    for product, values in zip(("mask", "uncertainty", "prob"), expected, strict=True):
        with rasterio.open(written[product]) as file:
            np.testing.assert_array_equal(np.squeeze(file.read()), values)
            assert file.dtypes[0] == "uint8"
            assert file.nodata == NO_DATA
            assert file.crs.to_epsg() == 32633
            assert file.transform == UTM


def test_mask_names_and_colours_its_classes(written: dict[str, Path]) -> None:
    with rasterio.open(written["mask"]) as file:
        tags, colors = file.tags(1), file.colormap(1)
        assert file.colorinterp[0].name == "palette"
        assert file.tags()["UNCLOUDED_MODEL"] == "default"
    for one in CLASSES:
        assert tags[f"CLASS_{one.value}"] == one.name
        assert colors[one.value][:3] == one.color
    assert tags["CLASS_255"] == "no-data"


def test_percentages_carry_their_scale(written: dict[str, Path]) -> None:
    with rasterio.open(written["prob"]) as file:
        assert file.descriptions == tuple(one.name for one in CLASSES)
        assert file.scales == (0.01,) * 4
    with rasterio.open(written["uncertainty"]) as file:
        assert file.descriptions == ("uncertainty",)
        assert file.scales == (0.01,)


def test_overviews_hold_no_new_class(written: dict[str, Path]) -> None:
    with rasterio.open(written["mask"]) as file:
        levels = len(file.overviews(1))
        full = set(np.unique(file.read()))
    assert levels >= 1
    for level in range(levels):
        with rasterio.open(written["mask"], overview_level=level) as file:
            assert set(np.unique(file.read())) <= full


def test_overviews_of_percentages_leave_missing_pixels_out(tmp_path: Path) -> None:
    classes = np.zeros((1024, 1024), np.uint8)
    classes[:, ::2] = NO_DATA
    percent = np.where(classes == NO_DATA, NO_DATA, 40).astype(np.uint8)
    with ProductWriter(tmp_path, "s", grid(1024, 1024), probability=False, tags={}) as writer:
        writer.write_rows(0, classes, percent)
        files = writer.finish()
    with rasterio.open(files["uncertainty"], overview_level=0) as file:
        assert set(np.unique(file.read())) == {40}


def test_counts_add_up(tmp_path: Path) -> None:
    classes, uncertainty, _ = layers(700, 90)
    with ProductWriter(tmp_path, "s", grid(700, 90), probability=False, tags={}) as writer:
        writer.write_rows(0, classes[:600], uncertainty[:600])
        writer.write_rows(600, classes[600:], uncertainty[600:])
        writer.finish()
    assert writer.counts == {code: int((classes == code).sum()) for code in (0, 1, 2, 3, 255)}
    assert sum(writer.counts.values()) == classes.size


@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 1100), cols=st.integers(1, 40), strip=st.integers(1, 1200))
def test_cutting_into_strips_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cols: int, strip: int
) -> None:
    files = write(tmp_path_factory.mktemp("strips"), rows, cols, strip)
    with rasterio.open(files["mask"]) as file:
        np.testing.assert_array_equal(file.read(1), layers(rows, cols)[0])


def test_without_crs(tmp_path: Path) -> None:
    files = write(tmp_path, 60, 70, geobox=GeoBox((60, 70), Affine.identity(), None))
    with rasterio.open(files["mask"]) as file:
        assert file.crs is None
        assert file.transform.is_identity


def interrupted(folder: Path, classes: NDArray, uncertainty: NDArray) -> None:
    with ProductWriter(folder, "scene", grid(*classes.shape), probability=False, tags={}) as writer:
        writer.write_rows(0, classes, uncertainty)
        raise KeyboardInterrupt


def test_an_exception_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    old = write(tmp_path, 40, 40)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    classes, uncertainty, _ = layers(40, 40, seed=1)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, classes, uncertainty)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert set(old.values()) == set(tmp_path.iterdir())


def test_an_exception_removes_a_folder_that_was_made(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        ProductWriter(tmp_path / "new", "s", grid(4, 4), probability=False, tags={}),
    ):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_replacing_removes_what_the_new_run_does_not_make(tmp_path: Path) -> None:
    write(tmp_path, 40, 40)
    (tmp_path / "scene.json").write_text("{}")
    (tmp_path / "scene_quicklook.png").write_bytes(b"")
    (tmp_path / "other_mask.tif").write_bytes(b"kept")
    classes, uncertainty, _ = layers(40, 40, seed=1)
    with ProductWriter(tmp_path, "scene", grid(40, 40), probability=False, tags={}) as writer:
        writer.write_rows(0, classes, uncertainty)
        writer.finish()
    assert {path.name for path in tmp_path.iterdir()} == {
        "other_mask.tif",
        "scene_mask.tif",
        "scene_uncertainty.tif",
    }


def test_missing_rows_are_an_error(tmp_path: Path) -> None:
    classes, uncertainty, _ = layers(40, 40)
    with ProductWriter(tmp_path, "s", grid(40, 40), probability=False, tags={}) as writer:
        writer.write_rows(0, classes[:30], uncertainty[:30])
        with pytest.raises(OutputError, match="30 of 40 rows"):
            writer.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row, c, u, p: (row + 1, c, u, p), "row 1 was given where row 0"),
        (lambda row, c, u, p: (row, c[:, :-1], u[:, :-1], p[:, :, :-1]), "do not fit"),
        (lambda row, c, u, p: (row, c, u, None), "products mask, uncertainty were given"),
        (lambda row, c, u, p: (row, c.astype(np.int16), u, p), "mask is int16"),
        (lambda row, c, u, p: (row, c, u[:-1], p), "uncertainty is uint8 of shape"),
        (lambda row, c, u, p: (row, np.where(c == 3, 4, c).astype(np.uint8), u, p), "mask holds 4"),
        (lambda row, c, u, p: (row, c, np.where(u == 50, 101, u).astype(np.uint8), p), "uncertainty holds 101"),
        (lambda row, c, u, p: (row, c, u, p % np.uint8(101)), "prob holds 53 where the class is 255"),
        (lambda row, c, u, p: (row, c % np.uint8(5), u, p), "uncertainty holds 255 where the class is 0"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, change, message: str) -> None:
    with (
        pytest.raises(OutputError, match=message) as caught,
        ProductWriter(tmp_path, "s", grid(40, 40), probability=True, tags={}) as writer,
    ):
        writer.write_rows(*change(0, *layers(40, 40)))
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b"])
def test_names_that_are_no_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="part of file names"), partial_folder(tmp_path, name):
        pass


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError) as caught, partial_folder(tmp_path / "out", "s"):
        pass
    assert str(tmp_path / "out") in caught.value.found
    assert caught.value.exit_code == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"), partial_folder(tmp_path, "s"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "scene.json" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"scene\.json"):
        write_text(tmp_path / "scene.json", "{}", "scene")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.json"]


def test_leftovers_of_a_killed_run_disappear_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from unclouded.write.atomic import partial_folder
        with partial_folder(Path(sys.argv[1]), "scene") as partial:
            (partial / "half").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "half").exists()
    with partial_folder(tmp_path, "scene") as running:
        assert not left.exists()
        with partial_folder(tmp_path, "scene"):
            assert running.exists()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from unclouded.errors import OutputError
        from unclouded.write.product import ProductWriter
        from odc.geo.geobox import GeoBox
        from affine import Affine
        rng = np.random.default_rng(0)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        grid = GeoBox((1500, 1500), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
        try:
            with ProductWriter(Path(sys.argv[1]), "scene", grid, probability=False, tags={}) as writer:
                for row in range(0, 1500, 500):
                    classes = rng.integers(0, 4, (500, 1500), np.uint8)
                    writer.write_rows(row, classes, rng.integers(0, 100, (500, 1500), np.uint8))
                writer.finish()
        except OutputError as err:
            sys.exit(77 if err.found and err.expected and err.remedy else 1)
    """
    for limit in (20_000, 400_000, 700_000, 2_200_000):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(limit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 77, (limit, done.stderr)
        assert not list(tmp_path.iterdir())


def test_replace_keeps_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    replace_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_memory_of_a_full_tile(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from unclouded.write.product import ProductWriter
        from odc.geo.geobox import GeoBox
        from affine import Affine
        rng = np.random.default_rng(0)
        grid = GeoBox((10980, 10980), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
        strip = rng.integers(0, 4, (61, 1098), np.uint8).repeat(10, 0).repeat(10, 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ProductWriter(Path(sys.argv[1]), "scene", grid, probability=True, tags={}) as writer:
            for row in range(0, 10980, 610):
                writer.write_rows(row, strip, strip, np.broadcast_to(strip, (4, *strip.shape)))
            writer.finish()
        sys.stdout.write(str((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 400  # MiB above what was there before
