"""Kernels of the training neuron and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "fire_bytes", "fire_flops"]


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def fire_flops(layer: Layer) -> Any:
    """Return the operations of both passes; the backward one integrates again before it differentiates."""
    shapes = {o.role: o.shape for o in reversed(layer.operands)}
    return 3 * flops("fire", shapes)


def fire_bytes(layer: Layer) -> Any:
    """Return the bytes of both passes: input and spikes, then input, gradient in and gradient out."""
    x = layer.operand("input")
    return 0.0 if x is None else 5 * x.bytes


OP = Op(
    name="fire",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="one torch operation a step and term", flops=fire_flops, bytes=fire_bytes),
        Kernel(
            name="triton",
            summary="all steps of a pass in one kernel",
            refuses=_refuses_triton,
            flops=fire_flops,
            bytes=fire_bytes,
        ),
    ),
)
