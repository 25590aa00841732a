"""CloudSEN12+: revised labels and further patches of 2000 x 2000 pixels, in TACO or, as first released, mlstac files.

    <root>/cloudsen12-{l1c,l2a,extra}.0000.part.taco ...
    <root>/{train,val,test}/{part}_{509,2000}_{high,scribble,nolabel}.mlstac, metadata.parquet

Images were padded to 512 and 2048 with zeros. Names of the files of a sample, columns and the value 99 for missing
labels: data card of the release, and what its users read from it; each is checked when it is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from ...errors import InputError, UncloudedWarning
from ...raster import header
from ..containers import (
    Part,
    parquet_bytes,
    read_mlstac,
    read_parquet,
    read_tortilla,
    tortilla_bytes,
    write_mlstac,
    write_tortilla,
)
from ..tiff import UTM33, read_tiff
from . import register
from ._cloudsen12 import NO_LABEL, CloudSen12Base, Stored, check_decibel, choose, place_tags
from .base import Record
from .cloudsen12 import fake_codes, fake_counts

_SPLITS = {"train": "train", "validation": "choose", "val": "choose", "test": "test"}
_SIDES = {509: 512, 2000: 2048}
"""Side of the padded patch by its own side."""
_LABEL_CHANNEL = 13
"""In mlstac files the label follows the 13 bands."""
_MASKS = {"sen2cor": "cloudmask_sen2cor", "s2cloudless": "cloudmask_s2cloudless", "qa60": "cloudmask_qa60"}


@register
class CloudSen12Plus(CloudSen12Base):
    """CloudSEN12+ in TACO or mlstac files.

    Args:
        root: folder that holds the files.
        size: side of the patches wanted, 509 or 2000 pixels, or None for both.

    Other options: see :class:`CloudSen12Base`. Level ``l2a``, backscatter and elevation are in the TACO files only.
    """

    name = "cloudsen12-plus"
    title = "CloudSEN12+"
    licence = "CC0-1.0"
    citation = (
        "Aybar et al. (2024): CloudSEN12+, the largest dataset of expert-labeled pixels for cloud and cloud shadow "
        "detection in Sentinel-2. Data in Brief 56, 110852, doi:10.1016/j.dib.2024.110852"
    )
    homepage = "https://huggingface.co/datasets/tacofoundation/cloudsen12"
    obtain = (
        "Get the cloudsen12-l1c.*.part.taco files (and -l2a, -extra where wanted) of "
        "huggingface.co/datasets/tacofoundation/CloudSEN12 into one folder; pip install 'unclouded[data]'."
    )
    sar = ("vv", "vh")
    masks = tuple(_MASKS)

    def __init__(self, root: Path, *, size: int | None = 509, **options: Any) -> None:
        if size is not None:
            choose("size", str(size), [str(side) for side in _SIDES])
        self.size = size
        self._parts: dict[str, Part] = {}
        self._extra: dict[str, Part] = {}
        super().__init__(root, **options)

    @classmethod
    def expected_layout(cls) -> str:
        """What is looked for."""
        return (
            "Files *.taco or *.tortilla with l1c, l2a or extra in their names, or folders train, val and test with "
            "*.mlstac and metadata.parquet; of them, patches of the size and kind of label asked for."
        )

    def find(self) -> Iterator[Record]:
        """One record per patch of the size and kind asked for; only footers, headers and tables are read."""
        files = sorted([*self.root.rglob("*.taco"), *self.root.rglob("*.tortilla")])
        if files:
            yield from self._find_taco(files)
        else:
            yield from self._find_mlstac(sorted(self.root.rglob("*.mlstac")))

    def _find_taco(self, files: Sequence[Path]) -> Iterator[Record]:
        wanted: list[Path] = []
        for path in files:
            named = path.name.casefold()
            group = "extra" if "extra" in named else "l2a" if "l2a" in named else "l1c"
            if group == self.level:
                wanted.append(path)
            elif group == "extra":
                self._extra |= {part.name: _place(part) for part in read_tortilla(path)}
        for path in wanted:
            for part in read_tortilla(path):
                _need(part.row, ("tortilla:data_split", "label_type", "real_proj_shape", "roi_id"), path)
                row = part.row
                if self._is_wanted(row["label_type"], row["real_proj_shape"]):
                    tags = place_tags(row.get("stac:time_start"), _centroid(row))
                    yield self._record(part, row, str(row["tortilla:data_split"]), tags)

    def _find_mlstac(self, files: Sequence[Path]) -> Iterator[Record]:
        tables: dict[Path, dict[str, Mapping[str, Any]]] = {}
        for path in files:
            parts = read_mlstac(path)
            table = path.with_name("metadata.parquet")
            if table not in tables:
                tables[table] = _by_sample(table, {part.name for part in parts})
            rows = tables[table]
            for part in parts:
                if part.name not in rows:
                    raise InputError(
                        f"The sample '{part.name}' of {path} is not in {table.name}.",
                        expected="The table lists every sample.",
                        remedy="Get both files of the same release.",
                    )
                row = rows[part.name]
                _need(row, ("split", "label_type", "proj_shape", "roi_id"), table)
                if self._is_wanted(row["label_type"], row["proj_shape"]):
                    tags = place_tags(row.get("s2_date") or row.get("s2_id_gee"), _centroid(row))
                    yield self._record(part, row, str(row["split"]), tags)

    def _is_wanted(self, kind: object, side: object) -> bool:
        return str(kind) == self.kind and self.size in (None, int(str(side)))

    def _record(self, part: Part, row: Mapping[str, Any], split: str, tags: dict[str, float]) -> Record:
        choose("split in the table", split, tuple(_SPLITS))
        self._parts[part.name] = _place(part)
        side = row.get("real_proj_shape", row.get("proj_shape"))
        files = {"image": part.path, "label": part.path}
        known = {**tags, "side": float(str(side))}
        return Record(part.name, str(row["roi_id"]), files, _SPLITS[split], known, part.offset)

    def _stored(self, record: Record) -> Stored:
        part = self._parts[record.name]
        if part.path.suffix == ".mlstac":
            stored = self._from_mlstac(part)
        else:
            stored = self._from_taco(record, part)
        self._check_padding(record, stored.counts)
        return stored

    def _from_mlstac(self, part: Part) -> Stored:
        if self.level != "l1c" or self.with_sar or self.with_dem:
            raise InputError(
                f"{part.path} holds level L1C only.",
                expected="Level L2A, backscatter and elevation are in the TACO files.",
                remedy="Get those, or leave the options out.",
            )
        planes = read_tiff(part.gdal)
        if len(planes) <= _LABEL_CHANNEL:
            raise InputError(
                f"A sample of {part.path} has {len(planes)} channels.",
                expected="There are 13 bands, the label, and masks of programs.",
                remedy="Check the release.",
            )
        return Stored(planes[:_LABEL_CHANNEL], np.empty((0, *planes.shape[1:]), np.float32), planes[_LABEL_CHANNEL])

    def _from_taco(self, record: Record, part: Part) -> Stored:
        spectral = 13 if self.level == "l1c" else 12
        image: list[Part] = []
        label: list[Part] = []
        inner = read_tortilla(part.path, part.offset)
        for one in inner:
            count = header(one.gdal).count
            (label if count == 1 else image if count >= spectral else []).append(one)
        if len(image) != 1 or len(label) != 1:
            raise InputError(
                f"The sample '{part.name}' of {part.path} holds {', '.join(one.name for one in inner)}.",
                expected=f"It holds one image of {spectral} bands or more and one label.",
                remedy="Check the release.",
            )
        used = list(range(1, spectral + self.with_aot + 1))
        counts = read_tiff(image[0].gdal, bands=used, dtypes=("uint16", "int16"))
        codes = read_tiff(label[0].gdal, shape=counts.shape[1:])[0]
        names = self.sar * self.with_sar + ("elevation",) * self.with_dem
        extra = [self._extra_plane(record, name, codes.shape) for name in names]
        planes = np.stack(extra).astype(np.float32) if extra else np.empty((0, *codes.shape), np.float32)
        if self.with_sar:
            check_decibel(planes, part.path)
        return Stored(counts, planes, codes)

    def _extra_plane(self, record: Record, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """One plane of the files called ``extra``, which have the same sample names."""
        if record.name not in self._extra:
            raise InputError(
                f"The files called 'extra' hold no sample '{record.name}'.",
                expected=f"'{name}' comes from there.",
                remedy="Put cloudsen12-extra.*.part.taco beside the others.",
            )
        part = self._extra[record.name]
        inner = {one.name.casefold(): one for one in read_tortilla(part.path, part.offset)}
        if name not in inner:
            raise InputError(
                f"The sample '{record.name}' of {part.path} holds {', '.join(sorted(inner))}.",
                expected=f"'{name}' is one of them.",
                remedy="Leave this part out, or check the release.",
            )
        return read_tiff(inner[name].gdal, count=1, shape=(shape[0], shape[1]))[0]

    def _mask_codes(self, record: Record, program: str) -> NDArray[np.integer]:
        stored = self._stored(record)
        return self._extra_plane(record, _MASKS[program], stored.codes.shape)

    def _check_padding(self, record: Record, counts: NDArray[np.integer]) -> None:
        """Warn where the padding that the table announces is not what is stored."""
        side, stored = int(float(record.tags["side"])), counts.shape[1]
        if counts.shape[1] != counts.shape[2] or stored not in (side, _SIDES.get(side)):
            raise InputError(
                f"The image of '{record.name}' has {counts.shape[1]} x {counts.shape[2]} pixels.",
                expected=f"A patch of {side} is stored with {side} or {_SIDES.get(side, side)}.",
                remedy="Check the release.",
            )
        empty = (counts == 0).all(axis=0) | (counts == NO_LABEL).all(axis=0)
        short = [axis for axis in (0, 1) if empty.all(axis=axis).sum() < stored - side]
        if short:
            warnings.warn(
                f"'{record.name}' was padded from {side} to {stored} pixels, but not with empty rows and columns: "
                "what was added cannot be told from the image, and is used as if it were measured.",
                UncloudedWarning,
                stacklevel=4,
            )

    @classmethod
    def make_fake(cls, root: Path, *, seed: int = 0) -> None:
        """Three places in TACO files of both levels and ``extra``; every label code, a patch without label."""
        rng = np.random.default_rng(seed)
        files: dict[str, list[tuple[dict[str, Any], bytes]]] = {"l1c": [], "l2a": [], "extra": []}
        for number, (split, kind) in enumerate(
            (("train", "high"), ("validation", "high"), ("test", "high"), ("train", "scribble"), ("test", "nolabel"))
        ):
            row, codes = fake_row(number, split, kind), fake_padded_codes(kind, rng)
            for level in ("l1c", "l2a"):
                image = fake_image(14 if level == "l2a" else 13, codes, kind)
                stored: dict[str, NDArray[Any]] = {f"s2{level}": image, "target": codes[None]}
                files[level].append((row, fake_sample(stored)))
            extra = {"vv": -9.5, "vh": -16.0, "elevation": 320.0}
            planes = {name: np.full((1, *codes.shape), value, np.float32) for name, value in extra.items()}
            planes["cloudmask_sen2cor"] = np.where(codes == 1, 9, 4)[None].astype(np.uint8)
            files["extra"].append((row, fake_sample(planes)))
        root.mkdir(parents=True, exist_ok=True)
        for level, samples in files.items():
            half = len(samples) // 2
            for part, few in enumerate((samples[:half], samples[half:])):
                write_tortilla(root / f"cloudsen12-{level}.{part:04d}.part.taco", few, taco=True)


def make_fake_mlstac(root: Path, *, seed: int = 0) -> None:
    """Write the same made-up patches in the mlstac layout: 13 bands, label and one mask in one image each."""
    rng = np.random.default_rng(seed)
    for number, (part, split) in enumerate((("train", "train"), ("val", "validation"), ("test", "test"))):
        folder = root / part
        folder.mkdir(parents=True)
        rows: list[dict[str, Any]] = []
        for kind in ("high", "scribble"):
            codes = fake_padded_codes(kind, rng)
            image = np.concatenate([fake_image(13, codes, kind), codes[None], codes[None]]).astype(np.uint16)
            name = f"{number}_{kind}"
            write_mlstac(folder / f"{part}_509_{kind}.mlstac", {name: tiff_bytes(image)})
            row = fake_row(number, split, kind)
            rows.append(
                {
                    "datapoint_id": name,
                    "split": split,
                    "label_type": kind,
                    "proj_shape": 509,
                    "roi_id": row["roi_id"],
                    "s2_date": "2019-06-12",
                    "proj_centroid": row["stac:centroid"],
                }
            )
        (folder / "metadata.parquet").write_bytes(parquet_bytes(rows))


def fake_row(number: int, split: str, kind: str) -> dict[str, Any]:
    """A row of the table of a TACO file."""
    return {
        "tortilla:id": f"ROI_{number:05d}__20190612T101031_20190612T101033_T33UUB",
        "tortilla:file_format": "TORTILLA",
        "tortilla:data_split": split,
        "stac:centroid": f"POINT (12.5 {30 + number})",
        "stac:time_start": "2019-06-12",
        "label_type": kind,
        "real_proj_shape": 509,
        "roi_id": f"ROI_{number:05d}",
    }


def fake_sample(images: Mapping[str, NDArray[Any]]) -> bytes:
    """Images of one patch as the bytes of a Tortilla."""
    return tortilla_bytes([({"tortilla:id": name}, tiff_bytes(image)) for name, image in images.items()])


def fake_padded_codes(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Label codes with the padding of 0 that the release has at the left and below."""
    codes = np.full((509, 509), NO_LABEL, np.uint8) if kind == "nolabel" else fake_codes(kind, 509, rng)
    return np.pad(codes, ((0, 3), (3, 0)))


