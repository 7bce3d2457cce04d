"""Kernels of entropies and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "entropy_bytes"]


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def entropy_bytes(layer: Layer) -> Any:
    """Return the bytes of the features twice, once for windows and once for groups, and of the entropies."""
    given = layer.operand("input")
    return sum(o.bytes for o in layer.operands) + (0 if given is None else given.bytes)


OP = Op(
    name="window_entropy",
    serves=("window_entropy",),
    kernels=(
        Kernel(name="dense", summary="softmax, means and logarithms of torch, with a gradient"),
        Kernel(
            name="triton",
            summary="a patch over all times in registers, and groups as products of matrices; no gradient",
            refuses=_refuses_triton,
            bytes=entropy_bytes,
        ),
    ),
)
