"""Image measures against an independent computation in double precision, itself checked with public packages."""

from __future__ import annotations

import numpy as np
import pytest

from unclouded import image_metrics as im


@pytest.fixture(scope="module")
def reference(vectors):
    return vectors("image_metrics")


def images(reference, case):
    x = reference.input(f"{case}:x").astype(np.float64)
    y = np.clip(x + reference.input(f"{case}:noise").astype(np.float64), 0, 1)
    if case == "zeros":
        x[:, :, :3, :4] = 0
    return x, y


@pytest.mark.parametrize("case", ["rgb", "b13", "zeros"])
def test_every_measure(reference, case):
    x, y = images(reference, case)
    for boundary in ("valid", "zero", "reflect"):
        reference.check(f"{case}:ssim_{boundary}", im.ssim(x, y, boundary=boundary))
    reference.check(f"{case}:ssim_valid_map", im.ssim_map(x, y))
    reference.check(f"{case}:angle_mean_degrees", im.spectral_angle(x, y))
    reference.check(f"{case}:angle_flattened_degrees", im.spectral_angle_literal(x, y))
    for name in ("mse", "mae", "psnr"):
        reference.check(f"{case}:{name}", getattr(im, name)(x, y))


def test_the_angle_of_a_zero_spectrum_is_undefined(reference):
    angle = im.spectral_angle_map(*images(reference, "zeros"))
    assert np.isnan(angle[:, :3, :4]).all()
    assert np.isfinite(angle).sum() == angle.size - 12
