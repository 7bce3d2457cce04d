"""The first layer of a spiking network in plain torch: a convolution in float32, then the neuron over all steps."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif.reference import LIFParams, lif_pack

__all__ = ["Window", "currents", "stem"]

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
