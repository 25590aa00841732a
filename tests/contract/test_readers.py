"""Every reader is found by itself, says what it reads, and never claims or breaks on what is not its own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from unclouded import readers
from unclouded.errors import InputError
from unclouded.readers import Reader, Request, open_scene

FOLDER = Path(readers.__file__).parent


def test_every_file_with_a_reader_is_found() -> None:
    marked = {
        path.stem
        for path in FOLDER.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and any(getattr(one, "id", "") == "register" for one in node.decorator_list)
    }
    assert {type(reader).__module__.rpartition(".")[2] for reader in readers.readers()} == marked
    assert {"safe", "landsat", "hls", "stac", "geotiff", "bandset"} <= marked


def test_rasters_of_any_kind_are_asked_for_last() -> None:
    names = [reader.name for reader in readers.readers()]
    assert names[-1] == "geotiff"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("reader", readers.readers(), ids=lambda reader: reader.name)
class TestReader:
    def test_it_says_what_it_reads(self, reader: Reader) -> None:
        assert reader.title
        with pytest.raises(InputError) as caught:
            open_scene(42)
        assert reader.title in caught.value.expected

    @pytest.mark.parametrize("source", [object(), None, 42, [], {}, {"type": "Collection"}, b"bytes"])
    def test_it_does_not_claim_what_is_nothing(self, reader: Reader, source: Any) -> None:
        assert not reader.matches(source)

    def test_it_does_not_break_on_odd_places(self, reader: Reader, tmp_path: Path) -> None:
        (tmp_path / "empty.zip").write_bytes(b"")
        (tmp_path / "empty.tar.gz").write_bytes(b"PK")
        (tmp_path / "empty.json").write_bytes(b"[" * 100_000)
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "absent", Path("")):
            assert isinstance(reader.matches(path), bool)
        assert not reader.matches(tmp_path)


def test_two_readers_of_one_name_are_refused() -> None:
    class Another(Reader):
        """Takes a name that is taken."""

        name = "safe"
        title = "something else"

        def matches(self, source: Any) -> bool:
            """Never."""
            return False

        def open(self, source: Any, request: Request) -> Any:
            """Never."""

    with pytest.raises(InputError, match="is taken by"):
        readers.register(Another)
