"""PT2E files of integer networks: the graph that torchao's quantization by `torch.export` makes, with found tables."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import UnsupportedError
from sparseflow.export._windows import counted, pads
from sparseflow.export.plan import make_folder
from sparseflow.ir.files import write_atomic
from sparseflow.ops.int8_net import Program, Step

__all__ = ["export_pt2e", "run_pt2e", "to_pt2e"]

_LARGEST = 255


def export_pt2e(program: Program, path: str | Path) -> Path:
    """Write a program as a `.pt2` file, whole or not at all; its folder is made.

    Args:
        program: the network.
        path: the file.

    Raises:
        DataError: the file or its folder cannot be written.
        UnsupportedError: package torchao is not installed.
    """
    made = to_pt2e(program)
    path = Path(path)
    make_folder(path.parent)
    held = io.BytesIO()
    torch.export.save(made, held, extra_files=dict(sorted(program.metadata.items())))
    return write_atomic(path, held.getvalue())


def to_pt2e(program: Program) -> "torch.export.ExportedProgram":
    """Return a program as an exported graph, from images float32 `[N, C, H, W]` to logits float32, for any N.

    It is written in the operators of PT2E: `quantize_per_tensor` to uint8 codes, `dequantize_per_tensor`, and weights
    of int8 behind `dequantize_per_channel`, with float32 layers between them, which back ends such as
    `lower_pt2e_quantized_to_x86` fuse into integer ones. The table of a point is an index into 256 codes behind its
    quantize. The unit of every activation is its own code, so that scales are 1 and a weight's scale is the multiplier
    of its channel; only the image has its real scale.

    Unlike the other exports a layer sums products of rounded float32 numbers, so that a sum within its last digits of
    a half may round to the next code.

    Raises:
        UnsupportedError: package torchao is not installed.

    Source: https://docs.pytorch.org/ao/stable/pt2e_quantization/index.html.
    """
    _register()
    images = torch.zeros(2, *program.input)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(_Network(program).eval(), (images,), dynamic_shapes=({0: batch},))


def run_pt2e(path: str | Path, images: Tensor) -> Tensor:
    """Run a `.pt2` file on the CPU as it stands, in float32.

    Args:
        path: the file.
        images: float32 `[N, C, H, W]`.

    Raises:
        UnsupportedError: package torchao is not installed.
    """
    _register()
    with torch.no_grad():
        found: Tensor = torch.export.load(str(path)).module()(images)
    return found


def _register() -> None:
    """Let torchao register the operators."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchao.quantization.pt2e  # noqa: F401
    except ImportError as e:
        raise UnsupportedError("a PT2E file needs package torchao; pip install 'sparseflow[pt2e]'") from e


class _Network(nn.Module):
    """The steps of a program, each by the method of its operation."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        for i, step in enumerate(program.steps):
            for name, tensor in _constants(program, step).items():
                self.register_buffer(f"{name}{i}", tensor)

    def forward(self, images: Tensor) -> Tensor:
        found: dict[int, Tensor] = {}
        for i, step in enumerate(self.program.steps):
            inputs = [images] if step.op == "quantize" else [found[number] for number in step.inputs]
            made = getattr(self, f"_{step.op}")(i, step, inputs)
            found[step.output] = made.reshape(-1, *self.program.values[step.output].shape)
        return found[self.program.output].reshape(-1, *self.program.output_shape)

    def codes(self, i: int, step: Step, x: Tensor, scale: float = 1.0) -> Tensor:
        """Return table[clamp(rint(x / scale) + zero, low, high)], uint8."""
        zero = self.program.values[step.output].zero
        ops: Any = torch.ops.quantized_decomposed
        codes: Tensor = ops.quantize_per_tensor(x, scale, zero, step.low, step.high, torch.uint8)
        return codes if step.table is None else self.get_buffer(f"table{i}")[codes.to(torch.int32)]

    def real(self, step: Step, inputs: list[Tensor], at: int = 0, scale: float = 1.0) -> Tensor:
        """Return scale · (code − zero) of an input, float32."""
        zero = self.program.values[step.inputs[at]].zero
        ops: Any = torch.ops.quantized_decomposed
        found: Tensor = ops.dequantize_per_tensor(inputs[at], scale, zero, 0, _LARGEST, torch.uint8)
        return found

    def _quantize(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        return self.codes(i, step, inputs[0], 1.0 / step.ratios[0])

    def _layer(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        ops: Any = torch.ops.quantized_decomposed
        codes, scales, zeros, bias = (
            self.get_buffer(f"{name}{i}") for name in ("weight", "multiplier", "zeros", "bias")
        )
        weight = ops.dequantize_per_channel(codes, scales, zeros, 0, -127, 127, torch.int8)
        x = self.real(step, inputs)
        made = F.conv2d(x, weight, bias, step.stride, step.padding, step.dilation, step.groups)
        if not self.program.values[step.output].real:
            return self.codes(i, step, made)
        return made if step.clamp is None else made.clamp(0.0, step.clamp)

    def _max_pool(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        x = self.real(step, inputs)
        zero = self.program.values[step.output].zero
        top, left, below, right = pads(self.program, step)
        if top or left or below or right:
            # Code 0 is the least, and what a window of nothing but padding has.
            x = F.pad(x, (left, right, top, below), value=-float(zero))
        x = F.max_pool2d(x, step.kernel, step.stride, 0, step.dilation)
        ops: Any = torch.ops.quantized_decomposed
        found: Tensor = ops.quantize_per_tensor(x, 1.0, zero, 0, _LARGEST, torch.uint8)
        return found

    def _sum(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        total = self.real(step, inputs, 0, step.ratios[0])
        for at, ratio in enumerate(step.ratios[1:], 1):
            total = total + self.real(step, inputs, at, ratio)
        return self.codes(i, step, total)

    def _concat(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        parts = [self.codes(i, step, self.real(step, inputs, at, ratio)) for at, ratio in enumerate(step.ratios)]
        return torch.cat(parts, 1)

    def _mean(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        return self.codes(i, step, self.real(step, inputs).sum((2, 3)) * step.ratios[0])

    def _average_pool(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        top, left, below, right = pads(self.program, step)
        x = F.pad(self.real(step, inputs), (left, right, top, below))
        sums = F.avg_pool2d(x, step.kernel, step.stride, divisor_override=1)
        count = float(step.divisor) if step.divisor else self.get_buffer(f"count{i}")
        return self.codes(i, step, sums / count * step.ratios[0])

    def _dequantize(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        return self.real(step, inputs, 0, step.ratios[0])

    def _real_mean(self, i: int, step: Step, inputs: list[Tensor]) -> Tensor:
        return inputs[0].double().mean((2, 3)).float()


def _constants(program: Program, step: Step) -> dict[str, Tensor]:
    """Return what a step reads, by the name of its buffer."""
    found: dict[str, Tensor] = {}
    if step.table is not None:
        found["table"] = step.table
    if step.weight is not None:
        assert step.bias is not None
        assert step.multiplier is not None
        multiplier = step.multiplier.reshape(-1).expand(len(step.weight)).contiguous()
        found |= {"weight": step.weight, "multiplier": multiplier, "bias": step.bias * multiplier}
        found["zeros"] = torch.zeros(len(step.weight), dtype=torch.int64)
    if step.op == "average_pool" and not step.divisor:
        found["count"] = counted(program, step)
    return found
