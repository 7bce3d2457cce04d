"""Linear layers on spikes: the convolution's kernels on maps of one pixel."""

from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops import conv2d_spike
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.linear_spike.cpp import as_conv, pack
from sparseflow.ops.linear_spike.space import OP

__all__ = ["OP", "linear_lif", "linear_words", "pack_weight", "spike_linear"]


def pack_weight(weight: Tensor, *, kernel: str = "auto") -> Tensor:
    """Pack a `[Cout, K]` weight once, for many calls.

    Raises:
        UnsupportedError: the named kernel rejects this weight; says why.
        ConfigError: `weight` is not 2-D.
    """
    if weight.ndim != 2:
        raise ConfigError(f"pack_weight: weight has shape {tuple(weight.shape)}; expected [Cout, K]")
    return pack(weight, kernel)


def spike_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rows: Tensor | None = None, kernel: str = "auto"
) -> Tensor:
    """Multiply by a weight, faster where the input is sparse; a drop-in for `F.linear`.

    Args:
        x: `[..., K]`, any values.
        weight: `[Cout, K]`.
        bias: `[Cout]`, or None.
        rows: `pack_weight(weight)` if at hand.
        kernel: "dense", "event", or "auto".

    Returns:
        `[..., Cout]` in the type of `x`; gradients are those of `F.linear`.

    Raises:
        UnsupportedError: the named kernel rejects these operands; says why.
        ConfigError: shapes that do not fit.

    Cost: one addition an active input and output channel.

    >>> import torch
    >>> spike_linear(torch.ones(2, 3), torch.ones(1, 3))
    tensor([[3.],
            [3.]])
    """
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ConfigError(f"spike_linear: input {tuple(x.shape)} and weight {tuple(weight.shape)} do not fit")
    flat = x.reshape(-1, weight.shape[1], 1, 1) if x.numel() else x.new_empty((0, weight.shape[1], 1, 1))
    y = conv2d_spike.spike_conv2d(flat, as_conv(weight), bias, rows=rows, kernel=kernel)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def linear_words(
    words: Tensor, rows: Tensor, bias: Tensor | None = None, *, channels: int, out_channels: int, kernel: str = "auto"
) -> Tensor:
    """Multiply packed spikes by a weight: bits in, floats out.

    Args:
        words: int32 `[M, 1, 1, ceil(channels/32)]`.
        rows: from `pack_weight`; its kind decides the kernel.
        bias: `[out_channels]`, or None.
        channels: K.
        out_channels: Cout.
        kernel: "auto", or the kernel that `rows` were packed for.

    Returns:
        float32 `[M, Cout]`.

    Raises:
        UnsupportedError: `rows` were packed for another kernel, or it rejects these operands.
        ConfigError: shapes that do not fit.
    """
    y = conv2d_spike.conv_words(
        words, rows, bias, channels=channels, out_channels=out_channels, kernel_size=1, kernel=kernel
    )
    return y.flatten(1)


def linear_lif(
    words: Tensor,
    rows: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    *,
    steps: int,
    channels: int,
    out_channels: int,
    v0: Tensor | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Multiply packed spikes by a weight and run neurons on the result: bits in, bits out.

    Args:
        words: int32 `[steps*N, 1, 1, ceil(channels/32)]`.
        rows: from `pack_weight`; its kind decides the kernel.
        bias: `[out_channels]`, or None.
        params: constants of the neurons.
        steps: T.
        channels: K.
        out_channels: Cout.
        v0: `[N, Cout]` potential before the first step; `params.v_rest` if None.
        kernel: "auto", or the kernel that `rows` were packed for.

    Returns:
        Words `[steps*N, 1, 1, ceil(Cout/32)]` and the last potential `[N, Cout]`.

    Raises:
        UnsupportedError: `rows` were packed for another kernel, or it rejects these operands.
        ConfigError: shapes that do not fit.
    """
    out, v = conv2d_spike.conv_lif(
        words,
        rows,
        bias,
        params,
        steps=steps,
        channels=channels,
        out_channels=out_channels,
        kernel_size=1,
        v0=None if v0 is None else v0[:, :, None, None],
        kernel=kernel,
    )
    return out, v.flatten(1)
