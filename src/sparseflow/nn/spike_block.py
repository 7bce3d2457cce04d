"""Fused blocks: convolution, batch normalisation, residual and neuron as one step on packed spikes.

A block refers to the modules it stands for and owns no parameter: it packs what
it needs from them, packs again when they change, and keeps the membrane
potential in the neuron module itself, so that `reset()` there resets the block.
Blocks are for inference: packed spikes carry no gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.nn._membrane import Constants, Membrane
from sparseflow.nn._stamp import stamp
from sparseflow.nn.spikes import Spikes, unpack
from sparseflow.ops.conv2d_spike import OP, conv_lif, conv_words, pack_weight, spike_conv2d
from sparseflow.ops.lif import lif, lif_pack, unpack_spikes

__all__ = ["ConvBlock", "ConvNeuronBlock", "DenseBlock", "NeuronBlock"]

Pair = tuple[int, int]
Fold = Callable[[Tensor, Tensor | None, nn.Module], tuple[Tensor, Tensor]]


class _Weights:
    """Weight and bias of a convolution or linear layer, its normalisation folded in, packed for the kernels."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, bn: nn.Module | None, fold: Fold | None, size: Pair) -> None:
        self.layer, self.bn, self.fold, self.size = layer, bn, fold, size
        self.made: tuple[int, ...] = ()
        self.bias: Tensor | None = None
        self.packed: dict[str, Tensor] = {}
        self.shape = tuple(self.plain()[0].shape)

    def rows(self, kernel: str) -> Tensor:
        """Return the weight as a kernel takes it; folds and packs again if a tensor behind it was changed."""
        if torch.compiler.is_compiling() and kernel in self.packed:
            return self.packed[kernel]
        layer, bn = self.layer, self.bn
        # Straight from the dictionaries: this runs at every call, and a module's attribute access is slow.
        behind: list[Tensor | None] = [*layer._parameters.values()]
        if bn is not None:
            behind += [*bn._parameters.values(), bn._buffers["running_mean"], bn._buffers["running_var"]]
        now = stamp(*behind)
        if now != self.made:
            self.packed.clear()
            self.made = now
        if kernel not in self.packed:
            weight, self.bias = self.plain()
            if kernel == "dense":
                self.packed[kernel] = weight.contiguous(memory_format=torch.channels_last)
            else:
                self.packed[kernel] = pack_weight(weight.contiguous(), getattr(layer, "groups", 1), kernel=kernel)
        return self.packed[kernel]

    @torch.no_grad()
    def plain(self) -> tuple[Tensor, Tensor | None]:
        """Return weight `[C_out, C_in / groups, kh, kw]` and bias with the normalisation folded in."""
        weight, bias = self.layer.weight.detach(), self.layer.bias
        if isinstance(self.layer, nn.Linear):
            weight = weight.view(weight.shape[0], -1, *self.size)
        if self.bn is not None and self.fold is not None:
            weight, bias = self.fold(weight, bias, self.bn)
        return weight, None if bias is None else bias.detach()


