"""MSCloudCAM: Swin features, context at several scales, cross-attention between them, a plain decoder.

Glossary
    n  batch    b  bands    k  classes    h, w  rows, columns, multiples of 32 inside
    f3, f4  backbone features at 1/16 (384 channels) and 1/32 (768 channels) of the image

Steps
    deep context     ASPP on f4, eq. (2), resized to 1/16                   (n, 384, h/16, w/16)
    shallow context  PSP on f3, eq. (3)                                     (n, 384, h/16, w/16)
    cross-attention  queries from both, keys and values from the shallow one, eqs. (4)-(7)
    bottleneck, channel and spatial attention, eq. (8), four doublings, heads

The paper and the released code differ: the released code computes the cross-attention and discards it
(``fusion="bypass"``), and eqs. (2), (3) and (8) are printed otherwise than they were run (``form="printed"``).

Source: MSCloudCAM: multi-scale context and cross-attention for cloud segmentation; loss and training in the recipe of
its tables (Adam 1e-4, auxiliary weights 0.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, ModelError
from ..nn.attention import CombinedGate, CrossAttention
from ..nn.context import ASPP, PSP
from ..nn.swin import Swin
from ..nn.timm_guard import import_timm
from . import register

_CONTEXTS = {"aspp": ASPP, "psp": PSP}
AUXILIARY_WEIGHTS = {"logits": 1.0, "aux1": 0.4, "aux2": 0.4}
"""Weights of the three cross-entropies in training."""


@register("mscloudcam")
class MSCloudCAM(nn.Module):
    """Cloud segmentation with multi-scale context and cross-attention.

    Args:
        bands: input bands b; 13 for Sentinel-2, 11 for Landsat 8.
        classes: number of classes k.
        deep, shallow: context module on f4 and on f3, ``aspp`` or ``psp``.
        fusion: ``cam`` feeds the attended map on, as the paper says; ``bypass`` has the cross-attention but feeds its
            input on, as the released weights need, so that it is not learned; ``concat`` has none.
        form: ``released`` or ``printed``, see the head of this file.
        pretrained: start the backbone from ImageNet weights (needs timm, and downloads them).
        embed, depths, heads: of the Swin backbone; the defaults are Swin-T. Context modules have 4 x embed features.

    Raises:
        ModelError: a switch has a value that does not exist.
    """

    front_end = "fixed"

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        deep: str = "aspp",
        shallow: str = "psp",
        fusion: str = "cam",
        form: str = "released",
        pretrained: bool = False,
        embed: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
    ) -> None:
        super().__init__()
        for value, allowed in (
            (deep, _CONTEXTS),
            (shallow, _CONTEXTS),
            (fusion, ("cam", "bypass", "concat")),
            (form, ("released", "printed")),
        ):
            if value not in allowed:
                raise ModelError(
                    f"MSCloudCAM was asked for '{value}'.",
                    expected=f"The values of this option are {', '.join(allowed)}.",
                    remedy="Choose one of these.",
                )
        printed = form == "printed"
        self.fusion = fusion
        self.swin = Swin(bands, embed, depths, heads)
        width = 4 * embed
        self.deep: nn.Module = _CONTEXTS[deep](2 * width, width, printed=printed)
        self.shallow: nn.Module = _CONTEXTS[shallow](width, width, printed=printed)
        self.cam = None if fusion == "concat" else CrossAttention(2 * width, width)
        if self.cam is not None and fusion == "bypass":
            self.cam.requires_grad_(False)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(2 * width, 256, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 512, 1), nn.ReLU(),
        )  # fmt: skip
        self.refine = CombinedGate(512, printed=printed)
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, 2), nn.BatchNorm2d(outputs), nn.ReLU())
            for inputs, outputs in ((512, 256), (256, 128), (128, 64), (64, 32))
        )
        self.aux1, self.aux2 = nn.Conv2d(256, classes, 1), nn.Conv2d(128, classes, 1)
        self.head = nn.Conv2d(32, classes, 1)
        if pretrained:
            self.load_imagenet()

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w)."""
        size = image.shape[-2:]
        return self.head(self._features(image)[3])[..., : size[0], : size[1]]

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """``logits``, ``aux1`` and ``aux2``, each (n, k, h, w)."""
        size = image.shape[-2:]
        first, second, _, last = self._features(image)
        whole = last.shape[-2:]
        # A 1 x 1 convolution commutes with bilinear resizing and is cheaper before it.
        maps = {"logits": self.head(last)}
        for name, head, features in (("aux1", self.aux1, first), ("aux2", self.aux2, second)):
            maps[name] = F.interpolate(head(features), whole, mode="bilinear", align_corners=False)
        return {name: value[..., : size[0], : size[1]] for name, value in maps.items()}

    def _features(self, image: Tensor) -> list[Tensor]:
        """Features of the four decoder stages, the last of at least the image's size."""
        if self.training and image.shape[0] < 2:
            raise InputError(
                "MSCloudCAM was trained on a batch of one image.",
                expected="Its normalisation over a pooled map of one pixel needs two images or more.",
                remedy="Raise the batch size.",
            )
        # Whole cells of the coarsest grid, so that no map has to be stretched to fit another.
        image = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32), mode="replicate")
        _, _, f3, f4 = self.swin(image)
        shallow = self.shallow(f3)  # eq. (3)
        deep = F.interpolate(self.deep(f4), f3.shape[2:], mode="bilinear", align_corners=False)  # eq. (2)
        x = torch.cat([deep, shallow], dim=1)  # eq. (4)
        if self.cam is not None and self.fusion == "cam":
            x = self.cam(x, shallow)  # eqs. (5)-(7)
        x = self.refine(self.bottleneck(x))  # eq. (8)
        out = []
        for stage in self.decoder:
            x = stage(x)
            out.append(x)
        return out

    def load_imagenet(self) -> None:
        """Replace the backbone's weights by timm's ImageNet-1k weights of ``swin_tiny_patch4_window7_224``.

        Kernels of the first convolution are repeated over the bands and scaled by 3 / b, as timm does.

        Raises:
            MissingDependencyError: timm is not installed.
        """
        timm = import_timm()
        donor = timm.create_model(
            "swin_tiny_patch4_window7_224",
            pretrained=True,
            features_only=True,
            in_chans=self.swin.patch_embed.proj.in_channels,
        )
        wanted = self.swin.state_dict().keys()
        self.swin.load_state_dict({key: value for key, value in donor.state_dict().items() if key in wanted})


