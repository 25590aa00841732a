"""SEnSeI-v2: any set of bands to a fixed number of features, by what each band is rather than where it stands.

Glossary
    n  batch    b  bands    d  descriptor (74, or 79 with five percentiles)    f  features of a band
    c  channels of the embedding    h, w  rows, columns

Steps
    fully connected block over each band's descriptor              (n, b, d) -> (n, b, f)
    self-attention over the bands of one image, eq. (2)            (n, b, f) -> (n, b, f)
    three heads: frequency w, phase phi, gain alpha                (n, b, f) -> (n, b, c) each
    embedding alpha sin(w S + phi) of the band's values S, eq. (3), mean over the bands, eq. (4), batch normalisation

A band whose first 74 descriptor entries are all zero is padding: no band attends to it and the mean leaves it out, so
that a prediction does not depend on what else is in the batch.

The paper, the released code and its author's correction differ; :class:`Form` names the differences.

Source: A. Francis, Sensor independent cloud and shadow masking with partial labels and multimodal inputs,
IEEE Transactions on Geoscience and Remote Sensing, 2024.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..descriptors import DESCRIPTOR_LENGTH
from ..errors import InputError, ModelError
from ..nn.band_sines import band_sines


@dataclass(frozen=True)
class Form:
    """What the paper, the released code and the author's correction do differently.

    Attributes:
        phase: ``added`` is alpha sin(w S + phi), eq. (3); ``inside`` is alpha sin(w (S + phi)).
        pooling: ``mean`` over real bands, ``sum`` over all, ``mean-all`` over all, padding included.
        attention_over: ``bands`` of one image, or ``batch``: the images of a mini-batch attend to each other.
        attention_skip: the attention's output is added to its input.
        attention_chain: every layer works on the one before it; otherwise each works on the block's input and the last
            one's output is kept.
        residual: in fully connected blocks ``add`` is a skip connection where shapes agree, ``double`` doubles every
            layer's output, ``none`` does neither.
        mask: padding bands are left out of the attention.
    """

    phase: Literal["added", "inside"] = "added"
    pooling: Literal["mean", "sum", "mean-all"] = "mean"
    attention_over: Literal["bands", "batch"] = "bands"
    attention_skip: bool = True
    attention_chain: bool = True
    residual: Literal["add", "double", "none"] = "add"
    mask: bool = True


FORMS: dict[str, Form] = {
    "paper": Form(),
    "released": Form("inside", "sum", "batch", False, True, "double", False),
    "correction": Form("inside", "mean-all", "bands", True, False, "double", False),
}
"""The paper's form, that of the released weights, and that of the author's correction branch."""


@dataclass(frozen=True)
class Preset:
    """Sizes of an encoder.

    Attributes:
        statistics: descriptors carry five percentiles after the 74 entries.
        before: widths of the fully connected block.
        layers, heads, head_width, feed_forward, dropout: of the attention; no attention where ``layers`` is 0.
        after: widths of a second fully connected block.
        head: hidden widths of the three heads.
        pairs: widths of the block over pairs of bands (SEnSeI-v1 only).
        channels: default number of channels of the embedding.
    """

    statistics: bool = True
    before: tuple[int, ...] = (128, 128, 128)
    layers: int = 2
    heads: int = 4
    head_width: int = 32
    feed_forward: int = 256
    dropout: float = 0.2
    after: tuple[int, ...] = ()
    head: tuple[int, ...] = (128,)
    pairs: tuple[int, ...] = ()
    channels: int = 32


PRESETS: dict[str, Preset] = {
    "medium": Preset(),
    "small": Preset(statistics=False, before=(128, 32), layers=0, head=(64,)),
    "big": Preset(before=(256,) * 5, layers=8, heads=8, feed_forward=512, after=(256,) * 4, head=(128, 128)),
    "v1": Preset(
        statistics=False, before=(128,) * 8 + (64,), layers=0, pairs=(128,) * 5, after=(128,) * 4, head=(), channels=64
    ),
}
"""The published configurations; ``v1`` is SEnSeI-v1 as rebuilt within the v2 framework, with band multiplication."""


class FullyConnected(nn.Module):
    """LayerNorm, ReLU, Linear, repeated; (..., i) to (..., last width).

    Args:
        inputs: width of the input.
        widths: width of every layer's output.
        residual: see :class:`Form`.
    """

    def __init__(self, inputs: int, widths: Sequence[int], residual: str) -> None:
        super().__init__()
        sizes = (inputs, *widths)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[:-1])
        linears = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.linears = nn.ModuleList(linears)
        self.residual = residual
        for linear in linears:
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            nn.init.constant_(linear.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        for norm, linear in zip(self.norms, self.linears, strict=True):
            out = linear(F.relu(norm(x)))
            if self.residual == "double":
                out = 2.0 * out
            elif self.residual == "add" and linear.in_features == linear.out_features:
                out = out + x
            x = out
        return x


class AttentionLayer(nn.Module):
    """Transformer encoder layer, normalised after each sum, with ReLU; (n, b, f) to (n, b, f), eq. (2).

    Written out rather than taken from torch, whose fused inference path does not export.
    """

    def __init__(self, heads: int, head_width: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        width = heads * head_width
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, b, f = x.shape
        q, k, v = self.qkv(x).reshape(n, b, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(2, 3) / math.sqrt(self.head_width)  # n, heads, b, b
        if mask is not None:
            # Finite, so that an image of nothing but padding gives numbers too.
            scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        attended = (self.dropout(scores.softmax(dim=3)) @ v).transpose(1, 2).reshape(n, b, f)
        x = self.norm1(x + self.dropout(self.out(attended)))
        inner = self.linear2(self.dropout(F.relu(self.linear1(x))))
        out: Tensor = self.norm2(x + self.dropout(inner))
        return out


class BandAttention(nn.Module):
    """The attention layers over the bands of each image; (n, b, f) to (n, b, f)."""

    def __init__(self, preset: Preset, form: Form) -> None:
        super().__init__()
        self.form = form
        sizes = preset.heads, preset.head_width, preset.feed_forward, preset.dropout
        self.layers = nn.ModuleList(AttentionLayer(*sizes) for _ in range(preset.layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        start = x.transpose(0, 1) if self.form.attention_over == "batch" else x
        masked = mask if self.form.mask and self.form.attention_over == "bands" else None
        out = start
        for layer in self.layers:
            out = layer(out if self.form.attention_chain else start, masked)
        if self.form.attention_skip:
            out = out + start
        return out.transpose(0, 1) if self.form.attention_over == "batch" else out


class SEnSeIv2(nn.Module):
    """Bands and their descriptors to a fixed number of feature maps.

    Args:
        channels: feature maps c; None for the preset's (32, or 64 for ``v1``).
        descriptor: length d of a descriptor: 74, 79 with percentiles, or 3 for ``v1``. Presets without statistics
            read the first 74 entries only.
        preset: one of :data:`PRESETS`, or sizes of one's own.
        form: one of :data:`FORMS`, or a set of switches (a :class:`Form` or its fields as a mapping).

    Raises:
        ModelError: the preset, the form or the length of the descriptor does not exist.

    >>> net = SEnSeIv2(channels=16).eval()
    >>> net(torch.rand(2, 5, 8, 8), torch.rand(2, 5, 79)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        channels: int | None = 32,
        descriptor: int = DESCRIPTOR_LENGTH + 5,
        preset: str | Preset = "medium",
        form: str | Form | Mapping[str, Any] = "paper",
    ) -> None:
        super().__init__()
        sizes = _named(preset, PRESETS, "preset") if isinstance(preset, str) else preset
        self.form = _form(form)
        self.pairwise = bool(sizes.pairs)
        self.used = 3 if self.pairwise else (descriptor if sizes.statistics else DESCRIPTOR_LENGTH)
        if descriptor < self.used or (self.pairwise and descriptor != 3) or (not self.pairwise and descriptor < 74):
            raise ModelError(
                f"The descriptors have {descriptor} entries.",
                expected="SEnSeI-v1 takes 3 entries per band, SEnSeI-v2 74, or 79 with percentiles.",
                remedy="Give descriptor=3 with preset 'v1', otherwise 74 or 79.",
            )
        self.channels = sizes.channels if channels is None else channels
        residual = self.form.residual
        self.before = FullyConnected(self.used, sizes.before, residual)
        width = sizes.before[-1]
        self.attention: nn.Module | None = None
        if sizes.layers:
            if width != sizes.heads * sizes.head_width:
                raise ModelError(
                    f"The bands have {width} features and the attention {sizes.heads} x {sizes.head_width}.",
                    expected="Both widths agree.",
                    remedy="Set the last of Preset.before to heads x head_width.",
                )
            self.attention = BandAttention(sizes, self.form)
        if self.pairwise:
            self.pairs = FullyConnected(2 * width, sizes.pairs, residual)
            self.after = FullyConnected(sizes.pairs[-1], (*sizes.after, self.channels), residual)
            width = self.channels
        else:
            self.after = FullyConnected(width, sizes.after, residual)
            width = sizes.after[-1] if sizes.after else width
            heads = (*sizes.head, self.channels)
            self.frequency, self.phase, self.gain = (FullyConnected(width, heads, "none") for _ in range(3))
        self.features = width
        self.norm = nn.BatchNorm2d(self.channels, momentum=0.05)

    def describe(self, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every band, (n, b, f), and which bands are real, (n, b) bool."""
        mask = (descriptors[..., :DESCRIPTOR_LENGTH] != 0).any(dim=2)
        x = self.before(descriptors[..., : self.used])
        if self.attention is not None:
            x = self.attention(x, mask)
        if self.pairwise:
            n, b, f = x.shape
            both = torch.cat([x[:, :, None].expand(n, b, b, f), x[:, None].expand(n, b, b, f)], dim=3)
            weight = mask[:, None, :, None].to(x.dtype)
            x = (self.pairs(both) * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1.0)
        return self.after(x), mask

    def embed(self, image: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Embedding before the normalisation, (n, c, h, w), eqs. (3) and (4)."""
        share = self._share(mask, features.dtype)
        if self.pairwise:  # band multiplication: the mean over bands of features (S + 0.5)
            weight = features * share[..., None]
            n, b, h, w = image.shape
            out = weight.transpose(1, 2) @ (image + 0.5).reshape(n, b, h * w)
            return out.reshape(n, -1, h, w)
        frequency, phase, gain = self.frequency(features), self.phase(features), self.gain(features)
        if self.form.phase == "inside":
            phase = frequency * phase
        return band_sines(image, frequency, phase, gain * share[..., None])

    def _share(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Weight of every band in the pooling, (n, b)."""
        real = mask.to(dtype)
        if self.form.pooling == "mean":
            return real / real.sum(dim=1, keepdim=True).clamp(min=1.0)
        everything = torch.ones_like(real)
        return everything if self.form.pooling == "sum" else everything / everything.sum(dim=1, keepdim=True)

    def forward(self, image: Tensor, descriptors: Tensor) -> Tensor:
        """Normalised embedding, (n, c, h, w).

        Args:
            image: (n, b, h, w) reflectance, 0 where missing.
            descriptors: (n, b, d), see :func:`unclouded.descriptors.sensei_descriptors`; all-zero rows are padding.

        Raises:
            InputError: the shapes do not belong together.
        """
        embedding, _ = self.encode(image, descriptors)
        return embedding

    def encode(self, image: Tensor, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised embedding (n, c, h, w) and features of the bands (n, b, f)."""
        _check(image, descriptors, self.used)
        kind = image.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            # Seven bits of mantissa are too few inside a sine, and the layers over descriptors are small.
            with torch.autocast(kind, enabled=False):
                return self._encode(image.float(), descriptors.float())
        return self._encode(image, descriptors)

    def _encode(self, image: Tensor, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        features, mask = self.describe(descriptors)
        return self.norm(self.embed(image, features, mask)), features


class Recovery(nn.Module):
    """Predicts every band's values from the embedding and the band's description: the auxiliary task of training.

    Args:
        channels: channels c of the embedding.
        descriptor: length of what describes a band: its descriptor (the paper), or the encoder's features of it.
        before: widths of layers over the description alone, before it meets the embedding.
        hidden: widths of the layers over both.
        stride: every so many-th pixel in both directions is used.
        relu_first: a ReLU precedes the first layer of both stacks, as in the released code.

    The released weights have ``Recovery(32, 128, before=(256, 32), hidden=(256, 32), relu_first=True)``.
    """

    def __init__(
        self,
        channels: int,
        descriptor: int = DESCRIPTOR_LENGTH + 5,
        before: Sequence[int] = (),
        hidden: Sequence[int] = (128, 128),
        stride: int = 10,
        relu_first: bool = False,
    ) -> None:
        super().__init__()
        sizes = (descriptor, *before)
        self.before = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        sizes = (channels + sizes[-1], *hidden, 1)
        self.first = nn.Linear(sizes[0], sizes[1])
        self.after = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes[1:]))
        self.channels, self.stride, self.relu_first = channels, stride, relu_first

    def forward(self, embedding: Tensor, description: Tensor) -> Tensor:
        """Recovered values, (n, b, h / stride, w / stride), at every ``stride``-th pixel.

        Args:
            embedding: (n, c, h, w).
            description: (n, b, d), descriptors or the encoder's features of the bands.
        """
        for index, linear in enumerate(self.before):
            description = linear(F.relu(description) if self.relu_first or index else description)
        pixels = embedding[:, :, :: self.stride, :: self.stride].permute(0, 2, 3, 1)  # n, h, w, c
        if self.relu_first:
            pixels, description = F.relu(pixels), F.relu(description)
        # The first layer over [embedding, description] is a sum of two parts, so that neither is repeated.
        part, other = self.first.weight[:, : self.channels], self.first.weight[:, self.channels :]
        bands = F.linear(description, other, self.first.bias)
        x = F.linear(pixels, part)[:, None] + bands[:, :, None, None]  # n, b, h, w, f
        for linear in self.after:
            x = linear(F.relu(x))
        return x[..., 0]

    def loss(self, embedding: Tensor, image: Tensor, descriptors: Tensor, features: Tensor | None = None) -> Tensor:
        """Mean squared error over the real bands' values at every ``stride``-th pixel, a scalar.

        Args:
            embedding: (n, c, h, w), normalised.
            image: (n, b, h, w), what went into the encoder.
            descriptors: (n, b, d); all-zero rows are padding and are left out.
            features: (n, b, f), given where the module works on the encoder's features rather than on descriptors.
        """
        real = (descriptors[..., :DESCRIPTOR_LENGTH] != 0).any(dim=2)
        kind = image.device.type
        whole = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
        with whole:
            recovered = self(embedding.float(), (descriptors if features is None else features).float())
            target = image[:, :, :: self.stride, :: self.stride].float()
            error = ((recovered - target) ** 2).mean(dim=(2, 3))
            return (error * real).sum() / real.sum().clamp(min=1)


def _named(name: str, table: Mapping[str, Any], what: str) -> Any:
    if name not in table:
        raise ModelError(
            f"There is no {what} called '{name}'.",
            expected=f"It is one of {', '.join(table)}.",
            remedy=f"Choose another {what}.",
        )
    return table[name]


def _form(form: str | Form | Mapping[str, Any]) -> Form:
    if isinstance(form, Form):
        return form
    return _named(form, FORMS, "form") if isinstance(form, str) else Form(**form)


def _check(image: Tensor, descriptors: Tensor, used: int) -> None:
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # sizes are symbols there
        return
    fits = image.ndim == 4 and descriptors.ndim == 3 and image.shape[:2] == descriptors.shape[:2]
    if not fits or descriptors.shape[2] < used:
        raise InputError(
            f"The image is {tuple(image.shape)} and the descriptors are {tuple(descriptors.shape)}.",
            expected=f"They are (n, b, h, w) and (n, b, d) with the same n and b, and d of {used} or more.",
            remedy="Compute one descriptor for every band, see unclouded.descriptors.sensei_descriptors.",
        )