def fake_image(layers: int, codes: NDArray[np.uint8], kind: str) -> NDArray[np.uint16]:
    """Counts for padded codes, 0 in the padding."""
    image = fake_counts(layers, codes, kind)
    image[:, -3:], image[:, :, :3] = 0, 0
    return image


def tiff_bytes(image: NDArray[Any]) -> bytes:
    """An image (band, y, x) as the bytes of a GeoTIFF."""
    with MemoryFile() as memory:
        form = {"driver": "GTiff", "dtype": image.dtype, "count": len(image), "compress": "deflate", "zlevel": 1}
        with memory.open(height=image.shape[1], width=image.shape[2], **form, **UTM33) as file:
            file.write(image)
        content: bytes = memory.read()
        return content


def _place(part: Part) -> Part:
    """Where a sample lies, without the rest of its row, which would travel to every worker process."""
    return replace(part, row={"tortilla:id": part.name})


def _need(row: Mapping[str, Any], columns: Sequence[str], path: Path) -> None:
    missing = [column for column in columns if row.get(column) is None]
    if missing:
        raise InputError(
            f"The table of {path} lacks {', '.join(missing)}; its columns are {', '.join(row)}.",
            expected="These columns say which patch is which.",
            remedy="Check the release: this reader knows version 1 of the TACO files, and the first mlstac files.",
        )


def _centroid(row: Mapping[str, Any]) -> str:
    return str(row.get("stac:centroid") or row.get("proj_centroid") or "")


def _by_sample(path: Path, names: set[str]) -> dict[str, Mapping[str, Any]]:
    """Rows by sample. The column that names the samples is the one whose values do."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing.",
            expected="Beside the .mlstac files lies the table that says what they hold.",
            remedy="Get it from the release.",
        )
    rows = read_parquet(path)
    for column in rows[0] if rows else ():
        found: dict[str, Mapping[str, Any]] = {str(row[column]): row for row in rows}
        if names <= set(found):
            return found
    raise InputError(
        f"No column of {path} names the samples, e.g. '{min(names, default='')}'.",
        expected="One column holds the names under which the .mlstac files keep the samples.",
        remedy="Get both files of the same release.",
    )
