"""Kernels of the segment function and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op
from sparseflow.ops.triseg.cpp import ABSENT

__all__ = ["OP", "lookup_bytes"]


def _refuses_cpp(layer: Layer, target: Target) -> str | None:
    if target.kind != "cpu":
        return f"compiled for CPUs only; target {target.name!r} is a {target.kind}"
    x = layer.operand("input")
    if x is not None and x.precision.name not in ("float32", "uint8"):
        return f"takes float32 and uint8 codes; the layer has {x.precision.name}"
    return ABSENT


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def lookup_bytes(layer: Layer) -> Any:
    """Return the bytes of the codes in and out, and of the tables of 256, as many as the attribute "maps" says."""
    x, y = layer.operand("input"), layer.operand("output")
    if x is None or y is None:
        return 0.0
    return x.bytes + y.bytes + 256.0 * layer.attr("maps", 1)


OP = Op(
    name="triseg",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="a torch index into the tables", bytes=lookup_bytes),
        Kernel(
            name="cpp",
            summary="a lookup in registers or the first cache, all candidates in one call",
            refuses=_refuses_cpp,
            bytes=lookup_bytes,
        ),
        Kernel(
            name="triton",
            summary="a gather on a GPU, all candidates in one launch",
            refuses=_refuses_triton,
            bytes=lookup_bytes,
        ),
    ),
)
