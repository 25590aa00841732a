"""CloudMamba: convolutions and selective scans find clouds, a second stage looks again where the first is unsure.

Glossary
    n  batch    b  bands    k  maps: 1 for cloud against clear, or classes    h, w  rows, columns
    l  level, 1 (full size) to L = 5; maps of level l are at 1 / 2^(l-1)      c_l  features, c_0 in the stem
    H  encoder features of a level     F  what is handed to the next level    P  probability    U  uncertainty

Steps
    encoder   H_l = HPB_l(F_(l-1)), (n, c_(l-1), h, w / 2^(l-1)); F_l = strided 3x3 convolution of H_l, eq. (11)
    decoder   D_l = Res(Res(concat(transposed convolution of D_(l+1), H_l))), from D_(L+1) = F_L
    coarse    P_c = sigmoid(1x1(D_1)), (n, k, h, w), eq. (13)
    refiner   U = 1 - 2 |P_c - 0.5|; a second decoder reads U * H_l and U * F_agg, F_agg being all D_l at the size of
              F_L, eq. (16); P_r = sigmoid(1x1(.))
    fusion    the coarse map where U < gamma, the refined one elsewhere

    HPB = Res, Res, DS-Mamba. DS-Mamba joins the features with the same seen through dilated convolutions, scans the two
    together (LN, SS2D), and adds the result.

Source: CloudMamba (2025). Not in the paper, and decided here: widths; the skip of a level is H_l, before the strided
convolution, as F_l would leave the result at half size; one convolution in a residual block; no
residual inside the Mamba block; U carries no gradient; weights of the loss. With several classes P is the softmax, and
U = (1 - max P) k / (k - 1), which for two classes is the printed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, ModelError
from ..losses import bce_dice, binary_dice, shrink
from ..nn.ss2d import SS2D, PixelNorm, undecayed
from . import register

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"width": 32, "cap": 256, "expand": 2.0, "state": 16, "mamba_from_level": 1},
    "light": {"width": 32, "cap": 256, "expand": 1.0, "state": 16, "mamba_from_level": 1},
    "small": {"width": 16, "cap": 128, "expand": 1.0, "state": 16, "mamba_from_level": 1},
    "tiny": {"width": 8, "cap": 64, "expand": 1.0, "state": 8, "mamba_from_level": 2},
}
"""Sizes. ``paper`` has the paper's levels and VMamba's defaults; the others are for smaller machines."""

MAMBAS = ("ds", "ds-sep", "single", "none")
"""Rows of the ablation table: two scales scanned together, each by itself, one scale only, no scan."""

SLOPE = 0.01
NORM_EPS = 1e-6


@register("cloudmamba")
class CloudMamba(nn.Module):
    """Two-stage cloud segmentation with selective scans.

    Args:
        bands: input bands b; 4 for Gaofen-1 WFV.
        classes: maps k. With 1, as in the paper, the logit is that of cloud and goes through a sigmoid; with 2 or more
            there is one logit per class for a softmax.
        preset: a name in :data:`PRESETS`; the next five options override its values.
        width: features c_0 of the stem; they double from level to level.
        cap: most features of a level.
        expand: inner features of a scan for each of its inputs.
        state: state size of a scan.
        mamba_from_level: finer levels than this have no scan.
        mamba: a name in :data:`MAMBAS`.
        dilations: of the dilated convolutions in DS-Mamba.
        levels: L. Sides of the image are extended to a multiple of 2^L inside.
        stages: 1 for the base network alone, 2 with the refiner.
        gamma: the coarse map is accepted where U is below this.
        uncertainty_gradient: let the refiner's loss reach the coarse map through U.

    Raises:
        ModelError: an option has a value that does not exist.
    """

    front_end = "fixed"

    def __init__(
        self,
        bands: int = 4,
        classes: int = 1,
        preset: str = "paper",
        *,
        width: int | None = None,
        cap: int | None = None,
        expand: float | None = None,
        state: int | None = None,
        mamba_from_level: int | None = None,
        mamba: str = "ds",
        dilations: Sequence[int] = (1, 2, 4),
        levels: int = 5,
        stages: int = 2,
        gamma: float = 0.4,
        uncertainty_gradient: bool = False,
    ) -> None:
        super().__init__()
        for value, allowed in ((preset, tuple(PRESETS)), (mamba, MAMBAS), (stages, (1, 2))):
            if value not in allowed:
                raise ModelError(
                    f"CloudMamba was asked for '{value}'.",
                    expected=f"The values of this option are {', '.join(map(str, allowed))}.",
                    remedy="Choose one of these.",
                )
        given = {
            "width": width, "cap": cap, "expand": expand, "state": state, "mamba_from_level": mamba_from_level,
        }  # fmt: skip
        size = PRESETS[preset] | {name: value for name, value in given.items() if value is not None}
        self.bands, self.classes, self.stages, self.gamma = bands, classes, stages, gamma
        self.uncertainty_gradient = uncertainty_gradient
        widths = [min(size["cap"], size["width"] * 2**level) for level in range(levels + 1)]
        fine, coarse = widths[:-1], widths[1:]
        self.stem = nn.Conv2d(bands, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            HPB(
                features,
                mamba if level >= size["mamba_from_level"] else "none",
                dilations,
                size["expand"],
                size["state"],
            )
            for level, features in enumerate(fine, start=1)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(features, wider, 3, stride=2, padding=1) for features, wider in zip(fine, coarse, strict=True)
        )
        self.decoder = Decoder(widths)
        self.heads = nn.ModuleList(nn.Conv2d(features, classes, 1) for features in fine)
        if stages == 2:
            self.aggregate = nn.Conv2d(sum(fine), widths[-1], 1)
            self.refiner = Decoder(widths)
            self.refined_head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w): the coarse ones where accepted, the refined ones elsewhere."""
        return self._maps(image, supervised=False)["logits"]

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """Everything the loss needs, and what the second stage decided by.

        Returns:
            ``logits`` as of :meth:`forward`; with two stages ``coarse`` and ``refined``, all (n, k, h, w);
            ``level2`` to ``level5``, logits of the coarser decoder levels, each at its own size; ``uncertainty``,
            (n, 1, h, w), 0 to 1.
        """
        return self._maps(image, supervised=True)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay must leave alone."""
        return undecayed(self)

    def _maps(self, image: Tensor, *, supervised: bool) -> dict[str, Tensor]:
        if image.shape[1] != self.bands:
            raise InputError(
                f"The image has {image.shape[1]} bands.",
                expected=f"This network was built for {self.bands}.",
                remedy="Choose the bands it was trained on, in their order.",
            )
        h, w = image.shape[-2:]
        stride = 2 ** len(self.down)
        x = self.stem(F.pad(image, (0, -w % stride, 0, -h % stride), mode="replicate"))
        skips = []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x)
            skips.append(x)  # H_l (n, c_(l-1), h / 2^(l-1), w / 2^(l-1))
            x = down(x)  # eq. (11)
        decoded = self.decoder(x, skips)
        coarse = self.heads[0](decoded[0])  # eq. (13)
        sure = uncertainty(coarse)
        maps = {"logits": coarse, "uncertainty": sure}
        if self.stages == 2:
            refined = self.refined_head(self._refine(sure, x, skips, decoded))
            maps = {
                "logits": torch.where(sure < self.gamma, coarse, refined),
                "coarse": coarse,
                "refined": refined,
                "uncertainty": sure,
            }
        maps = {name: value[..., :h, :w] for name, value in maps.items()}
        if supervised:
            for level, (head, features) in enumerate(zip(self.heads, decoded, strict=True), start=1):
                if level > 1:
                    cell = 2 ** (level - 1)
                    maps[f"level{level}"] = head(features)[..., : -(-h // cell), : -(-w // cell)]
        return maps

    def _refine(self, sure: Tensor, bottom: Tensor, skips: list[Tensor], decoded: list[Tensor]) -> Tensor:
        """Features (n, c_0, h, w) of the second decoder, which sees only what the first stage is unsure about."""
        if not self.uncertainty_gradient:
            sure = sure.detach()
        aggregated = self.aggregate(torch.cat([_resize(features, bottom) for features in decoded], dim=1))  # eq. (16)
        unsure = [_resize(sure, skip) * skip for skip in skips]
        return self.refiner(_resize(sure, bottom) * aggregated, unsure)[0]


class HPB(nn.Module):
    """Two residual blocks, then a scan at two scales; (n, c, h, w) to the same shape."""

    def __init__(self, channels: int, mamba: str, dilations: Sequence[int], expand: float, state: int) -> None:
        super().__init__()
        self.first = ResBlock(channels, channels)
        self.second = ResBlock(channels, channels)
        self.mamba = None if mamba == "none" else DSMamba(channels, mamba, dilations, expand, state)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        return x if self.mamba is None else self.mamba(x)


class ResBlock(nn.Module):
    """Convolution, normalisation over features, LeakyReLU, and a shortcut; (n, i, h, w) to (n, o, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = PixelNorm(outputs, NORM_EPS)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), SLOPE) + self.shortcut(x)


