"""Kernels of the matrix products with packed spikes."""

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["LARGEST_COUNT", "OP"]

# Counts up to here are exact in float16, which the second product of attention reads.
LARGEST_COUNT = 2048


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    if target.kind != "gpu":
        return f"a Triton kernel runs on GPUs; target {target.name!r} is a {target.kind}"
    return None


OP = Op(
    name="spike_matmul",
    serves=("matmul",),
    kernels=(
        Kernel(name="dense", summary="unpacked, by torch's matrix product"),
        Kernel(name="triton", summary="bits spread in registers, never in memory", refuses=_refuses_triton),
    ),
)
