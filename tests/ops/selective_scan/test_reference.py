"""The truth of the scan against numbers made by hand and against a loop over single numbers."""

import math

import torch

from sparseflow.ops.selective_scan import Operands
from sparseflow.ops.selective_scan.reference import selective_scan
from tests.ops.selective_scan.scan_cases import operands


def test_two_steps_by_hand():
    one = torch.ones(1, 2, 1, dtype=torch.float64)
    given = Operands(
        x=2 * one, dt=one, A_log=torch.zeros(1, 1, dtype=torch.float64), B=3 * one, C=one, D=0.5 * one, softplus=False
    )
    y, state = selective_scan(given)
    assert math.isclose(y[0, 0, 0], 6 + 1)
    assert math.isclose(y[0, 1, 0], 6 * math.exp(-1) + 6 + 1)
    assert math.isclose(state.item(), 6 * math.exp(-1) + 6)


def test_single_numbers():
    given = operands(2, 4, 3, 2, shared=False, state=True)
    y, state = selective_scan(given)
    for b in range(2):
        for e in range(3):
            h = given.initial_state[b, e].tolist()
            for k in range(4):
                x, z = given.x[b, k, e].item(), given.z[b, k, e].item()
                delta = math.log1p(math.exp(given.dt[b, k, e] + given.dt_bias[e]))
                total = given.D[b, k, e].item() * x
                for n in range(2):
                    decay = math.exp(-delta * math.exp(given.A_log[e, n]))
                    h[n] = decay * h[n] + delta * x * given.B[b, k, n].item()
                    total += h[n] * given.C[b, k, n].item()
                assert math.isclose(y[b, k, e], total * z / (1 + math.exp(-z)), rel_tol=1e-12, abs_tol=1e-14)
            assert torch.allclose(state[b, e], torch.tensor(h, dtype=torch.float64), rtol=1e-12)


def test_no_step_keeps_the_state():
    given = operands(2, 0, 3, state=True)
    y, state = selective_scan(given)
    assert y.shape == (2, 0, 3)
    assert torch.equal(state, given.initial_state)
    assert selective_scan(operands(2, 0, 3))[1].abs().sum() == 0


def test_the_rest_computes_in_float32_and_returns_the_type_of_x():
    y, state = selective_scan(operands(1, 3, 2, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
