"""The compiled scan and its gradient; both return None where they do not serve."""

import math
from typing import Any

import torch
from torch import Tensor

from sparseflow.ops import _library
from sparseflow.ops._library import native, pointer
from sparseflow.ops.selective_scan.reference import Operands

__all__ = ["ABSENT", "backward", "forward", "refuses"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "scan"):
    ABSENT = "the compiled kernels are older than this operator; reinstall sparseflow with a C++17 compiler"

GROUPS = 64
"""Sums over sequences are gathered in so many parts, however many threads there are."""


def refuses(given: Operands) -> str | None:
    """Return why the compiled scan does not take these operands, or None."""
    if given.x.device.type != "cpu":
        return f"compiled for CPUs only; x is on {given.x.device}"
    other = {t.dtype for t in given.tensors() if t is not None} - {torch.float32}
    if other:
        return f"takes float32, not {', '.join(sorted(map(str, other)))}"
    if 0 in given.shape:
        return "takes no empty operands"
    return ABSENT


def forward(given: Operands, want_state: bool, isa: str = "auto") -> tuple[Tensor, Tensor | None] | None:
    """Return y and the last state, if wanted.

    Args:
        given: what the scan reads.
        want_state: whether to return the state.
        isa: instruction set.
    """
    if refuses(given) is not None:
        return None
    batch, _, channels, states = given.shape
    scan, _kept = _arguments(given)
    y = _library.empty(given.x, tuple(given.x.shape))
    state = given.x.new_empty(batch, channels, states) if want_state else None
    native.scan(scan, y.data_ptr(), pointer(state), torch.get_num_threads(), isa)
    return y, state


def backward(
    given: Operands, grad_y: Tensor, grad_state: Tensor | None, isa: str = "auto"
) -> tuple[Tensor | None, ...] | None:
    """Return the gradients of the nine tensors in the order of `Operands`, None where there is none.

    Args:
        given: what the scan read.
        grad_y: gradient of y.
        grad_state: gradient of the last state, or None for 0.
        isa: instruction set.
    """
    if refuses(given) is not None:
        return None
    batch, _, channels, states = given.shape
    scan, _kept = _arguments(given)
    groups = min(batch, GROUPS)
    grad_y, row = _rows(grad_y.float())
    grad_state = None if grad_state is None else grad_state.float().contiguous()
    x, dt, z = (None if t is None else _library.empty(t, tuple(t.shape)) for t in (given.x, given.dt, given.z))
    b, c = (t.new_empty(t.shape) for t in (given.B, given.C))
    whole = given.D is not None and given.D.ndim == 3
    direct = torch.empty_like(given.x, memory_format=torch.contiguous_format) if whole else None
    direct_sum = given.x.new_empty(groups, channels) if given.D is not None and not whole else None
    start = None if given.initial_state is None else given.x.new_empty(batch, channels, states)
    bias = None if given.dt_bias is None else given.x.new_empty(groups, channels)
    rate = given.x.new_empty(groups, states, channels)
    native.scan_backward(
        scan, (grad_y.data_ptr(), row), pointer(grad_state), pointer(x), pointer(dt), pointer(b), pointer(c),
        pointer(direct), pointer(z), pointer(start), groups, pointer(rate), pointer(direct_sum), pointer(bias),
        torch.get_num_threads(), isa,
    )  # fmt: skip
    # A = -exp(A_log) is its own derivative.
    total = rate.sum(0)
    logs = total.sum(1)[None] if given.A_log.shape[0] == 1 else total.t()
    grad_D = direct if direct_sum is None else direct_sum.sum(0)
    return x, dt, -torch.exp(given.A_log) * logs, b, c, grad_D, z, None if bias is None else bias.sum(0), start


def _rows(t: Tensor) -> tuple[Tensor, int]:
    """Return `[B, K, M]`, copied unless its rows are dense and evenly spaced, and elements from row to row."""
    batch, steps, width = t.shape
    row = t.stride(1) if steps > 1 else t.stride(0) if batch > 1 else width
    dense = t.stride(2) == 1 or width == 1
    even = steps == 1 or batch == 1 or t.stride(0) == steps * row
    return (t, row) if dense and even and row >= width else (t.contiguous(), width)


def _arguments(given: Operands) -> tuple[Any, list[Any]]:
    """Return the compiled form of the operands, and what must stay alive while it is used."""
    kept: list[Any] = []

    def rows(t: Tensor | None) -> tuple[int, int]:
        if t is None:
            return 0, 0
        t, row = _rows(t) if t.ndim == 3 else (t.contiguous(), 0)
        kept.append(t)
        return t.data_ptr(), row

    shared = given.A_log.shape[0] == 1
    rate = (torch.exp(given.A_log) * -math.log2(math.e)).t().contiguous()
    bias = None if given.dt_bias is None else given.dt_bias.contiguous()
    start = None if given.initial_state is None else given.initial_state.contiguous()
    kept += [rate, bias, start]
    scan = native.Scan(
        *given.shape, rows(given.x), rows(given.dt), rows(given.B), rows(given.C), rows(given.D), rows(given.z),
        pointer(rate), pointer(bias), pointer(start), shared, given.softplus,
    )  # fmt: skip
    return scan, kept
