"""Families of released checkpoints: what the tensors of each say about its network, and what they cannot say.

A file is taken for what its tensors say: number of bands and classes, size of the backbone, with or without SEnSeI-v2.
The scaling of the input, the order of the classes and the licence do not stand in it; they stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..classes import SEVEN
from ..errors import ModelError
from . import mscloudcam, senseiv2_released
from .baselines_segformer import SIZES
from .card import Scaling
from .checkpoint import size_of

CLOUDSEN12 = ("clear", "thick", "thin", "shadow")
"""Order of CloudSEN12's codes, and of the networks trained on them."""

SENSEI_FOUR = ("clear", "thin", "thick", "shadow")
"""Order of SEnSeI-v2's networks of four classes, as its own program names their outputs."""

UNORDERED = (
    "Thin and thick cloud may have changed places: the published program takes its four classes through a set without"
    " order in training, and scores them with thick cloud before thin. Compare the mask with a known scene."
)
"""What the card of such a network says."""


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint's tensors say about its network.

    Attributes:
        architecture, options: of :func:`unclouded.models.create`.
        state: tensors with this package's names.
        card: further fields of the card.
        bands: number of fixed bands, None for any.
        left_out: published names that masking does not need.
    """

    architecture: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    card: dict[str, Any]
    bands: int | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A family of published checkpoints.

    Attributes:
        title: what it is.
        anchors: published names, one of which every checkpoint of the family has; what stands before it in the file
            is a prefix of the program that saved it.
        recipe: reads the tensors.
        source: where the weights are published.
        licence: of the published weights; None where they have none.
    """

    title: str
    anchors: tuple[str, ...]
    recipe: Callable[[Mapping[str, Tensor]], Recipe]
    source: str
    licence: str | None


def _mscloudcam(tensors: Mapping[str, Tensor]) -> Recipe:
    bands = size_of(tensors, "swin.patch_embed.proj.weight", 1)
    classes = size_of(tensors, "final_out.weight", 0)
    return Recipe(
        "mscloudcam",
        # The released code computes the cross-attention and discards it, so that its weights were trained without.
        {"bands": bands, "classes": classes, "fusion": "bypass"},
        mscloudcam.convert(tensors),
        {"classes": _class_names(classes, CLOUDSEN12), "scaling": Scaling(mode="divide-3000"), "coarsest_m": 30.0},
        bands,
    )


def _unet(tensors: Mapping[str, Tensor]) -> Recipe:
    bands = size_of(tensors, "encoder.features.0.0.weight", 1)
    classes = size_of(tensors, "segmentation_head.0.weight", 0)
    return Recipe(
        "unet-mobilenetv2",
        {"bands": bands, "classes": classes},
        {f"net.{key}": value for key, value in tensors.items()},
        # Counts / 10000, which is reflectance.
        {"classes": _class_names(classes, CLOUDSEN12), "coarsest_m": 30.0},
        bands,
    )


def _sensei(tensors: Mapping[str, Tensor]) -> Recipe:
    segformer = "segmenter.decode_head.classifier.weight"
    deeplab = "segmenter.segmentation_head.0.weight"
    classes = size_of(tensors, segformer if segformer in tensors else deeplab, 0)
    limits = (UNORDERED,) if classes == len(SENSEI_FOUR) else ()
    card: dict[str, Any] = {"classes": _class_names(classes, SENSEI_FOUR, SEVEN), "limits": limits}
    name, options = _segmenter(tensors, segformer in tensors)
    state = senseiv2_released.convert(tensors)
    recovery = tuple(sorted(key for key in tensors if key.startswith("recovery_module.")))
    state = {key: value for key, value in state.items() if not key.startswith("recovery.")}
    first = "senseiv2.blocks.1.layers.0.weight"
    if first not in tensors:
        bands = size_of(tensors, "segmenter.segformer.encoder.patch_embeddings.0.proj.weight", 1)
        state = {key.removeprefix("segmenter."): value for key, value in state.items()}
        return Recipe(name, {"bands": bands, "classes": classes, **options}, state, card, bands, recovery)
    card |= {
        "front_end": "senseiv2", "encoding": "nm", "percentiles": True, "coarsest_m": 60.0,
        "limits": (
            *limits, "Percentiles are those of the scene's valid pixels; the published program takes each tile's.",
        ),
    }  # fmt: skip
    whole = {
        "classes": classes, "segmenter": name, "segmenter_options": options, "form": "released", "recovery": "none",
    }  # fmt: skip
    return Recipe("sensei", whole, state, card, left_out=recovery)


