"""Kernels of the first layer and what they cost."""

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP"]


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


OP = Op(
    name="stem",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="the library's convolution in float32, then the neuron"),
        Kernel(name="triton", summary="convolution and all steps in one kernel", refuses=_refuses_triton),
    ),
)
