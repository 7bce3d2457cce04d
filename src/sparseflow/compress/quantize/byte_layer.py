"""Integer layers on bytes: the same codes as in float32, four to a word, by the processor's products of bytes."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.integer_ops import IntegerLayer
from sparseflow.ops.conv2d_codes import conv2d_codes
from sparseflow.ops.lif import on_triton

__all__ = ["ByteLayer", "max_pool"]


class ByteLayer(nn.Module):
    """A layer of an integer network whose codes are uint8 and lie channels last.

    Where the device has products of bytes it uses them, with int32 sums inside; else it computes as that layer does,
    on CUDA in float64, since a library may there choose an algorithm that is not exact in float32. The codes are the
    same, bit for bit.

    Args:
        layer: the layer on codes in float32.

    Attributes:
        kernel: "onednn" (x86), "triton" (CUDA), or "float32" or "float64" for what the layer itself does.

    Shapes: as of the layer. uint8 codes, or float32 where the layer has no target.
    """

    def __init__(self, layer: IntegerLayer) -> None:
        super().__init__()
        self.layer = layer
        self.kernel = "float32"
        if layer.weight.is_cuda and layer.weight.dim() > 2:
            self.layer = copy.copy(layer)
            self.layer.sums_dtype = torch.float64
            self.kernel = "float64"
        if not _on_bytes(layer):
            return
        if on_triton(layer.weight) and layer.call["groups"] == 1:
            self._bytes = layer.weight.to(torch.int8).contiguous(memory_format=torch.channels_last)
            self.kernel = "triton"
        elif layer.weight.device.type == "cpu" and hasattr(torch.ops.onednn, "qconv2d_pointwise"):
            self._pack()
            if self._runs():
                self.kernel = "onednn"

    def forward(self, codes: Tensor) -> Tensor:
        """Return the codes of the output, or real numbers where the layer has no target."""
        if codes.dtype != torch.uint8:
            codes = codes.to(torch.uint8)
        if self.kernel == "triton":
            return self._on_tensor_cores(codes)
        if self.kernel == "onednn" and codes.shape[0]:
            out = self.layer.finish(self._sums(codes))
        else:
            out = self.layer(codes.float())
        if self.layer.target is None:
            return out
        codes = out.to(torch.uint8)
        return codes.contiguous(memory_format=torch.channels_last) if codes.ndim == 4 else codes

    def _on_tensor_cores(self, codes: Tensor) -> Tensor:
        layer, call = self.layer, self.layer.call
        target = layer.target
        bounds = None if target is None else (layer.low, layer.high, target.zero_point)
        out = conv2d_codes(
            codes, self._bytes, layer.bias, layer.multiplier, bounds=bounds, kernel="triton",
            stride=call["stride"], padding=call["padding"], dilation=call["dilation"],
        )  # fmt: skip
        return out.clamp(0.0, layer.cap) if target is None and layer.cap is not None else out

    def _pack(self) -> None:
        layer, call = self.layer, self.layer.call
        channels = layer.weight.shape[0]
        self._ones = torch.ones(channels)
        self._zeros = torch.zeros(channels, dtype=torch.int32)
        self._geometry = [list(call[key]) for key in ("stride", "padding", "dilation")]
        self._packed = torch.ops.onednn.qconv_prepack(
            layer.weight.to(torch.int8), self._ones, 1.0, 0, *self._geometry, call["groups"], None
        )

    def _sums(self, codes: Tensor) -> Tensor:
        """Return Σ weight · code, float32 `[N, C, H, W]`, channels last."""
        codes = codes.contiguous(memory_format=torch.channels_last)
        sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes, 1.0, 0, self._packed, self._ones, self._zeros, None, *self._geometry, self.layer.call["groups"],
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return sums

    def _runs(self) -> bool:
        """Tell whether the library has a kernel for this geometry."""
        weight, call = self.layer.weight, self.layer.call
        size = [max(k * d, 1) for k, d in zip(weight.shape[2:], call["dilation"], strict=True)]
        try:
            self._sums(torch.zeros(1, weight.shape[1] * call["groups"], *size, dtype=torch.uint8))
        except RuntimeError:
            return False
        return True


def _on_bytes(layer: IntegerLayer) -> bool:
    """Tell whether codes are bytes from 0 on, in a convolution padded with 0 whose sums are rounded like an int32."""
    conv = layer.weight.dim() == 4 and not layer.call["pad"] and not isinstance(layer.call["padding"], str)
    # Two products of 127·127 fit the 16 bits in which processors without VNNI add them.
    codes = layer.source.qmin == 0 == layer.source.zero_point and layer.source.qmax <= 127
    # Sums in parts get a whole bias before they are rounded to float32.
    plain = len(layer.parts) == 1 or layer.bias_kind == "float32"
    return conv and codes and plain and layer.sums_dtype == torch.float32 and layer.weight.numel() > 0


def max_pool(codes: Tensor, pool: nn.MaxPool2d) -> Tensor:
    """Return what a max-pool makes of bytes, as maxima of shifted slices, which is several times as fast.

    Args:
        codes: uint8 `[N, C, H, W]`.
        pool: its window; `ceil_mode` is not looked at.

    Returns:
        uint8, in the layout of `codes`.

    >>> max_pool(torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2), nn.MaxPool2d(2)).item()
    3
    """
    pads, windows, strides, gaps = (_pair(v) for v in (pool.padding, pool.kernel_size, pool.stride, pool.dilation))
    # A window holds at least one code, and none is below 0.
    out = F.pad(codes, (pads[1], pads[1], pads[0], pads[0])) if any(pads) else codes
    for dim, (window, stride, gap) in enumerate(zip(windows, strides, gaps, strict=True), 2):
        count = (out.shape[dim] - gap * (window - 1) - 1) // stride + 1
        found = None
        for i in range(window):
            at = (slice(None),) * dim + (slice(i * gap, i * gap + (count - 1) * stride + 1, stride),)
            found = out[at] if found is None else torch.maximum(found, out[at])
        assert found is not None
        out = found
    return out.contiguous(memory_format=torch.channels_last)


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
