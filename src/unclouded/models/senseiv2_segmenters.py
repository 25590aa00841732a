"""SEnSeI in front of any registered segmenter, with the recovery module for training.

Shapes
    n  batch    b  bands    d  descriptor    c  features of the front end    k  classes    h, w  rows, columns

``create("sensei", segmenter="...")`` takes any segmenter of the registry that has the option ``bands``; the
combinations of the SEnSeI-v2 paper have names of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..classes import SEVEN
from ..descriptors import DESCRIPTOR_LENGTH
from ..errors import ModelError
from . import create, register
from .senseiv1 import V1_CHANNELS, V1_DESCRIPTOR, SEnSeIv1
from .senseiv2 import Form, Recovery, SEnSeIv2

NAMED: dict[str, tuple[str, str]] = {
    "senseiv2-segformer-b0": ("medium", "segformer-b0"),
    "senseiv2-segformer-b2": ("medium", "segformer-b2"),
    "senseiv2-deeplabv3plus": ("medium", "deeplabv3plus-resnet34"),
    "senseiv2-deeplabv3plus-resnet50": ("medium", "deeplabv3plus-resnet50"),
    "senseiv2-unet-mobilenetv2": ("medium", "unet-mobilenetv2"),
    "senseiv1-segformer-b0": ("v1-original", "segformer-b0"),
    "senseiv1-segformer-b2": ("v1-original", "segformer-b2"),
    "senseiv1-deeplabv3plus": ("v1-original", "deeplabv3plus-resnet34"),
}
"""Front end and segmenter behind each name."""

RECOVERIES = ("paper", "released", "none")


@register("sensei")
class SenseiSegmenter(nn.Module):
    """A front end for any set of bands, and a segmenter that sees its features as bands.

    Args:
        classes: number of classes k.
        segmenter: name of a registered segmenter.
        segmenter_options: its further options.
        front: a preset of :class:`SEnSeIv2` (``v1`` is SEnSeI-v1 as rebuilt within the v2 framework), or
            ``v1-original`` for :class:`SEnSeIv1`.
        channels: features c; None for the front end's own (32, SEnSeI-v1 64).
        descriptor: length d of a descriptor; None for the front end's own (79, or 74 without statistics, SEnSeI-v1 3).
        form: see :data:`unclouded.models.senseiv2.FORMS`.
        recovery: the auxiliary task: ``paper``, ``released`` or ``none``.

    Raises:
        ModelError: the segmenter cannot be put behind a front end, or a name does not exist.
    """

    def __init__(
        self,
        classes: int = len(SEVEN),
        segmenter: str = "segformer-b2",
        segmenter_options: Mapping[str, Any] | None = None,
        front: str = "medium",
        channels: int | None = None,
        descriptor: int | None = None,
        form: str | Form | Mapping[str, Any] = "paper",
        recovery: str = "paper",
    ) -> None:
        super().__init__()
        if recovery not in RECOVERIES:
            raise ModelError(
                f"There is no recovery '{recovery}'.",
                expected=f"It is one of {', '.join(RECOVERIES)}.",
                remedy="Choose one of these.",
            )
        first = front in ("v1", "v1-original")
        self.front_end = "senseiv1" if first else "senseiv2"
        if descriptor is None:
            descriptor = V1_DESCRIPTOR if first else DESCRIPTOR_LENGTH + (0 if front == "small" else 5)
        self.front: SEnSeIv1 | SEnSeIv2
        if front == "v1-original":
            self.front = SEnSeIv1(channels or V1_CHANNELS)
        else:
            self.front = SEnSeIv2(channels, descriptor, front, form)
        self.recovery: Recovery | None = None
        if recovery == "paper":
            self.recovery = Recovery(self.front.channels, descriptor)
        elif recovery == "released":
            self.recovery = Recovery(self.front.channels, self.front.features, (256, 32), (256, 32), relu_first=True)
        self.on_features = recovery == "released"
        unfit = ModelError(
            f"The model '{segmenter}' does not take a fixed number of bands.",
            expected="A segmenter behind a front end has the option 'bands' and reads no descriptors.",
            remedy="Choose another segmenter, for example segformer-b2, and check its options.",
        )
        try:
            self.segmenter = create(segmenter, bands=self.front.channels, classes=classes, **(segmenter_options or {}))
        except TypeError as err:
            raise unfit from err
        if getattr(self.segmenter, "front_end", "fixed") != "fixed":
            raise unfit

    def forward(self, image: Tensor, descriptors: Tensor) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w) with its descriptors (n, b, d)."""
        out: Tensor = self.segmenter(self.front(image, descriptors))
        return out

    def outputs(self, image: Tensor, descriptors: Tensor) -> dict[str, Tensor]:
        """What the segmenter returns, and ``recovery_loss`` where there is a recovery module."""
        embedding, features = self.front.encode(image, descriptors)
        out: dict[str, Tensor] = self.segmenter.outputs(embedding)  # type: ignore[operator]
        if self.recovery is not None:
            described = features if self.on_features else None
            out["recovery_loss"] = self.recovery.loss(embedding, image, descriptors, described)
        return out


def _maker(front: str, segmenter: str) -> Callable[..., SenseiSegmenter]:
    def make(**options: Any) -> SenseiSegmenter:
        return SenseiSegmenter(**{"front": front, "segmenter": segmenter, **options})

    make.__doc__ = f"SEnSeI ({front}) in front of {segmenter}, see :class:`SenseiSegmenter`."
    return make


for _name, (_front, _segmenter) in NAMED.items():
    register(_name)(_maker(_front, _segmenter))
