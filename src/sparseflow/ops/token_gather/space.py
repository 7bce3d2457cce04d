"""Kernels of gathering and what they cost."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "gather_bytes"]


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    return None if target.kind == "gpu" else f"compiled for GPUs only; target {target.name!r} is a {target.kind}"


def gather_bytes(layer: Layer) -> Any:
    """Return the bytes of the rows that are kept, read and written, and of their places."""
    output, index = layer.operand("output"), layer.operand("index")
    kept = 0 if output is None else output.bytes
    return 2 * kept + (0 if index is None else index.bytes)


OP = Op(
    name="token_gather",
    serves=("token_gather",),
    kernels=(
        Kernel(name="dense", summary="torch's own selection of rows, on any device", bytes=gather_bytes),
        Kernel(
            name="triton",
            summary="whole rows a program, and a gradient that writes each row once",
            refuses=_refuses_triton,
            bytes=gather_bytes,
        ),
    ),
)
