"""The command line. Every file in this folder is one command, found by itself: its ``command`` is the click command.

stdout is data, stderr is talk. Exit codes: 0 all succeeded; 1 something failed, or one of several scenes did; 2 wrong
usage; 3 unreadable or unsupported input; 4 scale, offset, bands or level not known; 5 missing model or optional part;
130 interrupted; 143 terminated.
"""

from __future__ import annotations

import importlib
import pkgutil
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import UncloudedError
from ._talk import Talk, report_unexpected
from ._talk import report as report_error  # the command `report` takes its own name in this package

INTERRUPTED = 130
TERMINATED = 143


def command_names() -> list[str]:
    """Names of all commands, one for each file of this folder.

    >>> "mask" in command_names()
    True
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


class Commands(click.Group):
    """Group whose commands are the files of this folder. Global options may stand before or after the command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands for ``--help``."""
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, with the global options added to it and to its own commands."""
        if cmd_name not in command_names():
            return None
        found: click.Command = importlib.import_module(f".{cmd_name}", __name__).command
        _add_global_options(found)
        return found


def _add_global_options(found: click.Command) -> None:
    present = {param.name for param in found.params}
    found.params.extend(option for option in _global_options() if option.name not in present)
    if isinstance(found, click.Group):
        for inner in found.commands.values():
            _add_global_options(inner)


def _global_options() -> list[click.Option]:
    def set_talk(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            talk_of(ctx).change(**{str(param.name): value})

    common: dict[str, Any] = {"expose_value": False, "callback": set_talk}
    return [
        click.Option(["-v", "--verbose"], count=True, help="Say more; -vv adds tracebacks of errors.", **common),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but errors.", **common),
        click.Option(
            ["--json", "as_json"], is_flag=True, help="Write results to stdout as one JSON object per line.", **common
        ),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, writable=True),
            help="Also write the log to this file.",
            **common,
        ),
    ]


def talk_of(ctx: click.Context) -> Talk:
    """The settings of this call's output."""
    return ctx.find_root().ensure_object(Talk)


@click.group(
    cls=Commands,
    params=[*_global_options()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 failure, 2 usage, 3 input, 4 radiometry, 5 model, 130 interrupted.",
)
@click.version_option(__version__, prog_name="unclouded", message="%(prog)s %(version)s")
def commands() -> None:
    """Find clouds and their shadows in optical satellite scenes from any sensor."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    Args:
        arguments: words after the program's name; None takes those of this process.
    """
    signal.signal(signal.SIGTERM, _terminated)
    talk = Talk()
    try:
        code = commands.main(
            None if arguments is None else list(arguments), "unclouded", standalone_mode=False, obj=talk
        )
    except click.Abort:  # click's name for Ctrl-C
        click.echo("Interrupted.", err=True)
        code = INTERRUPTED
    except click.ClickException as err:
        err.show()
        code = err.exit_code
    except UncloudedError as err:
        report_error(err, talk)
        code = err.exit_code
    except BrokenPipeError:  # the reader of stdout has gone, as `| head` does
        _forget_stdout()
        code = 1
    except Exception as err:  # noqa: BLE001  the last place where a failure can be told without a traceback
        report_unexpected(err, talk)
        code = 1
    finally:
        talk.close()
    sys.exit(code if isinstance(code, int) else 0)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    """Leave as with an exception, so that unfinished files are removed."""
    sys.exit(TERMINATED)


def _forget_stdout() -> None:
    """Keep Python from complaining about the closed pipe once more when it exits."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
