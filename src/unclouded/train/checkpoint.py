"""Checkpoints: complete or absent, with the one before kept. A kill at any moment leaves one that can be read."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, UncloudedWarning
from ..write.atomic import replace_file

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
log = logging.getLogger("unclouded")


def save(folder: Path, name: str, state: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, bring it to the disk, then rename it.

    The last checkpoint becomes the previous one first, by a second name for the same file: between the two renames
    both names hold it.

    Raises:
        OutputError: the folder cannot be written to.
    """
    made = folder / f".{name}.partial"
    torch.save(state, made)
    target = folder / name
    if name == LAST and target.exists():
        link = folder / f".{PREVIOUS}.partial"
        link.unlink(missing_ok=True)
        os.link(target, link)
        os.replace(link, folder / PREVIOUS)
    replace_file(made, target)


def load(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint of a run, the previous one where the last is damaged, None where there is none.

    Raises:
        InputError: there are checkpoints, and none can be read.
    """
    found = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    for path in found:
        try:
            state = read(path)
        except InputError as err:
            if path == found[-1]:
                raise
            message = f"{err.found} The run goes on from the checkpoint before it."
            warnings.warn(message, UncloudedWarning, stacklevel=2)
            log.warning("%s", message)
        else:
            return state
    return None


def read(path: Path) -> dict[str, Any]:
    """The content of one checkpoint; nothing in it is executed.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as err:
        raise InputError(
            f"The checkpoint {path} cannot be read: {' '.join(str(err).split()) or type(err).__name__}.",
            expected="It is a file that a training run wrote to its end.",
            remedy="Start the run again in another folder, or copy an intact checkpoint there.",
        ) from err
    return state