class _Layer(nn.Module):
    """What the blocks with a convolution or a linear layer share."""

    kernels = tuple(k.name for k in OP.kernels)

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        bn: nn.Module | None = None,
        *,
        fold: Fold | None = None,
        size: Pair = (1, 1),
        padding: Pair = (0, 0),
        kernel: str = "event",
    ) -> None:
        super().__init__()
        self._weights = _Weights(layer, bn, fold, size)
        self.linear = isinstance(layer, nn.Linear)
        out_channels, _, height, width = self._weights.shape
        self.out_channels = out_channels
        self.geometry: dict[str, Any] = {
            "stride": (1, 1) if isinstance(layer, nn.Linear) else _pair(layer.stride),
            "padding": padding,
            "dilation": (1, 1) if isinstance(layer, nn.Linear) else _pair(layer.dilation),
            "groups": 1 if isinstance(layer, nn.Linear) else layer.groups,
        }
        self.window = {"out_channels": out_channels, "kernel_size": (height, width), **self.geometry}
        self.kernel = kernel

    def forget(self) -> None:
        """Pack the weight again at the next call, whether a change of it was noticed or not."""
        self._weights.packed.clear()

    def settle(self) -> None:
        """Forget the weight as packed for other kernels than the present one."""
        kept = ("dense", self.kernel) if isinstance(self, DenseBlock) else (self.kernel,)
        self._weights.packed = {k: v for k, v in self._weights.packed.items() if k in kept}

    def extra_repr(self) -> str:
        """Return sizes and kernel."""
        return f"{self.window}, kernel={self.kernel!r}"

    def _convolved(self, spikes: Spikes) -> Tensor:
        """Return floats `[M, C_out, Ho, Wo]`, channels last."""
        w = self._weights
        rows = w.rows(self.kernel)
        if self.kernel == "dense":
            x = unpack_spikes(spikes.words, spikes.channels)
            return F.conv2d(x, rows, w.bias, **self.geometry)
        return conv_words(spikes.words, rows, w.bias, channels=spikes.channels, kernel=self.kernel, **self.window)


class ConvBlock(_Layer):
    """Packed spikes → convolution or linear layer (+ folded normalisation) → floats.

    Args:
        layer: the layer; a linear one sees the spikes as `[C * H * W]` features.
        bn: the evaluated normalisation after it, or None.
        fold: folds `bn` into weight and bias; needed with `bn`.
        size: H and W of the spikes in front of a linear layer.
        padding: zeros on each side of a convolution's input.
        kernel: kernel name.
    """

    def forward(self, spikes: Spikes) -> Tensor:
        """Return `[*lead, C_out, Ho, Wo]`, or `[*lead, K_out]` of a linear layer."""
        y = self._convolved(spikes)
        return y.view(*spikes.lead, *(y.shape[1:2] if self.linear else y.shape[1:]))


class DenseBlock(_Layer):
    """Floats → convolution or linear layer (+ folded normalisation) → floats.

    Arguments as for `ConvBlock`; kernels other than "dense" skip zeros in the
    input, whatever its other values.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output on `[..., C, H, W]` or `[..., K]`."""
        if self.linear:
            if self.kernel == "dense":
                rows = self._weights.rows("dense")
                return F.linear(x, rows.flatten(1), self._weights.bias)
            y = self._run(x.reshape(x.shape[:-1].numel(), x.shape[-1], 1, 1))
            return y.view(*x.shape[:-1], y.shape[1])
        if x.dim() == 4:
            return self._run(x)
        y = self._run(x.flatten(0, 1))
        return y.view(*x.shape[:2], *y.shape[1:])

    def _run(self, x: Tensor) -> Tensor:
        w = self._weights
        weight = w.rows("dense")
        if self.kernel == "dense":
            return F.conv2d(x, weight, w.bias, **self.geometry)
        return spike_conv2d(x, weight, w.bias, rows=w.rows(self.kernel), kernel=self.kernel, **self.geometry)


