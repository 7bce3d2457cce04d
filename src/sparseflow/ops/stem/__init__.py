"""The first layer of a spiking network: image → convolution → neuron over all steps → packed spikes, as one operator.

Its input has no time axis, so that the currents are computed once; they reach the
threshold test in float32, since a current that is rounded to 11 bits tips spikes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.lif import WORD, LIFParams, fields, lif_pack, on_triton, params_of
from sparseflow.ops.stem import reference
from sparseflow.ops.stem.reference import Window
from sparseflow.ops.stem.space import OP

__all__ = ["OP", "StemWeights", "Window", "pack_stem", "stem"]

DEPTH = 64
"""Terms of a sum are padded to a multiple of this, at most what a kernel takes a turn."""


@dataclass(frozen=True, slots=True)
class StemWeights:
    """A convolution's weights in two float16 parts, w = (high + low) · scale.

    Args:
        weight: `[C_out, C_in, kh, kw]` float32.
        bias: `[C_out]` float32 or None.
        high: `[K, 32·ceil(C_out/32)]` float16, K = C_in·kh·kw padded.
        low: what `high` leaves, or None where that is nothing.
        scale: a power of two for each output.
        padded_bias: `[32·ceil(C_out/32)]` float32.
    """

    weight: Tensor
    bias: Tensor | None
    high: Tensor
    low: Tensor | None
    scale: Tensor
    padded_bias: Tensor


def pack_stem(weight: Tensor, bias: Tensor | None = None) -> StemWeights:
    """Split weights for `stem`; 22 bits of each remain, all of those on grids of up to 11 bits.

    Args:
        weight: `[C_out, C_in, kh, kw]`, finite.
        bias: `[C_out]` or None.

    Raises:
        ConfigError: no such weight, or a bias of another length.

    >>> pack_stem(torch.full((1, 1, 1, 1), 0.75)).low is None
    True
    """
    if weight.ndim != 4 or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        raise ConfigError(f"pack_stem: weight and bias have shapes {shapes}; expected [C_out, C_in, kh, kw], [C_out]")
    rows = weight.detach().float().flatten(1)
    # Largest weights between 2^9 and 2^10: the low parts are then normal numbers of float16.
    exponent = torch.frexp(rows.abs().amax(1) if rows.numel() else rows.sum(1))[1].clamp(-100, 100)
    scale = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent - 10)
    scaled = rows / scale.unsqueeze(1)
    high = scaled.half()
    low = (scaled - high.float()).half()
    pad = (0, -rows.shape[0] % WORD)
    extra = (*pad, 0, -rows.shape[1] % DEPTH)
    shift = rows.new_zeros(len(rows)) if bias is None else bias.detach().float()
    return StemWeights(
        weight.detach().float(),
        None if bias is None else shift,
        F.pad(high.t(), extra).contiguous(),
        F.pad(low.t(), extra).contiguous() if bool(low.any()) else None,
        F.pad(scale, pad),
        F.pad(shift, pad),
    )


def stem(
    x: Tensor,
    weights: StemWeights,
    params: LIFParams,
    *,
    steps: int,
    window: Window | None = None,
    kernel: str = "auto",
) -> Tensor:
    """Convolve an image and fire over T steps from rest, on the same current at every step.

    i[k, p] = b[k] + Σ w[k, c, q] · x[c, p·stride + q·dilation - padding]; then the steps of `ops.lif`
    on x[t] = i. On CUDA with Triton the products are those of float16 parts, high · high,
    low · high and, unless the weights are exact in float16, high · low, summed in float32:
    the current's error is about 1e-6 of Σ|w·x| for images within ±65504, as in float32.

    Args:
        x: `[N, C_in, H, W]` images, float32 or float16.
        weights: from `pack_stem`.
        params: constants of the neurons.
        steps: T.
        window: where the convolution reads.
        kernel: "triton", "dense" for the library's convolution in float32, or "auto" for the first that runs.

    Returns:
        Words `[T*N, Ho, Wo, ceil(C_out/32)]`, as `lif_pack`.

    Raises:
        ConfigError: an image of other channels, smaller than the window, steps below 1, or no such kernel.
        UnsupportedError: Triton was asked for and does not take `x`; says why.

    Cost: 2·C_in·kh·kw flops an output (three such products at most), 6·T for the neuron; reads x, writes the words.
    Source: ours.

    >>> stem(torch.ones(1, 1, 1, 1), pack_stem(torch.full((2, 1, 1, 1), 1.5)), LIFParams(), steps=2)
    tensor([[[[0]]],
    <BLANKLINE>
    <BLANKLINE>
            [[[3]]]], dtype=torch.int32)
    """
    window = window or Window()
    shape = tuple(weights.weight.shape)
    if x.ndim != 4 or x.shape[1] != shape[1]:
        raise ConfigError(f"stem: x has shape {tuple(x.shape)}; expected [N, {shape[1]}, H, W]")
    if steps < 1:
        raise ConfigError(f"stem: steps is {steps}; expected 1 or more")
    if min(_output(x, weights.weight, window)) < 1:
        raise ConfigError(f"stem: a window of {shape[2:]} does not fit an image of {tuple(x.shape[2:])}")
    if kernel not in ("auto", "dense", "triton"):
        raise ConfigError(f"stem: kernel is {kernel!r}; expected 'auto', 'dense' or 'triton'")
    able = on_triton(x)
    if kernel == "triton" and not able:
        raise UnsupportedError(f"stem: Triton takes CUDA tensors, and no float64; x is {x.dtype} on {x.device}")
    w = weights
    tensors = (x, w.weight, w.bias, w.high, w.low, w.scale, w.padded_bias)
    places = [*window.stride, *window.padding, *window.dilation]
    return run(_stem, *tensors, steps, places, able and kernel != "dense", *fields(params))  # type: ignore[no-any-return]


def _output(x: Tensor, weight: Tensor, window: Window) -> tuple[int, int]:
    return window.output((x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))


def _empty(x: Tensor, weight: Tensor, steps: int, places: list[int]) -> Tensor:
    size = _output(x, weight, _window(places))
    return x.new_empty((steps * x.shape[0], *size, -(-weight.shape[0] // WORD)), dtype=torch.int32)


def _window(places: list[int]) -> Window:
    a, b, c, d, e, f = places
    return Window(stride=(a, b), padding=(c, d), dilation=(e, f))


@torch.library.custom_op("sparseflow::stem", mutates_args=())
def _stem(
    x: Tensor, weight: Tensor, bias: Tensor | None, high: Tensor, low: Tensor | None, scale: Tensor,
    padded_bias: Tensor, steps: int, places: list[int], fused: bool, tau: float, v_threshold: float,
    v_reset: float | None, decay_input: bool, leak: bool,
) -> Tensor:  # fmt: skip
    params, window = params_of(tau, v_threshold, v_reset, decay_input, leak), _window(places)
    if x.is_cuda and not fused:
        y = reference.currents(x.contiguous(memory_format=torch.channels_last), weight, bias, window)
        return lif_pack(y, params, steps=steps, repeat=True)[0]
    if not fused:
        return reference.stem(x, weight, bias, params, steps=steps, window=window)
    from sparseflow.ops.stem import triton

    words = _empty(x, weight, steps, places)
    kernel = (weight.shape[2], weight.shape[3])
    triton.stem(x, (high, low, scale, padded_bias), kernel, params, steps, window, words)
    return words


@_stem.register_fake
def _(x: Tensor, weight: Tensor, bias: Any, high: Any, low: Any, scale: Any, padded: Any, steps: int,
      places: list[int], *_: Any) -> Tensor:  # fmt: skip
    return _empty(x, weight, steps, places)
