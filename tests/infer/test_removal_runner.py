"""Removal networks in ONNX and torch: inputs beside the image, and the expected error beside the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from unclouded import models
from unclouded.errors import ModelError
from unclouded.infer.onnx_runner import OnnxRunner
from unclouded.infer.runner import input_names, result_names
from unclouded.infer.torch_runner import TorchRunner
from unclouded.models.card import BandInput, ExpectedError, ModelCard, RadarInput
from unclouded.train.export import export

BANDS = tuple(BandInput(name=name, min_nm=low, max_nm=low + 60) for name, low in (("B02", 460), ("B03", 540)))
RADAR = (RadarInput(name="vv", low_db=-25, high_db=0), RadarInput(name="vh", low_db=-32.5, high_db=0))


def removal_card(**changes: object) -> ModelCard:
    return ModelCard(
        **{
            "name": "rebuild", "title": "For tests", "version": "1", "architecture": "fill-unet", "task": "removal",
            "options": {"bands": 2, "widths": (8, 8)}, "front_end": "bands", "bands": BANDS, "sar": RADAR,
            "partial_inputs": True, "marks": True, "expected_error": ExpectedError(kind="log-scale"),
            "licence": "none", "parameters": 1, **changes,
        }
    )  # fmt: skip


def test_both_runners_agree_on_all_that_a_network_tells(tmp_path: Path) -> None:
    torch.manual_seed(1)
    card = removal_card()
    card = export(models.create(card.architecture, **card.options), card, tmp_path)
    assert (input_names(card), result_names(card)) == (["image", "sar", "hidden"], ["restored", "log_scale"])
    rng = np.random.default_rng(2)
    image, sar = rng.random((2, 2, 64, 96), np.float32), rng.random((2, 2, 64, 96), np.float32)
    hidden = (rng.random((2, 2, 64, 96)) < 0.3).astype(np.float32)
    found = [
        runner.restore(image, sar, hidden)
        for runner in (
            OnnxRunner(card, tmp_path / "rebuild.onnx", 1),
            TorchRunner(card, tmp_path / "rebuild.safetensors", 1),
        )
    ]
    for onnx, through_torch, shape in zip(*found, ((2, 2, 64, 96), (2, 1, 64, 96)), strict=True):
        assert onnx.shape == shape
        np.testing.assert_allclose(onnx, through_torch, atol=1e-4)


def test_a_card_that_promises_an_error_needs_a_network_that_tells_it(tmp_path: Path) -> None:
    card = removal_card(expected_error=None)
    card = export(models.create(card.architecture, **card.options), card, tmp_path)
    promised = card.model_copy(update={"expected_error": ExpectedError(kind="log-scale")})
    with pytest.raises(ModelError, match="log_scale"):
        OnnxRunner(promised, tmp_path / "rebuild.onnx", 1)


def test_masking_cards_have_no_removal_parts() -> None:
    with pytest.raises(ValidationError, match="belong to the task 'removal'"):
        removal_card(task="mask", classes=("clear", "cloud"), sar=())
