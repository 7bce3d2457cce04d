"""The vectorised scan and its gradient by hand against the sequential truth in float64."""

import pytest
import torch

from sparseflow.ops.selective_scan import reference, vectorised
from tests.ops.selective_scan.scan_cases import CASES, cast, operands, true_gradients
from tests.tolerances import assert_near

SIZES = [(2, 1, 5, 16), (1, 2, 128, 16), (3, 12, 7, 5), (2, 17, 3, 1), (2, 63, 33, 16), (0, 4, 3, 2), (2, 0, 3, 2),
         (2, 3, 0, 2), (2, 3, 4, 0)]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_forward(case, size):
    given = operands(*size, **CASES[case])
    for got, want in zip(vectorised.forward(given), reference.selective_scan(given), strict=True):
        assert_near(got, want, "selective_scan")


@pytest.mark.parametrize("steps", [1, 2, 12, 63, 512, 2048])
def test_float32_over_long_sequences(steps):
    given = operands(2, steps, 32, dtype=torch.float32)
    want = reference.selective_scan(cast(given, torch.float64))
    for got, truth in zip(vectorised.forward(given), want, strict=True):
        assert_near(got, truth, "selective_scan")


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_backward(case, size):
    given = operands(*size, **CASES[case])
    y, state = reference.selective_scan(given)
    for grad_state in (torch.randn_like(state), None):
        grad_y = torch.randn_like(y)
        want = true_gradients(given, grad_y, grad_state)
        for got, truth in zip(vectorised.backward(given, grad_y, grad_state), want, strict=True):
            assert (got is None) == (truth is None)
            if truth is not None:
                assert_near(got, truth, "selective_scan_gradient")
