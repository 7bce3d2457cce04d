"""Compare a graph of packed layers with the modules it stands for, layer by layer on the same packed input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from sparseflow.compress.sparsify.fuse import Fused, neuron_constants
from sparseflow.compress.sparsify.parity import NEAR, Parity, rel_error
from sparseflow.compress.sparsify.regions import Region
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import FloatBlock, Part, SpikeLayerBlock
from sparseflow.nn.spikes import Spikes, unpack
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import charge, discharge

__all__ = ["LIMITS", "Unlike", "compare_lowered", "judge_lowered", "plain_convolutions", "typical_error"]

LIMITS = {"fp16": (2e-4, 4e-3), "exact": (0.0, 1e-3), "int8": (3e-3, 4e-3)}
"""By precision: the largest share of spikes that may differ on the same input, and the largest error of floats."""
_CANCELLED = 2.0**-14
"""Share of a layer's output below which what a normalisation leaves of it is not compared more finely."""


def compare_lowered(lowered: Fused, args: tuple[Any, ...], modules: Mapping[str, nn.Module]) -> Parity:
    """Feed every block and the float32 modules that it stands for the same input, and compare what they make.

    Args:
        lowered: from `lower_gpu`, its kernels set, without kept state.
        args: arguments of its forward.
        modules: the traced model's modules by dotted path.
    """
    checker = _Checker(lowered, modules)
    with torch.no_grad(), plain_convolutions():
        checker.run(*args)
    return Parity(
        layer_rel_err=checker.rel_err, spikes=checker.spikes, mismatches=checker.mismatches, near=checker.near
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """Spikes of one layer that are not what its true currents make.

    Args:
        mismatches: those away from the threshold.
        near: those within 1e-5 of it, and what follows from them.
        v: potential after the last step, as left by the spikes that were made.
    """

    mismatches: int
    near: int
    v: Tensor

    @classmethod
    def of(cls, steps: Tensor, spikes: Tensor, params: LIFParams, v: Tensor | None = None) -> Self:
        """Compare the spikes that were made with those that currents make.

        Args:
            steps: true currents `[T, ...]`.
            spikes: zeros and ones of as many numbers.
            params: of the neurons.
            v: potential before the first step; at rest if None.
        """
        spikes = spikes.reshape(steps.shape)
        v = torch.full_like(steps[0], params.v_rest) if v is None else v
        shaky = torch.zeros_like(steps[0], dtype=torch.bool)
        mismatches = near = 0
        for x, s in zip(steps, spikes, strict=True):
            h = charge(v, x, params)
            differs = s != (h >= params.v_threshold).to(s.dtype)
            # A spike that differs on the threshold changes all later potentials of its neuron.
            shaky |= differs & ((h - params.v_threshold).abs() < NEAR)
            mismatches += int((differs & ~shaky).sum())
            near += int((differs & shaky).sum())
            v = discharge(h, s, params)
        return cls(mismatches=mismatches, near=near, v=v)


def typical_error(before: Any, after: Any) -> float:
    """Return the relative error of outputs that half of the samples stay below; a sample is a row of the last axis.

    Of many images a few may lie on a threshold, where even the order of a float32 sum decides: what a form rounds
    shows in the others.

    >>> typical_error(torch.tensor([[2.0], [4.0], [1.0]]), torch.tensor([[2.0], [4.0], [9.0]]))
    0.0
    """
    worst = 0.0
    for a, b in zip(tree_leaves(before), tree_leaves(after), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            error = (a - b).abs().reshape(-1, a.shape[-1] if a.dim() else 1).amax(1).median()
            scale = float(a.abs().max())
            worst = max(worst, float(error) / scale if scale else float(error))
    return worst


def judge_lowered(parity: Parity, precision: str) -> str | None:
    """Return why packed layers are not what they stand for, or None if they are.

    >>> judge_lowered(Parity(spikes=10000, mismatches=1), "fp16")
    >>> judge_lowered(Parity(spikes=10000, mismatches=1), "exact")
    '1 of 10000 spikes differ on the same input, away from the threshold: more than the 0% that exact allows'
    """
    share, error = LIMITS[precision]
    if parity.mismatches > share * parity.spikes:
        return (
            f"{parity.mismatches} of {parity.spikes} spikes differ on the same input, away from the threshold: "
            f"more than the {100 * share:.2g}% that {precision} allows"
        )
    if not parity.layer_rel_err <= error:
        return f"a layer fed the same input differs by {parity.layer_rel_err:.2g} of its largest output"
    if not parity.rel_err < float("inf"):
        return "its outputs are not finite, or have another shape"
    return None


def plain_convolutions() -> Any:
    """Return a context in which convolutions are plain float32 sums of products.

    cuDNN's transforms (Winograd, FFT) round sums that are exact where weights lie on grids, as trained ones do;
    potentials that lie on the threshold then tip, and the truth would be the worse of the two.
    """
    if not torch.cuda.is_available():
        return torch.no_grad()
    return torch.backends.cudnn.flags(enabled=False, allow_tf32=False)


def _stepwise(module: nn.Module, x: Tensor) -> Tensor:
    """Call a module on a sequence, steps and batch merged where it takes no steps."""
    token = isinstance(module, nn.Conv1d | nn.BatchNorm1d)
    alone = type(module).__module__.startswith("torch.") or getattr(module, "step_mode", None) == "s"
    if alone and x.dim() == (4 if token else 5):
        y: Tensor = module(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])
    if getattr(module, "step_mode", None) == "m" and x.dim() == 4 and not token:
        # An image that is the same at every step.
        once: Tensor = module(x[None])
        return once[0]
    found: Tensor = module(x)
    return found


class _Checker(fx.Interpreter):
    def __init__(self, lowered: Fused, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(lowered.graph_module)
        self.regions, self.of = lowered.blocks, modules
        self.rel_err, self.spikes, self.mismatches, self.near = 0.0, 0, 0, 0
        self.truth: dict[int, tuple[Tensor, Tensor]] = {}
        self.terms = 0.0

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = super().call_module(target, args, kwargs)
        block, region = self.fetch_attr(target), self.regions.get(str(target))
        if region is None or not isinstance(
            block, SpikeLayerBlock | NeuronBlock | FloatBlock | StemBlock | StreamBlock
        ):
            return made
        if isinstance(block, StreamBlock):
            self.count((args[0] + args[1]).float(), made[0], None, region)
            return made
        if isinstance(block, StemBlock):
            once = self.convolved(block.parts[0], args[0].float())
            self.count(once.expand(block.repeat, *once.shape), made, None, region)
            return made
        if isinstance(block, NeuronBlock):
            # Currents that a float layer rounded are judged by the spikes that they make.
            x = self.truth.get(id(args[0]), (args[0], args[0]))[1]
            self.count(self.repeated(block, x), made, None, region)
            return made
        first, second, identity, add = (*args, None, None, None)[:4]
        current: Tensor | None = None
        self.terms = 0.0
        for part, x in zip(block.parts, (first, second), strict=False):
            y = self.convolved(part, unpack(x) if isinstance(x, Spikes) else x.float())
            current = y if current is None else current + y
        assert current is not None
        if identity is not None:
            current = current + unpack(identity).reshape(current.shape)
        if isinstance(made, Spikes):
            self.count(current, made, add, region)
        else:
            # Where a normalisation takes away nearly all that a layer gives, float32 itself leaves but noise.
            noise = _CANCELLED * self.terms / max(float(current.abs().max()), 1e-30) if current.numel() else 0.0
            found = rel_error(current, made.float().reshape(current.shape))
            self.rel_err = max(self.rel_err, found / max(noise, 1.0))
            self.truth[id(made)] = made, current
        return made

    def convolved(self, part: Part, x: Tensor) -> Tensor:
        x = x.flatten(-2) if part.tokens and x.dim() == 5 else x
        y = _stepwise(part.layer, x.contiguous())
        if part.bn is None:
            return y
        made, silent = _stepwise(part.bn, y), _stepwise(part.bn, torch.zeros_like(y))
        self.terms = float((made - silent).abs().max()) if y.numel() else 0.0
        return made

    def repeated(self, block: NeuronBlock, x: Tensor) -> Tensor:
        return x.float().expand(block.repeat, *x.shape) if block.repeat else x.float()

    def count(self, current: Tensor, made: Any, add: Spikes | None, region: Region) -> None:
        assert region.neuron is not None
        neuron = self.of[str(region.neuron.target)]
        params = neuron_constants(neuron)
        spikes = unpack(made) if isinstance(made, Spikes) else made.float()
        spikes = spikes if add is None else spikes - unpack(add).reshape(spikes.shape)
        unlike = Unlike.of(current if neuron.step_mode == "m" else current[None], spikes, params)
        self.mismatches += unlike.mismatches
        self.near += unlike.near
        self.spikes += spikes.numel()
