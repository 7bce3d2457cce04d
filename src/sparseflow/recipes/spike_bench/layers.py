"""Single layers: float spikes in, floats out, packing and layout inside the timer."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost.dense import dense_variants
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.nn.sparse_linear import SparseLinear

__all__ = ["IID_CASES", "LayerCase", "LayerRow", "geomean", "iid_spikes", "time_layer"]

KERNELS = ("event", "amx")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCase:
    """One convolution of a benchmark.

    Args:
        name: label.
        channels: input channels.
        out_channels: output channels.
        kernel: kernel height and width.
        size: input height and width.
        stride: stride.
        batch: images; the layer sees `steps · batch` of them.
    """

    name: str
    channels: int
    out_channels: int
    kernel: int
    size: int
    stride: int = 1
    batch: int = 8

    def build(self, seed: int) -> nn.Conv2d:
        """Return the convolution with random weights."""
        torch.manual_seed(seed)
        return nn.Conv2d(
            self.channels, self.out_channels, self.kernel, stride=self.stride, padding=self.kernel // 2
        ).eval()


IID_CASES = (
    LayerCase(name="VGG-9 3x3 64-64 @32", channels=64, out_channels=64, kernel=3, size=32),
    LayerCase(name="VGG-9 3x3 64-128 @16", channels=64, out_channels=128, kernel=3, size=16),
    LayerCase(name="VGG-9 3x3 128-128 @16", channels=128, out_channels=128, kernel=3, size=16),
    LayerCase(name="VGG-9 3x3 128-256 @8", channels=128, out_channels=256, kernel=3, size=8),
    LayerCase(name="VGG-9 3x3 256-256 @8", channels=256, out_channels=256, kernel=3, size=8),
    LayerCase(name="ResNet-18 3x3 512-512 @4", channels=512, out_channels=512, kernel=3, size=4),
    LayerCase(name="ResNet-18 3x3/2 64-128 @32", channels=64, out_channels=128, kernel=3, size=32, stride=2),
    LayerCase(name="ResNet-50 3x3 64-64 @56", channels=64, out_channels=64, kernel=3, size=56, batch=4),
    LayerCase(name="ResNet-50 1x1 64-256 @56", channels=64, out_channels=256, kernel=1, size=56, batch=4),
    LayerCase(name="ResNet-50 1x1 256-64 @56", channels=256, out_channels=64, kernel=1, size=56, batch=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One measured layer.

    Args:
        layer: label of the layer.
        spikes: "i.i.d." or "trained".
        threads: threads of both sides.
        shape: input shape.
        density: fraction of non-zero inputs.
        dense: fastest dense variant.
        kernel: kernel chosen by a measurement of its own.
        dense_s: median time of that variant.
        kernel_s: median time of the kernel.
        ratio: median of the per-round ratios.
        candidates_s: medians of the choosing measurement, all variants.
    """

    layer: str
    spikes: str
    threads: int
    shape: tuple[int, ...]
    density: float
    dense: str
    kernel: str
    dense_s: float
    kernel_s: float
    ratio: float
    candidates_s: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def geomean(values: Iterable[float]) -> float:
    """Return the geometric mean, NaN of nothing.

    >>> geomean([1.0, 4.0])
    2.0
    """
    kept = list(values)
    return math.exp(sum(math.log(v) for v in kept) / len(kept)) if kept else math.nan


def iid_spikes(shape: Sequence[int], density: float, seed: int) -> Tensor:
    """Return float spikes, each 1 with probability `density` by itself."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(tuple(shape), generator=generator) < density).float()


def time_layer(
    layer: nn.Conv2d | nn.Linear, x: Tensor, *, name: str, spikes: str, repeats: int, compile: bool
) -> LayerRow:
    """Time one layer against the best dense way to run it.

    A first measurement picks the fastest dense variant and the fastest
    kernel; a second one times just those side by side, and only that one is
    quoted. Each side gets `x` in the layout it prefers.

    Args:
        layer: the dense layer, in eval mode.
        x: float spikes `[M, C, H, W]` or `[M, K]`.
        name: label of the row.
        spikes: where the spikes come from.
        repeats: rounds of the second measurement.
        compile: let the dense side use torch.compile.

    Raises:
        UnsupportedError: no sparse kernel takes this layer.
    """
    dense = dense_variants(layer, x, compile=compile).fns
    y = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    fns = dict(dense)
    reasons = {}
    for kernel in KERNELS:
        ours = (
            SparseConv2d.from_dense(layer, kernel=kernel)
            if isinstance(layer, nn.Conv2d)
            else SparseLinear.from_dense(layer, kernel=kernel)
        ).eval()
        fn = _forward(ours, y)
        try:
            fn()
            fns[kernel] = fn
        except UnsupportedError as e:
            reasons[kernel] = str(e)
    kernels = [k for k in KERNELS if k in fns]
    if not kernels:
        raise UnsupportedError(f"no sparse kernel runs layer {name!r}: {reasons}")
    first = measure(fns, repeats=max(5, repeats // 3), budget_s=20.0)
    best_dense = min(dense, key=lambda k: first[k].median_s)
    best = min(kernels, key=lambda k: first[k].median_s)
    timings = measure({k: fns[k] for k in (best_dense, best)}, repeats=repeats, budget_s=20.0)
    return LayerRow(
        layer=name,
        spikes=spikes,
        threads=torch.get_num_threads(),
        shape=tuple(x.shape),
        density=float((x != 0).float().mean()),
        dense=best_dense,
        kernel=best,
        dense_s=timings[best_dense].median_s,
        kernel_s=timings[best].median_s,
        ratio=ratio(timings, best_dense, best),
        candidates_s={k: t.median_s for k, t in first.items()},
    )


def _forward(module: nn.Module, x: Tensor) -> Any:
    def run() -> Any:
        with torch.no_grad():
            return module(x)

    return run
