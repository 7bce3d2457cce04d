"""Kernels of the scan and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op
from sparseflow.ops.selective_scan.cpp import ABSENT

__all__ = ["OP", "scan_bytes"]


def _refuses_cpp(layer: Layer, target: Target) -> str | None:
    if target.kind != "cpu":
        return f"compiled for CPUs only; target {target.name!r} is a {target.kind}"
    x = layer.operand("input")
    if x is not None and x.precision.name != "float32":
        return f"takes float32; the layer has {x.precision.name}"
    return ABSENT


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def scan_bytes(layer: Layer) -> Any:
    """Return the bytes of every operand once; the state never leaves the registers."""
    return sum(o.bytes for o in layer.operands)


OP = Op(
    name="selective_scan",
    serves=("selective_scan",),
    kernels=(
        Kernel(name="dense", summary="torch operations over all sequences, channels and states", bytes=scan_bytes),
        Kernel(
            name="cpp",
            summary="16 channels a vector, softplus, decay, output and gate in one pass, on all cores",
            refuses=_refuses_cpp,
            bytes=scan_bytes,
        ),
        Kernel(
            name="triton",
            summary="one program a sequence and block of channels, the state in registers",
            refuses=_refuses_triton,
            bytes=scan_bytes,
        ),
    ),
)
