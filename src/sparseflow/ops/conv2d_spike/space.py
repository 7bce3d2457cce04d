"""Kernels of the spiking convolution, what they cost, and the rule that "auto" follows."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._library import ABSENT
from sparseflow.ops._op import Kernel, Op
from sparseflow.ops.conv2d_spike import amx

__all__ = ["OP", "amx_flops", "choose", "event_bytes", "event_flops", "refuses_amx", "refuses_event"]

# Densities below which the event kernel beat torch's best float32 convolution on every 3x3 layer of a VGG-9, packing
# included (64 maps, one thread of a Xeon with AVX-512). Tiles beat it from about 0.06 on, where there are any.
CROSSOVER_BITS = 0.6
CROSSOVER_VALUES = 0.25


def choose(density: float, binary: bool, at_hand: str | None = None) -> str:
    """Return the kernel that "auto" takes.

    Args:
        density: fraction of inputs that are not zero.
        binary: every input is 0 or 1, or, for tiles, a small integer.
        at_hand: the kernel that the weight is packed for, or None.

    >>> choose(0.1, True), choose(0.9, True), choose(0.9, True, "amx")
    ('event', 'dense', 'amx')
    """
    if binary and at_hand == "amx":
        return "amx"
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


def refuses_amx(layer: Layer, target: Target) -> str | None:
    """Return why the tile kernel rejects a layer, or None; weights are looked at when they are packed."""
    x, weight = layer.operand("input"), layer.operand("weight")
    refusal = refuses_event(layer, target)
    if refusal is not None or x is None or weight is None:
        return refusal or "the layer's weight is not known"
    if x.structure not in ("spikes", "counts"):
        return f"takes spikes and counts; the input is {x.structure!r}"
    if "amx_int8" not in target.features:
        return f"target {target.name!r} does not list the feature amx_int8"
    shape = (*weight.shape, 1, 1)[:4]
    return amx.machine_refusal() or amx.size_refusal(shape, layer.attr("groups", 1))


def amx_flops(layer: Layer) -> Any:
    """Return the operations of the tile kernel: three byte products a multiply-add, at any density."""
    shapes = {o.role: o.shape for o in reversed(layer.operands) if o.role != "bias"}
    return 3 * flops(layer.op, shapes, dict(layer.attrs))


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
        Kernel(
            name="amx",
            summary="multiplies spikes by weights of three bytes in int8 matrix tiles",
            refuses=refuses_amx,
            flops=amx_flops,
            bytes=event_bytes,
        ),
    ),
)
