"""Product files in a folder or an archive, found and read the same way. Archives are never unpacked."""

from __future__ import annotations

import json
import math
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..errors import InputError

_LARGEST_TEXT = 8 * 1024 * 1024
"""Bytes of the largest metadata file that is read; real ones stay below 3 MB. XML of this size takes about a second."""

_MOST_FILES = 100_000

_MOST_UNPACKED = 4 * 2**30
_MOST_TIMES = 500
"""An archive may unpack to that many bytes, or to that many times its own size where that is more. Whole products are
smaller than 3 GB, and images of nothing but fill shrink to a hundredth; a bomb of zeros shrinks to a thousandth."""


class Files:
    """The files of a product, by path relative to its root, with ``/`` between the parts.

    Attributes:
        root: the folder or archive.
        names: relative paths of all files, sorted.
    """

    def __init__(self, root: Path, names: list[str], archive: str = "") -> None:
        self.root = root
        self.names = sorted(names)
        self._archive = archive

    @classmethod
    def of(cls, root: Path) -> Files:
        """Files of a folder, a zip, or a tar (also compressed).

        Raises:
            InputError: the archive is damaged, or has members that lead out of it.
        """
        if root.is_dir():
            names = []
            for path in _walk(root):
                names.append(path.relative_to(root).as_posix())
            return cls(root, names)
        if root.suffix.lower() == ".zip":
            with _archive_errors(root), zipfile.ZipFile(root) as archive:
                _check_unpacked(root, sum(info.file_size for info in archive.infolist()))
                return cls(root, _checked(root, [info.filename for info in archive.infolist()]), "zip")
        with _archive_errors(root), tarfile.open(root) as tar:
            members, unpacked = [], 0
            for member in tar:  # one after the other, so that nothing of a bomb is unpacked
                unpacked += member.size
                _check_unpacked(root, unpacked)
                members.append(member)
                if not (member.isfile() or member.isdir()):
                    raise InputError(
                        f"{root} holds '{member.name}', which is a link or a device.",
                        expected="Products consist of files and folders.",
                        remedy="Do not use this archive; download the product again from its source.",
                    )
            return cls(root, _checked(root, [member.name for member in members if member.isfile()]), "tar")

    def gdal(self, name: str) -> str:
        """What GDAL opens for a file."""
        if self._archive:
            return f"/vsi{self._archive}/{{{self.root.absolute().as_posix()}}}/{name}"
        return str(self.root / name)

    def local(self, name: str) -> Path | None:
        """The file's own path, or None inside an archive."""
        return None if self._archive else self.root / name

    def read(self, name: str) -> bytes:
        """Content of a metadata file.

        Raises:
            InputError: it cannot be read, or is too large to be metadata.
        """
        with _archive_errors(self.root):
            if self._archive == "zip":
                with zipfile.ZipFile(self.root) as archive, archive.open(name) as file:
                    return self._limited(name, file)
            if self._archive == "tar":
                with tarfile.open(self.root) as tar:
                    member = tar.extractfile(name)
                    if member is None:
                        raise InputError(
                            f"'{name}' in {self.root} is not a file.",
                            expected="A metadata file is expected.",
                            remedy="Download the product again.",
                        )
                    with member:
                        return self._limited(name, member)
            with (self.root / name).open("rb") as file:
                return self._limited(name, file)

    def _limited(self, name: str, file: IO[bytes]) -> bytes:
        content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise InputError(
                f"'{name}' in {self.root} is larger than {_LARGEST_TEXT // 2**20} MiB.",
                expected="Metadata files are a few MiB at most.",
                remedy="Do not use this file; download the product again from its source.",
            )
        return content

    def text(self, name: str) -> str:
        """Content of a metadata file as text."""
        return self.read(name).decode("utf-8", errors="replace")

    def xml(self, name: str) -> Element:
        """Root of an XML file. Entities and external references are refused.

        Raises:
            InputError: the file is not XML, or tries to expand entities.
        """
        content = self.read(name)
        try:
            root: Element = fromstring(content, forbid_dtd=True)
        except DefusedXmlException as err:
            raise InputError(
                f"'{name}' in {self.root} declares entities or a document type ({type(err).__name__}).",
                expected="Product metadata is plain XML.",
                remedy="Do not use this file; download the product again from its source.",
            ) from err
        except (ParseError, ValueError, LookupError) as err:  # LookupError: an encoding that Python does not know
            raise InputError(
                f"'{name}' in {self.root} is not XML: {err}.",
                expected="Product metadata is XML.",
                remedy="Download the product again; the file is damaged.",
            ) from err
        return root

    def json(self, name: str) -> Any:
        """Content of a JSON file.

        Raises:
            InputError: the file is not JSON.
        """
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as err:
            raise InputError(
                f"'{name}' in {self.root} is not JSON: {err}.",
                expected="A JSON document is expected.",
                remedy="Download the product again; the file is damaged.",
            ) from err


def local_name(element: Element) -> str:
    """Tag without its namespace."""
    return element.tag.rpartition("}")[2]


def finite(text: str) -> float:
    """A number as metadata hold it.

    Raises:
        ValueError: it is none, not finite, or written as only Python does.

    >>> finite("2.0000E-05")
    2e-05
    """
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(f"{text!r} is no finite number")
    return value


def find_all(root: Element, *names: str) -> Iterator[Element]:
    """All elements below ``root`` with one of these names, whatever their namespace."""
    for element in root.iter():
        if isinstance(element.tag, str) and local_name(element) in names:
            yield element


def find_text(root: Element, *names: str) -> str | None:
    """Text of the first such element, stripped; None where there is none or it is empty."""
    for element in find_all(root, *names):
        if element.text and element.text.strip():
            return element.text.strip()
    return None


def _walk(folder: Path) -> Iterator[Path]:
    found = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found += 1
            if found > _MOST_FILES:
                raise InputError(
                    f"{folder} holds more than {_MOST_FILES} files.",
                    expected="One product is expected.",
                    remedy="Pass the folder of a single product.",
                )
            yield path


def _check_unpacked(root: Path, size: int) -> None:
    if size > max(_MOST_UNPACKED, _MOST_TIMES * root.stat().st_size):
        raise InputError(
            f"{root} would unpack to {size / 2**30:.3g} GiB or more, from {root.stat().st_size / 2**20:.3g} MiB.",
            expected="Products of satellites do not shrink that much.",
            remedy="Do not use this archive; download the product again from its source.",
        )


def _checked(root: Path, names: list[str]) -> list[str]:
    out = []
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or (len(name) > 1 and name[1] == ":"):
            raise InputError(
                f"{root} holds '{name}', which leads out of the archive.",
                expected="Members of a product lie inside its own folder.",
                remedy="Do not use this archive; download the product again from its source.",
            )
        if not name.endswith("/"):
            out.append(name)
    if len(out) > _MOST_FILES:
        raise InputError(
            f"{root} holds {len(out)} files.",
            expected="One product has at most a few hundred.",
            remedy="Do not use this archive; download the product again from its source.",
        )
    return out


@contextmanager
def _archive_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        tarfile.TarError,
        KeyError,
        zlib.error,
        RuntimeError,
    ) as err:
        if isinstance(err, InputError):
            raise
        raise InputError(
            f"{root} cannot be read: {err}.",
            expected="A complete folder, zip or tar is expected.",
            remedy="Check that it exists and is complete; download it again if it was cut short.",
        ) from err
