"""The Triton kernels of `fire` against its plain form; in the interpreter where there is no GPU."""

import itertools

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops import fire
from sparseflow.ops.fire import triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(4, 3, 5, 7), (4, 1, 1, 1), (8, 100), (4, 64, 9, 9)]
KINDS = list(itertools.product((2.0, 1.7), (True, False), (True, False), ((0.0, False), (-0.5, False), (0.0, True))))


def plain(x, grad, steps, *constants):
    x = x.detach().clone().cpu().requires_grad_()
    spikes = fire._fire(x, steps, *constants)
    spikes.backward(grad.cpu())
    return spikes.detach(), x.grad


@pytest.mark.parametrize(("tau", "leak", "decay", "reset"), KINDS)
@pytest.mark.parametrize("detach", [True, False])
def test_spikes_and_gradients_are_those_of_the_plain_form(tau, leak, decay, reset, detach):
    g = torch.Generator().manual_seed(0)
    rest, soft = reset
    for i, shape in enumerate(SHAPES):
        x, grad = (torch.randn(shape, generator=g).mul(2).to(DEVICE) for _ in range(2))
        if len(shape) == 4 and i % 2:
            x = x.contiguous(memory_format=torch.channels_last)
        for steps in (1, 4):
            want, want_grad = plain(x, grad, steps, tau, leak, decay, 1.0, rest, soft, detach, 2.0)
            spikes, down = (torch.full_like(x, torch.nan) for _ in range(2))
            triton.forward(x, spikes, steps, tau, leak, decay, 1.0, rest, soft)
            triton.backward(grad, x, down, steps, tau, leak, decay, 1.0, rest, soft, detach, 2.0)
            assert torch.equal(spikes.cpu(), want)
            torch.testing.assert_close(down.cpu(), want_grad)


def test_inputs_that_are_not_dense():
    x = torch.randn(5, 4, 6, device=DEVICE).transpose(0, 1)
    grad = torch.randn(4, 5, 6, device=DEVICE)
    constants = (2.0, True, True, 1.0, 0.0, False, True, 2.0)
    want, want_grad = plain(x, grad, 2, *constants)
    spikes, down = (torch.empty_like(x) for _ in range(2))
    triton.forward(x, spikes, 2, *constants[:-2])
    triton.backward(grad, x, down, 2, *constants)
    assert torch.equal(spikes.cpu(), want)
    torch.testing.assert_close(down.cpu(), want_grad)


def test_half_precision():
    x = torch.randn(4, 40, device=DEVICE).half()
    spikes, down = torch.empty_like(x), torch.empty_like(x)
    constants = (2.0, True, True, 1.0, 0.0, False, True, 2.0)
    want, want_grad = plain(x, torch.ones_like(x), 4, *constants)
    triton.forward(x, spikes, 4, *constants[:-2])
    triton.backward(torch.ones_like(x), x, down, 4, *constants)
    assert torch.equal(spikes.cpu(), want)
    torch.testing.assert_close(down.cpu(), want_grad, rtol=2e-3, atol=1e-5)
