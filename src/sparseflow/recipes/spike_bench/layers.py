"""Single layers and blocks against the best dense way to run them."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.cost.dense import DenseVariants, dense_variants
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.nn import layers as stepwise
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import LIFNode
from sparseflow.nn.sparse_conv import SparseConv2d, zeros_around
from sparseflow.nn.sparse_linear import SparseLinear
from sparseflow.nn.spike_block import ConvNeuronBlock
from sparseflow.nn.spikes import pack, unpack

__all__ = ["FORMS", "IID_CASES", "LayerCase", "LayerRow", "geomean", "iid_spikes", "settle", "time_block", "time_layer"]

KERNELS = ("event", "amx")
FORMS = {
    "layer": "convolution or linear layer: floats in, floats out on both sides",
    "block": "convolution, batch norm and LIF over all steps: float spikes in, float spikes out on both sides",
    "packed": "the same block: packed spikes in and out, as in a network, against float spikes in and out",
}


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

    def build(self, seed: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, LIFNode]:
        """Return convolution, batch norm and neuron with random weights; they take `[T, N, C, H, W]` too."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            conv = stepwise.Conv2d(
                self.channels, self.out_channels, self.kernel, stride=self.stride, padding=self.kernel // 2
            )
        norm = stepwise.BatchNorm2d(self.out_channels)
        return conv.eval(), norm.eval(), LIFNode(step_mode="m").eval()

    def spikes(self, density: float, seed: int) -> Tensor:
        """Return i.i.d. spikes over four time steps, `[4, N, C, H, W]`."""
        return iid_spikes((4, self.batch, self.channels, self.size, self.size), density, seed)


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
        form: what one call does, a key of `FORMS`.
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
        read_bytes: bytes of the floats that our side reads, each once.
        written_bytes: bytes of the floats that our side writes, each once.
    """

    layer: str
    form: str
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
    read_bytes: int = 0
    written_bytes: int = 0

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


def settle(conv: nn.Conv2d, bn: nn.BatchNorm2d, x: Tensor) -> None:
    """Give a fresh normalisation the statistics of its input, so that the neuron behind it fires."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    with torch.no_grad():
        y = conv(x).flatten(0, -4)
        bn.running_mean.copy_(y.mean((0, 2, 3)))
        bn.running_var.copy_(y.var((0, 2, 3)))


def time_layer(
    layer: nn.Conv2d | nn.Linear,
    inputs: Mapping[str, Tensor],
    *,
    spikes: str,
    repeats: int,
    compile: bool,
) -> list[LayerRow]:
    """Time one layer by itself: floats in, floats out, on both sides.

    A first measurement picks the fastest dense variant and the fastest kernel;
    a second one times just those side by side, and only that one is quoted.
    Each side gets its input in the layout it prefers.

    Args:
        layer: the dense layer, in eval mode.
        inputs: float spikes `[M, C, H, W]` or `[M, K]` of one shape, by label of the row.
        spikes: where the spikes come from.
        repeats: rounds of the second measurement.
        compile: let the dense side use torch.compile.

    Raises:
        UnsupportedError: no sparse kernel takes this layer.
    """
    # Dynamo compiles one piece of code a limited number of times and then stays eager, which would flatter us.
    x = next(iter(inputs.values()))
    y = x.clone(memory_format=torch.channels_last) if x.dim() == 4 else x.clone()
    kind: Any = SparseConv2d if isinstance(layer, nn.Conv2d) else SparseLinear
    ours = {k: _call(kind.from_dense(layer, kernel=k).eval(), y) for k in KERNELS}
    torch._dynamo.reset()
    dense = dense_variants(layer, x, compile=compile, compile_layouts=_layouts(x))
    return [_race(name, "layer", spikes, z, dense, ours, y, repeats) for name, z in inputs.items()]


def time_block(
    conv: nn.Conv2d | nn.Linear,
    bn: nn.BatchNorm2d | None,
    neuron: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    spikes: str,
    repeats: int,
    compile: bool,
) -> list[LayerRow]:
    """Time convolution, normalisation and neuron over all time steps, as one block.

    The dense side reads and writes float spikes. Ours is timed twice: from
    float spikes to float spikes, packing and unpacking inside the timer
    ("block"), and from packed spikes to packed spikes, as between the blocks
    of a network ("packed"). State is reset inside the timer on both sides.

    Args:
        conv: layer that takes `[T, N, ...]`, in eval mode.
        bn: its normalisation, or None.
        neuron: a multi-step neuron of `sparseflow.nn`.
        inputs: float spikes `[T, N, C, H, W]` or `[T, N, K]` of one shape, by label of the row.
        spikes: see `time_layer`.
        repeats: see `time_layer`.
        compile: see `time_layer`.

    Raises:
        UnsupportedError: no sparse kernel takes this block.
    """
    x = next(iter(inputs.values()))
    net = nn.Sequential(*[m for m in (conv, bn, neuron) if m is not None]).eval()
    square = x if x.dim() == 5 else x[..., None, None]
    flat = square.flatten(0, 1).clone(memory_format=torch.channels_last)
    y = flat.view(square.shape)
    padding = {"padding": zeros_around(conv)} if isinstance(conv, nn.Conv2d) else {}
    made = {
        k: ConvNeuronBlock(conv, copy.deepcopy(neuron), neuron_constants, bn, fold=fold_bn, kernel=k, **padding).eval()
        for k in KERNELS
    }

    def through(block: ConvNeuronBlock) -> Callable[[], Any]:
        return _call(lambda z: unpack(block(pack(z))), y, block)

    floats = {k: through(block) for k, block in made.items()}
    torch._dynamo.reset()
    dense = dense_variants(net, x, reset=reset_net, compile=compile, compile_layouts=_layouts(x))
    rows = []
    for name, z in inputs.items():
        rows.append(_race(name, "block", spikes, z, dense, floats, y, repeats))
        words = pack(z.view(square.shape))
        packed = {k: _call(block, words, block) for k, block in made.items()}
        rows.append(_race(name, "packed", spikes, z, dense, packed, y, repeats))
    return rows


def _layouts(x: Tensor) -> tuple[str, ...]:
    return ("channels_last",) if x.dim() in (4, 5) else ("nchw",)


def _race(
    name: str,
    form: str,
    spikes: str,
    x: Tensor,
    dense: DenseVariants,
    ours: Mapping[str, Callable[[], Any]],
    y: Tensor,
    repeats: int,
) -> LayerRow:
    dense.feed(x)
    y.copy_(x.view(y.shape))
    failures: dict[str, str] = {}
    first = measure({**dense.fns, **ours}, repeats=max(5, repeats // 3), budget_s=15.0, failures=failures)
    kernels = [k for k in ours if k in first]
    if not kernels:
        raise UnsupportedError(f"no sparse kernel runs {form} {name!r}: {failures}")
    best_dense = min((k for k in dense.fns if k in first), key=lambda k: first[k].median_s)
    best = min(kernels, key=lambda k: first[k].median_s)
    timings = measure({best_dense: dense.fns[best_dense], best: ours[best]}, repeats=repeats, budget_s=15.0)
    written = ours[best]()
    floats = isinstance(written, Tensor)
    return LayerRow(
        layer=name,
        form=form,
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
        read_bytes=x.nbytes if floats else 0,
        written_bytes=written.nbytes if floats else 0,
    )


def _call(run: Callable[[Any], Any], x: Any, block: ConvNeuronBlock | None = None) -> Callable[[], Any]:
    neuron = None if block is None else block._membrane.neuron

    def call() -> Any:
        if neuron is not None:
            neuron.reset()
        with torch.no_grad():
            return run(x)

    return call
