"""Compare a changed model with the one it came from: block by block, and end to end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.sparsify.fuse import Fused, neuron_constants
from sparseflow.compress.sparsify.regions import Region
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spikes import Spikes, unpack
from sparseflow.ops.lif import LIFParams

__all__ = ["NEAR", "REL_TOL", "TOP1", "Parity", "compare_blocks", "compare_outputs", "judge", "rel_error"]

NEAR = 1e-5
"""Distance to the threshold, in units of potential, below which a spike may differ."""
REL_TOL = 1e-3
"""Largest difference of outputs over the largest output."""
TOP1 = 0.995
"""Least share of samples whose largest output stays in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What a comparison found.

    Args:
        rel_err: max |a − b| / max |a| over the outputs.
        top1: share of samples whose largest logit is in the same place; 1 if outputs are no logits.
        layer_rel_err: the same as `rel_err` over single layers fed the same input.
        spikes: spikes of all neurons, compared block by block on the same input.
        mismatches: those that differ though the potential is not within 1e-5 of the threshold.
        near: those that differ within 1e-5 of it.
    """

    rel_err: float = 0.0
    top1: float = 1.0
    layer_rel_err: float = 0.0
    spikes: int = 0
    mismatches: int = 0
    near: int = 0

    @property
    def mismatch(self) -> float:
        """Share of spikes that differ away from the threshold; 0 without spikes.

        >>> Parity(spikes=200, mismatches=1).mismatch
        0.005
        """
        return self.mismatches / max(self.spikes, 1)

    def figures(self) -> dict[str, float]:
        """Return the figures by name, for a report."""
        names = ("rel_err", "top1", "layer_rel_err", "spikes", "mismatches", "near")
        return {name: float(getattr(self, name)) for name in names}


def judge(parity: Parity) -> str | None:
    """Return why a changed model is not the same as before, or None if it is.

    Layers and neurons fed the same input must agree: outputs to 1e-3, spikes
    exactly outside 1e-5 of the threshold. End to end a single spike that falls on
    the threshold may spread, so there either the outputs agree to 1e-3 or the
    decisions do.

    >>> judge(Parity(rel_err=0.5, top1=0.5))
    'outputs differ by 50% and only 50.0% of the decisions agree'
    """
    if not parity.layer_rel_err <= REL_TOL:
        return f"a layer fed the same input differs by {parity.layer_rel_err:.2g} of its largest output"
    if parity.mismatches:
        return f"{parity.mismatches} of {parity.spikes} spikes differ on the same input, away from the threshold"
    if not (parity.rel_err <= REL_TOL or parity.top1 >= TOP1):
        return f"outputs differ by {parity.rel_err:.0%} and only {parity.top1:.1%} of the decisions agree"
    return None


def compare_outputs(before: Any, after: Any) -> tuple[float, float]:
    """Return relative error and top-1 agreement of two results of a forward.

    >>> compare_outputs(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
    (0.0, 1.0)
    """
    a, b = list(_tensors(before)), list(_tensors(after))
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("inf"), 0.0
    worst, top1 = 0.0, 1.0
    for x, y in zip(a, b, strict=True):
        worst = max(worst, rel_error(x, y))
        if x.dim() >= 2 and x.shape[-1] > 1:
            top1 = min(top1, float((x.argmax(-1) == y.argmax(-1)).float().mean()))
    return worst, top1


def compare_blocks(fused: Fused, args: tuple[Any, ...], modules: Mapping[str, nn.Module]) -> Parity:
    """Feed every block and the modules it stands for the same input, and compare what they make.

    Args:
        fused: a fused graph with its kernels set.
        args: arguments of its forward.
        modules: the traced model's modules by dotted path.
    """
    checker = _Checker(fused, modules)
    checker.run(*args)
    return Parity(
        layer_rel_err=checker.rel_err, spikes=checker.spikes, mismatches=checker.mismatches, near=checker.near
    )


class _Checker(fx.Interpreter):
    def __init__(self, fused: Fused, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(fused.graph_module)
        self.fused, self.modules = fused, modules
        self.rel_err, self.spikes, self.mismatches, self.near = 0.0, 0, 0, 0

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        region = self.fused.blocks.get(str(target))
        if region is None:
            return super().call_module(target, args, kwargs)
        block = self.fetch_attr(target)
        fires = hasattr(block, "_membrane")
        neuron = self.of(region.neuron) if fires else None
        state = None if neuron is None else neuron.v
        made = super().call_module(target, args, kwargs)
        current = self.current(isinstance(block, NeuronBlock), region, args)
        if neuron is None:
            self.rel_err = max(self.rel_err, rel_error(current, made))
            return made
        spikes = unpack(made) if isinstance(made, Spikes) else made
        self.count(current, spikes, neuron, state)
        return made

    def current(self, bare: bool, region: Region, args: tuple[Any, ...]) -> Tensor:
        """Return what the model's own modules give the neuron, or the next layer."""
        y, *more = [unpack(a).contiguous() if isinstance(a, Spikes) else a for a in args]
        for node in () if bare else (region.layer, region.bn):
            module = self.of(node)
            y = y if module is None else module(y)
        for other in more:
            y = y + other
        repeat = self.of(region.repeat) if bare else None
        result: Tensor = y if repeat is None else repeat(y)
        return result

    def count(self, current: Tensor, spikes: Tensor, neuron: Any, state: Any) -> None:
        params = neuron_constants(neuron)
        steps = current if neuron.step_mode == "m" else current[None]
        spikes = spikes.reshape(steps.shape)
        v = state.view(steps.shape[1:]) if isinstance(state, Tensor) else torch.full_like(steps[0], float(state))
        shaky = torch.zeros_like(steps[0], dtype=torch.bool)
        for x, s in zip(steps, spikes, strict=True):
            h = _charge(x, v, params)
            differs = s != (h >= params.v_threshold).to(s.dtype)
            # A spike that differs on the threshold changes all later potentials of its neuron.
            shaky |= differs & ((h - params.v_threshold).abs() < NEAR)
            self.mismatches += int((differs & ~shaky).sum())
            self.near += int((differs & shaky).sum())
            v = h - params.v_threshold * s if params.v_reset is None else torch.where(s > 0, params.v_rest, h)
        self.spikes += spikes.numel()

    def of(self, node: fx.Node | None) -> Any:
        return None if node is None else self.modules[str(node.target)]


def _charge(x: Tensor, v: Tensor, params: LIFParams) -> Tensor:
    if params.kind == "if":
        return v + x
    if params.decay_input:
        return v + (x - (v - params.v_rest)) / params.tau
    return v - (v - params.v_rest) / params.tau + x


def rel_error(a: Tensor, b: Tensor) -> float:
    """Return max |a - b| / max |a|, or max |a - b| where `a` is all zero; infinite for other shapes.

    >>> rel_error(torch.tensor([2.0, -4.0]), torch.tensor([2.0, -3.0]))
    0.25
    """
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else float("inf")
    scale = float(a.abs().max())
    error = float((a - b).abs().max())
    return error if scale == 0.0 else error / scale


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
