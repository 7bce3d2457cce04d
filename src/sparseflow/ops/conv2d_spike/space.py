"""Kernels of the spiking convolution, what they cost, and the rule that "auto" follows."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._library import ABSENT
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "choose", "event_bytes", "event_flops", "refuses_event"]

# Densities below which the event kernel beat the best dense convolution.
CROSSOVER_BITS = 0.30
CROSSOVER_VALUES = 0.20


def choose(density: float, binary: bool) -> str:
    """Return the kernel that "auto" takes.

    Args:
        density: fraction of inputs that are not zero.
        binary: every input is 0 or 1.

    >>> choose(0.1, True), choose(0.9, True)
    ('event', 'dense')
    """
    return "event" if density < (CROSSOVER_BITS if binary else CROSSOVER_VALUES) else "dense"


def refuses_event(layer: Layer, target: Target) -> str | None:
    """Return why the event kernel rejects a layer, or None."""
    if target.kind != "cpu":
        return f"compiled for CPUs only; target {target.name!r} is a {target.kind}"
    x = layer.operand("input")
    if x is None:
        return "the layer's input is not known"
    if x.precision.name not in ("float32", "binary"):
        return f"takes float32 or packed input; the layer has {x.precision.name}"
    if x.structure == "dense":
        return "the input is dense: no spiking layer in front of it"
    return ABSENT


def event_flops(layer: Layer) -> Any:
    """Return the additions of the event kernel: one an active input, tap and output channel."""
    shapes = {o.role: o.shape for o in reversed(layer.operands) if o.role != "bias"}
    density = 1.0 if layer.density is None else layer.density
    return flops(layer.op, shapes, dict(layer.attrs)) / 2 * density


def event_bytes(layer: Layer) -> Any:
    """Return the bytes of the event kernel: floats in, bits out and in, the rest once."""
    x = layer.operand("input")
    return layer.bytes + (0.0 if x is None else x.numel / 4)


OP = Op(
    name="conv2d_spike",
    serves=("conv2d",),
    kernels=(
        Kernel(name="dense", summary="torch's dense convolution"),
        Kernel(
            name="event",
            summary="adds the weight rows of set bits, in registers, without atomics",
            refuses=refuses_event,
            flops=event_flops,
            bytes=event_bytes,
        ),
    ),
)