_RULES = [
    (r"^aspp\.atrous_block1\.", "deep.branches.0."),
    (r"^aspp\.atrous_block6\.", "deep.branches.1."),
    (r"^aspp\.atrous_block12\.", "deep.branches.2."),
    (r"^aspp\.atrous_block18\.", "deep.branches.3."),
    (r"^aspp\.global_avg_pool\.1\.", "deep.pooled."),
    (r"^aspp\.conv1\.", "deep.fuse.0."),
    (r"^aspp\.bn\.", "deep.fuse.1."),
    (r"^psp\.stages\.(\d)\.1\.", r"shallow.branches.\1.0."),
    (r"^psp\.stages\.(\d)\.2\.", r"shallow.branches.\1.1."),
    (r"^psp\.bottleneck\.", "shallow.fuse."),
    (r"^deep_attn\.blocks\.0\.q_proj\.", "cam.query."),
    (r"^deep_attn\.blocks\.0\.k_proj\.", "cam.key."),
    (r"^deep_attn\.blocks\.0\.v_proj\.", "cam.value."),
    (r"^deep_attn\.blocks\.0\.out_proj\.", "cam.out."),
    (r"^combined_attention\.ca\.", "refine.channel."),
    (r"^combined_attention\.sa\.", "refine.spatial."),
    (r"^dec1\.", "decoder.0."),
    (r"^dec2\.", "decoder.1."),
    (r"^dec3\.", "decoder.2."),
    (r"^dec4\.", "decoder.3."),
    (r"^final_out\.", "head."),
]


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the released code with this package's names; buffers that follow from the window are left out.

    >>> list(convert({"psp.stages.2.1.weight": torch.zeros(1), "swin.layers_0.blocks.1.attn_mask": torch.zeros(1)}))
    ['shallow.branches.2.0.weight']
    """
    out = {}
    for key, value in state.items():
        if key.endswith(("attn_mask", "relative_position_index")):
            continue
        for pattern, replacement in _RULES:
            key = re.sub(pattern, replacement, key)
        out[key] = value
    return out
