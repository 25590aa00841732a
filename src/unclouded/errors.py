"""Errors and warnings. Each error knows the exit code that the command line returns for it.

A message has three parts: what was found, what was expected, what to do.

| class | exit code | when |
| --- | --- | --- |
| UncloudedError | 1 | anything below, or an unexpected failure of a scene |
| InputError | 3 | the input cannot be read or is not supported |
| RadiometryError | 4 | scale, offset, bands or level cannot be known from the input |
| ModelError | 5 | the model's files are missing or do not fit |
| MissingDependencyError | 5 | an optional dependency is not installed |
| OutputError | 1 | the output cannot be written, or exists already |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_LONGEST = 2000
"""Characters of the longest part of a message."""


def printable(text: str) -> str:
    """Text as a terminal and a file can take it: on one line, and of a length that can be read.

    Messages quote names and metadata, which may hold anything: escape codes, bytes that are no UTF-8, megabytes.

    >>> print(printable("a" + chr(27) + "[2J b" + chr(10) + "c"))
    a\\x1b[2J b c
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-(_LONGEST // 4) :]}"
    if not text.isprintable():
        text = text.replace("\n", " ")
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return text


def first_fault(err: ValidationError) -> str:
    """The first of pydantic's complaints, after the place that it is about: ``bands.0.gsd_m: Input should be ...``."""
    first = err.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


class UncloudedError(Exception):
    """Base of every error that unclouded raises on purpose.

    Args:
        found: what was found, a sentence.
        expected: what was expected instead.
        remedy: what to do about it, with the option or call that helps.

    >>> print(UncloudedError("Found A.", expected="Expected B.", remedy="Do C."))
    Found A. Expected B. Do C.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = printable(found), printable(expected), printable(remedy)
        super().__init__(self.found, self.expected, self.remedy)

    def __str__(self) -> str:
        return " ".join(part for part in (self.found, self.expected, self.remedy) if part)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments would be lost on the way back from a worker process.
        return _rebuild, (type(self), self.found, self.expected, self.remedy)


def _rebuild(cls: type[UncloudedError], found: str, expected: str, remedy: str) -> UncloudedError:
    return cls(found, expected=expected, remedy=remedy)


class InputError(UncloudedError, ValueError):
    """The input cannot be read, is damaged, or is not a supported product."""

    exit_code = 3


class RadiometryError(UncloudedError, ValueError):
    """Scale, offset, level or band meaning cannot be known from the input."""

    exit_code = 4


class ModelError(UncloudedError, ValueError):
    """A model's files are missing, damaged, or do not fit the bands at hand."""

    exit_code = 5


class MissingDependencyError(UncloudedError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 5

    @classmethod
    def for_extra(cls, module: str, extra: str) -> MissingDependencyError:
        """Error that names the pip command which installs ``module``."""
        return cls(
            f"The Python module '{module}' is not installed.",
            expected=f"This needs the optional part '{extra}'.",
            remedy=f"Install it: pip install 'unclouded[{extra}]'",
        )


class OutputError(UncloudedError, OSError):
    """An output cannot be written or would overwrite an existing one."""

    exit_code = 1

    def __str__(self) -> str:  # OSError formats its own arguments otherwise
        return UncloudedError.__str__(self)


class UncloudedWarning(UserWarning):
    """The data can be used but look suspicious. Also recorded in the result."""


class RadiometryWarning(UncloudedWarning):
    """The radiometry looks wrong: an offset forgotten or applied twice, or no calibration at all."""
