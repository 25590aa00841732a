"""What the files of a scene are called, and whether complete ones of the same run exist already.

A scene is done when its item exists, carries the fingerprint of this run, and every file it names is there. The item
is written last, so that an interrupted run never looks done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..options import Options
from ..scene import Scene

FINGERPRINT = "unclouded:fingerprint"
"""Property of the item that identifies input, model and options."""

_WITHOUT_EFFECT = frozenset({"overwrite", "resume", "threads", "quicklook", "probability", "polygons"})
_log = logging.getLogger("unclouded")


def output_paths(folder: Path, scene_id: str, options: Options) -> dict[str, Path]:
    """Paths of all files that a run makes; ``item`` comes last.

    >>> list(output_paths(Path("out"), "scene", Options(quicklook=True)))
    ['mask', 'uncertainty', 'quicklook', 'item']
    """
    names = {"mask": "_mask.tif", "uncertainty": "_uncertainty.tif"}
    if options.probability:
        names["prob"] = "_prob.tif"
    if options.quicklook:
        names["quicklook"] = "_quicklook.png"
    if options.polygons:
        names["polygons"] = f"_polygons.{options.polygons}"
    names["item"] = ".json"
    return {product: Path(folder) / f"{scene_id}{end}" for product, end in names.items()}


def fingerprint(scene: Scene, model_sha256: str, options: Options) -> str:
    """Checksum over everything that decides what the output is: input files, how they are read, model, options.

    Args:
        scene: the opened scene. Its files count with path, size and time of change, not with their content. Scenes
            that come from memory cannot be identified; each call gives them a new fingerprint.
        model_sha256: checksum of the weights.
        options: settings; those that do not change any value are left out.

    Returns:
        64 hexadecimal digits.
    """
    settings = {name: value for name, value in options.as_dict().items() if name not in _WITHOUT_EFFECT}
    del settings["model"]  # the checksum says it better
    parts: dict[str, Any] = {
        "input": _identity(scene.source),
        "sensor": scene.sensor,
        "level": scene.level,
        "bands": [band.name for band in scene.bands],
        "radiometry": {
            name: [_same(one.scale), _same(one.offset), _same(one.nodata), one.source]
            for name, one in scene.radiometry.items()
        },
        "model": model_sha256,
        "options": settings,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plan_outputs(folder: Path, scene_id: str, wanted: str, options: Options) -> bool:
    """Whether there is anything to do for a scene, by what its output folder holds.

    Args:
        folder: output folder, which need not exist.
        scene_id: name of the scene.
        wanted: :func:`fingerprint` of the run.
        options: its ``overwrite``, ``resume`` and the optional files that it asks for decide.

    Returns:
        True if the scene has to be processed, False if complete output of the same run can be kept (``resume``).

    Raises:
        OutputError: output exists and neither ``overwrite`` nor ``resume`` was asked for, a file in the way was not
            made by unclouded, or the folder's name is not UTF-8.
    """
    paths = output_paths(folder, scene_id, options)
    anything = output_paths(folder, scene_id, options.but(probability=True, quicklook=True))
    return plan_files(
        folder, scene_id, paths, list(anything.values()), wanted, overwrite=options.overwrite, resume=options.resume
    )


def plan_files(
    folder: Path,
    scene_id: str,
    paths: Mapping[str, Path],
    everything: Sequence[Path],
    wanted: str,
    *,
    overwrite: bool,
    resume: bool,
) -> bool:
    """What :func:`plan_outputs` does, for output of any kind.

    Args:
        folder: output folder.
        scene_id: name of the scene, for messages.
        paths: files that this run makes, the ``item`` among them.
        everything: files that any run of this kind may have made.
        wanted: fingerprint of the run.
        overwrite, resume: what to do with existing output.

    Returns:
        True if there is work to do.

    Raises:
        OutputError: see :func:`plan_outputs`.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as err:
        raise OutputError(
            f"The output folder is called {folder}, which is not UTF-8.",
            expected="GDAL writes to files and folders whose names are UTF-8 only.",
            remedy="Choose another folder with -o.",
        ) from err
    found = _fingerprint_in(paths["item"])
    if resume and found == wanted and all(path.is_file() for path in paths.values()):
        _log.info("%s is done already", scene_id)
        return False
    existing = [path.name for path in everything if path.exists()]
    if existing and not (overwrite or resume):
        raise OutputError(
            f"Output of '{scene_id}' exists in {folder}: {', '.join(existing)}.",
            expected="Existing output is kept unless it is said what to do with it.",
            remedy="Pass --overwrite to replace it, --resume to keep what is complete, or another folder with -o.",
        )
    if existing and resume and found is not None and found != wanted:
        _log.info("%s was made from other input, with another model or other options: it is made again", scene_id)
    return True


def _fingerprint_in(item: Path) -> str | None:
    """Fingerprint that an item carries, None without item.

    Raises:
        OutputError: the file is something else, which must not be replaced.
    """
    if not item.exists():
        return None
    try:
        value = json.loads(item.read_text(encoding="utf-8"))["properties"][FINGERPRINT]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise OutputError(
            f"{item} exists and is not an item that unclouded wrote.",
            expected="The item of the output gets this name, and what others wrote is not replaced.",
            remedy="Choose another output folder with -o, or move that file away.",
        ) from err
    return str(value)


def _same(number: float | None) -> str:
    """A number as text, the same for 0 and 0.0."""
    return repr(None if number is None else float(number))


def _identity(source: str) -> list[Any]:
    path = Path(source)
    if path.exists():
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        stats = [(str(one.relative_to(path)), one.stat()) for one in files]
        return [str(path.resolve()), *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)]
    if "://" in source:
        return [source]
    return [source, uuid.uuid4().hex]