class ConvNeuronBlock(_Layer):
    """Packed spikes → convolution (+ normalisation, + residual) → neuron → packed spikes, over all steps.

    Args:
        layer: see `ConvBlock`.
        neuron: an IF, LIF or parametric LIF module; its `v` holds the state.
        constants: reads the constants of such a module.
        bn: see `ConvBlock`.
        kwargs: see `ConvBlock`.
    """

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        neuron: nn.Module,
        constants: Constants,
        bn: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, bn, **kwargs)
        self._membrane = Membrane(neuron, constants)

    def forward(self, spikes: Spikes, residual: Tensor | Spikes | None = None) -> Spikes:
        """Return the spikes of every step."""
        w, m = self._weights, self._membrane
        params = m.refresh()
        steps = spikes.lead[0] if m.steps_in_lead else 1
        if isinstance(residual, Spikes):
            residual = residual.words if self.kernel != "dense" else unpack(residual)
        if residual is not None and residual.dtype != torch.int32:
            residual = residual.flatten(0, 1) if m.steps_in_lead else residual
            residual = residual[:, :, None, None] if self.linear else residual
        if self.kernel == "dense":
            y = self._convolved(spikes)
            y = y if residual is None else y + residual
            v0 = m.read((y.shape[0] // steps, *y.shape[1:]))
            words, v = lif_pack(y, params, steps=steps, v0=v0)
        else:
            rows = w.rows(self.kernel)
            v0 = m.read(self._state_shape(spikes, steps))
            words, v = conv_lif(
                spikes.words,
                rows,
                w.bias,
                params,
                steps=steps,
                channels=spikes.channels,
                v0=v0,
                residual=residual,
                kernel=self.kernel,
                **self.window,
            )
        m.write(v, self.linear)
        return Spikes(words, self.out_channels, spikes.lead, self.linear)

    def _state_shape(self, spikes: Spikes, steps: int) -> tuple[int, ...]:
        m, height, width, _ = spikes.words.shape
        window = self.window
        sides = zip(
            (height, width),
            window["kernel_size"],
            window["stride"],
            window["padding"],
            window["dilation"],
            strict=True,
        )
        return (m // steps, self.out_channels, *[(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides])


class NeuronBlock(nn.Module):
    """Floats → neuron → spikes, over all steps.

    Args:
        neuron: an IF, LIF or parametric LIF module; its `v` holds the state.
        constants: reads the constants of such a module.
        packed: give packed spikes rather than floats.
        repeat: steps over which an input `[N, ...]` without a time axis is repeated; 0 if it has one.
        keep: read and write the state; else every call starts at rest and leaves none.
    """

    def __init__(
        self, neuron: nn.Module, constants: Constants, *, packed: bool = True, repeat: int = 0, keep: bool = True
    ) -> None:
        super().__init__()
        self._membrane = Membrane(neuron, constants, keep=keep)
        self.packed = packed
        self.repeat = repeat

    def forward(self, x: Tensor) -> Spikes | Tensor:
        """Return the spikes of every step."""
        m = self._membrane
        params = m.refresh()
        # As `Repeat`: a sequence passes with the steps that it brings.
        repeat, sequence = self.repeat > 0 and x.dim() != 5, m.steps_in_lead
        if repeat:
            steps, flat = self.repeat, x
            lead: tuple[int, ...] = (self.repeat, x.shape[0])
        else:
            steps = x.shape[0] if sequence else 1
            lead = tuple(x.shape[:2]) if sequence else (x.shape[0],)
            flat = x.flatten(0, 1) if sequence else x
        if flat.dtype == torch.float16 and (m.keep or not flat.is_cuda):
            # The potential comes back in the type of the currents, and half of it is not enough to go on from.
            flat = flat.float()
        features = self.packed and flat.dim() == 2
        flat = flat[:, :, None, None] if features else flat
        # Tokens `[..., C, L]` are packed as L rows of one pixel.
        tokens = self.packed and flat.dim() == 3
        flat = flat[..., None] if tokens else flat
        samples = flat.shape[0] if repeat else flat.shape[0] // steps
        v0 = m.read((samples, *flat.shape[1:]))
        if not self.packed:
            spikes, v = lif(flat, params, steps=steps, v0=v0, repeat=repeat)
            m.write(v, False)
            return spikes.view(*lead, *flat.shape[1:])
        words, v = lif_pack(flat, params, steps=steps, v0=v0, repeat=repeat)
        m.write(v.squeeze(-1) if tokens and v is not None else v, features)
        return Spikes(words, flat.shape[1], lead, features)

    def extra_repr(self) -> str:
        """Return the form of the output."""
        return f"packed={self.packed}, repeat={self.repeat}"


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
