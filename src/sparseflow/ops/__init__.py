"""One folder per operator: truth, kernels, cost formula, schedule space."""

from sparseflow.errors import ConfigError
from sparseflow.ir import Layer, Target
from sparseflow.ops import (
    conv2d_block,
    conv2d_codes,
    conv2d_spike,
    fire,
    int8_net,
    lif,
    linear_spike,
    selective_scan,
    spike_layer,
    spike_matmul,
    stem,
    token_gather,
    triseg,
    window_entropy,
)
from sparseflow.ops._formulas import flops, has_flops, known_ops
from sparseflow.ops._op import Candidate, Kernel, Op

__all__ = [
    "OPS",
    "Candidate",
    "Kernel",
    "Op",
    "candidates",
    "find",
    "flops",
    "get",
    "has_flops",
    "known_ops",
    "serving",
]

OPS: tuple[Op, ...] = (
    lif.OP,
    conv2d_spike.OP,
    linear_spike.OP,
    spike_layer.OP,
    conv2d_block.OP,
    spike_matmul.OP,
    fire.OP,
    stem.OP,
    triseg.OP,
    int8_net.OP,
    conv2d_codes.OP,
    selective_scan.OP,
    token_gather.OP,
    window_entropy.OP,
)


def get(name: str) -> Op:
    """Return the operator with this stem.

    Raises:
        ConfigError: there is none.

    >>> [kernel.name for kernel in get("lif").kernels]
    ['dense', 'cpp', 'triton']
    """
    for op in OPS:
        if op.name == name:
            return op
    raise ConfigError(f"no operator {name!r}; there are {', '.join(op.name for op in OPS)}")


def serving(layer: Layer) -> tuple[Op, ...]:
    """Return every operator that serves a traced layer, in the order of `OPS`."""
    return tuple(op for op in OPS if layer.op in op.serves)


def find(layer: Layer, kernel: str | None = None, target: Target | None = None) -> Op | None:
    """Return the operator that serves a traced layer, or None.

    Args:
        layer: the layer.
        kernel: one that the operator must have; any if None.
        target: where the kernel is to run: of several operators the first one that takes it there is returned.
    """
    found = [op for op in serving(layer) if kernel is None or kernel in {k.name for k in op.kernels}]
    if kernel is not None and target is not None:
        able = [op for op in found if op.kernel(kernel).refuses(layer, target) is None]
        found = able or found
    return next(iter(found), None)


def candidates(layer: Layer, target: Target) -> list[Candidate]:
    """Return every kernel for a layer with the reason of its refusal, or None where it can run.

    The dense kernel always is the first; a layer that no operator serves has only that one.
    Operators after the first that serves a layer add what they can run, and no refusals.
    """
    first, *others = serving(layer) or (None,)
    if first is None:
        return [Candidate(kernel="dense")]
    found = {c.kernel: c for c in first.candidates(layer, target)}
    for op in others:
        for c in op.candidates(layer, target):
            if c.refusal is None and (c.kernel not in found or found[c.kernel].refusal is not None):
                found[c.kernel] = c
    return list(found.values())
