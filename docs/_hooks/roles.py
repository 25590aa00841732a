"""Make docstrings Markdown: cross-references become code, examples become blocks of code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|data|mod|meth|attr):`~?([^`]+)`")
_EXAMPLE = re.compile(r"( *)Examples?:\s*$")


def markdown(docstring: str) -> str:
    """A docstring with fences around its examples: lines from ``>>>`` to the next empty one, or below ``Example:``.

    >>> print(markdown("Sum, see :func:`plus`.\\n\\n>>> 1 + 1\\n2"))
    Sum, see `plus`.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    out: list[str] = []
    fence = ""
    below: str | None = None  # indent of an "Example:" whose code comes next
    for line in [*_ROLE.sub(r"`\1`", docstring).split("\n"), ""]:
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
