"""Kernels of the spiking layer, what they cost, and why one may not run."""

from typing import Any

from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops
from sparseflow.ops._op import Kernel, Op

__all__ = [
    "OP",
    "event_flops",
    "fused_bytes",
    "fused_flops",
    "gated_bytes",
    "refuses_cuda",
    "refuses_event",
    "refuses_triton",
]

NEIGHBOURS = 16
"""Pixels of which the event kernel lists the inputs together."""
_HALF = 2


def refuses_triton(layer: Layer, target: Target) -> str | None:
    """Return why the Triton kernel rejects a layer, or None."""
    if target.kind != "gpu":
        return f"compiled for GPUs only; target {target.name!r} is a {target.kind}"
    x = layer.operand("input")
    if x is None:
        return "the layer's input is not known"
    if x.structure not in ("spikes", "counts"):
        return f"takes spikes and counts; the input is {x.structure!r}"
    if layer.attr("groups", 1) != 1:
        return f"takes one group of channels; the layer has {layer.attr('groups', 1)}"
    return None


def refuses_cuda(layer: Layer, target: Target) -> str | None:
    """Return why the CUDA kernel rejects a layer, or None."""
    refusal = refuses_triton(layer, target)
    if refusal is None and "sm_90a" not in target.features:
        return f"target {target.name!r} does not list the feature sm_90a"
    return refusal


def refuses_event(layer: Layer, target: Target) -> str | None:
    """Return why the kernel for few spikes rejects a layer, or None."""
    refusal = refuses_cuda(layer, target)
    x = layer.operand("input")
    if refusal is None and x is not None and x.structure != "spikes":
        return f"takes spikes; the input is {x.structure!r}"
    return refusal


def _shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    return {o.role: o.shape for o in reversed(layer.operands)}


def fused_flops(layer: Layer) -> Any:
    """Return the operations of layer and neuron together, the same at any density."""
    return flops(layer.op, _shapes(layer), dict(layer.attrs)) + flops("lif", _shapes(layer))


def event_flops(layer: Layer) -> Any:
    """Return the operations where an input is read if one of 16 neighbours sees it fire.

    At density d, and if neighbours fire independently, that is the share 1 - (1 - d)^16.
    """
    density = 1.0 if layer.density is None else layer.density
    products = flops(layer.op, {r: s for r, s in _shapes(layer).items() if r != "bias"}, dict(layer.attrs))
    return products * (1 - (1 - density) ** NEIGHBOURS) + flops("lif", _shapes(layer))


def gated_bytes(layer: Layer) -> Any:
    """Return the bytes of a layer behind a gate, which reads the spikes once more to count them."""
    x = layer.operand("input")
    return fused_bytes(layer) + (0.0 if x is None else x.numel / 8)


def fused_bytes(layer: Layer) -> Any:
    """Return the bytes of layer and neuron together: bits in, bits out, and weights in float16."""
    numel = {o.role: o.numel for o in reversed(layer.operands)}
    return (numel.get("input", 0) + numel.get("output", 0)) / 8 + _HALF * numel.get("weight", 0)


OP = Op(
    name="spike_layer",
    serves=("conv2d", "linear"),
    kernels=(
        Kernel(name="dense", summary="unpacks, convolves, runs the neurons, and packs"),
        Kernel(
            name="triton",
            summary="all of it in one kernel, on any GPU",
            refuses=refuses_triton,
            flops=fused_flops,
            bytes=fused_bytes,
        ),
        Kernel(
            name="cuda",
            summary="all of it in one kernel, by wgmma",
            refuses=refuses_cuda,
            flops=fused_flops,
            bytes=fused_bytes,
        ),
        Kernel(
            name="event",
            summary="reads the weights of the inputs that fire alone",
            refuses=refuses_event,
            flops=event_flops,
            bytes=fused_bytes,
        ),
        Kernel(
            name="small",
            summary="clusters of blocks divide the inputs, for few pixels",
            refuses=refuses_cuda,
            flops=fused_flops,
            bytes=fused_bytes,
        ),
        Kernel(
            name="gated",
            summary="'event' or 'cuda', as the spikes of each call decide on the device",
            refuses=refuses_event,
            flops=event_flops,
            bytes=gated_bytes,
        ),
    ),
)