class DSMamba(nn.Module):
    """Selective scan of the features as they are and of the same seen at a larger scale, added to the input.

    Args:
        channels: features c, in and out.
        mode: ``ds`` scans both scales as 2c features of one scan; ``ds-sep`` scans each by itself and joins them after;
            ``single`` scans the features as they are.
        dilations: of the 3x3 convolutions that make the larger scale.
        expand, state: of the scan.
    """

    def __init__(self, channels: int, mode: str, dilations: Sequence[int], expand: float, state: int) -> None:
        super().__init__()
        self.mode = mode
        if mode == "single":
            self.scan = MambaBlock(channels, expand, state)
            return
        self.dilated = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        self.merge = nn.Conv2d(len(dilations) * channels, channels, 1)
        if mode == "ds":
            self.scan = MambaBlock(2 * channels, expand, state)
        else:
            self.scan_small = MambaBlock(channels, expand, state)
            self.scan_large = MambaBlock(channels, expand, state)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "single":
            return x + self.scan(x)
        large = self.merge(torch.cat([conv(x) for conv in self.dilated], dim=1))
        if self.mode == "ds":
            scanned = self.scan(torch.cat([x, large], dim=1))  # (n, 2c, h, w)
        else:
            scanned = torch.cat([self.scan_small(x), self.scan_large(large)], dim=1)
        return x + self.project(scanned)


