"""One folder per operator: truth, kernels, cost formula, schedule space."""

from sparseflow.errors import ConfigError
from sparseflow.ir import Layer, Target
from sparseflow.ops import conv2d_spike, lif, linear_spike
from sparseflow.ops._formulas import flops, has_flops, known_ops
from sparseflow.ops._op import Candidate, Kernel, Op

__all__ = ["OPS", "Candidate", "Kernel", "Op", "candidates", "find", "flops", "get", "has_flops", "known_ops"]

OPS: tuple[Op, ...] = (lif.OP, conv2d_spike.OP, linear_spike.OP)


def get(name: str) -> Op:
    """Return the operator with this stem.

    Raises:
        ConfigError: there is none.

    >>> [kernel.name for kernel in get("lif").kernels]
    ['dense', 'cpp']
    """
    for op in OPS:
        if op.name == name:
            return op
    raise ConfigError(f"no operator {name!r}; there are {', '.join(op.name for op in OPS)}")


def find(layer: Layer) -> Op | None:
    """Return the operator that serves a traced layer, or None."""
    return next((op for op in OPS if layer.op in op.serves), None)


def candidates(layer: Layer, target: Target) -> list[Candidate]:
    """Return every kernel for a layer with the reason of its refusal, or None where it can run.

    The dense kernel always is the first; a layer that no operator serves has only that one.
    """
    op = find(layer)
    return [Candidate(kernel="dense")] if op is None else op.candidates(layer, target)
