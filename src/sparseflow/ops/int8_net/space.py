"""Kernels of an integer network and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op
from sparseflow.ops.int8_net.cpp import ABSENT
from sparseflow.ops.int8_net.program import Program

__all__ = ["OP", "plan_bytes"]


def _refuses_cpp(layer: Layer, target: Target) -> str | None:
    if target.kind != "cpu":
        return f"compiled for CPUs only; target {target.name!r} is a {target.kind}"
    return ABSENT


def plan_bytes(program: Program) -> dict[str, Any]:
    """Return the bytes of weights, of factors and tables, and of the codes that steps read and write for one image."""
    weights = factors = codes = 0
    for step in program.steps:
        weights += 0 if step.weight is None else step.weight.numel()
        for tensor in (step.bias, step.multiplier, step.table):
            factors += 0 if tensor is None else tensor.numel() * tensor.element_size()
        for number in (*step.inputs, step.output):
            value = program.values[number]
            c, h, w = value.shape
            codes += c * h * w * (4 if value.real else 1)
    return {"weights": weights, "factors": factors, "codes": codes}


OP = Op(
    name="int8_net",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="whole numbers in float64, step by step in torch"),
        Kernel(
            name="cpp",
            summary="8-bit products, 32-bit sums, tables fused into rounding, quads of zeros skipped",
            refuses=_refuses_cpp,
        ),
    ),
)
