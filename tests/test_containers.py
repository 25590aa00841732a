"""Tortilla, TACO and mlstac files: what is written is found again, by this reader and by the format's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclouded.data.containers import Part, read_mlstac, read_tortilla, tortilla_bytes, write_mlstac, write_tortilla
from unclouded.errors import InputError, MissingDependencyError

pytest.importorskip("pyarrow")


def content(part: Part) -> bytes:
    with part.path.open("rb") as file:
        file.seek(part.offset)
        return file.read(part.length)


def nested() -> list[tuple[dict[str, object], bytes]]:
    inner = tortilla_bytes([({"tortilla:id": "image"}, b"ab" * 50), ({"tortilla:id": "label"}, b"xyz")])
    row = {"tortilla:file_format": "TORTILLA", "label_type": "high", "tortilla:data_split": "train"}
    return [({"tortilla:id": "one", **row}, inner), ({"tortilla:id": "two", **row}, inner + b"")]


@pytest.mark.parametrize("taco", [False, True])
def test_samples_are_found_again(tmp_path: Path, taco: bool) -> None:
    path = tmp_path / "a.taco"
    write_tortilla(path, nested(), taco=taco)
    assert path.read_bytes()[:2] == (b"WX" if taco else b"#y")
    outer = read_tortilla(path)
    assert [part.name for part in outer] == ["one", "two"]
    assert outer[0].row["label_type"] == "high"
    for part in outer:
        inner = read_tortilla(path, part.offset)
        assert [content(one) for one in inner] == [b"ab" * 50, b"xyz"]


def test_offsets_of_an_inner_tortilla_may_count_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.taco"
    write_tortilla(path, nested(), taco=True)
    second = read_tortilla(path)[1]
    data = bytearray(path.read_bytes())
    footer = int.from_bytes(data[second.offset + 2 : second.offset + 10], "little")
    data[second.offset + 2 : second.offset + 10] = (footer + second.offset).to_bytes(8, "little")
    path.write_bytes(bytes(data))
    # The table now lies where the footer says it does when counted from the file's start.
    first, label = read_tortilla(path, second.offset)
    assert (first.offset, label.length) == (200, 3)


def test_agrees_with_the_reader_of_the_format(tmp_path: Path) -> None:
    tacoreader = pytest.importorskip("tacoreader", minversion="0.5")
    if not hasattr(tacoreader, "load"):
        pytest.skip("tacoreader 0.x reads version 1 files")
    path = tmp_path / "a.taco"
    write_tortilla(path, nested(), taco=True)
    theirs = tacoreader.load(str(path))
    assert theirs["internal:subfile"].tolist() == [part.gdal for part in read_tortilla(path)]
    inside = read_tortilla(path, read_tortilla(path)[1].offset)
    assert theirs.read(1)["internal:subfile"].tolist() == [part.gdal for part in inside]


def test_mlstac_samples_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mlstac"
    write_mlstac(path, {"p1": b"first", "p2": b"the second"})
    assert [(part.name, content(part)) for part in read_mlstac(path)] == [("p1", b"first"), ("p2", b"the second")]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"PK\x03\x04" + bytes(40), "begins with b'PK'"), (b"WX" + bytes(200), "no table"), (b"#y", "begins with")],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.taco"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_tortilla(path)
    assert caught.value.expected
    assert caught.value.remedy


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.taco"
    write_tortilla(path, nested())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="no table"):
        read_tortilla(path)
    path = tmp_path / "b.mlstac"
    write_mlstac(path, {"p1": b"first"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="ends before its last sample"):
        read_mlstac(path)
    path.write_bytes(b"#y" + (4).to_bytes(8, "little") + b"[1] ")
    with pytest.raises(InputError, match="not a table"):
        read_mlstac(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.taco"
    write_tortilla(path, nested())
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"unclouded\[data\]"):
        read_tortilla(path)