class MambaBlock(nn.Module):
    """Normalisation over features and a gated SS2D, without a residual; (n, c, h, w) to the same shape."""

    def __init__(self, channels: int, expand: float, state: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.ss2d = SS2D(channels, expand, state)

    def forward(self, x: Tensor) -> Tensor:
        return self.ss2d(self.norm(x))


class Decoder(nn.Module):
    """From the bottom back to full size, one skip a level.

    Args:
        widths: c_0 to c_L.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.blocks = nn.ModuleList(nn.Sequential(ResBlock(2 * fine, fine), ResBlock(fine, fine)) for fine, _ in pairs)

    def forward(self, x: Tensor, skips: list[Tensor]) -> list[Tensor]:
        """Features of all levels, finest first, from those below level L and the skips, finest first."""
        decoded = []
        for up, blocks, skip in zip(reversed(self.up), reversed(self.blocks), reversed(skips), strict=True):
            x = blocks(torch.cat([up(x), skip], dim=1))  # (n, c_(l-1), h / 2^(l-1), w / 2^(l-1))
            decoded.append(x)
        return decoded[::-1]


def uncertainty(logits: Tensor) -> Tensor:
    """How unsure logits are, (n, k, h, w) -> (n, 1, h, w): 0 where one class is certain, 1 where all are as likely.

    Source:
        CloudMamba, U = 1 - 2 |P - 0.5|; for k classes the form named at the head of this file.

    >>> p = torch.tensor([0.5, 0.8, 1.0]).view(1, 1, 1, 3)
    >>> [round(u, 3) for u in uncertainty(torch.logit(p)).flatten().tolist()]
    [1.0, 0.4, 0.0]
    """
    classes = logits.shape[1]
    if classes == 1:
        return 1.0 - 2.0 * (torch.sigmoid(logits) - 0.5).abs()
    most = logits.softmax(dim=1).amax(dim=1, keepdim=True)
    return (1.0 - most) * (classes / (classes - 1))


def loss_weights(outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Weights of the outputs in the loss: 1 for the final and the coarse map, 2^(1-l) for decoder level l.

    With two stages the final map is the refined one: the fusion takes no part.
    """
    weights = {"refined": 1.0, "coarse": 1.0} if "refined" in outputs else {"logits": 1.0}
    levels = [name for name in outputs if name.startswith("level")]
    return weights | {name: 2.0 ** (1 - int(name.removeprefix("level"))) for name in levels}


def cloudmamba_loss(outputs: Mapping[str, Tensor], target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy plus Dice on the final map and on every decoder level.

    Args:
        outputs: what :meth:`CloudMamba.outputs` returned.
        target: class index (n, h, w); for a single map 1 is cloud and 0 clear.
        valid: (n, h, w) bool; other pixels are left out. Default: all.

    Returns:
        The loss, a scalar. Coarser levels see target and validity by nearest neighbour.

    Source:
        CloudMamba, eqs. (24) and (27). The values of the level weights are not published.
    """
    valid = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
    total = torch.zeros((), device=target.device)
    for name, weight in loss_weights(outputs).items():
        logits = outputs[name]
        size = logits.shape[-2:]
        total = total + weight * _segmentation_loss(logits, shrink(target, size), shrink(valid, size))
    return total


def _segmentation_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return bce_dice(logits[:, 0], torch.where(valid, target, torch.zeros_like(target)), valid=valid)
    wanted = torch.where(valid, target, torch.zeros_like(target)).long()
    each = F.cross_entropy(logits, wanted, reduction="none")
    entropy = (each * valid).sum() / valid.sum().clamp(min=1)
    p = logits.softmax(dim=1)
    scores = [binary_dice(p[:, index], wanted == index, valid=valid) for index in range(logits.shape[1])]
    return entropy + torch.stack(scores).mean()


def _resize(maps: Tensor, like: Tensor) -> Tensor:
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)
