"""Published checkpoints become models: translated to this package's names, written with a card, ready to run.

    file --read_checkpoint--> tensors by published name --Kind.recipe--> Recipe --> safetensors, card, ONNX
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import sensors
from ..errors import InputError, MissingDependencyError, ModelError, OutputError
from . import create
from .card import BandInput, ModelCard

try:
    from torch import Tensor

    from .checkpoint import read_checkpoint
    from .released import KINDS, Kind, Recipe
except ModuleNotFoundError as err:
    raise MissingDependencyError.for_extra(err.name or "torch", "torch") from err


@dataclass(frozen=True)
class Imported:
    """A model that was imported.

    Attributes:
        card: its card.
        path: where the card lies, beside the weights.
        unexpected: entries of the file that belong to nothing in the network.
        left_out: entries that masking does not need, as those of auxiliary training tasks.
    """

    card: ModelCard
    path: Path
    unexpected: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def import_checkpoint(
    kind: str,
    file: Path,
    folder: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    sensor: str = "sentinel2-l1c",
    bands: Sequence[str] | None = None,
    config: Path | None = None,
    onnx: bool = False,
    overwrite: bool = False,
) -> Imported:
    """Make a model of a published checkpoint: ``<name>.safetensors``, its card, and ``<name>.onnx`` if asked for.

    Args:
        kind: a name in :data:`unclouded.models.released.KINDS`.
        file: the checkpoint, see :func:`unclouded.models.checkpoint.read_checkpoint`.
        folder: where the model goes.
        name: of the model; None means the kind's, or that of the configuration.
        licence: of the weights, where the kind's published ones have none, or where these are others.
        sensor: sensor that the bands of a network of fixed bands belong to.
        bands: their names in the network's order; None means all of the sensor, in its order.
        config: of SEnSeI-v2, its published ``config.yaml``; it is compared with the weights.
        onnx: write an ONNX file too, so that the model runs without torch.
        overwrite: replace a model of this name.

    Raises:
        InputError: the kind, a band or the sensor does not exist, or an option does not belong to the kind.
        ModelError: the file cannot be read, is of another kind, lacks something that the network needs, or its
            licence is not known.
        OutputError: a model of this name exists, or the folder cannot be written to.
        MissingDependencyError: torch, or the library of the backbone, is not installed.
    """
    from ..train.export import export

    if kind not in KINDS:
        raise InputError(
            f"There is no kind of checkpoint called '{kind}'.",
            expected=f"Kinds are {', '.join(KINDS)}.",
            remedy="Choose one of these.",
        )
    family = KINDS[kind]
    settings = _configuration(config, kind) if config is not None else {}
    tensors = read_checkpoint(file)
    known, strange = _without_prefix(tensors, family, file)
    recipe = family.recipe(known)
    _agrees(recipe, settings, config)
    network, unexpected = _load(recipe, file)
    published = {id(value): key for key, value in known.items()}
    unexpected = [published.get(id(recipe.state[key]), key) for key in unexpected]
    licence = licence or family.licence
    if licence is None:
        raise ModelError(
            f"The licence of the weights in {file} is not known.",
            expected=f"{family.title}: the published weights come without one, and a model's card has to say what may"
            " be done with it.",
            remedy="Ask who made the weights, and name it: --licence 'CC-BY-4.0'.",
        )
    fields: dict[str, Any] = dict(recipe.card)
    limits = ["Weights of others, imported as they are: neither accuracy nor calibration was measured here."]
    if recipe.bands is not None:
        fields |= {"front_end": "bands", "bands": band_inputs(sensor, bands, recipe.bands), "sensors": (sensor,)}
        limits.append(f"Taken for a network made for {sensor}, which the file does not say.")
    name = name or str(settings.get("NAME") or kind)
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise InputError(
            f"The model's name is '{name}'.",
            expected="It becomes the name of files.",
            remedy="Give another one: --name my-model.",
        )
    path = folder / f"{name}.json"
    if not overwrite and any(path.with_suffix(end).exists() for end in (".json", ".safetensors", ".onnx")):
        raise OutputError(
            f"A model '{name}' exists in {folder}.",
            expected="Existing models are kept unless it is said what to do with them.",
            remedy="Pass --overwrite to replace it, --name for another name, or another folder with -o.",
        )
    card = ModelCard(
        name=name,
        title=family.title,
        version="imported",
        architecture=recipe.architecture,
        options=recipe.options,
        grid_m=10.0,
        licence=licence,
        source=f"{file.name}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}; published: {family.source}",
        parameters=0,
        limits=(*limits, *fields.pop("limits", ())),
        **fields,
    )
    try:
        card = export(network, card, folder, onnx=onnx)
    except OSError as err:
        raise OutputError(
            f"The model cannot be written to {folder}: {err.strerror or err}.",
            expected="The folder can be made and written to.",
            remedy="Choose another folder with -o.",
        ) from err
    return Imported(card, path, tuple(sorted((*strange, *unexpected))), recipe.left_out)


def band_inputs(sensor: str, names: Sequence[str] | None, count: int) -> tuple[BandInput, ...]:
    """Inputs of a network of fixed bands, from the catalogue of sensors.

    Args:
        sensor: name of the sensor.
        names: its bands in the network's order; None means all optical ones, in the sensor's order.
        count: number of bands that the network takes.

    Raises:
        InputError: the sensor or a band does not exist.
        ModelError: the number of bands is another than the network's.

    >>> [one.name for one in band_inputs("sentinel2-l2a", ["B04", "B03", "B02"], 3)]
    ['B04', 'B03', 'B02']
    """
    there = {band.name: band for band in sensors.load(sensor).bands if band.kind == "optical"}
    wanted = list(there) if names is None else list(names)
    if unknown := [one for one in wanted if one not in there]:
        raise InputError(
            f"The sensor {sensor} has no optical band {', '.join(unknown)}.",
            expected=f"Its bands are {', '.join(there)}.",
            remedy="Name bands of this sensor, or another sensor with --sensor.",
        )
    if len(wanted) != count:
        raise ModelError(
            f"The network takes {count} bands, and {sensor} has {len(wanted)}: {', '.join(wanted)}."
            if names is None
            else f"The network takes {count} bands, and {len(wanted)} are named.",
            expected="There is one band for every input of the network, in its order, as reflectance.",
            remedy="Name them in this order, for example --bands B02,B03,B04, or the sensor that the network was made"
            " for with --sensor. A network that also takes counts, temperatures or aerosol cannot be imported.",
        )
    return tuple(
        BandInput(name=band.name, common_name=band.common_name, min_nm=band.min_nm or 0.0, max_nm=band.max_nm or 0.0)
        for band in (there[one] for one in wanted)
    )


def _without_prefix(
    tensors: Mapping[str, Tensor], family: Kind, file: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by published name, and the names of those that belong to something else."""
    found = [
        key[: -len(anchor)]
        for anchor in family.anchors
        for key in tensors
        if key.endswith(anchor) and (len(key) == len(anchor) or key[-len(anchor) - 1] == ".")
    ]
    if not found:
        raise ModelError(
            f"The checkpoint {file} is not one of {family.title}: it has no entry '{family.anchors[0]}'.",
            expected=f"Its {len(tensors)} entries, such as '{next(iter(tensors))}', have the published names.",
            remedy=f"Name another kind of checkpoint: {', '.join(KINDS)}.",
        )
    prefix = min(found, key=len)
    known = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    return known, [key for key in tensors if not key.startswith(prefix)]


