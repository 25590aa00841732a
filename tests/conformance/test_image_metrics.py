"""Image metrics, and the SSIM of the loss, against an independent double-precision computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unclouded import image_metrics, losses

CASES = ["rgb", "b13", "zeros"]


@pytest.fixture(scope="module")
def reference(vectors):
    return vectors("image_metrics")


def images(reference, case):
    x = reference.input(f"{case}:x").astype(np.float64)
    y = np.clip(x + reference.input(f"{case}:noise").astype(np.float64), 0.0, 1.0)
    if case == "zeros":
        x[:, :, :3, :4] = 0.0
    return x, y


@pytest.mark.parametrize("case", CASES)
def test_pixel_errors(reference, case):
    x, y = images(reference, case)
    for name in ("mse", "mae", "psnr"):
        reference.check(f"{case}:{name}", [getattr(image_metrics, name)(a, b) for a, b in zip(x, y, strict=True)])


@pytest.mark.parametrize("case", CASES)
def test_angles(reference, case):
    x, y = images(reference, case)
    pairs = list(zip(x, y, strict=True))
    reference.check(f"{case}:angle_mean_degrees", [image_metrics.spectral_angle(a, b) for a, b in pairs])
    flat = [image_metrics.spectral_angle(a, b, flattened=True) for a, b in pairs]
    reference.check(f"{case}:angle_flattened_degrees", flat)


@pytest.mark.parametrize("case", CASES)
def test_ssim(reference, case):
    x, y = images(reference, case)
    maps = np.stack([image_metrics.ssim_map(a, b) for a, b in zip(x, y, strict=True)])
    reference.check(f"{case}:ssim_valid_map", maps)
    reference.check(f"{case}:ssim_valid", maps.mean(axis=(2, 3)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("padding", ["valid", "zero", "reflect"])
def test_ssim_of_the_loss(reference, case, padding):
    x, y = (torch.from_numpy(image) for image in images(reference, case))
    reference.check(f"{case}:ssim_{padding}", losses.ssim(x, y, padding=padding))
