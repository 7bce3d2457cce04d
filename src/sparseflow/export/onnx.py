"""ONNX files of integer networks: standard operators on 8-bit codes, equal to Python's bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.export._windows import counted, pads
from sparseflow.export.plan import make_folder
from sparseflow.ir.files import write_atomic
from sparseflow.ops.int8_net import Program, Step, Value

__all__ = ["export_onnx", "run_onnx", "to_onnx"]

_OPSET = 18
_IR = 9


def export_onnx(program: Program, path: str | Path) -> Path:
    """Write a program as an ONNX file, whole or not at all; its folder is made.

    Args:
        program: the network.
        path: the file.

    Raises:
        DataError: the file or its folder cannot be written.
        UnsupportedError: package onnx is not installed.
    """
    model = to_onnx(program)
    path = Path(path)
    make_folder(path.parent)
    return write_atomic(path, model.SerializeToString(deterministic=True))


def to_onnx(program: Program) -> Any:
    """Return a program as an ONNX model, from "images" float32 [N, C, H, W] to "logits" float32.

    Codes are uint8, sums int32 (ConvInteger, which adds nothing for padding as it pads with the code of 0), roundings
    float32 with halves to even, and the table of a point is a Gather from 256 codes.

    Raises:
        UnsupportedError: package onnx is not installed.
    """
    return _Writer(program).model()


def run_onnx(path: str | Path, images: Tensor) -> Tensor:
    """Run an ONNX file on the CPU by ONNX Runtime.

    Args:
        path: the file.
        images: float32 `[N, C, H, W]`.

    Raises:
        UnsupportedError: package onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise UnsupportedError("running an ONNX file needs package onnxruntime; pip install onnxruntime") from e
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.contiguous().numpy()})[0])


