"""The layers of an integer network: codes in, codes out, carried exactly in float32."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.fuse import fold_scale
from sparseflow.compress.quantize.qat import QuantLayer
from sparseflow.compress.quantize.spec import QuantSpec, dequantize, quantize
from sparseflow.errors import ConfigError, UnsupportedError

__all__ = [
    "Bias",
    "IntegerCat",
    "IntegerInput",
    "IntegerLayer",
    "IntegerMean",
    "IntegerOutput",
    "IntegerSum",
    "largest_sums",
    "same_batch",
]

Bias = Literal["float32", "int32"]

_EXACT = 2**24
_LARGEST_BIAS = 2.0**22
_NO_STEP = 1e-25


class IntegerInput(nn.Module):
    """Real numbers to codes.

    Args:
        spec: what the codes stand for.

    Shapes: any float32 to the same.
    """

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes of `x`."""
        return quantize(x, self.spec)


class IntegerOutput(nn.Module):
    """Codes to real numbers.

    Args:
        spec: what the codes stand for.

    Shapes: any to the same.
    """

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, codes: Tensor) -> Tensor:
        """Return the real numbers of codes."""
        return dequantize(codes, self.spec)


class IntegerLayer(nn.Module):
    """A convolution or linear layer on codes.

    With c = code − zero point of the input, sums[m] = Σ_k weight[m, k] · c[k] is a whole number. Each partial sum, in
    whatever order, stays below 2²⁴, so that float32 holds it exactly; where the weights would allow more, the input
    channels are split into parts whose sums are added in int32. Then

    code = clamp(round((sums + bias) · multiplier) + zero_point, low, high),

    with bias in units of the sums, multiplier = scale_in · scale_w[m] / scale_out in float32, and halves rounded to
    even, as fbgemm does it.

    Args:
        trained: the layer to take over; its normalisation is folded.
        source: what the codes of the input stand for.
        bias: "float32" adds it as fbgemm does; "int32" rounds it to a whole number first, as hardware does.
        largest_code: codes of the input may be changed to values up to this one.

    Attributes:
        target: what the codes of the output stand for, or None if the output is real: (sums + bias) · step.
        parts: slices of the input channels (of each group) that are summed apart.
        sums_dtype: float32, or float64 for the slow reference.

    Raises:
        ConfigError: no such bias.
        UnsupportedError: one input channel alone can exceed 2²⁴.

    Shapes: as of the layer.
    Source: Jacob et al., CVPR 2018, section 2; FBGEMM's ReQuantizeOutput.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor
    multiplier: Tensor

    def __init__(
        self, trained: QuantLayer, source: QuantSpec, *, bias: Bias = "float32", largest_code: int = 127
    ) -> None:
        super().__init__()
        if bias not in ("float32", "int32"):
            raise ConfigError(f"bias is {bias!r}; expected 'float32' or 'int32'")
        self.path, self.source, self.cap, self.bias_kind = trained.path, source, trained.cap, bias
        self.target = trained.output.spec() if trained.output is not None else None
        self.call = _settings(trained.layer)
        codes, step, shift = _folded(trained, source, bias)
        self.register_buffer("weight", codes)
        self.register_buffer("step", step)
        self.register_buffer("bias", torch.round(shift / step) if bias == "int32" else shift / step)
        unit = torch.tensor(1.0 if self.target is None else self.target.scale)
        self.register_buffer("multiplier", step / unit)
        self.low, self.high = bounds(self.target, self.cap)
        reach = (source.qmin - source.zero_point, max(source.qmax, largest_code) - source.zero_point)
        self.parts = _parts(codes, reach, self.path)
        self.sums_dtype = torch.float32

    def forward(self, codes: Tensor) -> Tensor:
        """Return the codes of the output, or real numbers where `target` is None."""
        return self.finish(self.sums(codes))

    def finish(self, sums: Tensor) -> Tensor:
        """Return what `forward` does, from the sums; float32 sums are written over."""
        shape = (-1, *[1] * (self.weight.dim() - 2))
        bias, multiplier = self.bias.view(shape), self.multiplier.view(shape)
        if sums.dtype == torch.int32 and self.bias_kind == "int32":
            total = (sums + bias.to(torch.int32)).float()
        else:
            total = sums.float().add_(bias)
        if self.target is None:
            real = total.mul_(multiplier)
            return real if self.cap is None else real.clamp(0.0, self.cap)
        return requantize(total.mul_(multiplier), self.target, self.low, self.high)

    def sums(self, codes: Tensor) -> Tensor:
        """Return Σ weight · (code − zero point): float32 if one part holds it, else int32."""
        centred = codes - self.source.zero_point if self.source.zero_point else codes
        if self.sums_dtype == torch.float64:
            return torch.round(self.run(centred.double(), self.weight.double())).to(torch.int32)
        if len(self.parts) == 1:
            return self.run(centred, self.weight)
        found = [self.run(self.take(centred, part), self.weight[:, slice(*part)]) for part in self.parts]
        total = found[0].to(torch.int32)
        for one in found[1:]:
            total = total + one.to(torch.int32)
        return total

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's sums in the type of `x`."""
        if self.weight.dim() == 2:
            return F.linear(x, weight)
        if self.call["pad"]:
            x = F.pad(x, self.call["pad"], mode=self.call["pad_mode"])
        conv: Any = F.conv1d if weight.dim() == 3 else F.conv2d
        names = ("stride", "padding", "dilation", "groups")
        return cast(Tensor, conv(x, weight, None, **{name: self.call[name] for name in names}))

    def take(self, x: Tensor, part: tuple[int, int]) -> Tensor:
        """Return the input channels of one part, of every group."""
        if self.weight.dim() == 2:
            return x[..., slice(*part)]
        groups = self.call["groups"]
        grouped = x.reshape(len(x), groups, self.weight.shape[1], *x.shape[2:])
        return grouped[:, :, slice(*part)].flatten(1, 2)


