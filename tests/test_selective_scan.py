"""The selective scan: one result for every method, length and batch; safe numbers; bounded memory; speed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from unclouded.errors import MissingDependencyError, ModelError  # noqa: E402
from unclouded.nn import chunked_scan as chunks  # noqa: E402
from unclouded.nn.selective_scan import selective_scan  # noqa: E402


def draw(n, k, d, s, steps, dtype=torch.float64, seed=0):
    """u, dt, A, B, C, D, dt_bias in the order of the call."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    A = -torch.rand(k * d, s, generator=rng, dtype=torch.float64) * 15 - 0.5
    u, dt = normal(n, k * d, steps), normal(n, k * d, steps) - 2
    values = (u, dt, A, normal(n, k, s, steps), normal(n, k, s, steps), normal(k * d), normal(k * d))
    return [value.to(dtype).requires_grad_() for value in values]


def gradients(y, values):
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y).to(y.dtype)
    return torch.autograd.grad((weight * y).sum(), values)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 3),
    k=st.integers(1, 3),
    d=st.integers(1, 5),
    s=st.integers(1, 5),
    steps=st.integers(1, 70),
    chunk=st.integers(1, 9),
    numbers=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_any_division_into_chunks_and_blocks_gives_the_recurrence(n, k, d, s, steps, chunk, numbers, seed):
    values = draw(n, k, d, s, steps, seed=seed)
    expected = selective_scan(*values, method="steps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_chunk_length", lambda steps, most: min(steps, chunk))
        patch.setitem(chunks._STATE_NUMBERS, "cpu", numbers)
        y = selective_scan(*values, method="chunked")
        got = gradients(y, values)
    assert torch.allclose(y, expected, rtol=1e-11, atol=1e-11)
    for one, other in zip(got, gradients(expected, values), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_gradcheck():
    values = draw(1, 2, 2, 3, 37)
    assert torch.autograd.gradcheck(lambda *v: selective_scan(*v, method="chunked"), values, fast_mode=True)


def test_single_precision_agrees_with_the_double_recurrence_on_a_long_sequence():
    values = draw(1, 1, 4, 16, 1801)
    expected = selective_scan(*values, method="steps")
    single = [value.detach().float().requires_grad_() for value in values]
    y = selective_scan(*single, method="chunked")
    scale = expected.abs().max()
    assert ((y.double() - expected).abs().max() / scale) < 1e-4
    for one, other in zip(gradients(y, single), gradients(expected, values), strict=True):
        assert ((one.double() - other).abs().max() / other.abs().max()) < 1e-4


@pytest.mark.parametrize("size", [1e-9, 1e-3, 30.0, 1e4])
def test_no_step_size_overflows(size):
    u, _, A, B, C, _, _ = draw(1, 1, 3, 16, 500, torch.float32)
    dt = torch.full_like(u, size).requires_grad_()
    y = selective_scan(u, dt, A, B, C, softplus=False, method="chunked")
    assert torch.isfinite(y).all()
    expected = selective_scan(u, dt, A, B, C, softplus=False, method="steps")
    assert torch.allclose(y, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))
    for gradient in torch.autograd.grad(y.sum(), (u, dt, A, B, C)):
        assert torch.isfinite(gradient).all()


def test_without_decay_the_scan_is_a_running_sum():
    u = torch.randn(2, 3, 301, dtype=torch.float64)
    one = torch.ones(2, 1, 1, 301, dtype=torch.float64)
    y = selective_scan(u, torch.ones_like(u), torch.zeros(3, 1, dtype=torch.float64), one, one, softplus=False)
    assert torch.allclose(y, u.cumsum(-1), atol=1e-11)


def test_batch_items_do_not_see_each_other():
    u, dt, A, B, C, D, bias = draw(3, 2, 2, 4, 90)
    together = selective_scan(u, dt, A, B, C, D, bias)
    for item in range(3):
        one = slice(item, item + 1)
        assert torch.equal(selective_scan(u[one], dt[one], A, B[one], C[one], D, bias), together[one])


def test_an_output_does_not_depend_on_later_steps():
    u, dt, A, B, C, D, bias = (value.detach() for value in draw(1, 1, 2, 4, 200))
    whole = selective_scan(u, dt, A, B, C, D, bias)
    start = selective_scan(u[..., :77], dt[..., :77], A, B[..., :77], C[..., :77], D, bias)
    assert torch.allclose(whole[..., :77], start, rtol=1e-12, atol=1e-12)


def test_runs_under_inference_mode_and_keeps_the_type():
    values = [value.detach().to(torch.bfloat16) for value in draw(1, 2, 40, 4, 300)]
    with torch.inference_mode():
        assert selective_scan(*values).dtype == torch.bfloat16


