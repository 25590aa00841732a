"""The command line, called in this process or in one of its own."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest import mock

from unclouded.cli import main

Done = subprocess.CompletedProcess


def run(*words: object, stdin: str = "") -> Done[str]:
    """Call the command line in this process, which saves the time that imports take."""
    arguments = [str(word) for word in words]
    out, talk = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(out), redirect_stderr(talk), mock.patch.object(sys, "stdin", io.StringIO(stdin)):
            main(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert isinstance(code, int)
    return Done(arguments, code, out.getvalue(), talk.getvalue())


def run_process(*words: object, stdin: str = "") -> Done[str]:
    """Call the command line in a process of its own, as users do."""
    command = [sys.executable, "-m", "unclouded", *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def records(done: Done[str]) -> list[dict[str, Any]]:
    """Lines of stdout; each has to be a JSON object."""
    return [json.loads(line) for line in done.stdout.splitlines()]