def _load(recipe: Recipe, file: Path) -> tuple[Any, list[str]]:
    """The network with the checkpoint's weights, and names that it does not have.

    Raises:
        ModelError: an entry that the network needs is missing, or has another shape.
    """
    network = create(recipe.architecture, **recipe.options)
    own = network.state_dict()
    # Counters of training steps, and percentiles that published networks do not have.
    optional = {key for key in own if key.endswith("num_batches_tracked")} | ({"low", "gain"} & own.keys())
    missing = sorted(own.keys() - recipe.state.keys() - optional)
    wrong = [
        f"{key} is {tuple(value.shape)} where {tuple(own[key].shape)} is needed"
        for key, value in recipe.state.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or wrong:
        said = []
        if missing:
            said.append(f"{len(missing)} entries are missing ({_some(missing)})")
        if wrong:
            said.append(f"{len(wrong)} have another shape ({_some(wrong)})")
        raise ModelError(
            f"The checkpoint {file} does not fit '{recipe.architecture}': {' and '.join(said)}.",
            expected=f"It holds all {len(own) - len(optional)} parameters of the published network.",
            remedy="Check that the file is complete and of the kind that was named.",
        )
    unexpected = sorted(recipe.state.keys() - own.keys())
    network.load_state_dict({**own, **{key: value for key, value in recipe.state.items() if key in own}})
    return network.eval(), unexpected


def _configuration(path: Path, kind: str) -> dict[str, Any]:
    """The published configuration of a SEnSeI-v2 model."""
    import yaml

    if kind != "sensei-v2":
        raise InputError(
            f"A configuration was given for '{kind}'.",
            expected="Only sensei-v2 has one, the config.yaml beside its weights.",
            remedy="Leave --config out.",
        )
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise InputError(
            f"The configuration {path} cannot be read: {str(err).partition(chr(10))[0]}.",
            expected="It is the YAML file that is published beside the weights.",
            remedy="Download it again, or leave --config out: the weights say most of it.",
        ) from err
    if not isinstance(found, dict):
        raise InputError(
            f"The configuration {path} holds no names with values.",
            expected="It is the YAML file that is published beside the weights.",
            remedy="Download it again, or leave --config out: the weights say most of it.",
        )
    return found


def _agrees(recipe: Recipe, settings: Mapping[str, Any], path: Path | None) -> None:
    """Compare the configuration with what the weights say.

    Raises:
        ModelError: they contradict each other.
    """
    segmenter = str(recipe.options.get("segmenter", recipe.architecture))
    said = {
        "CLASSES": recipe.options["classes"],
        "NUM_CHANNELS": recipe.bands,
        "SEnSeIv2": recipe.bands is None,
        "MODEL_TYPE": "Segformer" if segmenter.startswith("segformer") else "DeepLabv3+",
        "DEEPLAB_CONFIG": segmenter.partition("-")[2] if segmenter.startswith("deeplab") else None,
    }
    for key, found in said.items():
        stated = settings.get(key)
        stated = bool(stated) if key == "SEnSeIv2" else stated
        if key in settings and stated is not None and found is not None and stated != found:
            raise ModelError(
                f"The configuration {path} says {key}: {settings[key]}, the weights say {found}.",
                expected="Configuration and weights belong to one model.",
                remedy="Take both from the same folder.",
            )


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
