"""Kernels of the convolution by blocks and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._op import Kernel, Op

__all__ = ["BLOCKS", "OP", "block_bytes", "block_flops", "refuses_triton"]

BLOCKS = (4, 8, 16)


def refuses_triton(layer: Layer, target: Target) -> str | None:
    """Return why the Triton kernel rejects a layer, or None."""
    if target.kind != "gpu":
        return f"a Triton kernel runs on GPUs; target {target.name!r} is a {target.kind}"
    if layer.attr("groups", 1) != 1:
        return f"takes one group; the layer has {layer.attr('groups', 1)}"
    x = layer.operand("input")
    if x is not None and x.precision.name not in ("float32", "float16", "bfloat16"):
        return f"takes float32, float16 and bfloat16; the layer has {x.precision.name}"
    return None


def block_flops(layer: Layer) -> Any:
    """Return the operations at worst, when every block is active, as on living networks; the density tells nothing."""
    shapes = {o.role: o.shape for o in reversed(layer.operands)}
    return flops(layer.op, shapes, dict(layer.attrs))


def block_bytes(layer: Layer) -> Any:
    """Return the bytes of both stages: the input is read twice."""
    x = layer.operand("input")
    return layer.bytes + (0.0 if x is None else x.numel * x.precision.bits / 8)


OP = Op(
    name="conv2d_block",
    serves=("conv2d",),
    kernels=(
        Kernel(name="dense", summary="torch's dense convolution"),
        Kernel(
            name="triton",
            summary="flags active blocks, then multiplies only channels with one in reach",
            refuses=refuses_triton,
            flops=block_flops,
            bytes=block_bytes,
        ),
    ),
)
