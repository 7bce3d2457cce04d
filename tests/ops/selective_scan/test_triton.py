"""The Triton scan and its gradient against the truth in float64; in the interpreter where there is no GPU."""

import dataclasses

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.selective_scan import reference, selective_scan, triton, vectorised
from tests.ops.selective_scan.scan_cases import CASES, FIELDS, cast, operands, true_gradients
from tests.tolerances import assert_near

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(1, 1, 1, 1), (2, 7, 33, 5)]


@pytest.mark.parametrize("case", CASES)
def test_forward(case):
    for seed, size in enumerate(SIZES):
        given = operands(*size, seed=seed, dtype=torch.float32, device=DEVICE, **CASES[case])
        want = reference.selective_scan(cast(given, torch.float64))
        for got, truth in zip(triton.forward(given, True), want, strict=True):
            assert_near(got, truth, "selective_scan")
        assert triton.forward(given, False)[1] is None


@pytest.mark.parametrize("steps", [1, 2, 12, 63, 512, pytest.param(2048, marks=pytest.mark.slow)])
def test_long_sequences(steps):
    # Without a gate and a direct term, which touch one step alone, the interpreter takes a third of the time.
    case = {} if steps < 100 or DEVICE == "cuda" else CASES["bare"] | {"softplus": False}
    given = operands(1, steps, 8, dtype=torch.float32, device=DEVICE, **case)
    want = reference.selective_scan(cast(given, torch.float64))
    for got, truth in zip(triton.forward(given, True), want, strict=True):
        assert_near(got, truth, "selective_scan")


@pytest.mark.parametrize("case", CASES)
def test_backward(case):
    for seed, size in enumerate(SIZES):
        given = operands(*size, seed=seed, dtype=torch.float32, device=DEVICE, **CASES[case])
        grad_y = torch.randn_like(given.x)
        state = torch.randn(size[0], size[2], size[3], device=DEVICE)
        for grad_state in (state, None):
            want = true_gradients(given, grad_y, grad_state)
            for got, truth in zip(triton.backward(given, grad_y, grad_state), want, strict=True):
                assert (got is None) == (truth is None)
                if truth is not None:
                    assert_near(got, truth, "selective_scan_gradient")


def test_gradients_of_a_long_sequence():
    given = operands(1, 32, 8, dtype=torch.float32, device=DEVICE)
    grad_y = torch.randn_like(given.x)
    want = vectorised.backward(cast(given, torch.float64), grad_y, None)
    for got, truth in zip(triton.backward(given, grad_y, None), want, strict=True):
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")


def test_pieces_of_wider_rows_are_read_in_place():
    wide = torch.randn(2, 5, 20 + 4 + 4 + 20, device=DEVICE)
    dt, b, c, d = wide.split([20, 4, 4, 20], dim=-1)
    given = operands(2, 5, 20, 4, dtype=torch.float32, device=DEVICE)
    z = torch.randn(2, 20, 5, device=DEVICE).transpose(1, 2)
    given = dataclasses.replace(given, x=torch.randn(20, device=DEVICE).expand(2, 5, 20), dt=dt, B=b, C=c, D=d, z=z)
    assert triton._Plan(given, "forward").reads[1] is dt
    assert_near(triton.forward(given, False)[0], reference.selective_scan(given)[0], "selective_scan")
    grad_y = torch.ones((), device=DEVICE).expand(2, 5, 20)
    for got, truth in zip(triton.backward(given, grad_y, None), true_gradients(given, grad_y), strict=True):
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")


