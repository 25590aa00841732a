"""Mask2Former on Swin-T or DINOv2-B/14 with registers, through transformers.

Shapes
    n  batch    b  bands    q  queries    k  classes    h, w  rows, columns

A query predicts a mask and a class, or no class. A pixel's score for a class is the sum over queries of mask times
class probability; its logarithm is what this project calls a logit, so that a softmax over classes normalises scores.

DINOv2 gives one map at 1/14. A pyramid at 1/3.5, 1/7, 1/14 and 1/28 is made of it by two, one and no transposed
convolutions and a maximum, as in ViTDet. Needs the extra ``baselines``; the training loss needs scipy too.

Source: Cheng et al., Mask2Former, CVPR 2022; Li et al., ViTDet, ECCV 2022; Oquab et al., DINOv2, 2023.
"""

from __future__ import annotations

from types import MethodType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..nn.on_grid import on_grid
from ..nn.timm_guard import import_transformers
from . import register

_FLOOR = 1e-6


class Mask2Former(nn.Module):
    """Mask2Former of the transformers library with this project's call; the backbone comes with the subclass.

    Args:
        config: the library's configuration.
        stride: sides are extended to a multiple of this.

    Attributes:
        any_size: False: the library computes the places that its decoder looks at while it is traced, so that an ONNX
            file takes images of one size.
    """

    front_end = "fixed"
    any_size = False

    def __init__(self, config: Any, stride: int) -> None:
        super().__init__()
        self.net = import_transformers().Mask2FormerForUniversalSegmentation(config)
        self.stride = stride

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logarithms of class scores, (n, k, h, w), of an image (n, b, h, w)."""

        def run(whole: Tensor) -> Tensor:
            found = self.net(pixel_values=whole)
            return self._scores(found.class_queries_logits, found.masks_queries_logits, whole)

        return on_grid(image, self.stride, run)

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """``logits``, and for :meth:`loss` those of the last layer's queries: ``class_queries``, ``mask_queries``."""
        found: dict[str, Tensor] = {}

        def run(whole: Tensor) -> Tensor:
            result = self.net(pixel_values=whole)
            found["class_queries"], found["mask_queries"] = result.class_queries_logits, result.masks_queries_logits
            return self._scores(found["class_queries"], found["mask_queries"], whole)

        return {"logits": on_grid(image, self.stride, run), **found}

    @staticmethod
    def _scores(classes: Tensor, masks: Tensor, whole: Tensor) -> Tensor:
        masks = F.interpolate(masks, whole.shape[-2:], mode="bilinear", align_corners=False)
        share = classes.softmax(dim=2)[..., :-1]  # n, q, k: the last one is no class
        return torch.einsum("nqk,nqhw->nkhw", share, masks.sigmoid()).clamp(min=_FLOOR).log()

    def loss(self, image: Tensor, target: Tensor) -> Tensor:
        """The library's loss: queries matched to the masks of the classes present, all decoder layers, a scalar.

        Args:
            image: (n, b, h, w).
            target: class indices (n, h, w); others than 0 to k - 1 are left out of every mask.

        Raises:
            InputError: an image has no labelled pixel.
        """
        h, w = image.shape[-2:]
        pad = (0, -w % self.stride, 0, -h % self.stride)
        target = F.pad(target, pad, value=255)
        masks, labels = [], []
        for each in target:
            present = [index for index in range(self.net.config.num_labels) if (each == index).any()]
            if not present:
                raise InputError(
                    "An image of the batch has no labelled pixel.",
                    expected="Queries are matched to the classes that occur in each image.",
                    remedy="Leave images without labels out of the batch.",
                )
            masks.append(torch.stack([each == index for index in present]).float())
            labels.append(torch.tensor(present, device=target.device))
        whole = F.pad(image, pad, mode="replicate")
        out: Tensor = self.net(pixel_values=whole, mask_labels=masks, class_labels=labels).loss
        return out


