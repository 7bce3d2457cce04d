"""The slow and obvious way through a program: whole numbers in float64, one step after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import DataError
from sparseflow.ops.int8_net.program import Program, Step, Value

__all__ = ["run", "values"]


def run(program: Program, images: Tensor) -> Tensor:
    """Return the outputs `[N, *output_shape]` of float32 images `[N, C, H, W]`.

    Raises:
        DataError: an image has NaN.
    """
    return values(program, images)[program.output].reshape(len(images), *program.output_shape)


def values(program: Program, images: Tensor) -> dict[int, Tensor]:
    """Return every value by number, `[N, C, H, W]`: codes as float64, real numbers as float32."""
    if bool(images.isnan().any()):
        raise DataError("the images have NaN")
    found: dict[int, Tensor] = {}
    for step in program.steps:
        inputs = [found[i] for i in step.inputs]
        zeros = [program.values[i].zero for i in step.inputs]
        out = program.values[step.output]
        found[step.output] = _step(step, images, inputs, zeros, out).reshape(len(images), *out.shape)
    return found


def _step(step: Step, images: Tensor, inputs: list[Tensor], zeros: list[int], out: Value) -> Tensor:
    if step.op == "quantize":
        return _codes(images.float() * step.ratios[0], step, out)
    if step.op == "layer":
        return _layer(step, inputs[0] - zeros[0], out)
    if step.op == "max_pool":
        return _max_pool(step, inputs[0], out)
    if step.op == "real_mean":
        return inputs[0].double().mean((2, 3)).float()
    centred = [(x - z).float() for x, z in zip(inputs, zeros, strict=True)]
    if step.op == "dequantize":
        return centred[0] * step.ratios[0]
    if step.op == "mean":
        return _codes(centred[0].sum((2, 3)) * step.ratios[0], step, out)
    if step.op == "average_pool":
        return _codes(_average(step, centred[0], out) * step.ratios[0], step, out)
    terms = [x * r for x, r in zip(centred, step.ratios, strict=True)]
    if step.op == "concat":
        return torch.cat([_codes(t, step, out) for t in terms], 1)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return _codes(total, step, out)


def _codes(steps: Tensor, step: Step, out: Value) -> Tensor:
    codes = (torch.round(steps.double()) + out.zero).clamp(step.low, step.high)
    return codes if step.table is None else step.table[codes.long()].double()


def _layer(step: Step, centred: Tensor, out: Value) -> Tensor:
    assert step.weight is not None
    assert step.bias is not None
    assert step.multiplier is not None
    sums = F.conv2d(centred, step.weight.double(), None, step.stride, step.padding, step.dilation, step.groups)
    bias, multiplier = step.bias.view(-1, 1, 1), step.multiplier.view(-1, 1, 1)
    total = (sums + bias.double()).float() if step.integer_bias else sums.float() + bias
    real = total * multiplier
    if not out.real:
        return _codes(real, step, out)
    return real if step.clamp is None else real.clamp(0.0, step.clamp)


def _windows(step: Step, x: Tensor, out: Value, fill: float) -> Tensor:
    """Return `[N, C, H', W', kh, kw]`, with `fill` outside of the map."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = step.kernel, step.stride, step.padding, step.dilation
    _, h, w = out.shape
    below = max(0, (h - 1) * sh + (kh - 1) * dh + 1 - ph - x.shape[2])
    right = max(0, (w - 1) * sw + (kw - 1) * dw + 1 - pw - x.shape[3])
    padded = F.pad(x, (pw, right, ph, below), value=fill)
    rows = (torch.arange(h) * sh).view(-1, 1, 1, 1) + (torch.arange(kh) * dh).view(1, 1, -1, 1)
    columns = (torch.arange(w) * sw).view(1, -1, 1, 1) + (torch.arange(kw) * dw).view(1, 1, 1, -1)
    return padded[:, :, rows, columns]


def _max_pool(step: Step, codes: Tensor, out: Value) -> Tensor:
    return _windows(step, codes, out, -1.0).amax((4, 5)).clamp(min=0.0)


def _average(step: Step, centred: Tensor, out: Value) -> Tensor:
    total = _windows(step, centred, out, 0.0).sum((4, 5))
    if step.divisor:
        return total / step.divisor
    (ph, pw), ones = step.padding, torch.ones(1, 1, *centred.shape[2:])
    if step.include_padding:
        ones = F.pad(ones, (pw, pw, ph, ph), value=1.0)
        plain = Step(op="max_pool", inputs=(), output=0, kernel=step.kernel, stride=step.stride)
        return total / _windows(plain, ones, out, 0.0).sum((4, 5))
    return total / _windows(step, ones, out, 0.0).sum((4, 5))
