"""Blocks for GPUs: one layer of a spiking network on packed spikes, all steps and sources at once.

As in `spike_block`, a block refers to the modules it stands for and owns no
parameter: it packs what it needs from them and packs again when they change.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn._membrane import Constants, Membrane
from sparseflow.nn._stamp import stamp
from sparseflow.nn.spikes import Spikes
from sparseflow.ops.lif import WORD, lif_pack
from sparseflow.ops.spike_layer import LayerWeights, Source, grid_exact, pack_layer, spike_layer

__all__ = ["FloatBlock", "Part", "SpikeLayerBlock"]

_INT8 = {"int8": "cuda", "gated int8": "gated"}
Pair = tuple[int, int]
Fold = Callable[[Tensor, Tensor | None, nn.Module], tuple[Tensor, Tensor]]


class Part:
    """A convolution or linear layer with its evaluated normalisation: one summand of a block's currents.

    Args:
        layer: the layer.
        bn: the normalisation after it, or None.
        fold: folds `bn` into weight and bias; needed with `bn`.
        size: H and W of the spikes in front of a linear layer.
        padding: zeros on each side of a convolution's input.
        planes: bits of a count that it reads.
    """

    def __init__(
        self,
        layer: Any,
        bn: nn.Module | None = None,
        *,
        fold: Fold | None = None,
        size: Pair = (1, 1),
        padding: Pair = (0, 0),
        planes: int = 1,
    ) -> None:
        self.layer = layer
        self.bn, self.fold, self.size, self.padding, self.planes = bn, fold, size, padding, planes
        self.linear = isinstance(layer, nn.Linear)
        # A convolution of single tokens `[..., C, L]` sees them as L rows of one pixel.
        self.tokens = isinstance(layer, nn.Conv1d)
        # A map of spikes in front of a linear layer is one pixel with many words: channels first, then pixels.
        self.joins = self.linear and planes == 1 and size != (1, 1)
        plain = self.linear or self.tokens
        self.stride = (1, 1) if plain else _pair(self.layer.stride)
        self.dilation = (1, 1) if plain else _pair(self.layer.dilation)
        self.groups = 1 if self.linear else int(self.layer.groups)

    def behind(self) -> list[Tensor | None]:
        """Return the tensors that weight and bias are made from."""
        found: list[Tensor | None] = [*self.layer._parameters.values()]
        if self.bn is not None:
            found += [*self.bn._parameters.values(), self.bn._buffers["running_mean"], self.bn._buffers["running_var"]]
        return found

    @torch.no_grad()
    def plain(self) -> tuple[Tensor, Tensor | None]:
        """Return float32 weight `[C_out, C_in / groups, kh, kw]` and bias with the normalisation folded in."""
        weight, bias = self.layer.weight.detach(), self.layer.bias
        if self.linear:
            weight = weight.reshape(weight.shape[0], -1, *self.size)
        if self.tokens:
            weight = weight[..., None]
        if self.bn is not None and self.fold is not None:
            weight, bias = self.fold(weight, bias, self.bn)
        return weight.float(), None if bias is None else bias.detach().float()

    def rows(self, weight: Tensor) -> Tensor:
        """Return a plain weight in the shape that `source` makes the kernels see."""
        if not self.joins:
            return weight
        padded = F.pad(weight.permute(0, 2, 3, 1), (0, -weight.shape[1] % WORD))
        return padded.reshape(weight.shape[0], -1, 1, 1)

    def source(self, spikes: Spikes) -> Source:
        """Return the spikes as a source of the fused layer."""
        words = spikes.words
        if self.joins:
            words = words.reshape(words.shape[0], 1, 1, -1)
            return Source(words, words.shape[-1] * WORD)
        kernel = self.size if self.linear else (1, 1) if self.tokens else _pair(self.layer.kernel_size)
        return Source(words, spikes.channels, spikes.planes, kernel, self.stride, self.padding, self.dilation)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the library's convolution of floats `[M, C, H, W]`."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class _Stamped(nn.Module):
    """Packs weights once, and again when a tensor behind them was changed."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self._made: tuple[int, ...] = ()
        self._packed: dict[Any, Any] = {}

    def behind(self) -> list[Tensor | None]:
        """Return every tensor that the block was packed from."""
        return [t for part in self.parts for t in part.behind()]

    def fresh(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` packs, packed again if a tensor behind it was changed."""
        if torch.compiler.is_compiling() and key in self._packed:
            return self._packed[key]
        now = stamp(*self.behind())
        if now != self._made:
            self._packed.clear()
            self._made = now
        if key not in self._packed:
            self._packed[key] = make()
        return self._packed[key]

    def settle(self) -> None:
        """Forget what was packed; the next call packs for the present kernel only."""
        self._packed.clear()

    def forget(self) -> None:
        """Pack the weights again at the next call, whether a change of them was noticed or not."""
        self._packed.clear()


class SpikeLayerBlock(_Stamped):
    """Packed spikes → one or two layers, summed (+ spikes) → neuron (+ spikes) → packed, over all steps.

    x[t] = Σ layer_i(source_i[t]) + identity[t]; s = neuron(x); the output is s + add,
    packed, or without a neuron x in floats.

    Args:
        parts: the layers, one for each source.
        neuron: an IF, LIF or parametric LIF module, or None.
        constants: reads the constants of such a module; needed with `neuron`.
        identity: bits of the counts added to the currents, 0 if none are.
        out_planes: bits of the counts that come out.
        precision: "fp16", "exact" for weights of 22 bits, or "int8", which lets kernel "int8" round weights.
        kernel: "cuda", "event", "gated", "small", "triton" or "dense" of `ops.spike_layer`; "int8" or "gated int8"
            for "cuda" or "gated" with weights of 8 bits, which must lie on such a grid unless `precision` is
            "int8" and spikes come out; or "library" for torch's convolution on unpacked floats.
        floats: dtype of what comes out without a neuron, and of the library's convolution.
        keep: read and write the neuron's state; else every call starts at rest and leaves none.
        crossover: share of spikes above which kernel "gated" takes them for many.
    """

    kernels = ("cuda", "int8", "event", "gated", "gated int8", "small", "triton", "library", "dense")

    def __init__(
        self,
        parts: Sequence[Part],
        neuron: nn.Module | None = None,
        constants: Constants | None = None,
        *,
        identity: int = 0,
        out_planes: int = 1,
        precision: str = "fp16",
        kernel: str = "dense",
        floats: torch.dtype = torch.float32,
        keep: bool = False,
        crossover: float | None = None,
    ) -> None:
        super().__init__(parts)
        self.crossover = crossover
        self.identity, self.out_planes = identity, out_planes
        self.precision, self.kernel, self.floats = precision, kernel, floats
        self._membrane = None if neuron is None or constants is None else Membrane(neuron, constants, keep=keep)
        self.linear = self.parts[0].linear
        self.out_channels = int(self.parts[0].layer.weight.shape[0])

    def behind(self) -> list[Tensor | None]:
        """Return every tensor that the block was packed from."""
        neuron = [] if self._membrane is None else [*self._membrane.neuron._parameters.values()]
        return [*super().behind(), *neuron]

    def forward(
        self,
        spikes: Spikes,
        second: Spikes | None = None,
        identity: Spikes | None = None,
        add: Spikes | None = None,
    ) -> Spikes | Tensor:
        """Return packed spikes or counts, or floats in the shape that the layer gives."""
        inputs = [spikes] if second is None else [spikes, second]
        if self.kernel == "library":
            return self._by_library(inputs, identity, add)
        m = self._membrane
        weights: LayerWeights = self.fresh((self.kernel, self.precision, self.crossover), self._pack)
        steps = self._steps(spikes)
        sources = [part.source(x) for part, x in zip(self.parts, inputs, strict=True)]
        v0 = None if m is None else m.read(self._state_shape(sources[0], steps))
        y, v = spike_layer(
            sources,
            weights,
            steps=steps,
            identity=None if identity is None else (identity.words, identity.planes),
            add=None if add is None else (add.words, add.planes),
            v0=v0,
            keep_v=m is not None and m.keep,
            out="words" if m is not None else str(self.floats).removeprefix("torch."),
            out_planes=self.out_planes if m is not None else None,
        )
        if m is None:
            return self._shaped(y, spikes)
        m.write(self._kept(v), self.linear)
        return Spikes(y, self.out_channels, spikes.lead, self.linear, self.out_planes)

    def _by_library(self, inputs: Sequence[Spikes], identity: Spikes | None, add: Spikes | None) -> Spikes | Tensor:
        m, dtype = self._membrane, self.floats
        weights: list[Tensor]
        weights, bias = self.fresh(("library", dtype), self._plain)
        total: Tensor | None = None
        for part, x, weight in zip(self.parts, inputs, weights, strict=True):
            flat = packed.unpack(x._replace(lead=(x.words.shape[0],), flat=False), dtype)
            y = part.convolve(flat, weight, bias if total is None else None)
            total = y if total is None else total + y
        assert total is not None
        spikes = inputs[0]
        if identity is not None:
            total = total + packed.unpack(identity._replace(lead=(identity.words.shape[0],), flat=False), dtype)
        if m is None:
            return self._shaped(total, spikes)
        steps = self._steps(spikes)
        if m.keep or not total.is_cuda:
            total = total.float()
        v0 = m.read((total.shape[0] // steps, *total.shape[1:]))
        words, v = lif_pack(total, m.refresh(), steps=steps, v0=v0)
        m.write(self._kept(v), self.linear)
        made = Spikes(words, self.out_channels, spikes.lead, self.linear)
        return made if add is None else packed.add(made, add, self.out_planes)

    def _kept(self, v: Tensor | None) -> Tensor | None:
        return v.squeeze(-1) if self.parts[0].tokens and v is not None else v

    def _steps(self, spikes: Spikes) -> int:
        return spikes.lead[0] if self._membrane is not None and self._membrane.steps_in_lead else 1

    def _shaped(self, y: Tensor, spikes: Spikes) -> Tensor:
        if self.parts[0].tokens:
            return y.flatten(1).view(*spikes.lead, y.shape[1], -1)
        return y.reshape(*spikes.lead, -1) if self.linear else y.view(*spikes.lead, *y.shape[1:])

    def _state_shape(self, source: Source, steps: int) -> tuple[int, ...]:
        return (source.words.shape[0] // steps, self.out_channels, *source.output())

    def _pack(self) -> LayerWeights:
        made = [part.plain() for part in self.parts]
        rows = [part.rows(weight) for part, (weight, _) in zip(self.parts, made, strict=True)]
        kernel, precision = self.kernel, "exact" if self.precision == "exact" else "fp16"
        if kernel in _INT8:
            kernel, precision = _INT8[kernel], "int8"
            lossy = self.precision == "int8" and self._membrane is not None
            if not lossy and not grid_exact(rows, [part.planes for part in self.parts]):
                raise UnsupportedError("its weights lie on no grid of 8 bits, and rounding them was not asked for")
        return pack_layer(
            rows,
            _sum([bias for _, bias in made]),
            None if self._membrane is None else self._membrane.refresh(),
            identity=bool(self.identity),
            planes=[*[p.planes for p in self.parts], *([self.identity] if self.identity else [])],
            precision=precision,
            kernel=kernel,
            **({"crossover": self.crossover} if kernel == "gated" else {}),
        )

    def _plain(self) -> tuple[list[Tensor], Tensor | None]:
        made = [part.plain() for part in self.parts]
        bias = _sum([b for _, b in made])
        weights = [w.to(self.floats).contiguous(memory_format=torch.channels_last) for w, _ in made]
        return weights, None if bias is None else bias.to(self.floats)

    def extra_repr(self) -> str:
        """Return sizes and kernel."""
        shapes = [tuple(part.layer.weight.shape) for part in self.parts]
        return f"{shapes}, kernel={self.kernel!r}, precision={self.precision!r}"


class FloatBlock(_Stamped):
    """Floats → convolution or linear layer (+ folded normalisation) → floats in one dtype, channels last.

    Args:
        part: the layer.
        dtype: float16, or float32 for the library's float32 without TF32.
    """

    def __init__(self, part: Part, *, dtype: torch.dtype = torch.float16) -> None:
        super().__init__([part])
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output on `[..., C, H, W]` or `[..., K]`."""
        weight, bias = self.fresh(self.dtype, self._plain)
        part = self.parts[0]
        if part.linear:
            return F.linear(x.to(self.dtype), weight.flatten(1), bias)
        if part.tokens:
            # One product of matrices a step and image, in the layout that comes.
            y = torch.matmul(weight.flatten(1), x.to(self.dtype))
            return y if bias is None else y + bias[:, None]
        flat = x.flatten(0, 1) if x.dim() == 5 else x
        y = part.convolve(flat.to(self.dtype, memory_format=torch.channels_last), weight, bias)
        return y.view(*x.shape[:2], *y.shape[1:]) if x.dim() == 5 else y

    def _plain(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.parts[0].plain()
        weight = weight.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return weight, None if bias is None else bias.to(self.dtype)


def _sum(biases: Sequence[Tensor | None]) -> Tensor | None:
    kept = [b for b in biases if b is not None]
    return None if not kept else torch.stack(kept).sum(0)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
