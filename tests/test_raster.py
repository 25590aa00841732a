"""Reading one band on any aligned grid: windows equal the whole, missing pixels win, levels are used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from unclouded.errors import InputError
from unclouded.raster import RasterBand, header
from unclouded.resample import block_mean
from unclouded.scene import Radiometry
from unclouded.simulate.safe import write_jp2

from .fakes_products import CRS, ULX, ULY, image, make_counts, make_safe, make_tif

DN = Radiometry(1.0, 0.0, 0.0, "test")


def grid(shape: tuple[int, int], pixel_m: float, dx: float = 0.0, dy: float = 0.0) -> GeoBox:
    return GeoBox(shape, Affine(pixel_m, 0, ULX + dx, 0, -pixel_m, ULY - dy), CRS)


def read_all(path: Path) -> np.ndarray:
    band, head = RasterBand.open(str(path))
    return band.read(head.geobox(), DN)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(1)
    data = rng.integers(1000, 9000, (203, 310)).astype(np.uint16)
    data[:60, :90] = 0
    data[150, 200] = 0
    data[100, 100] = 65535
    return data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, counts: np.ndarray) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bands")
    out = {"tif": make_tif(folder / "plain.tif", counts[None], tiled=True, blockxsize=64, blockysize=64)}
    out["cog"] = make_tif(folder / "levels.tif", counts[None], nodata=0)
    with rasterio.open(out["cog"], "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    out["jp2"] = folder / "band.jp2"
    write_jp2(
        out["jp2"],
        counts,
        shape=counts.shape,
        affine=Affine(10, 0, ULX, 0, -10, ULY),
        crs=rasterio.crs.CRS.from_string(CRS),
        tile_px=64,
    )
    return out


@pytest.mark.parametrize("kind", ["tif", "cog", "jp2"])
def test_the_own_grid_gives_the_stored_values(files: dict[str, Path], counts: np.ndarray, kind: str) -> None:
    band, head = RasterBand.open(str(files[kind]))
    out = band.read(head.geobox(), DN)
    assert np.array_equal(np.isnan(out), counts == 0)
    assert np.array_equal(out[counts != 0], counts[counts != 0].astype(np.float32))
    assert out[100, 100] == 65535  # saturated is very bright, not missing


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["tif", "cog", "jp2"]),
    ratio=st.sampled_from([1, 2, 3, 4, 6, 1.5, 2.5, 1 / 2, 1 / 3, 1 / 6, 0.7]),
    data=st.data(),
)
def test_windows_equal_the_whole(files: dict[str, Path], kind: str, ratio: float, data: st.DataObject) -> None:
    band, _ = RasterBand.open(str(files[kind]))
    whole_grid = grid((int(203 / ratio) + 3, int(310 / ratio) + 3), 10 * ratio, dx=-10 * ratio, dy=-20 * ratio)
    whole = band.read(whole_grid, DN)
    rows, cols = whole_grid.shape
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, cols))
    part = band.read(whole_grid[top:bottom, left:right], DN)
    assert np.array_equal(np.isnan(part), np.isnan(whole[top:bottom, left:right]))
    assert np.nan_to_num(part) == pytest.approx(np.nan_to_num(whole[top:bottom, left:right]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["tif", "cog", "jp2"])
@pytest.mark.parametrize("factor", [2, 4])
def test_coarse_pixels_that_touch_missing_ones_are_missing(
    files: dict[str, Path], counts: np.ndarray, kind: str, factor: int
) -> None:
    band, _ = RasterBand.open(str(files[kind]))
    out = band.read(grid((-(-203 // factor), -(-310 // factor)), 10 * factor), DN)
    native = np.where(counts == 0, np.nan, counts).astype(np.float32)
    if band.levels:
        native[150, 200] = 5000  # one lone pixel is beyond what a level can show
    touched = np.isnan(block_mean(native, factor))
    assert np.isnan(out[touched]).all()
    # and not much more than that
    assert np.isnan(out).sum() <= touched.sum() + (0 if not band.levels else 4 * (60 + 90) // factor + 50)


def test_without_levels_coarse_pixels_are_exact_means(files: dict[str, Path], counts: np.ndarray) -> None:
    band, _ = RasterBand.open(str(files["tif"]))
    assert band.levels == ()
    out = band.read(grid((101, 155), 20), DN)
    expected = block_mean(np.where(counts == 0, np.nan, counts).astype(np.float32), 2)[:101, :155]
    assert np.array_equal(np.isnan(out), np.isnan(expected))
    assert np.nan_to_num(out) == pytest.approx(np.nan_to_num(expected), rel=1e-6)


def test_levels_are_close_to_means(tmp_path: Path) -> None:
    smooth = make_counts(2400, bands=["B02"])["B02"]
    write_jp2(tmp_path / "a.jp2", smooth, shape=smooth.shape, affine=Affine(10, 0, ULX, 0, -10, ULY), crs=None)
    band, head = RasterBand.open(str(tmp_path / "a.jp2"))
    assert 2 in band.levels
    out = band.read(GeoBox((120, 120), head.affine * Affine.scale(2), None), DN)
    mean = block_mean(smooth.astype(np.float32), 2)
    assert np.abs(out - mean).max() < 0.02 * mean.max()


def test_full_resolution_is_not_decoded_for_a_coarse_grid(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    band, _ = RasterBand.open(str(files["jp2"]))
    seen: list[tuple[int, int]] = []
    real = rasterio.io.DatasetReader.read

    def spy(self: object, *args: object, **options: object) -> np.ndarray:
        out = real(self, *args, **options)
        seen.append(out.shape)
        return out

    monkeypatch.setattr("rasterio.io.DatasetReader.read", spy)
    band.read(grid((50, 77), 40), DN)
    assert seen == [(50, 77)] or max(shape[0] * shape[1] for shape in seen) < 60 * 90


def test_beyond_the_edges_is_missing(files: dict[str, Path]) -> None:
    band, _ = RasterBand.open(str(files["tif"]))
    out = band.read(grid((20, 20), 10, dx=-100, dy=2030 - 100), DN)
    assert np.isnan(out[:, :10]).all()
    assert np.isnan(out[10:]).all()
    assert not np.isnan(out[:10, 10:]).any()
    assert np.isnan(band.read(grid((5, 5), 10, dx=1e6), DN)).all()


def test_coarse_band_on_a_fine_grid_is_bilinear(tmp_path: Path) -> None:
    coarse = (np.arange(10)[:, None] * 60 + np.arange(10)[None] * 6 + 1).astype(np.uint16)
    path = make_tif(tmp_path / "c.tif", coarse[None], pixel_m=60)
    band, _ = RasterBand.open(str(path))
    out = band.read(grid((30, 30), 20), DN)
    at = ((np.arange(30) + 0.5) / 3 - 0.5).clip(0, 9)
    assert out == pytest.approx(at[:, None] * 60 + at[None] * 6 + 1, rel=1e-5)


def test_alpha_marks_missing_pixels(tmp_path: Path) -> None:
    data = np.full((4, 8, 8), 200, np.uint8)
    data[3] = 255
    data[3, 2, 3] = 0
    path = make_tif(tmp_path / "rgba.tif", data, photometric="RGB", alpha="YES")
    band, head = RasterBand.open(str(path), 1)
    assert band.mask
    assert np.argwhere(np.isnan(band.read(head.geobox(), Radiometry(1, 0, None, "test")))).tolist() == [[2, 3]]


def test_many_threads_read_the_same(files: dict[str, Path]) -> None:
    band, head = RasterBand.open(str(files["jp2"]))
    whole = band.read(head.geobox(), DN)
    start = threading.Barrier(4)

    def work(seed: int) -> bool:
        start.wait()
        rng = np.random.default_rng(seed)
        for _ in range(20):
            top = int(rng.integers(0, 150))
            part = band.read(head.geobox()[top : top + 50, :], DN)
            if not np.array_equal(part, whole[top : top + 50], equal_nan=True):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for value in (5, 7):
        make_tif(path, np.full((1, 4, 4), value, np.uint16), nodata=value + 1)
        band, head = RasterBand.open(str(path))
        assert (band.read(head.geobox(), DN) == value).all()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_file_cut_short_is_an_error_and_never_noise(tmp_path: Path, kept: float) -> None:
    product = make_safe(tmp_path, counts=make_counts(2400, bands=["B02"]))
    path = image(product, "B02")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=path.name) as caught:
        read_all(path)
    assert caught.value.expected
    assert caught.value.remedy


def test_a_hole_in_a_file_is_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 60000, (200, 200)).astype(np.uint16)
    path = tmp_path / "a.jp2"
    write_jp2(path, noise, shape=noise.shape, affine=Affine(10, 0, ULX, 0, -10, ULY), crs=None, tile_px=64)
    content = bytearray(path.read_bytes())
    del content[len(content) // 2 : len(content) // 2 + 20000]
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.jp2"):
        read_all(path)


@pytest.mark.parametrize("content", [b"", b"not a raster", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_a_raster(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.tif"):
        header(str(path))


def test_complex_numbers_and_absent_bands_are_refused(tmp_path: Path) -> None:
    path = make_tif(tmp_path / "slc.tif", np.ones((1, 4, 4), np.complex64))
    with pytest.raises(InputError, match="complex"):
        RasterBand.open(str(path))
    with pytest.raises(InputError, match="has 1 bands"):
        RasterBand.open(str(path), 2)


def test_a_turned_grid_is_refused(files: dict[str, Path]) -> None:
    band, head = RasterBand.open(str(files["tif"]))
    turned = GeoBox((10, 10), head.affine * Affine.rotation(10), CRS)
    with pytest.raises(InputError, match="turned"):
        band.read(turned, DN)


def test_sample_sees_the_whole_image(files: dict[str, Path], counts: np.ndarray) -> None:
    for path in files.values():
        values = RasterBand.open(str(path))[0].sample(DN)
        assert values.size > 1000
        assert np.isfinite(values).all()
        assert abs(np.median(values) - np.median(counts[counts > 0])) < 500