def _settings(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {}
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    plain = layer.padding_mode == "zeros"
    return {
        "stride": layer.stride, "padding": layer.padding if plain else 0, "dilation": layer.dilation,
        "groups": layer.groups, "pad": () if plain else tuple(layer._reversed_padding_repeated_twice),
        "pad_mode": "constant" if plain else layer.padding_mode,
    }  # fmt: skip


@torch.no_grad()
def _folded(trained: QuantLayer, source: QuantSpec, bias: Bias) -> tuple[Tensor, Tensor, Tensor]:
    """Return weight codes, the real value of a step of the sums, and the shift of each channel, all float32."""
    weight = trained.layer.weight.detach()
    codes = trained.weight.codes(weight)
    factor, shift = fold_scale(trained.bn, trained.layer.bias, len(codes))
    factor, shift = factor.to(codes.device), shift.to(codes.device)
    each = (-1, *[1] * (codes.dim() - 1))
    codes = codes * torch.where(factor < 0, -1.0, 1.0).to(codes.dtype).view(each)
    wide = trained.weight.scale.double() * factor.abs() * source.scale
    codes = torch.where((wide > _NO_STEP).view(each), codes, 0.0)
    wide = torch.where(wide > _NO_STEP, wide, source.scale)
    if bias == "int32":
        # A factor near 0 makes the shift many sums long; coarser weights bring it into reach.
        least = shift.abs() / _LARGEST_BIAS
        coarser = torch.round(codes * (wide / least.clamp(min=_NO_STEP)).view(each))
        codes = torch.where((wide < least).view(each), coarser, codes)
        wide = torch.maximum(wide, least)
    # In float32 from here on, in fbgemm's order of operations.
    return codes.float(), wide.float(), shift.float()


def largest_sums(weight: Tensor, low: int, high: int) -> Tensor:
    """Return for each output channel the largest |Σ weight · c| over any subset of terms, low ≤ c ≤ high.

    Args:
        weight: `[C_out, ...]` whole numbers.
        low: smallest c, at most 0.
        high: largest c, at least 0.

    Returns:
        `[C_out]` float64.

    >>> largest_sums(torch.tensor([[3.0, -2.0]]), 0, 127)
    tensor([381.], dtype=torch.float64)
    """
    flat = weight.double().flatten(1)
    up, down = flat.clamp(min=0).sum(1), -flat.clamp(max=0).sum(1)
    return torch.maximum(up * high - down * low, down * high - up * low)


def _parts(weight: Tensor, reach: tuple[int, int], path: str) -> tuple[tuple[int, int], ...]:
    """Return the fewest equal slices of the input channels whose partial sums all stay below 2²⁴."""
    channels = weight.shape[1]
    if weight.numel() == 0:
        return ((0, channels),)
    first = max(1, math.ceil(float(largest_sums(weight, *reach).max()) / _EXACT))
    for count in range(first, channels + 1):
        size = math.ceil(channels / count)
        parts = tuple((a, min(a + size, channels)) for a in range(0, channels, size))
        if all(float(largest_sums(weight[:, slice(*part)], *reach).max()) < _EXACT for part in parts):
            return parts
    raise UnsupportedError(
        f"layer {path!r}: the sums of one input channel can exceed 2^24, which float32 does not hold exactly; "
        "use a smaller kernel"
    )


def bounds(target: QuantSpec | None, cap: float | None) -> tuple[int, int]:
    """Return the smallest and the largest code behind a ReLU with an upper end, or behind none.

    >>> bounds(QuantSpec(scale=0.5, zero_point=3), 6.0), bounds(QuantSpec(scale=0.5, zero_point=3), None)
    ((3, 15), (0, 127))
    """
    if target is None:
        return 0, 0
    if cap is None:
        return target.qmin, target.qmax
    top = target.qmax if cap == math.inf else min(target.qmax, target.zero_point + round(cap / target.scale))
    return max(target.qmin, target.zero_point), top


def requantize(steps: Tensor, target: QuantSpec, low: int, high: int) -> Tensor:
    """Return clamp(round(steps) + zero_point, low, high), halves to even.

    Args:
        steps: real numbers in units of the target; written over.
        target: what the codes stand for.
        low: smallest code.
        high: largest code.
    """
    codes = steps.round_()
    return (codes.add_(target.zero_point) if target.zero_point else codes).clamp_(low, high)


def same_batch(values: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of one batch size: those of fewer images are repeated, candidates outermost.

    Args:
        values: `[N, ...]` or `[K·N, ...]` each, of the same rank.

    >>> [len(x) for x in same_batch([torch.ones(2, 1), torch.ones(6, 1)])]
    [6, 6]
    """
    most = max(len(v) for v in values)
    return [v if len(v) in (0, most) else v.repeat(most // len(v), *[1] * (v.dim() - 1)) for v in values]


class IntegerSum(nn.Module):
    """Sum of one or several tensors of codes, in codes of its own: residual additions, and rescaling.

    code = clamp(round(Σ_i (code_i − zero_i) · ratio_i) + zero, low, high) with ratio_i = scale_i / scale as float32;
    terms are added in order.

    Args:
        sources: what the codes of each input stand for.
        target: what the codes of the output stand for.
        cap: upper end of a ReLU in front of the output, infinity if it has none; None for no ReLU.

    Shapes: inputs of one shape (or broadcast), `[N, ...]` or `[K·N, ...]`.
    """

    def __init__(self, sources: Sequence[QuantSpec], target: QuantSpec, cap: float | None = None) -> None:
        super().__init__()
        self.sources, self.target, self.cap = tuple(sources), target, cap
        self.low, self.high = bounds(target, cap)
        self.ratios = tuple(s.scale / target.scale for s in sources)

    def forward(self, *codes: Tensor) -> Tensor:
        """Return the codes of the sum."""
        terms = [(c - s.zero_point) * r for c, s, r in zip(same_batch(codes), self.sources, self.ratios, strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return requantize(total, self.target, self.low, self.high)


class IntegerCat(nn.Module):
    """Concatenation of tensors of codes that stand for different steps.

    Args:
        sources: what the codes of each input stand for.
        target: what the codes of the output stand for.
        cap: as of `IntegerSum`.
        dim: axis; not the batch.

    Raises:
        UnsupportedError: the axis is the batch.
    """

    def __init__(
        self, sources: Sequence[QuantSpec], target: QuantSpec, cap: float | None = None, *, dim: int = 1
    ) -> None:
        super().__init__()
        if dim == 0:
            raise UnsupportedError("codes cannot be concatenated along the batch; join another axis")
        self.dim, self.target = dim, target
        self.each = nn.ModuleList(IntegerSum([source], target, cap) for source in sources)

    def forward(self, *codes: Tensor) -> Tensor:
        """Return the joined codes."""
        return torch.cat([one(c) for one, c in zip(self.each, same_batch(codes), strict=True)], self.dim)


class IntegerMean(nn.Module):
    """Average of codes, in codes of its own.

    Over whole axes: code = clamp(round(Σ (code − zero_in) · ratio) + zero, low, high) with
    ratio = scale_in / (scale · n) as float32, so that the sum is a whole number. A pool with windows averages in
    float32 and then scales.

    Args:
        source: what the codes of the input stand for.
        target: what the codes of the output stand for.
        cap: as of `IntegerSum`.
        axes: the whole axes to average, the batch not among them; empty for a pool.
        keepdim: keep them with length 1.
        pool: the pool, if `axes` is empty.
        settings: further arguments of the pool.
    """

    def __init__(
        self,
        source: QuantSpec,
        target: QuantSpec,
        cap: float | None = None,
        *,
        axes: tuple[int, ...] = (),
        keepdim: bool = True,
        pool: Callable[..., Any] | None = None,
        settings: tuple[tuple[Any, ...], dict[str, Any]] = ((), {}),
    ) -> None:
        super().__init__()
        self.source, self.target, self.axes, self.keepdim = source, target, axes, keepdim
        self.pool, self.settings = pool, settings
        self.low, self.high = bounds(target, cap)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the codes of the average."""
        centred = codes - self.source.zero_point if self.source.zero_point else codes
        ratio = self.source.scale / self.target.scale
        if self.pool is not None:
            found: Tensor = self.pool(centred, *self.settings[0], **self.settings[1])
        else:
            found = centred.sum(self.axes, keepdim=self.keepdim)
            ratio /= math.prod(codes.shape[a] for a in self.axes)
        return requantize(found * ratio, self.target, self.low, self.high)
