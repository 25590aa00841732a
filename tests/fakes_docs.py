"""Code blocks of the pages, and small look-alikes of the files that these speak of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unclouded.simulate.safe import write_safe

from .fakes_clouds import cloud
from .fakes_products import CRS, ULX, ULY, make_counts, make_tif

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")} | {
    path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "docs").rglob("*.md"))
}
"""Every page with blocks, by its path in the repository."""

PROGRAMS = ("unclouded", "rio", "python", "python3", "pip", "make", "git", "torchrun", "find", "cd", "docker", "export")
SHELL = ("sh", "bash", "console")

_MARKER = re.compile(r"<!-- not run: (.+?) -->\s*$", re.DOTALL)
_FENCE = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n)+)")


@dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes:
        page: path of its page in the repository.
        line: of the page, where the block begins, counted from 1.
        language: as the fence says; indented blocks that begin with a program are ``sh``.
        text: what is in it.
        reason: why the page says that it is not to be run, or "".
    """

    page: str
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in their order."""
    text = PAGES[page].read_text(encoding="utf-8")
    found = [(one.start(), one[1], one[2]) for one in _FENCE.finditer(text)]
    bare = _FENCE.sub(lambda one: re.sub(r"[^\n]", "x", one[0]), text)  # same places, nothing left to find
    for one in _INDENTED.finditer(bare):
        lines = "".join(f"{line[4:]}\n" for line in one[1].splitlines())
        if lines.split(maxsplit=1)[0] in PROGRAMS:
            found.append((one.start(), "sh", lines))
    out = []
    for start, language, inside in sorted(found):
        marker = _MARKER.search(text[:start])
        out.append(Block(page, text.count("\n", 0, start) + 1, language, inside, marker[1] if marker else ""))
    return out


def commands(block: Block) -> Iterator[list[list[str]]]:
    """Every command of a shell block as a pipeline of words, without prompts, comments and redirections."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
        lexer.whitespace_split = True
        pipeline: list[list[str]] = [[]]
        for word in lexer:
            if word == "|":
                pipeline.append([])
            elif word == "&&" or set(word) == {";"}:
                yield pipeline
                pipeline = [[]]
            else:
                pipeline[-1].append(word)
        if any(pipeline):
            yield [words[: words.index(">")] if ">" in words else words for words in pipeline]


def make_inputs(folder: Path) -> None:
    """The files that pages name, small, and valid where they are masked."""
    make_tif(folder / "scene.tif", _counts(seed=1), pixel_m=20.0, nodata=0)
    make_tif(folder / "other.tif", _counts(seed=2), pixel_m=20.0, nodata=0)
    make_tif(folder / "S2_SCL.tif", np.full((1, 96, 96), 4, np.uint8), pixel_m=20.0)
    product = write_safe(
        folder, make_counts(1200), crs=CRS, ulx=ULX, uly=ULY, datetime="2024-06-15T10:20:31Z", tile="T33UVT"
    )
    assert product.name == "S2B_MSIL1C_20240615T102031_N0511_R022_T33UVT_20240615T102031.SAFE"


def _counts(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.uniform(300, 1500, (4, 96, 96))
    values += 1e4 * cloud((96, 96), (20, 50), (30, 70), seed)
    return values.astype(np.uint16)
