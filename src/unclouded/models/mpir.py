"""MPIR1 to MPIR4: chains of MMCANets from coarse to full resolution.

Shapes
    n  batch    b  optical bands    s  radar bands    h, w  pixels    c  features at the image's grid

Each stage sees the optical image, the radar image and the result of the stage before it, interpolated, at its own
scale: 1/4, 1/2 and 1, or 1/2 and 1. Every stage is trained on the target at its scale.

    MPIR1  three MMCANets; features before the last convolution go to the stem of the next
    MPIR2  the same, with a network at full resolution (MPRNet's ORSNet) for the third
    MPIR3  three MMCANets without that connection; each adds to the result of the one before it
    MPIR4  MPIR3 with two stages

The paper gives neither scales nor how the stages are joined in MPIR3; its text adds the inputs and results of earlier
stages to later ones. Adding both the cloudy image and the earlier result would count the reflectance twice, so the
first stage adds to the cloudy image and each later one to the result before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..nn.orsnet import ChannelAttentionBlock, ORSNet
from . import register
from .mmcanet import WIDTHS, MMCANet, Stage, check_inputs, pad

ORS_WIDTH = 40
"""Features of the stem of the stage at full resolution (MPRNet for deraining)."""

ORS_EXTRA = 16
"""Features added to these in its blocks (MPRNet for deraining)."""

ORS_BLOCKS = 3
"""Original-resolution blocks (MPRNet)."""


class FullResolutionStage(nn.Module):
    """The third stage of MPIR2: stem features and those of the stage before it, through ORSNet.

    Args:
        bands, sar_bands: optical and radar bands.
        widths: features per level of the encoder of the stage before, finest first, at half resolution.
        decoded: levels of its decoder.
        width, extra: features of the stem, and those added to them in the blocks.
        blocks: channel-attention blocks in each of the three original-resolution blocks.
    """

    def __init__(
        self,
        bands: int,
        sar_bands: int,
        widths: Sequence[int],
        decoded: int,
        width: int = ORS_WIDTH,
        extra: int = ORS_EXTRA,
        blocks: int = 8,
    ) -> None:
        super().__init__()
        wide = width + extra
        self.stem = nn.Conv2d(2 * bands + sar_bands, width, 3, padding=1, bias=False)
        self.stem_block = ChannelAttentionBlock(width)
        self.merge = nn.Conv2d(width + widths[0], wide, 3, padding=1, bias=False)
        # The finest level of the stage before is at half resolution: one doubling more than its levels.
        paths = [(*reversed(widths[: level + 1]), widths[0]) for level in range(min(ORS_BLOCKS, len(widths)))]
        self.network = ORSNet(wide, paths, paths[:decoded], blocks)
        self.last = nn.Conv2d(wide, bands, 3, padding=1)

    def forward(self, image: Tensor, sar: Tensor | None, previous: Tensor, before: Stage) -> Tensor:
        """Restore image (n, b, h, w), with the result of the stage before interpolated to its size."""
        given = (image, previous) if sar is None else (image, previous, sar)
        stem = self.stem_block(self.stem(torch.cat(given, 1)), self.network.slope)
        merged = self.merge(torch.cat((stem, _double(before.features)), 1))
        return self.last(self.network(merged, before.encoder, before.decoder)) + image


class MPIR(nn.Module):
    """A chain of networks from coarse to full resolution.

    Args:
        bands: optical bands, in and out.
        sar_bands: radar bands; 0 for none.
        stages: number of networks; each works at twice the resolution of the one before, the last at that of the image.
        carry: put features before the last convolution beside those of the next stem.
        add_previous: add each stage to the result of the one before rather than to the cloudy image.
        full_resolution: ORSNet in the place of the last MMCANet.
        full_blocks: channel-attention blocks in each of its original-resolution blocks.
        **options: of :class:`unclouded.models.mmcanet.MMCANet`, the same for every stage.

    Raises:
        ModelError: the options do not fit together.
    """

    task = "removal"

    def __init__(
        self,
        bands: int = 3,
        sar_bands: int = 2,
        stages: int = 3,
        carry: bool = False,
        add_previous: bool = False,
        full_resolution: bool = False,
        full_blocks: int = 8,
        **options: Any,
    ) -> None:
        super().__init__()
        if stages < 2 or (full_resolution and add_previous):
            raise ModelError(
                f"A chain cannot have {stages} stages"
                + (" that add to each other up to a network at full resolution." if full_resolution else "."),
                expected="Two or more stages; either add_previous or full_resolution.",
                remedy="Use mmcanet for one stage, or mpir1, mpir2, mpir3, mpir4.",
            )
        self.bands, self.sar_bands = bands, sar_bands
        self.carry, self.add_previous = carry, add_previous
        self.factors = tuple(2 ** (stages - 1 - stage) for stage in range(stages))
        widths = tuple(options.get("widths", WIDTHS))
        networks = [
            MMCANet(bands, sar_bands, **options, previous=stage > 0, carried=widths[0] if carry and stage else 0)
            for stage in range(stages - 1 if full_resolution else stages)
        ]
        self.networks = nn.ModuleList(networks)
        self.full: FullResolutionStage | None = None
        if full_resolution:
            decoded = len(networks[-1].decoder.levels)
            self.full = FullResolutionStage(bands, sar_bands, widths, decoded, blocks=full_blocks)
        self.multiple = max(
            network.multiple * factor for network, factor in zip(networks, self.factors, strict=False)
        )

    def forward(self, image: Tensor, sar: Tensor | None = None) -> Tensor:
        """Restore an image of any size.

        Args:
            image: (n, b, h, w) float32 reflectance with clouds, 0 where missing.
            sar: (n, s, h, w) float32, backscatter brought to 0..1.

        Returns:
            (n, b, h, w) reflectance, not clipped.

        Raises:
            ModelError: the inputs are not those that the network was made for.
        """
        return self._results(image, sar)[-1]

    def outputs(self, image: Tensor, sar: Tensor | None = None) -> dict[str, Tensor]:
        """The restored image under "image", and the results of the coarser stages under "stage1", "stage2".

        A coarse result covers the whole pixels of its scale: (n, b, h // f, w // f) for f times coarser pixels.
        """
        return self._named(self._results(image, sar))

    def targets(self, target: Tensor) -> dict[str, Tensor]:
        """The cloud-free image (n, b, h, w), averaged over areas, under the keys of :meth:`outputs`."""
        return self._named([_shrink(target, factor) for factor in self.factors])

    @staticmethod
    def _named(stages: list[Tensor]) -> dict[str, Tensor]:
        return {"image": stages[-1]} | {f"stage{number}": stage for number, stage in enumerate(stages[:-1], 1)}

    def _results(self, image: Tensor, sar: Tensor | None) -> list[Tensor]:
        check_inputs(image, sar, self.bands, self.sar_bands)
        rows, cols = image.shape[-2:]
        image = pad(image, self.multiple)
        sar = None if sar is None else pad(sar, self.multiple)
        results: list[Tensor] = []
        before: Stage | None = None
        for network, factor in zip(self.networks, self.factors, strict=False):
            previous = carried = None
            if before is not None:
                previous = _double(before.image)
                carried = _double(before.features) if self.carry else None
            before = cast(MMCANet, network).stage(
                _shrink(image, factor),
                None if sar is None else _shrink(sar, factor),
                previous,
                carried,
                previous if self.add_previous else None,
            )
            results.append(before.image)
        if self.full is not None and before is not None:
            results.append(self.full(image, sar, _double(before.image), before))
        return [
            result[..., : rows // factor, : cols // factor]
            for result, factor in zip(results, self.factors, strict=True)
        ]


def _shrink(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else F.avg_pool2d(x, factor)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@register("mpir1")
def mpir1(**options: Any) -> MPIR:
    """Three MMCANets whose features before the last convolution go to the stem of the next."""
    return MPIR(**{"stages": 3, "carry": True, **options})


@register("mpir2")
def mpir2(**options: Any) -> MPIR:
    """MPIR1 with a network at full resolution for the third."""
    return MPIR(**{"stages": 3, "carry": True, "full_resolution": True, **options})


@register("mpir3")
def mpir3(**options: Any) -> MPIR:
    """Three MMCANets, each adding to the result of the one before it."""
    return MPIR(**{"stages": 3, "add_previous": True, **options})


@register("mpir4")
def mpir4(**options: Any) -> MPIR:
    """Two MMCANets, the second adding to the result of the first."""
    return MPIR(**{"stages": 2, "add_previous": True, **options})
