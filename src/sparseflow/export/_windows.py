"""Windows of pools whose last one may end beyond the padding, in the terms of formats that pad each side apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.int8_net import Program, Step

__all__ = ["counted", "pads"]


def pads(program: Program, step: Step) -> tuple[int, int, int, int]:
    """Return padding above, left, below and right of a pool, with which all of its windows lie inside."""
    _, *size = program.values[step.inputs[0]].shape
    above, left = step.padding
    below, right = (max(0, _reach(program, step, i) - step.padding[i] - size[i]) for i in range(2))
    return above, left, below, right


def counted(program: Program, step: Step) -> Tensor:
    """Return how many places each window of an average has, float32 `[H, W]`."""
    _, *size = program.values[step.inputs[0]].shape
    (ph, pw), (h, w) = step.padding, size
    inside = F.pad(torch.ones(1, 1, h, w), (pw, pw, ph, ph), value=float(step.include_padding))
    wanted = [_reach(program, step, i) for i in range(2)]
    more = [max(0, wanted[i] - inside.shape[2 + i]) for i in range(2)]
    inside = F.pad(inside, (0, more[1], 0, more[0]))[:, :, : wanted[0], : wanted[1]]
    return F.conv2d(inside, torch.ones(1, 1, *step.kernel), stride=step.stride, dilation=step.dilation)[0, 0]


def _reach(program: Program, step: Step, axis: int) -> int:
    """Return how many rows or columns all windows cover, padding included."""
    _, *size = program.values[step.output].shape
    return (size[axis] - 1) * step.stride[axis] + (step.kernel[axis] - 1) * step.dilation[axis] + 1
