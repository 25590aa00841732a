"""Make docstrings what griffe and Markdown read: cross-references and examples as code, one entry for each name."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?([^`]+)`")
_SHARED = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_EXAMPLE = re.compile(r"( *)Examples?:\s*$")


def one_each(docstring: str) -> str:
    """Entries that several names share, as an entry for each: griffe takes what follows a comma for a type.

    >>> print(one_each("Args:\\n    low, high: limits,\\n        in metres.\\n    name: of it."))
    Args:
        low: limits,
            in metres.
        high: limits,
            in metres.
        name: of it.
    """
    return _SHARED.sub(lambda one: "\n".join(f"{one[1]}{name}: {one[3]}" for name in one[2].split(", ")), docstring)


def markdown(docstring: str) -> str:
    """A docstring with fences around its examples: lines from ``>>>`` to the next empty one, or below ``Example:``."""
    out: list[str] = []
    fence = ""
    below: str | None = None  # indent of an "Example:" whose code comes next
    for line in [*_ROLE.sub(r"`\1`", one_each(docstring)).split("\n"), ""]:
        indent = line[: len(line) - len(line.lstrip())]
        if fence and not line.strip():
            out.append(fence)
            fence = ""
        elif not fence and line.lstrip().startswith(">>>"):
            out.append(f"{indent}```pycon")
            fence = f"{indent}```"
        elif not fence and below is not None and line.strip():
            out.append(f"{indent}```python")
            fence = f"{indent}```"
        if line.strip():
            heading = _EXAMPLE.match(line)
            below = heading[1] if heading else None
        out.append(line)
    return "\n".join(out).rstrip("\n")


class Markdown(griffe.Extension):
    """Rewrites every docstring when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
