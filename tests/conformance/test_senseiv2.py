"""The SEnSeI-v2 encoder against the released code and its author's correction, in double and single precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unclouded.descriptors import PERCENTILES, sensei_descriptor
from unclouded.models.senseiv2 import SEnSeIv2
from unclouded.models.senseiv2_released import convert
from unclouded.scene import Band

WITHIN = {torch.float64: {}, torch.float32: {"rel_l2": 1e-5, "largest": 2e-5}}
CASES = ["s2_3", "s2_6", "s2_13", "l8_11", "s2_sar_dem", "multitemporal", "batch2"]
KINDS = {"TOA Reflectance": "optical", "TOA Normalised Brightness Temperature": "thermal", "DEM": "dem"}


@pytest.fixture(scope="module")
def medium(vectors):
    return vectors("senseiv2_medium")


@pytest.fixture(scope="module")
def state(medium):
    return convert({key: torch.from_numpy(value) for key, value in medium.weights("SEnSeIv2_main").items()})


def encoder(state, form, dtype=torch.float64):
    net = SEnSeIv2(form=form)
    missing, strange = net.load_state_dict(state, strict=False)
    assert not strange
    assert [key for key in missing if "num_batches" not in key] == []
    return net.to(dtype).eval()


def image_of(medium, case):
    image = medium.input(case)
    for index, bands in enumerate(medium.meta["cases"][case]["bands"]):
        for row, band in enumerate(bands):
            if band["band_type"] == "fill":
                image[index, row] = -0.5
    return image.astype(np.float64)


def inputs(medium, case):
    stored = [medium.arrays[f"main:{case}:{part}"] for part in ("descriptors", "stats")]
    return torch.from_numpy(image_of(medium, case)), torch.from_numpy(np.concatenate(stored, axis=2))


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["released", "correction"])
def test_every_stage_equals_the_reference(medium, state, form, case, dtype):
    net = encoder(state, form, dtype)
    image, descriptors = (value.to(dtype) for value in inputs(medium, case))
    prefix = {"released": "main", "correction": "corr"}[form]
    bounds = WITHIN[dtype]
    with torch.no_grad():
        if form == "released":
            medium.check(f"main:{case}:fc", net.before(descriptors), **bounds)
        features, mask = net.describe(descriptors)
        medium.check(f"{prefix}:{case}:attention", features, **bounds)
        medium.check(f"{prefix}:{case}:frequency", net.frequency(features), **bounds)
        medium.check(f"{prefix}:{case}:phase_offset", net.phase(features), **bounds)
        medium.check(f"{prefix}:{case}:gain", net.gain(features), **bounds)
        medium.check(f"{prefix}:{case}:pooled", net.embed(image, features, mask), **bounds)
        medium.check(f"{prefix}:{case}:embedding", net(image, descriptors), **bounds)


@pytest.mark.parametrize("case", CASES)
def test_descriptors_equal_the_reference(medium, case):
    stored = medium.arrays[f"main:{case}:descriptors"]
    for index, bands in enumerate(medium.meta["cases"][case]["bands"]):
        for row, entry in enumerate(bands):
            got = sensei_descriptor(_band(entry), "nm", bool(entry.get("multitemporal")))
            np.testing.assert_array_equal(got, stored[index, row])


@pytest.mark.parametrize("case", CASES)
def test_percentiles_equal_the_reference(medium, case):
    got = np.percentile(image_of(medium, case), PERCENTILES, axis=(2, 3))
    medium.check(f"main:{case}:stats", np.moveaxis(got, 0, 2), rel_l2=1e-14, largest=1e-14)


def test_parameter_count(medium):
    net = SEnSeIv2()
    assert sum(p.numel() for p in net.parameters()) == medium.meta["models"]["SEnSeIv2_main"]["parameters"]


def _band(entry):
    kind = entry["band_type"]
    if kind == "fill":
        return None
    if kind.startswith("SAR"):
        return Band(kind, kind.split()[1].lower(), None, None, 10.0, kind="sar")
    return Band("b", None, entry.get("min_wavelength"), entry.get("max_wavelength"), 10.0, kind=KINDS[kind])
