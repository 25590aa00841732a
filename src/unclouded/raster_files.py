"""Files that GDAL opens: settings for reading, datasets kept open between reads, and errors that name the file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rasterio
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from .errors import InputError

_CACHE_BYTES = 192 * 1024 * 1024
"""GDAL's block cache: one row of 1024 x 1024 tiles of thirteen Sentinel-2 bands takes about 150 MB."""

_IDLE = 48
"""Datasets kept open between reads."""

PRODUCT_FORMATS = ("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JP2Grok")
"""GDAL's names of the formats that agencies ship bands in. Others, such as VRT, may lead to files elsewhere, and GDAL
tells formats by content: a band of a product called .tif could be one."""


class Pool:
    """Open datasets, each used by one thread at a time and kept for the next; GDAL datasets are not thread safe."""

    def __init__(self) -> None:
        self._idle: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def use(self, path: str, level: int | None, formats: tuple[str, ...] | None) -> Iterator[Any]:
        key = (os.getpid(), path, level, formats, _stamp(path))
        with self._lock:
            waiting = self._idle.get(key)
            dataset = waiting.pop() if waiting else None
        if dataset is None:
            dataset = open_file(path, formats) if level is None else open_file(path, formats, OVERVIEW_LEVEL=level)
        try:
            yield dataset
        except BaseException:
            dataset.close()
            raise
        self._keep(key, dataset)

    def _keep(self, key: tuple[Any, ...], dataset: Any) -> None:
        closing = []
        with self._lock:
            self._idle.setdefault(key, []).append(dataset)
            self._idle.move_to_end(key)
            while sum(len(found) for found in self._idle.values()) > _IDLE:
                oldest, found = next(iter(self._idle.items()))
                closing.append(found.pop(0))
                if not found:
                    del self._idle[oldest]
        for other in closing:
            other.close()


POOL = Pool()


def open_file(path: str, formats: tuple[str, ...] | None, **options: Any) -> DatasetReader:
    """Open a file of one of these formats, or of any; ``rasterio.open`` takes a single format only."""
    if "\0" in path:  # the system's functions would take what stands before
        raise RasterioError(f"the path {path!r} has a zero byte")
    return DatasetReader(path, driver=None if formats is None else list(formats), **options)


def _stamp(path: str) -> tuple[int, int] | None:
    """Tells a replaced file from the one that was opened."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


_REMOTE = {
    # Otherwise GDAL looks for companions of every file: one request each, or a listing of the folder.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The directories of a cloud-optimised file come with the first request.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    # A server that stalls is given up, one that is slow is not.
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}
"""GDAL settings for files that are read over a network, unless environment variables say otherwise."""


def is_remote(path: str) -> bool:
    """Whether GDAL reads a file over a network.

    >>> is_remote("https://host/B02.tif"), is_remote("/vsis3/bucket/B02.tif"), is_remote("/vsizip/a.zip/B02.tif")
    (True, True, False)
    """
    return "://" in path or path.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsioss", "/vsiswift"))


def environment(path: str = "") -> rasterio.Env:
    """GDAL settings for reading: a bounded cache, and one thread. Other settings of an enclosing Env stay.

    GDAL's own threads lose the errors of the JPEG 2000 decoder: a file that was cut short would read as noise. Bands
    are read in parallel instead, see :meth:`unclouded.scene.Scene.read`.

    Args:
        path: what will be read; files on a network have settings of their own.
    """
    options: dict[str, Any] = {"GDAL_CACHEMAX": _CACHE_BYTES}
    if is_remote(path):
        options |= {name: value for name, value in _REMOTE.items() if name not in os.environ}
    if rasterio.env.hasenv():
        options.update(rasterio.env.getenv())
    # GDAL would write the size of what a .gz holds into a file beside it.
    options["CPL_VSIL_GZIP_WRITE_PROPERTIES"] = "NO"
    return rasterio.Env(**{**options, "GDAL_NUM_THREADS": "1"})


@contextmanager
def read_errors(path: str) -> Iterator[None]:
    """Turn failures of GDAL into an InputError that names the file."""
    try:
        yield
    except UnicodeEncodeError as err:
        raise InputError(
            f"{path} cannot be opened: its name is not UTF-8.",
            expected="GDAL takes names of files and folders in UTF-8 only.",
            remedy="Rename it, or make a link to it with another name.",
        ) from err
    except (RasterioError, OSError) as err:
        if isinstance(err, InputError):
            raise
        cause = str(err.__cause__ or err).strip().rstrip(".")
        if is_remote(path):
            raise InputError(
                f"{path} cannot be read: {cause}.",
                expected="A raster file on a server that answers.",
                remedy="Check the address and the network; signed addresses expire. Settings of GDAL, such as"
                " GDAL_HTTP_MAX_RETRY, may be given as environment variables.",
            ) from err
        raise InputError(
            f"{path} cannot be read: {cause}.",
            expected="A complete raster file that GDAL can open.",
            remedy="Check that the file exists and is complete; download it again if it was cut short.",
        ) from err