@register("mask2former-swin-t")
class Mask2FormerSwin(Mask2Former):
    """Mask2Former on Swin-T.

    Args:
        bands: input bands b.
        classes: number of classes k.
        queries: number of queries q.
        backbone: overrides of the library's Swin configuration.
        pretrained: name or folder of a checkpoint for the backbone, e.g. ``microsoft/swin-tiny-patch4-window7-224``;
            its first layer starts afresh where it does not fit. None starts from random weights.
        **options: overrides of the library's Mask2Former configuration.
    """

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        queries: int = 100,
        backbone: dict[str, Any] | None = None,
        pretrained: str | None = None,
        **options: Any,
    ) -> None:
        transformers = import_transformers()
        settings = {"depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "embed_dim": 96}
        stages = ["stage1", "stage2", "stage3", "stage4"]
        swin = transformers.SwinConfig(num_channels=bands, out_features=stages, **{**settings, **(backbone or {})})
        config = transformers.Mask2FormerConfig(
            backbone_config=swin, num_labels=classes, num_queries=queries, **options
        )
        super().__init__(config, stride=32)
        level = self.net.model.pixel_level_module
        if pretrained is not None:
            level.encoder = _started(transformers.SwinBackbone, swin, pretrained)
        # The library has it, a backbone of maps never uses it.
        level.encoder.swin.layernorm.requires_grad_(False)


@register("mask2former-dinov2")
class Mask2FormerDINOv2(Mask2Former):
    """Mask2Former on DINOv2-B/14 with four registers.

    Args:
        bands: input bands b.
        classes: number of classes k.
        queries: number of queries q.
        backbone: overrides of the library's DINOv2 configuration (default: base, patch 14, 518 pixels).
        pretrained: name or folder of a checkpoint for the backbone, e.g. ``facebook/dinov2-with-registers-base``; its
            first layer starts afresh where it does not fit. None starts from random weights.
        **options: overrides of the library's Mask2Former configuration.
    """

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        queries: int = 100,
        backbone: dict[str, Any] | None = None,
        pretrained: str | None = None,
        **options: Any,
    ) -> None:
        transformers = import_transformers()
        settings = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518}
        dino = transformers.Dinov2WithRegistersConfig(
            num_channels=bands, patch_size=14, num_register_tokens=4, **{**settings, **(backbone or {})}
        )
        dino.out_features = [f"stage{dino.num_hidden_layers}"]
        width = dino.hidden_size
        # A throw-away backbone: the library makes its pixel decoder to fit the channels that a backbone announces.
        stand_in = transformers.SwinConfig(
            num_channels=1, depths=[1] * 4, num_heads=[1] * 4, embed_dim=8,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )  # fmt: skip
        config = transformers.Mask2FormerConfig(
            backbone_config=stand_in, num_labels=classes, num_queries=queries, **options
        )
        super().__init__(config, stride=28)
        level = self.net.model.pixel_level_module
        vision = _started(transformers.Dinov2WithRegistersBackbone, dino, pretrained)
        vision.embeddings.mask_token.requires_grad_(False)  # of DINOv2's own training only
        vision.embeddings.interpolate_pos_encoding = MethodType(_positions, vision.embeddings)
        level.encoder = Pyramid(vision, width)
        level.decoder = type(level.decoder)(config, feature_channels=[width] * 4)
        with torch.no_grad():
            level.decoder.apply(self.net._init_weights)


def _started(kind: Any, config: Any, pretrained: str | None) -> Any:
    """A backbone with the weights of a checkpoint as far as they fit, or with random ones."""
    if pretrained is None:
        return kind(config)
    return kind.from_pretrained(pretrained, config=config, ignore_mismatched_sizes=True)


def _positions(embeddings: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings (1, 1 + rows x cols, c) of an image of ``height`` x ``width`` pixels.

    Stands in for the library's method, whose antialiased bicubic filter has no ONNX form.
    """
    learned = embeddings.position_embeddings
    side = round(int(learned.shape[1] - 1) ** 0.5)  # traced sizes are tensors
    down, right = embeddings.patch_embeddings.patch_size
    rows, cols = int(height) // down, int(width) // right
    grid = learned[0, 1:].reshape(side, side, -1).permute(2, 0, 1)  # c, side, side
    grid = cubic_weights(side, rows).to(grid) @ grid @ cubic_weights(side, cols).to(grid).T  # c, rows, cols
    return torch.cat([learned[:, :1], grid.flatten(1).T[None]], dim=1)


def cubic_weights(size: int, target: int) -> Tensor:
    """Weights (target, size) of the antialiased cubic filter that brings ``size`` pixels to ``target``, float64.

    Source:
        Keys, Cubic convolution interpolation, 1981, with a = -0.5; widened by size / target where pixels get fewer.

    >>> x = torch.rand(1, 1, 9, 4, dtype=torch.float64)
    >>> resized = F.interpolate(x, (5, 4), mode="bicubic", antialias=True)
    >>> torch.allclose(cubic_weights(9, 5) @ x, resized)
    True
    """
    step = size / target
    place = torch.arange(size, dtype=torch.float64) + 0.5
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) * step
    d = ((place - centre[:, None]) / max(step, 1.0)).abs()
    near, far = (1.5 * d - 2.5) * d * d + 1.0, ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = torch.where(d < 1.0, near, torch.where(d < 2.0, far, torch.zeros_like(d)))
    return weights / weights.sum(dim=1, keepdim=True)


class Pyramid(nn.Module):
    """Four maps at 4, 2, 1 and 1/2 times the grid of a plain vision transformer, all with its width."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.four = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, 2), nn.GroupNorm(1, width), nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, 2),
        )  # fmt: skip
        self.two = nn.ConvTranspose2d(width, width, 2, 2)

    def forward(self, image: Tensor) -> SimpleNamespace:
        x = self.backbone(image).feature_maps[-1]
        return SimpleNamespace(feature_maps=[self.four(x), self.two(x), x, F.max_pool2d(x, 2)])
