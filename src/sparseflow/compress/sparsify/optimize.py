"""The whole pipeline: trace, measure, plan, apply, verify, report."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sparseflow.compress.sparsify.analyze import Site, find_sites
from sparseflow.compress.sparsify.apply import FUSED, arguments, fused_graph, swap_layers
from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.memory import Memory
from sparseflow.compress.sparsify.optimize_gpu import GpuSettings, check_precision, on_cuda, optimize_gpu
from sparseflow.compress.sparsify.parity import Parity, compare_blocks, compare_outputs, judge
from sparseflow.compress.sparsify.policy import check_policy, choose_kernel, select_block_size
from sparseflow.compress.sparsify.replace import replace_modules
from sparseflow.compress.sparsify.runs import all_quiet, cloned, from_rest
from sparseflow.compress.sparsify.symbolic import spiking_layers
from sparseflow.compress.sparsify.tune import Effort, Timed, polish, time_blocks, time_layers
from sparseflow.cost import Analytical, measure, ratio
from sparseflow.errors import CaptureError, ConfigError, DataError, UnsupportedError
from sparseflow.ir import Decision, Layer, LayerReport, Plan, Refusal, Report, Target, Workload
from sparseflow.nn.fused_net import FusedNet
from sparseflow.records import Store
from sparseflow.trace import Capture, capture, is_spike_source, spike_edges
from sparseflow.trace._leaf_tracer import leaf_trace
from sparseflow.trace._state import one_at_a_time, quiet
from sparseflow.trace.workload import to_workload

__all__ = ["optimize_spiking"]

_HOPELESS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One way to run the model."""

    name: str
    model: nn.Module
    decisions: dict[str, Decision] = field(default_factory=dict)
    rows: tuple[LayerReport, ...] = ()
    parity: Parity = field(default_factory=Parity)


@one_at_a_time
def optimize_spiking(
    model: nn.Module,
    sample: Any = None,
    *,
    target: Target,
    policy: str = "measured",
    fuse: bool = True,
    margin: float = 0.02,
    store: Store | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    precision: str = "fp16",
    keep_state: bool | None = None,
) -> tuple[nn.Module, Report]:
    """Return the fastest verified form of a spiking model, and what was done; see `sparseflow.optimize`."""
    if isinstance(model, FusedNet):
        # Its own forward can be fused anew, for another sample.
        model = model.plain
    check_policy(policy)
    check_precision(precision)
    if not 0.0 <= margin < 1.0:
        raise ConfigError(f"margin is {margin}; expected a fraction from 0 to below 1, as 0.02")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; expected at least 1, or None for torch's setting")
    base = _copy(model)
    report = Report(model=type(model).__name__, target=target.name)
    if not any(is_spike_source(m) for m in base.modules()):
        reason = "it holds no spiking neuron; sparse kernels pay on spikes only (sparseflow.trace.register adds types)"
        return base, replace(report, refusals=(Refusal(layer="", what="optimize", reason=reason),))
    with _threads(threads):
        if sample is None:
            return _without_sample(base, report, policy)
        if on_cuda(base, sample):
            if target.kind != "gpu":
                raise ConfigError(f"the model is on a GPU and target {target.name!r} is a {target.kind}; leave it out")
            settings = GpuSettings(
                target=target, policy=policy, fuse=fuse, margin=margin, precision=precision, keep_state=keep_state
            )
            return optimize_gpu(base, sample, settings, Memory(store, target), effort or Effort(), report)
        if target.kind != "cpu":
            raise ConfigError(
                f"target {target.name!r} is a {target.kind} and the model lies on the CPU, where nothing can be "
                "measured for it; move model and sample to the device, or leave the target out"
            )
        job = _Job(base, sample, target, policy, fuse, margin, Memory(store, target), effort or Effort())
        return job.run(report)


