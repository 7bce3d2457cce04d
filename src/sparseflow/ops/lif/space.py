"""Kernels of the neuron and what they cost."""

from sparseflow.ir import Layer, Target
from sparseflow.ops._library import ABSENT
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP"]


def _refuses_cpp(layer: Layer, target: Target) -> str | None:
    if target.kind != "cpu":
        return f"compiled for CPUs only; target {target.name!r} is a {target.kind}"
    x = layer.operand("input")
    if x is not None and x.precision.name != "float32":
        return f"takes float32 input; the layer has {x.precision.name}"
    return ABSENT


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


OP = Op(
    name="lif",
    serves=("lif", "if", "plif"),
    kernels=(
        Kernel(name="dense", summary="one torch operation a step and term"),
        Kernel(name="cpp", summary="all steps in one pass, spikes as floats or bits", refuses=_refuses_cpp),
        Kernel(name="triton", summary="all steps in one pass on a GPU, spikes as bits", refuses=_refuses_triton),
    ),
)
