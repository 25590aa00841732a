"""UPerNet on a Swin-T backbone, through transformers.

Shapes
    n  batch    b  bands    k  classes    h, w  rows, columns

The published comparison has UPerNet on InternImage-B, whose deformable convolution exists as a CUDA extension only;
this is the same decoder on a backbone that runs everywhere. Needs the extra ``baselines``.

Source: Xiao et al., Unified perceptual parsing, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..nn.context import PoolTo
from ..nn.on_grid import on_grid, to_image
from ..nn.timm_guard import import_transformers
from . import register

STAGES = ["stage1", "stage2", "stage3", "stage4"]


@register("upernet-swin-t")
class UPerNetSwin(nn.Module):
    """UPerNet with an auxiliary head on the third stage.

    Args:
        bands: input bands b.
        classes: number of classes k.
        width: features of the decoder.
        depths, heads, embed: of the Swin backbone.

    Raises:
        MissingDependencyError: transformers is not installed.
    """

    front_end = "fixed"
    stride = 32

    def __init__(
        self,
        bands: int = 13,
        classes: int = 4,
        width: int = 512,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        embed: int = 96,
    ) -> None:
        super().__init__()
        transformers = import_transformers()
        backbone = transformers.SwinConfig(
            num_channels=bands, depths=list(depths), num_heads=list(heads), embed_dim=embed, out_features=STAGES
        )
        config = transformers.UperNetConfig(
            backbone_config=backbone, hidden_size=width, num_labels=classes, auxiliary_in_channels=4 * embed
        )
        self.net = transformers.UperNetForSemanticSegmentation(config)
        for block in self.net.decode_head.psp_modules.blocks:
            block.layers[0] = PoolTo(block.layers[0].output_size)
            block.add_module("0", block.layers[0])
        self.net.backbone.swin.layernorm.requires_grad_(False)  # the library has it, a backbone of maps never uses it

    def forward(self, image: Tensor, descriptors: Tensor | None = None) -> Tensor:
        """Logits (n, k, h, w) of an image (n, b, h, w)."""
        return on_grid(image, self.stride, lambda whole: self.net.decode_head(self._features(whole)))

    def outputs(self, image: Tensor, descriptors: Tensor | None = None) -> dict[str, Tensor]:
        """``logits`` and ``aux1``, the auxiliary head's; the library weighs its loss 0.4."""
        whole = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32), mode="replicate")
        features = self._features(whole)
        return {
            "logits": to_image(self.net.decode_head(features), whole, image),
            "aux1": to_image(self.net.auxiliary_head(features), whole, image),
        }

    def _features(self, image: Tensor) -> list[Tensor]:
        return list(self.net.backbone.forward_with_filtered_kwargs(image).feature_maps)
