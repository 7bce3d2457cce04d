"""Kernels of the convolution of codes and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "operand_bytes"]


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def operand_bytes(layer: Layer) -> Any:
    """Return the bytes of all operands, each moved once."""
    return layer.bytes


OP = Op(
    name="conv2d_codes",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="torch's convolution in float64, then one step after the other"),
        Kernel(
            name="triton",
            summary="an implicit product of matrices of bytes on tensor cores, rounded to codes in registers",
            refuses=_refuses_triton,
            bytes=operand_bytes,
        ),
    ),
)
