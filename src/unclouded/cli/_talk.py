"""How the command line speaks: data on stdout, talk on stderr, a log for those who ask."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import OutputError, UncloudedError, UncloudedWarning

_LOG = logging.getLogger("unclouded")
_FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class Talk:
    """Settings of what one call says, and the means to say it.

    Attributes:
        verbose: how often ``-v`` was given.
        quiet: only errors.
        as_json: stdout is one JSON object per line.
    """

    def __init__(self) -> None:
        self.verbose = 0
        self.quiet = False
        self.as_json = False
        self._screen = logging.StreamHandler()
        self._screen.setFormatter(logging.Formatter("%(message)s"))
        self._file: logging.Handler | None = None
        self._level = _LOG.level
        _LOG.addHandler(self._screen)
        # Warnings are part of each result and are told with it.
        warnings.simplefilter("ignore", UncloudedWarning)
        self.change()

    def change(
        self, verbose: int = 0, quiet: bool = False, as_json: bool = False, log_file: str | None = None
    ) -> None:
        """Take over options; those that were set stay set."""
        self.verbose = max(self.verbose, verbose)
        self.quiet = self.quiet or quiet
        self.as_json = self.as_json or as_json
        if log_file is not None and self._file is None:
            self._file = _log_file(Path(log_file))
            _LOG.addHandler(self._file)
        levels = (logging.WARNING, logging.INFO, logging.DEBUG)
        self._screen.setLevel(logging.ERROR if self.quiet else levels[min(self.verbose, 2)])
        _LOG.setLevel(min(self._screen.level, logging.INFO if self._file else logging.CRITICAL))

    def say(self, text: str) -> None:
        """A line for people, on stderr and in the log file."""
        if not self.quiet:
            click.echo(text, err=True)
        self._log(logging.INFO, text)

    def put(self, text: str) -> None:
        """A line of data for people, on stdout; not with ``--json``."""
        if not self.as_json:
            click.echo(text)

    def emit(self, record: dict[str, Any]) -> None:
        """A JSON object on stdout; only with ``--json``."""
        if self.as_json:
            click.echo(json.dumps(record, ensure_ascii=False, allow_nan=False))

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[float], None]]:
        """A bar on stderr while a scene is worked on, if stderr is a terminal.

        Yields:
            Function to call with the share done, 0 to 1.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda share: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        # What is written to stdout is data, and must not be led to the console of the bar.
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
            task = bar.add_task(title, total=1.0)
            yield lambda share: bar.update(task, completed=share)

    def close(self) -> None:
        """Leave the log as it was found."""
        _LOG.removeHandler(self._screen)
        _LOG.setLevel(self._level)
        if self._file is not None:
            _LOG.removeHandler(self._file)
            self._file.close()
            self._file = None

    def _log(self, level: int, text: str) -> None:
        if self._file is not None:
            self._file.handle(_LOG.makeRecord(_LOG.name, level, "", 0, text, (), None))


def report(err: UncloudedError, talk: Talk, about: str = "", *, cause: Exception | None = None) -> None:
    """Print what was found, what was expected and what to do; after ``-vv`` the traceback (of ``cause``) first."""
    if talk.verbose >= 2:
        click.echo("".join(traceback.format_exception(cause or err)), err=True)
    head = f"Error in {about}:" if about else "Error:"
    lines = [f"{click.style(head, fg='red', bold=True)} {err.found}"]
    lines += [f"  Expected: {err.expected}"] * bool(err.expected)
    lines += [f"  To do:    {err.remedy}"] * bool(err.remedy)
    click.echo("\n".join(lines), err=True)
    talk._log(logging.ERROR, f"{about or 'unclouded'}: {type(err).__name__}: {err}")


def report_unexpected(err: Exception, talk: Talk, about: str = "") -> None:
    """Print an error that nobody foresaw, with its traceback after ``-vv``."""
    report(
        UncloudedError(
            f"{type(err).__name__}: {err}",
            expected="This is an error in unclouded, or in a library that it uses.",
            remedy="Run it again with -vv to see where it happened, and report it.",
        ),
        talk,
        about,
        cause=err,
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; numbers are set to the right.

    >>> print(table(["name", "size"], [["one", 1], ["three", 33]]))
    name   size
    one       1
    three    33
    """
    cells = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    numeric = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(header))]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    lines = []
    for row in [list(header), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _log_file(path: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as err:
        raise OutputError(
            f"The log file {path} cannot be written: {err.strerror or err}.",
            expected="It is a file in an existing folder that you may write to.",
            remedy="Choose another file with --log-file.",
        ) from err
    handler.setFormatter(logging.Formatter(_FILE_FORMAT))
    return handler
