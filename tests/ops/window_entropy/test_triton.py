"""The fused kernels against the plain form; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.window_entropy import reference, triton
from tests.ops.window_entropy.test_reference import case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 1, 1, 3), (2, 8, 4, 100), (1, 3, 19, 130)])
@pytest.mark.parametrize(("tau", "standardize"), [(1.0, True), (0.5, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernels_are_the_plain_form(shape, tau, standardize, dtype):
    x, windows, members = case(*shape, dtype)
    x, members = x.to(DEVICE), members.to(DEVICE)
    p = reference.distributions(x.double(), tau, standardize)
    time, space = triton.forward(x, windows, members, tau, standardize)
    assert float((time - reference.over_windows(p, windows)).abs().max()) < 1e-5
    assert float((space - reference.over_groups(p, members)).abs().max()) < 1e-5


def test_without_groups_and_with_many():
    x, windows, _ = case(1, 2, 5, 8, torch.float32)
    assert triton.forward(x.to(DEVICE), windows, torch.zeros(0, 5, device=DEVICE), 1.0, True)[1].shape == (1, 2, 0)
    members = torch.softmax(torch.randn(37, 5), 1).to(DEVICE)
    p = reference.distributions(x.double().to(DEVICE))
    _, space = triton.forward(x.to(DEVICE), windows, members, 1.0, True)
    assert float((space - reference.over_groups(p, members)).abs().max()) < 1e-5


def test_extreme_features():
    x = torch.zeros(1, 2, 3, 40)
    x[0, 0, 0] = 1e4
    x[0, 1, 1, 5] = 6e4
    x[0, 1, 2, ::2] = -6e4
    p = reference.distributions(x.double())
    time, space = triton.forward(x.to(DEVICE), [(0, 2), (1, 2)], torch.full((1, 3), 1 / 3).to(DEVICE), 1.0, True)
    assert float((time.cpu() - reference.over_windows(p, [(0, 2), (1, 2)])).abs().max()) < 1e-5
    assert float((space.cpu() - reference.over_groups(p, torch.full((1, 3), 1 / 3))).abs().max()) < 1e-4


def test_opcheck():
    x, windows, members = case(1, 3, 4, 5, torch.float32)
    flat = [t for window in windows for t in window]
    torch.library.opcheck(
        torch.ops.sparseflow.window_entropy.default, (x.to(DEVICE), flat, members.to(DEVICE), 1.0, True)
    )