class _Writer:
    def __init__(self, program: Program) -> None:
        try:
            import onnx
        except ImportError as e:
            raise UnsupportedError("an ONNX file needs package onnx; pip install onnx") from e
        self.onnx, self.program = onnx, program
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def model(self) -> Any:
        program, helper = self.program, self.onnx.helper
        for step in program.steps:
            getattr(self, f"_{step.op}")(step, program.values[step.output])
        shape = self.constant(np.array([-1, *program.output_shape], dtype=np.int64))
        self.add("Reshape", [f"v{program.output}", shape], output="logits")
        kind = self.onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("images", kind, ["N", *program.input])],
            [helper.make_tensor_value_info("logits", kind, ["N", *program.output_shape])],
            initializer=[self.onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="sparseflow"
        )
        helper.set_model_props(made, dict(sorted(program.metadata.items())))
        self.onnx.checker.check_model(made, full_check=True)
        return made

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        return name

    def real(self, value: float) -> str:
        return self.constant(np.float32(value))

    def add(self, op: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        output = f"t{len(self.nodes)}" if output is None else output
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output], **attributes))
        return output

    def cast(self, x: str, kind: str, *, output: str | None = None) -> str:
        return self.add("Cast", [x], output=output, to=getattr(self.onnx.TensorProto, kind))

    def codes(self, steps: str, step: Step, zero: int, *, output: str | None) -> str:
        """Add table[clamp(rint(steps) + zero, low, high)]."""
        rounded = self.add("Round", [steps])
        shifted = self.add("Add", [rounded, self.real(zero)]) if zero else rounded
        held = self.add("Clip", [shifted, self.real(step.low), self.real(step.high)])
        if step.table is None:
            return self.cast(held, "UINT8", output=output)
        return self.add("Gather", [self.constant(step.table), self.cast(held, "INT32")], output=output)

    def centred(self, number: int) -> str:
        """Add a value's codes less the code of 0, in float32."""
        x, zero = self.cast(f"v{number}", "FLOAT"), self.program.values[number].zero
        return self.add("Sub", [x, self.real(zero)]) if zero else x

    def sums(self, number: int, weight: Tensor, pads: list[int], **attributes: Any) -> str:
        zero = self.constant(np.uint8(self.program.values[number].zero))
        return self.add(
            "ConvInteger", [f"v{number}", self.constant(weight), zero], kernel_shape=list(weight.shape[2:]), pads=pads,
            **attributes,
        )  # fmt: skip

    def _quantize(self, step: Step, out: Value) -> None:
        self.codes(self.add("Mul", ["images", self.real(step.ratios[0])]), step, out.zero, output=f"v{step.output}")

    def _layer(self, step: Step, out: Value) -> None:
        assert step.weight is not None
        assert step.bias is not None
        assert step.multiplier is not None
        (ph, pw), wide = step.padding, (-1, 1, 1)
        sums = self.sums(
            step.inputs[0], step.weight, [ph, pw, ph, pw], strides=list(step.stride), dilations=list(step.dilation),
            group=step.groups,
        )  # fmt: skip
        if step.integer_bias:
            total = self.cast(self.add("Add", [sums, self.constant(step.bias.to(torch.int32).view(wide))]), "FLOAT")
        else:
            total = self.add("Add", [self.cast(sums, "FLOAT"), self.constant(step.bias.view(wide))])
        factor = self.constant(step.multiplier.view(wide))
        name = f"v{step.output}"
        if not out.real:
            self.codes(self.add("Mul", [total, factor]), step, out.zero, output=name)
        elif step.clamp is None:
            self.add("Mul", [total, factor], output=name)
        else:
            real = self.add("Mul", [total, factor])
            self.add("Clip", [real, self.real(0.0), self.real(step.clamp)], output=name)

    def _max_pool(self, step: Step, out: Value) -> None:
        self.add(
            "MaxPool", [f"v{step.inputs[0]}"], output=f"v{step.output}", kernel_shape=list(step.kernel),
            strides=list(step.stride), dilations=list(step.dilation), pads=list(pads(self.program, step)),
        )  # fmt: skip

    def _sum(self, step: Step, out: Value) -> None:
        total = ""
        for number, ratio in zip(step.inputs, step.ratios, strict=True):
            term = self.add("Mul", [self.centred(number), self.real(ratio)])
            total = self.add("Add", [total, term]) if total else term
        self.codes(total, step, out.zero, output=f"v{step.output}")

    def _concat(self, step: Step, out: Value) -> None:
        parts = [
            self.codes(self.add("Mul", [self.centred(number), self.real(ratio)]), step, out.zero, output=None)
            for number, ratio in zip(step.inputs, step.ratios, strict=True)
        ]
        self.add("Concat", parts, output=f"v{step.output}", axis=1)

    def _mean(self, step: Step, out: Value) -> None:
        source = self.program.values[step.inputs[0]]
        total = self.add(
            "ReduceSum", [self.cast(f"v{step.inputs[0]}", "INT32"), self.constant(np.array([2, 3], dtype=np.int64))]
        )
        if source.zero:
            whole = np.int32(source.zero * source.shape[1] * source.shape[2])
            total = self.add("Sub", [total, self.constant(whole)])
        steps = self.add("Mul", [self.cast(total, "FLOAT"), self.real(step.ratios[0])])
        self.codes(steps, step, out.zero, output=f"v{step.output}")

    def _average_pool(self, step: Step, out: Value) -> None:
        channels = out.shape[0]
        ones = torch.ones(channels, 1, *step.kernel, dtype=torch.int8)
        sums = self.sums(
            step.inputs[0], ones, list(pads(self.program, step)), strides=list(step.stride),
            dilations=list(step.dilation), group=channels,
        )  # fmt: skip
        count = self.real(step.divisor) if step.divisor else self.constant(counted(self.program, step))
        mean = self.add("Div", [self.cast(sums, "FLOAT"), count])
        self.codes(
            self.add("Mul", [mean, self.real(step.ratios[0])]), step, out.zero, output=f"v{step.output}"
        )  # fmt: skip

    def _dequantize(self, step: Step, out: Value) -> None:
        self.add("Mul", [self.centred(step.inputs[0]), self.real(step.ratios[0])], output=f"v{step.output}")

    def _real_mean(self, step: Step, out: Value) -> None:
        wide = self.cast(f"v{step.inputs[0]}", "DOUBLE")
        mean = self.add("ReduceMean", [wide, self.constant(np.array([2, 3], dtype=np.int64))])
        self.cast(mean, "FLOAT", output=f"v{step.output}")