def _copy(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"cannot optimize a {type(model).__name__}; give a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(f"{type(model).__name__} is scripted: its inside cannot be seen; give the eager module")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise CaptureError(f"{name} has no shape yet; run the model once before")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach()).all()):
            raise DataError(f"weight {name!r} holds NaN or infinity; load or train proper weights first")
    try:
        return copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as e:
        raise CaptureError(f"{type(model).__name__} cannot be copied: {e}; reset its state and detach it first") from e


def _share(model: nn.Module) -> nn.Module:
    """Copy a model whose parameters stay those of the original; only one of the two is handed out in the end."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def _without_sample(base: nn.Module, report: Report, policy: str) -> tuple[nn.Module, Report]:
    """Swap layers that a symbolic trace finds; they tune themselves on their first input."""
    try:
        traced = leaf_trace(base)
    except CaptureError as e:
        raise CaptureError(f"{e}; pass one input batch: sparseflow.optimize(model, sample)") from e
    layers, refusals = spiking_layers(traced)
    kernel = "auto" if policy == "measured" else "event"
    decisions = {name: Decision(kernel=kernel) for name in layers}
    made = swap_layers(base, decisions)
    rows = tuple(
        LayerReport(name=name, op=_op(traced.get_submodule(name)), source=", ".join(sources), kernel=kernel)
        for name, sources in layers.items()
    )
    notes = ["no sample was given: each layer times its kernels on its first input, and nothing is fused"]
    if policy == "block":
        notes.append("the block rule needs the size of feature maps: without a sample it takes every layer")
    return made, replace(report, captured_by="fx", layers=rows, refusals=tuple(refusals), fallbacks=tuple(notes))


def _op(module: nn.Module) -> str:
    return "conv2d" if isinstance(module, nn.Conv2d) else "linear"


class _Job:
    """One run of the pipeline on a sample."""

    def __init__(
        self,
        base: nn.Module,
        sample: Any,
        target: Target,
        policy: str,
        fuse: bool,
        margin: float,
        memory: Memory,
        effort: Effort,
    ) -> None:
        self.base, self.sample, self.target = base, sample, target
        self.policy, self.fuse, self.margin, self.memory, self.effort = policy, fuse, margin, memory, effort
        self.found: Capture = capture(base, sample)
        self.given = arguments(sample, self.found.graph_module)
        self.workload: Workload = to_workload(self.found)
        edges = spike_edges(self.found)
        self.sites, self.refusals = find_sites(base, self.found, edges, self.workload, target)
        self.fallbacks = list(self.found.notes)

    @property
    def args(self) -> tuple[Any, ...]:
        """Arguments for one run of the forward, which may write into them."""
        return cloned(self.given) if self.found.writes_sample else self.given

    def run(self, report: Report) -> tuple[nn.Module, Report]:
        candidates = [_Candidate(name="dense", model=self.base)]
        layerwise: dict[str, list[Refusal]] = {}
        for name, build in (("drop-in", self.drop_in), ("fused", self.fused)):
            known = len(self.refusals)
            made = build()
            if made is not None:
                candidates.append(made)
            layerwise[name] = [r for r in self.refusals[known:] if r.layer]
            self.refusals[known:] = [r for r in self.refusals[known:] if not r.layer]
        chosen, times = self.choose(candidates)
        # What a layer of another form was refused says nothing about the form that came out.
        self.refusals += [r for name, rs in layerwise.items() if chosen.name in ("dense", name) for r in rs]
        plan = Plan(workload_hash=self.workload.hash, decisions=chosen.decisions)
        rows = chosen.rows or tuple(replace(r, kernel="dense") for c in candidates[1:2] for r in c.rows)
        return chosen.model, replace(
            report,
            captured_by=self.found.how,
            layers=rows,
            refusals=tuple(self.refusals),
            fallbacks=tuple(self.fallbacks),
            plan=plan,
            dense_s=times.get("dense"),
            optimized_s=times.get(chosen.name),
            parity=chosen.parity.figures(),
        )

    def forward(self, model: nn.Module) -> Callable[[], Any]:
        return from_rest(model, self.given, clone=self.found.writes_sample)

    def drop_in(self) -> _Candidate | None:
        """Return the model with layers swapped for sparse ones, or None if none pays."""
        if not self.sites:
            return None
        with quiet(self.base):
            timed = time_layers(self.base, self.args, self.sites, self.effort, self.memory)
        decisions, rows = {}, []
        for site in self.sites:
            found = timed.get(site.name, Timed())
            decision = self.decide(site, found)
            if decision.kernel != "dense":
                decisions[site.name] = decision
            rows.append(_row(site, found, decision.kernel or "dense", self.target))
            self.refuse_failures(site.name, found)
        if not decisions:
            return None
        model = swap_layers(_share(self.base), {k: d for k, d in decisions.items() if d.schedule})
        ready = {name: timed[name].twins[d.kernel] for name, d in decisions.items() if d.kernel and not d.schedule}
        model = replace_modules(model, ready) if ready else model
        used = [t for name, t in timed.items() if name in decisions]
        parity = Parity(layer_rel_err=max((t.rel_err for t in used), default=0.0))
        return _Candidate(name="drop-in", model=model, decisions=decisions, rows=tuple(rows), parity=parity)

    def decide(self, site: Site, found: Timed) -> Decision:
        if self.policy == "measured":
            kernel = choose_kernel(found.kernels, margin=self.margin) if "dense" in found.kernels else "dense"
            if kernel == "dense" and found.kernels:
                self.refuse_slow(site.name, found.kernels)
            return Decision(kernel=kernel)
        ran = [kernel for kernel in site.kernels if kernel in found.kernels]
        best = min(ran, key=lambda k: found.kernels[k], default="dense")
        if self.policy == "always":
            return Decision(kernel=best)
        x = site.layer.operand("input")
        height, width = x.shape[-2:] if x is not None and site.layer.op == "conv2d" else (0, 0)
        block = select_block_size(height, width)
        if block is None:
            reason = f"the block rule leaves a {height}x{width} map dense; it takes maps of at least 8x8"
            if site.layer.op != "conv2d":
                reason = "the block rule takes convolutions only"
            self.refusals.append(Refusal(layer=site.name, what="block", reason=reason))
            return Decision(kernel="dense")
        return Decision(kernel=best, schedule=(("block", block),))

    def refuse_slow(self, name: str, kernels: Mapping[str, float]) -> None:
        dense = kernels["dense"]
        for kernel, seconds in kernels.items():
            if kernel != "dense":
                reason = (
                    f"measured {seconds * 1e6:.0f} us against {dense * 1e6:.0f} us dense: not {self.margin:.0%} faster"
                )
                self.refusals.append(Refusal(layer=name, what=kernel, reason=reason))

    def refuse_failures(self, name: str, found: Timed) -> None:
        self.refusals += [Refusal(layer=name, what=k, reason=r) for k, r in found.failures.items()]

    def fused(self) -> _Candidate | None:
        """Return the model as fused blocks on packed spikes, or None with a refusal."""
        if not self.fuse or self.policy == "block":
            return None
        try:
            return self.fuse_and_time()
        except UnsupportedError as e:
            self.refusals.append(Refusal(layer="", what="fuse", reason=str(e)))
        except Exception as e:
            # The original still runs: whatever breaks a fused form is a reason not to use it, said in the report.
            # The first line: fx adds its own traceback.
            why = next(iter(str(e).splitlines()), "")
            self.refusals.append(Refusal(layer="", what="fuse", reason=f"failed: {type(e).__name__}: {why}"))
        return None

    def fuse_and_time(self) -> _Candidate:
        model = _share(self.base)
        fused = fused_graph(model, capture(model, self.sample), self.sample, {})
        modules = dict(model.named_modules())
        with quiet(model):
            timed = time_blocks(
                fused, self.args, modules, self.sites, self.workload, self.effort, self.memory, margin=self.margin
            )
        made = FusedNet(model, fused.graph_module, shapes=self.found.graph_shapes)
        with quiet(made):
            polish(fused, self.forward(made), timed, self.effort)
        with quiet(model):
            parity = compare_blocks(fused, self.args, modules)
        rows, decisions = self.block_rows(fused, timed)
        return _Candidate(name="fused", model=made, decisions=decisions, rows=rows, parity=parity)

    def block_rows(
        self, fused: Fused, timed: Mapping[str, Timed]
    ) -> tuple[tuple[LayerReport, ...], dict[str, Decision]]:
        rows: list[LayerReport] = []
        decisions: dict[str, Decision] = {}
        sources = {site.name: site.sources for site in self.sites}
        for name, region in fused.blocks.items():
            block: Any = fused.graph_module.get_submodule(name)
            found = timed.get(name, Timed())
            kernel = getattr(block, "kernel", "native")
            own = region.layer if hasattr(block, "kernel") else region.neuron
            assert own is not None
            layer = self.workload.layer(str(own.target))
            self.refuse_failures(layer.name, found)
            x = layer.operand("input")
            rows.append(
                LayerReport(
                    name=layer.name,
                    op=layer.op,
                    source=", ".join(sources.get(layer.name, ())),
                    shape=x.shape if x is not None else (),
                    density=layer.density,
                    kernel=kernel,
                    dense_s=found.original,
                    kernel_s=found.kernels.get(kernel),
                    predicted_s=_predicted(layer, kernel, self.target),
                    timings_s={**found.kernels, **({"original": found.original} if found.original else {})},
                )
            )
            decisions[layer.name] = Decision(kernel=kernel, fuse=FUSED)
        return tuple(rows), decisions

    def choose(self, candidates: Sequence[_Candidate]) -> tuple[_Candidate, dict[str, float]]:
        """Verify every candidate, time what passes, and return the fastest with all times in seconds."""
        with quiet(self.base):
            expected = self.base(*self.args)
        alive: dict[str, _Candidate] = {"dense": candidates[0]}
        for candidate in candidates[1:]:
            with quiet(candidate.model):
                rel_err, top1 = compare_outputs(expected, candidate.model(*self.args))
            checked = replace(candidate, parity=replace(candidate.parity, rel_err=rel_err, top1=top1))
            reason = judge(checked.parity)
            if reason is None:
                alive[candidate.name] = checked
            else:
                self.refusals.append(Refusal(layer="", what=candidate.name, reason=f"parity: {reason}"))
        runs = {name: self.forward(candidate.model) for name, candidate in alive.items()}
        with torch.no_grad(), all_quiet([c.model for c in alive.values()]):
            if len(runs) > 2 and self.policy == "measured":
                first = {name: t.min_s for name, t in measure(runs, warmup=1, repeats=2, min_time_s=0.0).items()}
                near = _HOPELESS * min(first.values())
                for name in [n for n in runs if n != "dense" and first[n] > near]:
                    reason = f"measured {first[name] * 1e3:.3g} ms end to end: over {_HOPELESS:g} times the fastest"
                    self.refusals.append(Refusal(layer="", what=name, reason=reason))
                    del runs[name]
            timings = measure(runs, warmup=2, repeats=2 * self.effort.repeats, budget_s=self.effort.model_budget_s)
        times = {name: timing.median_s for name, timing in timings.items()}
        if len(runs) == 1:
            return alive["dense"], times
        gains = {name: ratio(timings, "dense", name) for name in timings if name != "dense"}
        best = max(gains, key=lambda name: gains[name])
        if self.policy == "measured" and gains[best] < 1 + self.margin:
            reason = f"measured {gains[best]:.2f}x the speed of dense end to end: not {self.margin:.0%} faster"
            self.refusals.append(Refusal(layer="", what=best, reason=reason))
            return alive["dense"], times
        return alive[best], times


def _predicted(layer: Layer, kernel: str, target: Target) -> float | None:
    """Return the roofline of a layer, or None where nothing tells what the kernel costs."""
    known = {"native": "cpp"}.get(kernel, kernel)
    try:
        return Analytical().predict_layer(layer, Decision(kernel=known), target).latency_s
    except (ConfigError, UnsupportedError):
        return None


def _row(site: Site, found: Timed, kernel: str, target: Target) -> LayerReport:
    x = site.layer.operand("input")
    return LayerReport(
        name=site.name,
        op=site.layer.op,
        source=", ".join(site.sources),
        shape=x.shape if x is not None else (),
        density=site.layer.density,
        kernel=kernel,
        dense_s=found.kernels.get("dense"),
        kernel_s=found.kernels.get(kernel),
        predicted_s=_predicted(site.layer, kernel, target),
        timings_s=dict(found.kernels),
    )