def test_the_number_of_threads_does_not_change_the_result():
    values = draw(1, 1, 64, 16, 600, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = selective_scan(*values)
            results.append((y, *gradients(y, values)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.allclose(one, two, rtol=1e-5, atol=1e-5 * float(one.detach().abs().max()))


def test_shapes_that_do_not_fit_are_errors():
    u, dt, A, B, C, D, bias = draw(1, 2, 3, 4, 9)
    with pytest.raises(ModelError, match="Shapes are"):
        selective_scan(u, dt[..., 1:], A, B, C)
    with pytest.raises(ModelError, match="Shapes are"):
        selective_scan(u, dt, A[1:], B, C)
    with pytest.raises(ModelError, match="D of shape"):
        selective_scan(u, dt, A, B, C, D[1:], bias)
    with pytest.raises(ModelError, match="no selective scan method 'fast'"):
        selective_scan(u, dt, A, B, C, method="fast")


@pytest.mark.parametrize("steps", [1, 31, 32, 700])
def test_the_unrolled_form_is_the_recurrence(steps):
    values = draw(2, 2, 3, 4, steps)
    expected = selective_scan(*values, method="steps")
    y = selective_scan(*values, method="unrolled")
    assert torch.allclose(y, expected, rtol=1e-11, atol=1e-11)
    for one, other in zip(gradients(y, values), gradients(expected, values), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_serves_other_lengths():
    values = [value.detach() for value in draw(1, 2, 3, 4, 40)]
    traced = torch.jit.trace(lambda *v: selective_scan(*v), values)
    for steps in (9, 500):
        other = [value.detach() for value in draw(1, 2, 3, 4, steps, seed=steps)]
        assert torch.allclose(traced(*other), selective_scan(*other, method="steps"), rtol=1e-10, atol=1e-10)


def test_the_fused_kernel_is_an_error_where_it_is_missing():
    try:
        import mamba_ssm  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="mamba-ssm"):
            selective_scan(*draw(1, 1, 2, 2, 5, torch.float32), method="fused")
    else:
        with pytest.raises(ModelError, match="CUDA"):
            selective_scan(*draw(1, 1, 2, 2, 5, torch.float32), method="fused")


@pytest.mark.gpu
def test_fused_and_chunked_agree_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    values = [value.detach().cuda().requires_grad_() for value in draw(2, 4, 16, 16, 1000, torch.float32)]
    y = selective_scan(*values, method="chunked")
    got = gradients(y.cpu(), values)
    methods = ["steps"]
    try:
        import mamba_ssm  # noqa: F401

        methods.append("fused")
    except ImportError:
        pass
    for method in methods:
        expected = selective_scan(*values, method=method)
        assert torch.allclose(y, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))
        for one, other in zip(got, gradients(expected.cpu(), values), strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


class _Scan(torch.nn.Module):
    def forward(self, u, dt, A, B, C, D, bias):
        return selective_scan(u, dt, A, B, C, D, bias)


def test_one_onnx_graph_serves_every_length(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("torch._higher_order_ops.scan")
    path = tmp_path / "scan.onnx"
    example = tuple(value.detach() for value in draw(1, 2, 3, 4, 20, torch.float32))
    steps = torch.export.Dim("steps", min=2, max=1 << 20)
    moving = {2: steps}
    shapes = (moving, moving, None, {3: steps}, {3: steps}, None, None)
    torch.onnx.export(_Scan().eval(), example, path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = ort.InferenceSession(path)
    assert [node.op_type for node in onnx.load(path).graph.node].count("Scan") == 1
    for length in (7, 500):
        values = [value.detach() for value in draw(1, 2, 3, 4, length, torch.float32, seed=length)]
        feed = {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), values, strict=True)}
        expected = selective_scan(*values, method="chunked")
        assert torch.allclose(torch.from_numpy(session.run(None, feed)[0]), expected, rtol=1e-4, atol=1e-4)


_PEAK = """
import sys, torch
from unclouded.nn.selective_scan import selective_scan
steps, d, s = int(sys.argv[1]), 64, 16
torch.manual_seed(0)
u, dt, B, C = (torch.randn(1, size, steps, requires_grad=True) for size in (d, d, s, s))
A = (-torch.rand(d, s) * 15 - 1).requires_grad_()
def kibibytes():  # unlike ru_maxrss this is not inherited from the parent process
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = kibibytes()
selective_scan(u, dt, A, B, C).sum().backward()
print(1024 * (kibibytes() - before))
"""


@pytest.mark.slow
def test_peak_memory_grows_linearly_and_stays_far_below_all_states():
    if not Path("/proc/self/status").exists():
        pytest.skip("needs the process status of Linux")
    peaks = {}
    for steps in (65536, 131072, 262144):  # shorter ones hide below the peak of importing torch
        command = [sys.executable, "-c", _PEAK, str(steps)]
        peaks[steps] = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=900).stdout)
    assert peaks[131072] < 1.25 * 2 * peaks[65536]
    assert peaks[262144] < 1.25 * 2 * peaks[131072]
    assert 0 < peaks[262144] < 4 * 262144 * 64 * 16  # a loop under autograd keeps several tensors of all states


@pytest.mark.slow
def test_twenty_times_faster_than_a_loop_over_the_steps():
    values = draw(1, 1, 64, 16, 16384, torch.float32)

    def seconds(method):
        # Processor time of one thread: what other programs do on the machine disturbs it least.
        start = time.process_time()
        torch.autograd.grad(selective_scan(*values, method=method).sum(), values)
        return time.process_time() - start

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds("chunked")  # pays for fresh memory
        chunked = min(seconds("chunked") for _ in range(8))
        loop = seconds("steps")
    finally:
        torch.set_num_threads(before)
    assert loop / chunked >= 20