def _segmenter(tensors: Mapping[str, Tensor], segformer: bool) -> tuple[str, dict[str, Any]]:
    """Registered name and options of the segmenter behind SEnSeI-v2."""
    if not segformer:
        deep = "segmenter.encoder.layer1.0.conv3.weight" in tensors  # bottlenecks of three convolutions
        count = len({key.split(".")[3] for key in tensors if key.startswith("segmenter.encoder.layer3.")})
        known = {(False, 6): "resnet34", (True, 6): "resnet50", (True, 23): "resnet101"}
        if (deep, count) not in known:
            raise _unknown_size("DeepLabV3+", f"{count} blocks in the third stage", ", ".join(known.values()))
        # The published network leaves the resizing to its wrapper, which does it with half-pixel centres.
        return f"deeplabv3plus-{known[deep, count]}", {"upsampling": 1}
    start = "segmenter.segformer.encoder."
    widths = tuple(size_of(tensors, f"{start}patch_embeddings.{stage}.proj.weight", 0) for stage in range(4))
    blocks = {tuple(key.removeprefix(f"{start}block.").split(".")[:2]) for key in tensors if f"{start}block." in key}
    depths = tuple(sum(stage == str(index) for stage, *_ in blocks) for index in range(4))
    decoder = size_of(tensors, "segmenter.decode_head.linear_fuse.weight", 0)
    for size, wanted in SIZES.items():
        if wanted == (depths, widths, decoder):
            return f"segformer-{size}", {}
    raise _unknown_size("SegFormer", f"depths {depths}, widths {widths} and a decoder of {decoder}", ", ".join(SIZES))


def _unknown_size(network: str, found: str, known: str) -> ModelError:
    return ModelError(
        f"The checkpoint's {network} has {found}.",
        expected=f"Known sizes are {known}.",
        remedy="Import another checkpoint.",
    )


def _class_names(count: int, *known: tuple[str, ...]) -> tuple[str, ...]:
    for names in known:
        if len(names) == count:
            return names
    raise ModelError(
        f"The checkpoint's network has {count} classes.",
        expected=f"Published networks have {' or '.join(str(len(names)) for names in known)}.",
        remedy="Import another checkpoint: what the classes mean does not stand in the file.",
    )


KINDS: dict[str, Kind] = {
    "mscloudcam": Kind(
        "MSCloudCAM as released by its authors",
        ("swin.patch_embed.proj.weight",),
        _mscloudcam,
        "https://github.com/mazid-rafee/ms-cloudcam",
        None,
    ),
    "sensei-v2": Kind(
        "SEnSeI-v2 and its segmenters as published by their author",
        ("senseiv2.blocks.1.layers.0.weight", "segmenter.segformer.encoder.patch_embeddings.0.proj.weight"),
        _sensei,
        "https://huggingface.co/aliFrancis/SEnSeIv2",
        "GPL-3.0",
    ),
    "unet-mobv2": Kind(
        "U-Net with MobileNetV2 as published with CloudSEN12",
        ("encoder.features.0.0.weight",),
        _unet,
        "https://huggingface.co/isp-uv-es/cloudsen12_models",
        "CC-BY-NC-4.0",
    ),
}
"""Families of checkpoints. Licences are those of the pages named as source; the copy of the U-Net at
huggingface.co/csaybar/cloudSEN12v1.1 is under CC-BY-NC-SA-4.0."""