def test_half_precision_is_computed_in_float32():
    given = operands(2, 7, 20, 4, dtype=torch.float32, device=DEVICE)
    halves = {n: getattr(given, n).half() for n in ("x", "dt", "B", "C", "D", "z")}
    given = dataclasses.replace(given, **halves)
    want = reference.selective_scan(cast(given, torch.float32))[0]
    y = triton.forward(given, False)[0]
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), want, rtol=1e-3, atol=1e-3)
    grads = triton.backward(given, torch.ones_like(y), None)
    want = true_gradients(given, torch.ones_like(y))
    for name, got, truth in zip(FIELDS, grads, want, strict=True):
        if truth is not None:
            assert got.dtype == getattr(given, name).dtype
            torch.testing.assert_close(got.double(), truth, rtol=2e-3, atol=2e-3)


SEGMENTS = [("cmamba", 33, 5), ("state", 3, 16), ("raw_step", 3, 2)]


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(triton, "PROGRAMS", 64)
    monkeypatch.setattr(triton, "SHORTEST", {"forward": 4, "backward": 4})


@pytest.mark.parametrize(("case", "channels", "states"), SEGMENTS)
def test_segments(case, channels, states, short_segments):
    given = operands(1, 9, channels, states, dtype=torch.float32, device=DEVICE, **CASES[case])
    assert triton._Plan(given, "forward").segments > 2
    assert triton._Plan(given, "backward").segments > 2
    grad_y = torch.randn_like(given.x)
    state = torch.randn(1, channels, states, device=DEVICE)
    want = reference.selective_scan(cast(given, torch.float64))
    for got, truth in zip(triton.forward(given, True), want, strict=True):
        assert_near(got, truth, "selective_scan")
    want = true_gradients(given, grad_y, state)
    found = triton.backward(given, grad_y, state)
    for got, truth, again in zip(found, want, triton.backward(given, grad_y, state), strict=True):
        assert (got is None) == (truth is None)
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")
            assert torch.equal(got, again)
    # What an operator returns may share memory neither with another result nor with what it read.
    tensors = [t for t in (*found, *given.tensors(), grad_y, state) if t is not None]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)
    assert all(t is None or t.is_contiguous() for t in found)


@pytest.mark.parametrize("step", [1e-30, 20.0, 1e4])
def test_segments_of_states_that_keep_or_forget_all(step, short_segments):
    # Decays of a segment of 1 and of 0: products that no quotient would give back.
    given = operands(1, 18, 4, 3, dtype=torch.float32, device=DEVICE, **CASES["raw_step"])
    given = dataclasses.replace(given, dt=torch.full_like(given.dt, step), dt_bias=torch.zeros_like(given.dt_bias))
    want = reference.selective_scan(cast(given, torch.float64))
    for got, truth in zip(triton.forward(given, True), want, strict=True):
        assert_near(got, truth, "selective_scan")
    grad_y = torch.randn_like(given.x)
    for got, truth in zip(triton.backward(given, grad_y, None), true_gradients(given, grad_y), strict=True):
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")


@pytest.mark.parametrize(
    ("programs", "steps", "forward", "backward"),
    [(10272, 12, 1, 1), (4, 12, 1, 1), (1792, 512, 1, 1), (128, 512, 32, 8), (32, 2048, 128, 32), (4, 100, 7, 1)],
)
def test_long_sequences_are_cut_where_there_are_few(programs, steps, forward, backward):
    for way, segments in (("forward", forward), ("backward", backward)):
        count, span = triton._split(programs, steps, triton.SHORTEST[way])
        assert count == segments
        assert (count - 1) * span < steps <= count * span


@pytest.mark.gpu
def test_the_operator_takes_the_kernels_on_a_gpu():
    given = operands(3, 12, 128, dtype=torch.float32, device="cuda")
    leaves = {n: None if t is None else t.requires_grad_() for n, t in zip(FIELDS, given.tensors(), strict=True)}
    y = selective_scan(**leaves, kernel="triton")
    y.square().sum().backward()
    assert torch.equal(y, triton.forward(given, False)[0])
    for leaf, truth in zip(leaves.values(), true_gradients(given, 2 * y.detach()), strict=True):
        if leaf is not None:
            assert_near(leaf.grad, truth, "selective_scan_gradient")
