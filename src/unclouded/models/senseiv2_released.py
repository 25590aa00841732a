"""Published SEnSeI-v2 checkpoints: their key names translated to those of this package.

The published files hold one state dict with the parts ``senseiv2``, ``segmenter`` and ``recovery_module``. Their
encoder is the ``released`` form of :class:`unclouded.models.senseiv2.SEnSeIv2` and takes wavelengths encoded as ``nm``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_HEADS = {"frequency_head": "frequency", "phase_offset_head": "phase", "gain_head": "gain"}

_ATTENTION = {
    "self_attn.in_proj_weight": "qkv.weight",
    "self_attn.in_proj_bias": "qkv.bias",
    "self_attn.out_proj.weight": "out.weight",
    "self_attn.out_proj.bias": "out.bias",
}


def encoder_key(key: str) -> str:
    """Name in :class:`SEnSeIv2` of an entry of the published medium encoder.

    >>> encoder_key("blocks.1.layers.6.weight"), encoder_key("blocks.3.gain_head.layers.3.bias")
    ('before.linears.1.weight', 'gain.norms.1.bias')
    """
    _, block, rest = key.split(".", 2)
    if block == "1":  # LayerNorm, ReLU, Linear and a placeholder for the skip per layer
        return "before." + _stacked(rest, 4)
    if block == "2":
        layer, inner = rest.removeprefix("layers.").split(".", 1)
        return f"attention.layers.{layer}.{_ATTENTION.get(inner, inner)}"
    head, inner = rest.split(".", 1)
    return f"{_HEADS[head]}.{_stacked(inner, 3)}" if head in _HEADS else rest


def recovery_key(key: str) -> str:
    """Name in :class:`Recovery` of an entry of the published recovery module.

    >>> recovery_key("postconcatenation_layers.1.bias"), recovery_key("postconcatenation_layers.5.weight")
    ('first.bias', 'after.1.weight')
    """
    stack, position, leaf = key.split(".")
    index = int(position) // 2  # a ReLU before every layer
    if stack == "preconcatenation_layers":
        return f"before.{index}.{leaf}"
    return f"after.{index - 1}.{leaf}" if index else f"first.{leaf}"


def _stacked(rest: str, period: int) -> str:
    _, position, leaf = rest.split(".")
    index, place = divmod(int(position), period)
    return f"{'norms' if place == 0 else 'linears'}.{index}.{leaf}"


_SEGFORMER = [
    (r"encoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
    (r"encoder\.block\.(\d+)\.", r"stages.\1.blocks."),
    (r"encoder\.layer_norm\.(\d+)", r"stages.\1.layer_norm"),
    (r"attention\.self\.query", "attention.q_proj"),
    (r"attention\.self\.key", "attention.k_proj"),
    (r"attention\.self\.value", "attention.v_proj"),
    (r"attention\.self\.sr\.", "attention.sequence_reduction.sequence_reduction."),
    (r"attention\.self\.layer_norm", "attention.sequence_reduction.layer_norm"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"mlp\.dense1", "mlp.fc1"),
    (r"mlp\.dense2", "mlp.fc2"),
    (r"layer_norm_1", "layernorm_before"),
    (r"layer_norm_2", "layernorm_after"),
    (r"decode_head\.linear_c", "decode_head.linear_projections"),
]


def segformer_key(key: str) -> str:
    """Name in transformers 5 of an entry of a SegFormer of transformers 4.

    >>> segformer_key("segformer.encoder.block.0.1.attention.self.query.weight")
    'segformer.stages.0.blocks.1.attention.q_proj.weight'
    """
    for pattern, replacement in _SEGFORMER:
        key = re.sub(pattern, replacement, key)
    return key


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict with this package's names, for a model with parts front, segmenter.net and recovery.

    Args:
        state: the published state dict, or that of the encoder alone (keys that start with ``blocks.``).

    Returns:
        The same tensors; 1 x 1 convolutions of the recovery module become matrices. Names of another form stay.
    """
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        try:
            name = _own_key(key)
        except (ValueError, KeyError):
            name = key
        out[name] = value.flatten(1) if name.startswith("recovery.") and value.ndim == 4 else value
    return out


def _own_key(key: str) -> str:
    """Name in this package; ValueError or KeyError for one that the published models do not have."""
    part, rest = key.split(".", 1)
    if part == "blocks":
        return encoder_key(key)
    if part == "senseiv2":
        return "front." + encoder_key(rest)
    if part == "segmenter":
        return "segmenter.net." + segformer_key(rest)
    if part == "recovery_module":
        return "recovery." + recovery_key(rest)
    raise KeyError(part)
