"""Give up the kernels of packed layers that round too much, where that helps."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.parity import REL_TOL, Parity
from sparseflow.compress.sparsify.parity_gpu import compare_lowered, judge_lowered, typical_error
from sparseflow.compress.sparsify.runs import cloned
from sparseflow.compress.sparsify.tune import Timed
from sparseflow.compress.sparsify.tune_gpu import GATED
from sparseflow.trace._state import quiet

__all__ = ["settle"]

# Given up in this order where a network's spikes differ too often.
_ROUNDS_CURRENTS = ("library",)
_ROUNDS_WEIGHTS = ("int8", "gated int8")


def settle(
    lowered: Fused,
    timed: Mapping[str, Timed],
    base: nn.Module,
    args: tuple[Any, ...],
    expected: Any,
    precision: str,
) -> Parity:
    """Return what packed layers change, with kernels replaced in place by others where they change too much.

    Beyond the limit of the precision, first the kernels that round currents go, then those that round weights.
    Within it, kernels that round currents go where only they change spikes, or what the model returns: a network
    whose weights are whole in float16 loses nothing in the others, and far fewer spikes than the limit allows, each
    the first of many in the layers behind, are enough to change its answers.

    Args:
        lowered: packed layers, their kernels chosen.
        timed: times of every layer that has a choice, by name.
        base: the model that they stand for.
        args: arguments of its forward, which may write into copies of them.
        expected: what it returns.
        precision: "fp16", "exact" or "int8".
    """
    modules = dict(base.named_modules())

    def compared() -> Parity:
        with quiet(base):
            return compare_lowered(lowered, cloned(args), modules)

    def keeps_outputs() -> bool:
        with quiet(base):
            return typical_error(expected, lowered.graph_module(*cloned(args))) <= REL_TOL

    parity = compared()
    for names in (_ROUNDS_CURRENTS, _ROUNDS_CURRENTS + _ROUNDS_WEIGHTS):
        if judge_lowered(parity, precision) is not None and _leave(lowered, timed, names):
            parity = compared()
    if not parity.mismatches:
        return parity
    before = {name: _block(lowered, name).kernel for name in timed}
    kept = keeps_outputs()
    if _leave(lowered, timed, _ROUNDS_CURRENTS):
        whole = compared()
        if not whole.mismatches or (keeps_outputs() and not kept):
            return whole
        for name, kernel in before.items():
            _block(lowered, name).kernel = kernel
    return parity


def _leave(lowered: Fused, timed: Mapping[str, Timed], names: tuple[str, ...]) -> bool:
    """Set every layer that one of these kernels runs to the fastest other one; tell whether one was."""
    changed = False
    for name, found in timed.items():
        block = _block(lowered, name)
        # Kernel "event" alone would slow down with every spike more.
        others = {k: s for k, s in found.kernels.items() if k not in (*names, *GATED.values(), "event")}
        if block.kernel in names and others:
            block.kernel, changed = min(others, key=lambda k: others[k]), True
    return changed


def _block(lowered: Fused, name: str) -> Any:
    return lowered.graph_module.get_submodule(name)
