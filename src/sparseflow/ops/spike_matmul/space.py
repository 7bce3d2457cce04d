"""Kernels of the matrix products with packed spikes."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._op import Kernel, Op

__all__ = ["LARGEST_COUNT", "OP", "packed_bytes", "packed_flops"]

# Counts up to here are exact in float16, which the second product of attention reads.
LARGEST_COUNT = 2048


def _refuses_triton(layer: Layer, target: Target) -> str | None:
    if target.kind != "gpu":
        return f"a Triton kernel runs on GPUs; target {target.name!r} is a {target.kind}"
    return None


def packed_flops(layer: Layer) -> Any:
    """Return the operations of the matrix units, the same at any density."""
    return flops("spike_matmul", {o.role: o.shape for o in reversed(layer.operands)}, dict(layer.attrs))


def packed_bytes(layer: Layer) -> Any:
    """Return the bytes of the products: spikes as bits, everything else once."""
    spikes = (o for o in layer.operands if o.structure == "spikes")
    return layer.bytes - sum(o.bytes - o.numel / 8 for o in spikes)


OP = Op(
    name="spike_matmul",
    serves=("matmul",),
    kernels=(
        Kernel(name="dense", summary="unpacked, by torch's matrix product"),
        Kernel(
            name="triton",
            summary="bits spread in registers, never in memory",
            refuses=_refuses_triton,
            flops=packed_flops,
            bytes=packed_bytes,
        ),
    ),
)
