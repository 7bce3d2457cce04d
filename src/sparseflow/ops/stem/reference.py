"""The first layer of a spiking network in plain torch: a convolution in float32, then the neuron over all steps."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif.reference import LIFParams, charge, lif_pack

__all__ = ["Window", "currents", "intervals", "stem"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where a convolution reads.

    Args:
        stride: step between windows, height and width.
        padding: zeros on each side.
        dilation: step between taps.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def output(self, size: Pair, kernel: Pair) -> Pair:
        """Return height and width of the output for inputs of `size`.

        >>> Window(stride=(2, 2), padding=(3, 3)).output((224, 224), (7, 7))
        (112, 112)
        """
        sides = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
        return height, width


def currents(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """Return the convolution `[N, C_out, Ho, Wo]` in float32, never in TF32."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        benchmark_limit=cudnn.benchmark_limit,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    ):
        return F.conv2d(x.float(), weight, bias, window.stride, window.padding, window.dilation)


def stem(x: Tensor, weight: Tensor, bias: Tensor | None, params: LIFParams, *, steps: int, window: Window) -> Tensor:
    """Return the packed spikes; see `sparseflow.ops.stem.stem`."""
    y = currents(x, weight, bias, window)
    words, _ = lif_pack(y.repeat(steps, 1, 1, 1), params, steps=steps)
    return words


@lru_cache(maxsize=64)
def intervals(params: LIFParams, steps: int) -> tuple[tuple[tuple[float, float], ...], ...] | None:
    """Return the constant, finite currents at which a neuron fires, `low <= i < high`, for each step.

    From rest and with a hard reset a neuron on a constant current fires every n steps, n the
    first step at which it does, and a larger current never fires later: n = 1 from θ₁ on, n = 2
    from θ₂ to θ₁ and so on. It fires at step t if n divides t. The θ are found by bisection
    over all floats, in the arithmetic of the neuron.

    Args:
        params: constants of the neuron.
        steps: T.

    Returns:
        T tuples of disjoint intervals, or None for neurons of which this does not hold: with
        reset by subtraction, or tau below 1.

    >>> intervals(LIFParams(), 2)
    (((2.0, inf),), ((1.3333333730697632, inf),))
    """
    if params.v_reset is None or (params.kind == "lif" and params.tau < 1):
        return None
    firsts = [math.inf, *_first_currents(params, steps)]
    found = []
    for t in range(1, steps + 1):
        pieces: list[tuple[float, float]] = []
        for n in (n for n in range(1, t + 1) if t % n == 0):
            low, high = firsts[n], firsts[n - 1]
            if pieces and pieces[-1][0] == high:
                low, high = low, pieces.pop()[1]
            if low < high:
                pieces.append((low, high))
        found.append(tuple(pieces))
    return tuple(found)


def _first_currents(params: LIFParams, steps: int) -> list[float]:
    """Return the least float32 current that fires within 1, 2, ... T steps; infinity where none does."""
    # Integers in the order of the floats: the sign bit turned over, negative ones mirrored.
    least = torch.full((steps,), -0x7F800000, dtype=torch.int64)
    above = -least
    within = torch.arange(1, steps + 1)
    while bool((above - least > 1).any()):
        middle = (least + above).div(2, rounding_mode="floor")
        x = _float(middle)
        v = torch.full_like(x, params.v_rest)
        fired = torch.zeros_like(x, dtype=torch.bool)
        for t in range(1, steps + 1):
            v = charge(v, x, params)
            fired |= (v >= params.v_threshold) & (within >= t)
        least, above = torch.where(fired, least, middle), torch.where(fired, middle, above)
    return [float(value) for value in _float(above)]


def _float(order: Tensor) -> Tensor:
    bits = torch.where(order < 0, -order - (1 << 31), order).to(torch.int32)
    return bits.view(torch.float32)
