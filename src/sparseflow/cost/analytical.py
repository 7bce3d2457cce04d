"""The roofline: what a layer takes at best, from its formulas and a target's rates."""

from collections.abc import Mapping, Sequence
from typing import Any

from sparseflow import ops
from sparseflow.cost.model import predict
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Cost, Decision, Layer, Plan, Precision, Target, Workload

__all__ = ["Analytical", "roofline_s"]

# An addition of the event kernel costs as much as 6.7 dense ones at their peak: the two kernels then
# meet at a density of 0.3, as measured on a CPU with AVX-512.
_EFFICIENCY = {"event": 0.15}
_NOT_COMPUTED_IN = ("binary", "count", "uint")


def roofline_s(flops: Any, bytes: Any, *, flops_per_s: Any, bw_bytes_per_s: Any, launch_s: Any = 0.0) -> Any:
    """Return max(flops / flops_per_s, bytes / bw_bytes_per_s) + launch_s.

    Plain arithmetic: floats give a float, tensors of one element a tensor with gradients.

    Args:
        flops: operations; a multiply-add is 2.
        bytes: bytes moved to and from memory.
        flops_per_s: peak rate of the operations.
        bw_bytes_per_s: memory bandwidth.
        launch_s: fixed cost of one call.

    Returns:
        Seconds.

    Source: Williams et al., CACM 2009.

    >>> roofline_s(4e9, 1e9, flops_per_s=1e12, bw_bytes_per_s=1e11, launch_s=1e-3)
    0.011
    """
    return max(flops / flops_per_s, bytes / bw_bytes_per_s) + launch_s


class Analytical:
    """Roofline of a target over the formulas of `sparseflow.ops`.

    The kernel's own formulas count operations and bytes where the operator
    declares them, so that event kernels follow the density; any other layer
    counts its dense operations and every operand once; a layer without a
    formula is charged for its traffic alone.

    Args:
        efficiency: fraction of the peak that a kernel reaches, by kernel
            name; 1 where not named. None takes what fits the kernels here.
        measured: use the rates that a target was seen to reach, where it
            lists them, instead of its vendor's.

    Raises:
        ConfigError: an efficiency outside 0..1.
    """

    def __init__(self, *, efficiency: Mapping[str, float] | None = None, measured: bool = True) -> None:
        self.efficiency = dict(_EFFICIENCY if efficiency is None else efficiency)
        self.measured = measured
        for kernel, value in self.efficiency.items():
            if not 0 < value <= 1:
                raise ConfigError(f"efficiency of kernel {kernel!r} is {value}; expected more than 0, at most 1")

    def predict_layer(self, layer: Layer, decision: Decision, target: Target) -> Cost:
        """Return the roofline of one call of a layer.

        Raises:
            UnsupportedError: no formula for the kernel that is asked for.
            ConfigError: the target lists no rate for the arithmetic.
        """
        kernel = decision.kernel or "dense"
        flops, bytes = _work(layer, kernel, target)
        precision = _arithmetic(layer, decision)
        rate = target.peak(precision)
        bandwidth = target.bw_bytes_per_s
        if self.measured:
            rate = target.measured.get(precision, rate)
            bandwidth = target.measured.get("bw_bytes_per_s", bandwidth)
        seconds = roofline_s(
            flops,
            bytes - _saved(layer, decision.precision),
            flops_per_s=rate * self.efficiency.get(kernel, 1.0),
            bw_bytes_per_s=bandwidth,
            launch_s=target.launch_s,
        )
        return Cost(latency_s=seconds, source="analytical")

    def predict(self, workload: Workload, plans: Sequence[Plan], target: Target) -> list[Cost]:
        """Return the roofline of one forward for every plan, layer after layer."""
        return predict(self, workload, plans, target)


def _work(layer: Layer, kernel: str, target: Target) -> tuple[Any, Any]:
    """Return the operations and the bytes of one call."""
    if kernel != "dense":
        op = ops.find(layer, kernel, target) or ops.find(layer)
        if op is None:
            raise UnsupportedError(f"no operator serves {layer.op!r} layers, so nothing tells what {kernel!r} costs")
        return op.flops(layer, kernel), op.bytes(layer, kernel)
    if layer.flops or not ops.has_flops(layer.op):
        return layer.flops, layer.bytes
    shapes = {o.role: o.shape for o in reversed(layer.operands)}
    try:
        return ops.flops(layer.op, shapes, dict(layer.attrs)), layer.bytes
    except ConfigError:
        # The trace did not see the shapes that the formula needs.
        return 0.0, layer.bytes


def _arithmetic(layer: Layer, decision: Decision) -> str:
    if decision.precision is not None:
        return decision.precision.name
    for role in ("weight", "input", "output"):
        operand = layer.operand(role)
        if operand is not None and operand.precision.kind not in _NOT_COMPUTED_IN:
            return operand.precision.name
    return "float32"


def _saved(layer: Layer, precision: Precision | None) -> float:
    """Return the bytes of weights that a narrower precision does not move."""
    weight = layer.operand("weight")
    return 0.0 if weight is None or precision is None else weight.bytes - weight.numel * precision.bytes
