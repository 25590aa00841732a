"""MMCANet: rebuild what clouds hide from an optical image and a radar image of the same place.

Shapes
    n  batch    b  optical bands    s  radar bands (VV, VH)    h, w  pixels    c_l  features at level l
    Level l has 2**l times coarser pixels than the image. Low and high are the levels of the two fusions.

Structure (MMCANet paper; numbers in brackets are repeated in the code)
    1. two encoders, optical and radar: 3 x 3 stem, then per level MFF blocks, and a 2 x 2 convolution with stride 2
    2. cross-attention AP of the two streams at the low and at the high level
    3. F = [radar, optical, AP] at both levels, eq. (10)
    4. F_high through pooling at several rates (ASPP), eq. (11)
    5. the two brought together, eq. (12), in one of two ways
    6. decoder of MFF blocks with skips from the optical encoder, 3 x 3 convolution, plus the cloudy image

The paper leaves open the widths and numbers of blocks (here about half of KBNet-s, as there are two streams), the
levels (low: half the image's grid, high: the coarsest), what is normalised in ASPP (nothing, as in the rest of the
network) and the decoder. Eq. (12) concatenates maps of different size, so one has to be resampled. Decoder "low" does
it in the printed order: ASPP's result is interpolated to the low level and decoding starts there. Decoder "high" starts
at the coarsest level and takes F_low in when it reaches the low one, with as many stages as the paper's figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..nn.cross_attention import CrossAttention
from ..nn.kernel_basis import MFFBlock
from . import register

WIDTHS = (32, 64, 128, 256)
BLOCKS = (2, 2, 4, 4)
RATES = (6, 12, 18)


class Encoder(nn.Module):
    """One stream: (n, b, h, w) to features of every level, finest first."""

    def __init__(self, bands: int, widths: Sequence[int], blocks: Sequence[int], block: dict[str, Any]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.levels = nn.ModuleList(
            nn.Sequential(*(MFFBlock(width, **block) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )

    def forward(self, stemmed: Tensor) -> list[Tensor]:
        """Features of every level from the result of the stem, (n, c_0, h, w)."""
        features = [self.levels[0](stemmed)]
        for down, level in zip(self.down, self.levels[1:], strict=True):
            features.append(level(down(features[-1])))
        return features


class Pyramid(nn.Module):
    """ASPP: 3 x 3 convolutions at several rates and the mean of the whole map, brought together.

    Args:
        channels: features of the input.
        out: features of each branch and of the result.
        rates: distances between the taps of the 3 x 3 convolutions.
    """

    def __init__(self, channels: int, out: int, rates: Sequence[int] = RATES) -> None:
        super().__init__()
        self.atrous = nn.ModuleList(nn.Conv2d(channels, out, 3, padding=rate, dilation=rate) for rate in rates)
        self.whole = nn.Conv2d(channels, out, 1)
        self.project = nn.Conv2d(out * len(rates), out, 1)
        self.project_whole = nn.Conv2d(out, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        atrous = torch.cat([F.relu(branch(x)) for branch in self.atrous], 1)
        whole = F.relu(self.whole(x.mean((2, 3), keepdim=True)))
        # One 1 x 1 convolution of all branches, in two parts: the mean is the same at every pixel.
        return self.project(atrous) + self.project_whole(whole)


class Decoder(nn.Module):
    """MFF blocks from a level up to the image's grid, with a skip at every finer level.

    Args:
        widths: features per level, finest first; decoding starts at the last of them.
        blocks: MFF blocks at each level.
        join: level at which further features are taken in, and how many they are.
        block: options of the MFF blocks.
    """

    def __init__(
        self, widths: Sequence[int], blocks: int, join: tuple[int, int] | None, block: dict[str, Any]
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(*(MFFBlock(width, **block) for _ in range(blocks))) for width in widths
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
            for fine, coarse in pairwise(widths)
        )
        self.join_level = join[0] if join else -1
        self.join = nn.Conv2d(widths[join[0]] + join[1], widths[join[0]], 1) if join else None

    def forward(self, x: Tensor, skips: Sequence[Tensor], joined: Tensor) -> list[Tensor]:
        """Features of every decoded level, finest first."""
        features: list[Tensor] = []
        for level in reversed(range(len(self.levels))):
            if features:
                x = self.up[level](x) + skips[level]
            if self.join is not None and level == self.join_level:
                x = self.join(torch.cat((x, joined), 1))
            x = self.levels[level](x)
            features.insert(0, x)
        return features


class Stage(NamedTuple):
    """What one network of a chain computes; the rest of the chain takes from it what it needs.

    Attributes:
        image: restored image, (n, b, h, w).
        features: before the last convolution, (n, c_0, h, w).
        encoder: features of the optical encoder, finest first.
        decoder: features of the decoder, finest first.
    """

    image: Tensor
    features: Tensor
    encoder: list[Tensor]
    decoder: list[Tensor]


@register("mmcanet")
class MMCANet(nn.Module):
    """Optical and radar image to the image without clouds.

    Args:
        bands: optical bands, in and out.
        sar_bands: radar bands, 0 for a network of the optical stream alone.
        widths: features per level, finest first.
        blocks: MFF blocks per level of each encoder.
        decoder_blocks: MFF blocks per level of the decoder.
        optical_kernel, sar_kernel, decoder_kernel: sides of the local branch in the MFF blocks. The paper's streams
            have "distinct kernel sizes" without figures; the same by default.
        channels_per_group: of the local branch; 1 depthwise as the paper says, 4 as in KBNet's heavier variant.
        low: level of the low fusion; the high one is at the last level.
        decoder: where decoding starts, see the head of this file.
        cross_attention: False leaves AP out of eq. (10).
        aspp: False puts a 1 x 1 convolution in the place of ASPP.
        rates: of ASPP.
        literal_attention: the printed form of the attention product, see nn/cross_attention.py.
        scale_scores: divide attention scores by the square root of the number of features.
        attention_pool: at the low level, attend on a grid this many times coarser.
        residual: add the cloudy image to the result.
        recompute: in training, form per-pixel kernels again in the backward pass: 0.65 instead of 1.5 GB are kept for
            each patch of 128 x 128 pixels, for about a third more time.
        previous: whether the restored image of an earlier network is put beside the optical bands.
        carried: features of an earlier network put beside those of the optical stem; 0 for none.

    Raises:
        ModelError: the options do not fit together.

    >>> net = MMCANet(bands=3, widths=(8, 16, 32), blocks=(1, 1, 1), low=1)
    >>> net(torch.zeros(1, 3, 21, 30), torch.zeros(1, 2, 21, 30)).shape
    torch.Size([1, 3, 21, 30])
    """

    task = "removal"

    def __init__(
        self,
        bands: int = 3,
        sar_bands: int = 2,
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = BLOCKS,
        decoder_blocks: int = 2,
        optical_kernel: int = 3,
        sar_kernel: int = 3,
        decoder_kernel: int = 3,
        channels_per_group: int = 1,
        low: int = 1,
        decoder: Literal["low", "high"] = "low",
        cross_attention: bool = True,
        aspp: bool = True,
        rates: Sequence[int] = RATES,
        literal_attention: bool = False,
        scale_scores: bool = False,
        attention_pool: int = 1,
        residual: bool = True,
        recompute: bool = True,
        previous: bool = False,
        carried: int = 0,
    ) -> None:
        super().__init__()
        high = len(widths) - 1
        if len(blocks) != len(widths) or not 0 <= low < high or decoder not in ("low", "high"):
            raise ModelError(
                f"MMCANet cannot have {len(widths)} widths, {len(blocks)} numbers of blocks, low level {low}, and "
                f"decoder '{decoder}'.",
                expected="As many blocks as widths, a low level finer than the last, and decoder 'low' or 'high'.",
                remedy="See the options of unclouded.models.mmcanet.MMCANet.",
            )
        self.bands, self.sar_bands, self.low, self.decoder_start = bands, sar_bands, low, decoder
        self.residual, self.previous, self.carried = residual, previous, carried
        self.multiple = math.lcm(2**high, 2**low * attention_pool)
        common = {"channels_per_group": channels_per_group, "recompute": recompute}
        self.optical = Encoder(
            bands * (2 if previous else 1), widths, blocks, {"kernel": optical_kernel, **common}
        )  # (1)
        self.take_carried = nn.Conv2d(widths[0] + carried, widths[0], 1) if carried else None
        parts = 1
        self.sar: Encoder | None = None
        self.attend_low: CrossAttention | None = None
        self.attend_high: CrossAttention | None = None
        if sar_bands:
            self.sar = Encoder(sar_bands, widths, blocks, {"kernel": sar_kernel, **common})
            parts = 2
            if cross_attention:  # (2)
                self.attend_low = CrossAttention(widths[low], literal_attention, scale_scores, attention_pool)
                self.attend_high = CrossAttention(widths[high], literal_attention, scale_scores)
                parts = 3
        in_high = parts * widths[high]
        self.pyramid = Pyramid(in_high, widths[high], rates) if aspp else nn.Conv2d(in_high, widths[high], 1)  # (4)
        block = {"kernel": decoder_kernel, **common}
        self.fuse: nn.Conv2d | None = None
        if decoder == "low":  # (5)
            self.fuse = nn.Conv2d(parts * widths[low] + widths[high], widths[low], 1)
            self.decoder = Decoder(widths[: low + 1], decoder_blocks, None, block)
        else:
            self.decoder = Decoder(widths, decoder_blocks, (low, parts * widths[low]), block)
        self.last = nn.Conv2d(widths[0], bands, 3, padding=1)

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
        check_inputs(image, sar, self.bands, self.sar_bands)
        rows, cols = image.shape[-2:]
        stage = self.stage(pad(image, self.multiple), None if sar is None else pad(sar, self.multiple))
        return stage.image[..., :rows, :cols]

    def outputs(self, image: Tensor, sar: Tensor | None = None) -> dict[str, Tensor]:
        """What the loss compares with :meth:`targets`: the restored image, under "image"."""
        return {"image": self(image, sar)}

    def targets(self, target: Tensor) -> dict[str, Tensor]:
        """The cloud-free image (n, b, h, w) under the key of :meth:`outputs`."""
        return {"image": target}

    def stage(
        self,
        image: Tensor,
        sar: Tensor | None,
        previous: Tensor | None = None,
        carried: Tensor | None = None,
        base: Tensor | None = None,
    ) -> Stage:
        """One pass over an image whose sides are multiples of ``multiple``.

        Args:
            image: (n, b, h, w).
            sar: (n, s, h, w), or None without radar.
            previous: restored image of an earlier network, (n, b, h, w).
            carried: features of an earlier network, (n, carried, h, w).
            base: what the result is added to in the place of the cloudy image, (n, b, h, w).
        """
        optical = self.optical.stem(image if previous is None else torch.cat((image, previous), 1))
        if self.take_carried is not None and carried is not None:
            optical = self.take_carried(torch.cat((optical, carried), 1))
        levels = self.optical(optical)  # (1)
        low, high = [levels[self.low]], [levels[-1]]
        if self.sar is not None and sar is not None:
            radar = self.sar(self.sar.stem(sar))
            low.insert(0, radar[self.low])
            high.insert(0, radar[-1])
            if self.attend_low is not None and self.attend_high is not None:  # (2)
                low.append(self.attend_low(levels[self.low], radar[self.low]))
                high.append(self.attend_high(levels[-1], radar[-1]))
        fused_low, fused_high = torch.cat(low, 1), self.pyramid(torch.cat(high, 1))  # (3) (4)
        if self.fuse is not None:  # (5)
            factor = float(2 ** (len(levels) - 1 - self.low))
            lifted = F.interpolate(fused_high, scale_factor=factor, mode="bilinear", align_corners=False)
            start = self.fuse(torch.cat((lifted, fused_low), 1))
        else:
            start = fused_high
        decoded = self.decoder(start, levels, fused_low)  # (6)
        restored = self.last(decoded[0])
        if base is not None:
            restored = restored + base
        elif self.residual:
            restored = restored + image
        return Stage(restored, decoded[0], levels, decoded)


@register("mmcanet-l")
def mmcanet_l(**options: Any) -> MMCANet:
    """MMCANet with 5 x 5 instead of 3 x 3 in the local branch of every block (MMCANet_l in the paper)."""
    return MMCANet(**{"optical_kernel": 5, "sar_kernel": 5, "decoder_kernel": 5, **options})


def pad(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples, (n, b, h, w).

    >>> pad(torch.zeros(1, 3, 9, 16), 8).shape
    torch.Size([1, 3, 16, 16])
    """
    rows, cols = x.shape[-2:]
    below, right = -rows % multiple, -cols % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate")


def check_inputs(image: Tensor, sar: Tensor | None, bands: int, sar_bands: int) -> None:
    """Raise ModelError unless image (n, bands, h, w) and sar (n, sar_bands, h, w) are what a network was made for."""
    if image.ndim != 4 or image.shape[1] != bands:
        raise ModelError(
            f"The image has the shape {tuple(image.shape)}.",
            expected=f"This network takes (n, {bands}, h, w).",
            remedy=f"Pass the {bands} bands that its card lists, or create a network with other bands.",
        )
    found = None if sar is None else tuple(sar.shape)
    wanted = (image.shape[0], sar_bands, *image.shape[-2:]) if sar_bands else None
    if found != wanted:
        raise ModelError(
            "There is no radar image." if found is None else f"The radar image has the shape {found}.",
            expected="This network takes none." if wanted is None else f"This network takes {tuple(wanted)}.",
            remedy="Pass sar on the grid of the image, or use a network with the other sar_bands.",
        )
