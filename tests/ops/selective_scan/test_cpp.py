"""The compiled scan and its gradient, with every instruction set here, against the sequential truth in float64."""

import dataclasses

import pytest
import torch

from sparseflow.ops._library import native
from sparseflow.ops.selective_scan import cpp, reference, vectorised
from tests.ops.selective_scan.scan_cases import CASES, cast, operands, true_gradients
from tests.tolerances import assert_near

pytestmark = pytest.mark.skipif(cpp.ABSENT is not None, reason=str(cpp.ABSENT))
ISAS = ["scalar"] if native is None else native.isas()
SIZES = [(1, 1, 1, 1), (3, 1, 5, 16), (1, 2, 128, 16), (2, 12, 16, 5), (3, 17, 35, 16), (1, 33, 18, 3), (70, 3, 4, 2)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
def test_forward(case, isa):
    for seed, size in enumerate(SIZES):
        given = operands(*size, seed=seed, dtype=torch.float32, **CASES[case])
        want = reference.selective_scan(cast(given, torch.float64))
        for got, truth in zip(cpp.forward(given, True, isa), want, strict=True):
            assert_near(got, truth, "selective_scan")
        assert cpp.forward(given, False, isa)[1] is None


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("steps", [1, 2, 12, 63, 512, 2048])
def test_long_sequences(steps, isa):
    given = operands(2, steps, 32, dtype=torch.float32)
    want = reference.selective_scan(cast(given, torch.float64))
    for got, truth in zip(cpp.forward(given, True, isa), want, strict=True):
        assert_near(got, truth, "selective_scan")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES)
def test_backward(case, isa):
    for seed, size in enumerate(SIZES):
        given = operands(*size, seed=seed, dtype=torch.float32, **CASES[case])
        grad_y = torch.randn_like(given.x)
        state = torch.randn(size[0], size[2], size[3])
        for grad_state in (state, None):
            want = true_gradients(given, grad_y, grad_state)
            for got, truth in zip(cpp.backward(given, grad_y, grad_state, isa), want, strict=True):
                assert (got is None) == (truth is None)
                if truth is not None:
                    assert_near(got, truth, "selective_scan_gradient")


@pytest.mark.parametrize("isa", ISAS)
def test_gradients_of_a_long_sequence(isa):
    given = operands(2, 512, 20, dtype=torch.float32)
    grad_y = torch.randn_like(given.x)
    want = vectorised.backward(cast(given, torch.float64), grad_y, None)
    for got, truth in zip(cpp.backward(given, grad_y, None, isa), want, strict=True):
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")


def test_any_number_of_threads_gives_the_same_bits():
    given = operands(67, 18, 40, dtype=torch.float32, direct="channel", state=True)
    grad_y = torch.randn_like(given.x)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append((*cpp.forward(given, True), *cpp.backward(given, grad_y, None)))
    for other in found[1:]:
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_pieces_of_wider_rows_are_read_in_place():
    g = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 5, 20 + 4 + 4 + 20, generator=g)
    dt, b, c, d = wide.split([20, 4, 4, 20], dim=-1)
    given = dataclasses.replace(operands(3, 5, 20, 4, dtype=torch.float32), dt=dt, B=b, C=c, D=d)
    assert cpp._rows(dt)[0].data_ptr() == dt.data_ptr()
    copies = dataclasses.replace(given, dt=dt.clone(), B=b.clone(), C=c.clone(), D=d.clone())
    assert torch.equal(cpp.forward(given, False)[0], cpp.forward(copies, False)[0])
    expanded = dataclasses.replace(given, x=torch.randn(20).expand(3, 5, 20), z=torch.randn(3, 20, 5).transpose(1, 2))
    grad_y = torch.ones(()).expand(3, 5, 20)
    for got, truth in zip(cpp.backward(expanded, grad_y, None), true_gradients(expanded, grad_y), strict=True):
        if truth is not None:
            assert_near(got, truth, "selective_scan_gradient")


@pytest.mark.parametrize("isa", ISAS)
def test_extreme_values(isa):
    values = torch.tensor([-torch.inf, -1e4, -88.0, -20.0, -1e-4, 0.0, 1e-4, 20.0, 88.0, 1e4, torch.inf, torch.nan])
    for name in ("x", "dt", "z", "D"):
        given = operands(1, 2, len(values), 3, dtype=torch.float32, bias=False)
        given = dataclasses.replace(given, **{name: values.expand(1, 2, -1).contiguous()})
        got = cpp.forward(given, False, isa)[0]
        want = reference.selective_scan(given)[0]
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_refusals():
    assert "compiled for CPUs only" in cpp.refuses(operands(1, 1, 1, device="meta", dtype=torch.float32))
    assert "float64" in cpp.refuses(operands(1, 1, 1))
    assert "empty" in cpp.refuses(operands(1, 0, 1, dtype=torch.float32))
    assert cpp.forward(operands(1, 1, 1), True) is None
    assert cpp.backward(operands(1, 1, 1), torch.ones(1, 1, 1), None) is None
