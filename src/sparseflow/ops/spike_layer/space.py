"""Kernels of the spiking layer, and why one may not run."""

from sparseflow.ir import Layer, Target
from sparseflow.ops._op import Kernel, Op

__all__ = ["OP", "refuses_cuda", "refuses_event", "refuses_triton"]


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


OP = Op(
    name="spike_layer",
    serves=(),
    kernels=(
        Kernel(name="dense", summary="unpacks, convolves, runs the neurons, and packs"),
        Kernel(name="triton", summary="all of it in one kernel, on any GPU", refuses=refuses_triton),
        Kernel(name="cuda", summary="all of it in one kernel, by wgmma", refuses=refuses_cuda),
        Kernel(name="event", summary="reads the weights of the inputs that fire alone", refuses=refuses_event),
    ),
)
