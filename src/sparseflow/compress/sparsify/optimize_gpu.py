"""The pipeline on a GPU: trace, lower to packed layers, time kernels, then race the dense forms, verify, report."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sparseflow.compress.sparsify.apply import FUSED, arguments
from sparseflow.compress.sparsify.block_gpu import block_layers, time_block_layers
from sparseflow.compress.sparsify.compiled import CompiledGraph, glue
from sparseflow.compress.sparsify.dense_parity_gpu import compare_dense
from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.lower_gpu import Policy, lower_gpu
from sparseflow.compress.sparsify.memory import Memory
from sparseflow.compress.sparsify.parity import REL_TOL, Parity, compare_outputs
from sparseflow.compress.sparsify.parity_gpu import judge_lowered, plain_convolutions, typical_error
from sparseflow.compress.sparsify.regions import find_regions, observe
from sparseflow.compress.sparsify.replace import replace_modules
from sparseflow.compress.sparsify.rivals import DenseForm, block_twin
from sparseflow.compress.sparsify.runs import (
    all_quiet,
    cloned,
    from_rest,
    keeps_more,
    resting_potential,
    state_left,
)
from sparseflow.compress.sparsify.settle_gpu import settle
from sparseflow.compress.sparsify.tune import Effort, Timed
from sparseflow.compress.sparsify.tune_gpu import GATED, KERNELS_CPU, KERNELS_GPU, time_lowered
from sparseflow.cost import measure
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Decision, Layer, LayerReport, Plan, Refusal, Report, Target
from sparseflow.nn.packed_net import PackedNet
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.trace import capture, is_spike_source
from sparseflow.trace._state import quiet, reset_state
from sparseflow.trace.workload import to_workload

__all__ = ["PRECISIONS", "GpuSettings", "check_precision", "on_cuda", "optimize_gpu"]

PRECISIONS = ("fp16", "exact", "int8")
_COMPILED = "packed compiled"
# Nodes between packed layers that each cost a launch of their own; fewer are not worth the time to compile.
_MUCH_GLUE = 4
_FORCED = {"always": "packed", "block": "block"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """How to optimise for a GPU; see `sparseflow.optimize`."""

    target: Target
    policy: str = "measured"
    fuse: bool = True
    margin: float = 0.02
    precision: str = "fp16"
    keep_state: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """One way to run the model.

    Args:
        name: of the form.
        model: runs it.
        parity: what a comparison with the original found; of dense forms only once they are judged.
        typical: relative error of the outputs that half of the samples stay below.
        rows: what the report says of the layers.
        decisions: by layer, for the plan.
    """

    name: str
    model: nn.Module
    parity: Parity = field(default_factory=Parity)
    typical: float = 0.0
    rows: tuple[LayerReport, ...] = ()
    decisions: dict[str, Decision] = field(default_factory=dict)


def check_precision(precision: str) -> str:
    """Return `precision`, or say which there are.

    Raises:
        ConfigError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return precision


def on_cuda(model: nn.Module, sample: Any) -> bool:
    """Tell whether a model, or a sample of a model without weights, lies on a CUDA device.

    Raises:
        ConfigError: what was given is no module.
    """
    if not isinstance(model, nn.Module):
        hint = f"; sparseflow.nn.models.build({model!r}) makes one of ours" if isinstance(model, str) else ""
        raise ConfigError(f"cannot optimize a {type(model).__name__}; give a torch.nn.Module{hint}")
    tensors = [*model.parameters(), *model.buffers()] or [t for t in tree_leaves(sample) if isinstance(t, Tensor)]
    return any(t.is_cuda for t in tensors)


def optimize_gpu(
    base: nn.Module, sample: Any, settings: GpuSettings, memory: Memory, effort: Effort, report: Report
) -> tuple[nn.Module, Report]:
    """Return the fastest verified form of a model for a GPU, and what was done.

    Args:
        base: a copy of the model in eval mode; it becomes part of the result.
        sample: one input batch on the model's device.
        settings: how to optimise.
        memory: times known from before.
        effort: how long to measure.
        report: what is known so far.
    """
    return _GpuJob(base, sample, settings, memory, effort).run(report)


