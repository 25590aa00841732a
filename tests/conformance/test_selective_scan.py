"""The selective scan against the recurrence of two reference implementations, in double and single precision."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from unclouded.nn.selective_scan import selective_scan  # noqa: E402

NAMES = ("u", "dt", "A", "B", "C", "D", "dt_bias")
METHODS = ("steps", "chunked", "unrolled")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["g1", "g2"])
def test_values_and_gradients_in_double(vectors, case, method):
    file = vectors("selective_scan")
    given = [torch.from_numpy(file.input(f"{case}:{name}")).double().requires_grad_() for name in NAMES]
    y = selective_scan(*given, method=method)
    file.check(f"group:{case}:y", y, 1e-12, 1e-12)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
    for name, gradient in zip(NAMES, torch.autograd.grad((weight * y).sum(), given), strict=True):
        file.check(f"group:{case}:gradient_{name}", gradient, 1e-11, 1e-11)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["g1", "g2"])
def test_values_and_gradients_in_single(vectors, case, method):
    file = vectors("selective_scan")
    given = [torch.from_numpy(file.input(f"{case}:{name}")).requires_grad_() for name in NAMES]
    y = selective_scan(*given, method=method)
    assert y.dtype == torch.float32
    file.check(f"group:{case}:y", y, 1e-6, 1e-6)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y).float()
    for name, gradient in zip(NAMES, torch.autograd.grad((weight * y).sum(), given), strict=True):
        file.check(f"group:{case}:gradient_{name}", gradient, 1e-5, 1e-5)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_single_group_with_a_positive_step_size(vectors, method, dtype, within):
    file = vectors("selective_scan")
    u, dt, B, C = (torch.from_numpy(file.input(f"p1:{name}")).to(dtype).mT for name in ("u", "dt", "B", "C"))
    A, D = (torch.from_numpy(file.input(f"p1:{name}")).to(dtype) for name in ("A", "D"))
    y = selective_scan(u, dt, A, B, C, D, softplus=False, method=method)
    file.check("plain:p1:y", y.mT.contiguous(), within, within)
