"""Files that hold many samples: Tortilla and TACO (version 1), and mlstac.

A Tortilla is ``#y`` (a TACO ``WX``), offset and length of its footer as two little-endian 64-bit numbers, the number
of partitions, zeros up to byte 200, the samples, and the footer: a Parquet table that says where each sample lies. A
sample may be a Tortilla itself. An mlstac file is ``#y``, the length of its header, the header (JSON, sample to begin
and length, counted from the header's end), and the samples. Samples are images that GDAL opens in place.

Source: TACO specification 0.x (tacofoundation) and the mlstac package 0.1 for the bytes.
"""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingDependencyError

_TORTILLA = b"#y"
_TACO = b"WX"
_PARQUET = b"PAR1"
_SAMPLES_FROM = 200
"""Byte at which samples begin; what lies before is the header."""


@dataclass(frozen=True)
class Part:
    """Bytes of a file.

    Attributes:
        path: the file.
        offset, length: in bytes.
        row: what the footer says of the sample, by column.
    """

    path: Path
    offset: int
    length: int
    row: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Identifier of the sample."""
        return str(self.row["tortilla:id"])

    @property
    def gdal(self) -> str:
        """Name under which GDAL opens these bytes.

        >>> Part(Path("a.taco"), 200, 30, {}).gdal
        '/vsisubfile/200_30,a.taco'
        """
        return f"/vsisubfile/{self.offset}_{self.length},{self.path}"


def read_tortilla(path: Path, offset: int = 0) -> list[Part]:
    """Samples of a Tortilla or TACO file, or of a Tortilla inside it.

    Args:
        path: the file.
        offset: where the Tortilla begins.

    Returns:
        One part per sample, in the footer's order, with offsets counted from the file's start.

    Raises:
        InputError: there is no Tortilla, or its footer is damaged.
        MissingDependencyError: pyarrow is not installed.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(offset)
        head = file.read(18)
        if head[:2] not in (_TORTILLA, _TACO) or len(head) < 18:
            raise _damaged(path, f"begins with {head[:2]!r} at byte {offset}")
        footer, length = int.from_bytes(head[2:10], "little"), int.from_bytes(head[10:18], "little")
        # Inside another file offsets count from the Tortilla's own start; some writers count from the file's.
        for base in dict.fromkeys((offset, 0)):
            if base + footer + length > size:
                continue
            file.seek(base + footer)
            table = file.read(length)
            if table[:4] == _PARQUET and table[-4:] == _PARQUET:
                break
        else:
            raise _damaged(path, f"has no table at byte {offset + footer}")
    rows = read_parquet(table)
    missing = {"tortilla:id", "tortilla:offset", "tortilla:length"} - set(rows[0] if rows else ())
    if missing:
        raise _damaged(path, f"has a table without {', '.join(sorted(missing))}")
    return [Part(path, base + int(row["tortilla:offset"]), int(row["tortilla:length"]), row) for row in rows]


def read_mlstac(path: Path) -> list[Part]:
    """Samples of an mlstac file.

    Raises:
        InputError: it is no mlstac file, or its header is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, length = file.read(2), int.from_bytes(file.read(8), "little")
        if magic != _TORTILLA or length > size:
            raise _damaged(path, f"begins with {magic!r}")
        try:
            header = json.loads(file.read(length))
            spans = {str(name): (int(begin), int(count)) for name, (begin, count) in header.items()}
        except (ValueError, TypeError, AttributeError) as err:
            raise _damaged(path, "has a header that is not a table of samples") from err
    start = 10 + length
    if any(start + begin + count > size for begin, count in spans.values()):
        raise _damaged(path, "ends before its last sample")
    return [Part(path, start + begin, count, {"tortilla:id": name}) for name, (begin, count) in spans.items()]


def read_parquet(source: Path | bytes) -> list[dict[str, Any]]:
    """Rows of a Parquet table.

    Raises:
        InputError: it cannot be read.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = _arrow()
    try:
        table = arrow.read_table(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (OSError, ValueError) as err:  # pyarrow's own errors derive from these
        raise InputError(
            f"The Parquet table {'in the footer' if isinstance(source, bytes) else source} cannot be read: {err}.",
            expected="It lists the samples.",
            remedy="The download may be incomplete: get the file again.",
        ) from err
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def write_tortilla(path: Path, samples: Sequence[tuple[Mapping[str, Any], bytes]], *, taco: bool = False) -> None:
    """Write a Tortilla or TACO file; for made-up data sets.

    Args:
        path: the file to write.
        samples: what the footer says of each sample (``tortilla:id`` at least), and its bytes.
        taco: write the magic number of TACO.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    path.write_bytes(tortilla_bytes(samples, taco=taco))


def tortilla_bytes(samples: Sequence[tuple[Mapping[str, Any], bytes]], *, taco: bool = False) -> bytes:
    """The bytes of a Tortilla; see :func:`write_tortilla`."""
    rows, offset = [], _SAMPLES_FROM
    for row, data in samples:
        rows.append({**row, "tortilla:offset": offset, "tortilla:length": len(data)})
        offset += len(data)
    footer = parquet_bytes(rows)
    numbers = (offset, len(footer), 1)
    head = (_TACO if taco else _TORTILLA) + b"".join(number.to_bytes(8, "little") for number in numbers)
    return head.ljust(_SAMPLES_FROM, b"\0") + b"".join(data for _, data in samples) + footer


def write_mlstac(path: Path, samples: Mapping[str, bytes]) -> None:
    """Write an mlstac file; for made-up data sets."""
    spans, begin = {}, 0
    for name, data in samples.items():
        spans[name] = [begin, len(data)]
        begin += len(data)
    header = json.dumps(spans).encode()
    path.write_bytes(_TORTILLA + len(header).to_bytes(8, "little") + header + b"".join(samples.values()))


def parquet_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as a Parquet table.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = _arrow()
    out = io.BytesIO()
    arrow.write_table(importlib.import_module("pyarrow").Table.from_pylist([dict(row) for row in rows]), out)
    return out.getvalue()


def _arrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as err:
        raise MissingDependencyError.for_extra("pyarrow", "data") from err


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} {what}.",
        expected="It is a complete file of the kind that its name says (Tortilla, TACO version 1, or mlstac).",
        remedy="The download may be incomplete: get it again.",
    )