class _GpuJob:
    def __init__(self, base: nn.Module, sample: Any, settings: GpuSettings, memory: Memory, effort: Effort) -> None:
        self.base, self.sample, self.settings, self.memory, self.effort = base, sample, settings, memory, effort
        self.found = capture(base, sample)
        self.given = arguments(sample, self.found.graph_module)
        self.workload = to_workload(self.found)
        self.cuda = any(isinstance(a, Tensor) and a.is_cuda for a in self.given)
        self.refusals: list[Refusal] = []
        self.fallbacks = list(self.found.notes)
        single = [m for m in base.modules() if is_spike_source(m) and getattr(m, "step_mode", None) == "s"]
        # A network of single steps is called once a step: its state is what carries it through a sequence.
        self.keep = bool(single) if settings.keep_state is None else settings.keep_state
        if not self.keep:
            # A state that came with the model would only ask for a reset before the first call.
            reset_state(base)

    @property
    def args(self) -> tuple[Any, ...]:
        """Arguments for one run of the forward, which may write into them."""
        return cloned(self.given) if self.found.writes_sample else self.given

    def run(self, report: Report) -> tuple[nn.Module, Report]:
        with quiet(self.base), plain_convolutions():
            self.expected = self.base(*self.args)
            self.stateful = {id(m) for m in self.base.modules() if state_left(m)}
            self.foreign = {id(m) for m in self.base.modules() if keeps_more(m)}
        forms = {"dense": _Form(name="dense", model=self.base)}
        for form in (self.blocks(),) if self.settings.policy == "block" else self.candidates():
            if form is not None:
                checked = self.checked(form)
                if checked is not None:
                    forms[form.name] = checked
        chosen, times = self.choose(forms)
        seen = next((form.rows for name, form in forms.items() if name in _FORCED.values()), ())
        rows = chosen.rows or tuple(replace(r, kernel="dense") for r in seen)
        return chosen.model, replace(
            report,
            captured_by=self.found.how,
            layers=rows,
            refusals=tuple(self.refusals),
            fallbacks=tuple(self.fallbacks),
            plan=Plan(workload_hash=self.workload.hash, decisions=chosen.decisions),
            dense_s=times.get("dense"),
            optimized_s=times.get(chosen.name),
            parity={**chosen.parity.figures(), "mismatch": chosen.parity.mismatch},
            precision=self.settings.precision,
        )

    def candidates(self) -> Iterator[_Form | None]:
        """Yield the forms to race, the packed ones first."""
        packed = self.packed()
        yield packed
        if packed is not None:
            yield self.packed_compiled(packed)
        yield from self.rivals()

    def packed_compiled(self, packed: _Form) -> _Form | None:
        """Return the packed form with what runs between its layers fused by inductor, if there is much of it."""
        assert isinstance(packed.model, PackedNet)
        graph: Any = packed.model.graph
        if not self.cuda or self.keep or glue(graph) < _MUCH_GLUE or self.effort.compile_s <= 0:
            return None
        made = self.net(CompiledGraph(graph), self.settings.precision)
        return replace(packed, name=_COMPILED, model=made)

    def packed(self) -> _Form | None:
        """Return the model as packed layers, or None with a refusal."""
        if not self.settings.fuse:
            return None
        try:
            return self.lower_and_time()
        except UnsupportedError as e:
            self.refusals.append(Refusal(layer="", what="packed", reason=str(e)))
        except Exception as e:
            # The original still runs: whatever breaks a packed form is a reason not to use it, said in the report.
            self.refusals.append(Refusal(layer="", what="packed", reason=f"failed: {type(e).__name__}: {e}"))
        return None

    def blocks(self) -> _Form | None:
        """Return the model with both stages of the block rule in every layer that it takes, or None with refusals."""
        sizes, refusals = block_layers(self.base, self.found, self.workload, self.settings.target)
        self.refusals += refusals
        dtype = torch.float32 if self.keep or self.settings.precision == "exact" else torch.float16
        try:
            with quiet(self.base), _fastest(self.cuda, "exact"):
                timed = time_block_layers(self.base, self.args, sizes, self.workload, dtype, self.effort)
            sizes = {name: block for name, block in sizes.items() if name in timed}
            if not sizes:
                return None
            parity = Parity(layer_rel_err=max(found.rel_err for found in timed.values()))
            reason = judge_lowered(parity, self.settings.precision)
            if reason is not None:
                raise UnsupportedError(f"parity: {reason}")
            if self.keep:
                model = copy.deepcopy(self.base)
                made = replace_modules(model, {name: block_twin(model, name, b) for name, b in sizes.items()})
                self.fallbacks.append("block: no CUDA graph, and float32: the neurons keep their states")
            else:
                made = self.net(DenseForm(self.base, dtype, blocks=sizes), self.settings.precision)
        except Exception as e:
            why = str(e) if isinstance(e, UnsupportedError) else f"failed: {type(e).__name__}: {e}"
            self.refusals.append(Refusal(layer="", what="block", reason=why))
            return None
        rows = tuple(self.row(self.workload.layer(name), "block", timed[name]) for name in sizes)
        decisions = {name: Decision(kernel="block", schedule=(("block", block),)) for name, block in sizes.items()}
        return _Form(name="block", model=made, parity=parity, rows=rows, decisions=decisions)

    def lower_and_time(self) -> _Form:
        traced = self.found.graph_module
        if traced is None:
            reasons = [n for n in self.found.notes if n.startswith("no traced graph")]
            raise UnsupportedError(next(iter(reasons), "no traced graph"))
        with quiet(self.base):
            facts = observe(traced, self.args)
        regions = find_regions(traced, facts, tokens=True)
        precision = self.settings.precision
        kernels = KERNELS_GPU if self.cuda else KERNELS_CPU
        lowered = lower_gpu(traced, facts, Policy(precision=precision, kernel=kernels[0]), regions)
        with quiet(self.base), _fastest(self.cuda, precision):
            timed = time_lowered(
                lowered,
                self.args,
                self.workload,
                self.effort,
                self.memory,
                kernels=kernels,
                margin=self.settings.margin,
            )
        parity = settle(lowered, timed, self.base, self.given, self.expected, precision)
        reason = judge_lowered(parity, precision)
        if reason is not None:
            raise UnsupportedError(f"parity: {reason}")
        rows, decisions = self.rows(lowered, timed)
        graph = lowered.graph_module
        if self.keep:
            chosen: dict[str, Any] = {name: graph.get_submodule(name) for name in timed}
            chosen = {name: block for name, block in chosen.items() if isinstance(block, SpikeLayerBlock)}
            graph = lower_gpu(traced, facts, Policy(precision=precision, keep=True), regions).graph_module
            for name, old in chosen.items():
                block: Any = graph.get_submodule(name)
                block.kernel, block.crossover = old.kernel, old.crossover
        made = self.net(graph, precision)
        return _Form(name="packed", model=made, parity=parity, rows=rows, decisions=decisions)

    def net(self, graph: nn.Module, precision: str) -> PackedNet:
        """Wrap a graph over the base model's modules."""
        blocks = [b for b in graph.modules() if getattr(b, "_membrane", None) is not None]
        mine = {id(b._membrane.neuron) for b in blocks}  # type: ignore[union-attr]
        if isinstance(graph, DenseForm):
            mine = self.stateful - self.foreign
        neurons = [
            (m, rest) for m in self.base.modules() if id(m) in mine and (rest := resting_potential(m)) is not None
        ]
        inside = graph.modules() if not isinstance(graph, DenseForm) else self.base.modules()
        foreign = [type(m).__name__ for m in inside if id(m) in self.stateful - mine]
        if foreign:
            note = f"no CUDA graph: {', '.join(sorted(set(foreign)))} keeps a state of its own"
            self.fallbacks += [] if note in self.fallbacks else [note]
        return PackedNet(
            self.base,
            graph,
            neurons,
            keep_state=self.keep,
            capture=not foreign,
            tf32=precision != "exact",
            shapes=None if isinstance(graph, DenseForm) else self.found.graph_shapes,
        )

    def rows(self, lowered: Fused, timed: dict[str, Timed]) -> tuple[tuple[LayerReport, ...], dict[str, Decision]]:
        rows: list[LayerReport] = []
        decisions: dict[str, Decision] = {}
        for name, region in lowered.blocks.items():
            block: Any = lowered.graph_module.get_submodule(name)
            own = region.layer if hasattr(block, "parts") else region.neuron
            assert own is not None
            layer, found = self.workload.layer(str(own.target)), timed.get(name, Timed())
            kernel = block.kernel if isinstance(block, SpikeLayerBlock | StemBlock) else "library"
            rows.append(self.row(layer, kernel, found, str(region.source.target) if region.layer is not None else ""))
            crossover = rows[-1].crossover
            schedule = () if crossover is None else (("crossover", crossover),)
            decisions[layer.name] = Decision(kernel=kernel, schedule=schedule, fuse=FUSED)
        return tuple(rows), decisions

    def row(self, layer: Layer, kernel: str, found: Timed, source: str = "") -> LayerReport:
        """Return what a report says of one layer; kernels that failed become refusals."""
        x = layer.operand("input")
        self.refusals += [Refusal(layer=layer.name, what=k, reason=r) for k, r in found.failures.items()]
        return LayerReport(
            name=layer.name,
            op=layer.op,
            source=source,
            shape=x.shape if x is not None else (),
            density=layer.density,
            kernel=kernel,
            dense_s=found.original,
            kernel_s=found.kernels.get(kernel),
            timings_s=dict(found.kernels),
            crossover=found.crossover if kernel in GATED.values() else None,
        )

    def rivals(self) -> Iterator[_Form]:
        """Yield the dense forms that the packed one must beat; those that fail are refused."""
        if not self.cuda or self.settings.policy == "always" or (self.keep and self.foreign):
            return
        kept = [m for m in self.base.modules() if id(m) in self.stateful] if self.keep else []
        exact = self.settings.precision == "exact"
        dtypes = (torch.float32,) if exact else (torch.float16, torch.float32)
        ends = time.perf_counter() + self.effort.compile_s
        for compiled in (False,) if kept else (False, True):
            for dtype in dtypes:
                name = "fp16" if dtype == torch.float16 else "fp32" if exact else "tf32"
                name = f"dense {name} {'compiled' if compiled else 'graph'}"
                if compiled and time.perf_counter() >= ends:
                    self.refusals.append(Refusal(layer="", what=name, reason="no time was left to compile it"))
                    continue
                try:
                    form = DenseForm(self.base, dtype, compiled=compiled, neurons=kept)
                    yield _Form(name=name, model=self.net(form, self.settings.precision))
                except Exception as e:
                    self.refusals.append(Refusal(layer="", what=name, reason=f"failed: {type(e).__name__}: {e}"))

    def checked(self, form: _Form) -> _Form | None:
        """Run a form as it will run; return it with its end-to-end figures, or None with a refusal."""
        try:
            with quiet(form.model):
                made = form.model(*self.args)
                rel_err, top1 = compare_outputs(self.expected, made)
                failure = getattr(form.model, "capture_failure", None)
        except Exception as e:
            self.refusals.append(Refusal(layer="", what=form.name, reason=f"failed: {type(e).__name__}: {e}"))
            return None
        if failure:
            self.fallbacks.append(f"{form.name}: no CUDA graph: {failure}")
        parity = replace(form.parity, rel_err=rel_err, top1=top1)
        if not rel_err < float("inf"):
            reason = "its outputs are not finite, or have another shape"
            self.refusals.append(Refusal(layer="", what=form.name, reason=reason))
            return None
        return replace(form, parity=parity, typical=typical_error(self.expected, made))

    def judged(self, form: _Form, forms: Mapping[str, _Form]) -> tuple[_Form, str | None]:
        """Return a form with its figures, and why it rounds too much, or None.

        A dense form that rounds is held to the limit of packed layers, and to the outputs that packed layers keep.
        The model's own arithmetic in float32 is held to nothing, and packed layers were judged as they were made.
        """
        graph = form.model.graph if isinstance(form.model, PackedNet) else None
        precision = self.settings.precision
        if not isinstance(graph, DenseForm) or precision == "exact" or form.parity.spikes or form.name == "block":
            return form, None
        try:
            with _fastest(self.cuda, precision):
                found = compare_dense(self.base, graph, self.args)
        except Exception as e:
            return form, f"could not be compared: {type(e).__name__}: {e}"
        found = replace(found, rel_err=form.parity.rel_err, top1=form.parity.top1)
        form, reason = replace(form, parity=found), judge_lowered(found, precision)
        packed = forms.get("packed")
        if reason is None and packed is not None and packed.typical <= REL_TOL < form.typical:
            reason = f"the outputs of most samples differ by {form.typical:.2g} of the largest; those of packed do not"
        return form, None if reason is None else f"parity: {reason}"

    def verified(self, times: dict[str, float], forms: dict[str, _Form]) -> str:
        """Return the fastest form that is right; those before it are refused, and taken out of both."""
        while True:
            best = self.fastest(times)
            if best not in times:
                return best
            forms[best], reason = self.judged(forms[best], forms)
            if reason is None:
                return best
            self.refusals.append(Refusal(layer="", what=best, reason=reason))
            del times[best], forms[best]

    def choose(self, forms: dict[str, _Form]) -> tuple[_Form, dict[str, float]]:
        """Time every form, and return the fastest with the times of whole calls in seconds.

        Forms that run as CUDA graphs cost the host the same, so they are told apart by their replays
        alone: beside a host that is busy, calls of a small network say nothing. The fastest of them
        then races the others in whole calls, from the reset to the result. The packed form is taken if
        it is faster than every dense one by the margin; else the fastest dense one is. A policy that
        names a form gets it. What rounds is judged when it is about to be taken, so that few are.
        """
        forced = _FORCED.get(self.settings.policy, "")
        if forced in forms:
            forms = {name: forms[name] for name in ("dense", forced)}
        graphs = {name: call for name, form in forms.items() if (call := _replay(form.model, self.given)) is not None}
        forms = dict(forms)
        if len(graphs) > 1:
            replays = self.timed(graphs, forms)
            first = self.verified(replays, forms)
            for name in graphs.keys() - {first}:
                if name in replays:
                    self.slower(name, replays[name], first, replays[first], "as a graph")
                forms = {n: form for n, form in forms.items() if n != name}
        writes = self.found.writes_sample
        calls = {name: from_rest(form.model, self.given, clone=writes) for name, form in forms.items()}
        times = self.timed(calls, forms)
        best = forced if forced in times else self.verified(times, forms)
        for name, seconds in times.items():
            if name != best:
                self.slower(name, seconds, best, times[best], "end to end")
        return forms[best], times

    def timed(self, calls: Mapping[str, Callable[[], Any]], forms: Mapping[str, _Form]) -> dict[str, float]:
        """Return the median time of every call that runs, in seconds; the others are refused."""
        failures: dict[str, str] = {}
        with torch.no_grad(), all_quiet([forms[name].model for name in calls]):
            timings = measure(
                calls,
                warmup=3,
                repeats=2 * self.effort.repeats,
                budget_s=self.effort.model_budget_s,
                failures=failures,
            )
        self.refusals += [Refusal(layer="", what=name, reason=f"failed: {why}") for name, why in failures.items()]
        return {name: timing.median_s for name, timing in timings.items()}

    def fastest(self, times: Mapping[str, float]) -> str:
        """Return the fastest dense form, or the packed one where it is faster by the margin."""
        margin = 1 + self.settings.margin
        ours = {name: s for name, s in times.items() if name in ("packed", _COMPILED)}
        rivals = {name: s for name, s in times.items() if name not in ours}
        packed = min(ours, key=lambda name: ours[name], default="")
        best = min(rivals, key=lambda name: rivals[name], default=packed or "dense")
        if best in rivals and rivals[best] * margin > rivals.get("dense", float("inf")):
            best = "dense"
        faster = bool(packed) and ours[packed] * margin <= rivals.get(best, float("inf"))
        return packed if faster else best

    def slower(self, name: str, seconds: float, best: str, best_s: float, how: str) -> None:
        reason = f"measured {seconds * 1e3:.3f} ms {how} against {best_s * 1e3:.3f} ms of {best}"
        self.refusals.append(Refusal(layer="", what=name, reason=reason))


def _replay(model: nn.Module, args: tuple[Any, ...]) -> Callable[[], Any] | None:
    return model.replay_of(args) if isinstance(model, PackedNet) else None


def _fastest(cuda: bool, precision: str) -> Any:
    """Return a context in which the library searches its algorithms, as a packed network lets it."""
    if not cuda:
        return torch.no_grad()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=precision != "exact")
