"""Operands of scans that the tests of every kernel share."""

import dataclasses

import torch

from sparseflow.ops.selective_scan import Operands
from sparseflow.ops.selective_scan.reference import selective_scan

FIELDS = ("x", "dt", "A_log", "B", "C", "D", "z", "dt_bias", "initial_state")


def operands(batch, steps, channels, states=16, seed=0, dtype=torch.float64, device="cpu", **options):
    """Return random operands; options: shared, direct ("full", "channel", None), gate, bias, state, softplus."""
    shared, direct = options.pop("shared", True), options.pop("direct", "full")
    gate, bias, state = options.pop("gate", True), options.pop("bias", True), options.pop("state", False)
    softplus = options.pop("softplus", True)
    assert not options
    g = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(device, dtype)

    wide = (batch, steps, channels)
    rates = torch.log(torch.arange(1, states + 1, dtype=torch.float64)).to(device, dtype)
    # Steps of 1e-3 to 0.1, as models start with: some states remember a thousand steps.
    step = torch.exp(torch.rand(channels, generator=g, dtype=torch.float64) * 4.6 - 6.9)
    return Operands(
        x=noise(*wide),
        dt=noise(*wide) if softplus else noise(*wide).exp() * 0.1,
        A_log=rates[None] if shared else rates + 0.3 * noise(channels, states),
        B=noise(batch, steps, states),
        C=noise(batch, steps, states),
        D={"full": noise(*wide), "channel": noise(channels), None: None}[direct],
        z=noise(*wide) if gate else None,
        dt_bias=(step + torch.log(-torch.expm1(-step)) if softplus else step).to(device, dtype) if bias else None,
        initial_state=noise(batch, channels, states) if state else None,
        softplus=softplus,
    )


def cast(given, dtype):
    """Return the operands in another type."""
    changed = {n: t.to(dtype) for n, t in zip(FIELDS, given.tensors(), strict=True) if t is not None}
    return dataclasses.replace(given, **changed)


def with_gradients(given):
    """Return copies that collect gradients."""
    changed = {
        n: t.detach().clone().requires_grad_() for n, t in zip(FIELDS, given.tensors(), strict=True) if t is not None
    }
    return dataclasses.replace(given, **changed)


def true_gradients(given, grad_y, grad_state=None):
    """Return the gradients that autograd finds in float64 through the sequential truth, in the order of `Operands`."""
    leaves = with_gradients(cast(given, torch.float64))
    y, state = selective_scan(leaves)
    outputs, grads = [y], [grad_y.double()]
    if grad_state is not None and state.requires_grad:
        outputs, grads = [*outputs, state], [*grads, grad_state.double()]
    wanted = [t for t in leaves.tensors() if t is not None]
    found = iter(torch.autograd.grad(outputs, wanted, grads, allow_unused=True))
    return [None if t is None else _or_zero(next(found), t) for t in leaves.tensors()]


def _or_zero(grad, like):
    return torch.zeros_like(like) if grad is None else grad


CASES = {
    "cmamba": {},
    "channel": {"direct": "channel", "shared": False},
    "bare": {"direct": None, "gate": False, "bias": False},
    "state": {"state": True, "shared": False},
    "raw_step": {"softplus": False, "state": True},
}
