"""The GPU pipeline returns the fastest verified form, on whatever device the tensors are."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import sparseflow.compress.sparsify.optimize_gpu as pipeline
import sparseflow.compress.sparsify.settle_gpu as settle_gpu
from sparseflow.compress.sparsify.memory import Memory
from sparseflow.compress.sparsify.optimize_gpu import GpuSettings, check_precision, on_cuda, optimize_gpu
from sparseflow.compress.sparsify.parity import Parity
from sparseflow.compress.sparsify.tune import Effort, Timed
from sparseflow.cost import Timing
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.hardware import load_target
from sparseflow.ir import Report
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import LIFNode
from sparseflow.nn.packed_net import PackedNet
from tests import fake_cuda_graph
from tests.spiking_nets import Residual, alive, chain

QUICK = Effort(repeats=2, budget_s=0.05, model_budget_s=0.2, compile_s=0.0)


def run(model: nn.Module, sample: Any, **settings: Any) -> tuple[nn.Module, Report]:
    target = load_target("h200")
    report = Report(model=type(model).__name__, target=target.name)
    given = GpuSettings(target=target, **{"precision": "exact", **settings})
    return optimize_gpu(copy.deepcopy(model).eval(), sample, given, Memory(None, target), QUICK, report)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that whole models are made to take, by name; 1 if not named."""
    given: dict[str, float] = {}

    def measure(fns: Any, **_: Any) -> dict[str, Timing]:
        for fn in fns.values():
            fn()
        return {name: Timing.of([given.get(name, 1.0)] * 3) for name in fns}

    monkeypatch.setattr(pipeline, "measure", measure)
    return given


@torch.no_grad()
def test_the_packed_form_is_taken_if_it_is_faster(times: dict[str, float]) -> None:
    model, x = chain()
    times["packed"] = 0.5
    made, report = run(model, x)
    assert isinstance(made, PackedNet)
    assert report.speedup == 2.0
    assert report.parity["mismatches"] == report.parity["mismatch"] == 0
    assert report.parity["spikes"] > 0
    assert report.precision == "exact"
    assert any(r.what == "dense" and "of packed" in r.reason for r in report.refusals)
    rows = {row.name: row for row in report.layers}
    assert rows["features.4"].source == "features.3"
    assert set(rows["features.4"].timings_s) == {"library", "dense"}
    torch.testing.assert_close(made(x), model(x), atol=1e-4, rtol=1e-3)
    with pytest.raises(ConfigError, match="reset"):
        made(x)


def test_never_slower(times: dict[str, float]) -> None:
    model, x = chain()
    times["packed"] = 0.99
    made, report = run(model, x)
    assert type(made) is type(model)
    assert {row.kernel for row in report.layers} == {"dense"}
    assert any(r.what == "packed" and "of dense" in r.reason for r in report.refusals)
    made, _ = run(model, x, policy="always")
    assert isinstance(made, PackedNet)


@torch.no_grad()
def test_a_form_that_differs_or_breaks_is_not_returned(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = chain()
    times["packed"] = 0.1
    with monkeypatch.context() as m:
        m.setattr(pipeline, "judge_lowered", lambda *_: "3 of 10 spikes differ")
        made, report = run(model, x)
    assert type(made) is type(model)
    assert any("3 of 10 spikes" in r.reason for r in report.refusals)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    for name in ("lower_gpu", "time_lowered", "settle"):
        with monkeypatch.context() as m:
            m.setattr(pipeline, name, fail)
            made, report = run(model, x)
        assert type(made) is type(model)
        assert any(r.what == "packed" and "out of luck" in r.reason for r in report.refusals)
        torch.testing.assert_close(made(x), model(x))
        reset_net(model)
    with monkeypatch.context() as m:
        m.setattr(PackedNet, "forward", fail)
        made, report = run(model, x)
    assert type(made) is type(model)
    assert any("out of luck" in r.reason for r in report.refusals)


class _Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sn, self.out = nn.Conv2d(3, 4, 3), LIFNode(step_mode="m"), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = self.sn(y[None] if float(y.sum()) > -1e9 else y)
        return self.out(y[0].mean((2, 3)))


def test_without_a_graph_the_model_stays(times: dict[str, float]) -> None:
    made, report = run(_Untraceable(), torch.randn(2, 3, 8, 8))
    assert isinstance(made, _Untraceable)
    assert any(r.what == "packed" and "no traced graph" in r.reason for r in report.refusals)


@torch.no_grad()
def test_single_steps_carry_their_state(times: dict[str, float]) -> None:
    times["packed"] = 0.5
    x = torch.randn(2, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), LIFNode(), nn.Conv2d(8, 8, 3), LIFNode(), nn.Flatten(), nn.Linear(128, 4))
    made, _ = run(model.eval(), x)
    assert isinstance(made, PackedNet)
    assert made.keep_state
    for _ in range(4):
        torch.testing.assert_close(made(x), model(x))
    made, _ = run(model, x, keep_state=False)
    made(x)
    with pytest.raises(ConfigError, match="reset"):
        made(x)


@torch.no_grad()
def test_state_is_kept_on_request(times: dict[str, float]) -> None:
    times["packed"] = 0.5
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    made, _ = run(model, x, keep_state=True)
    for _ in range(3):
        torch.testing.assert_close(made(x), model(x))


def test_dense_rivals_run_and_are_judged(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    times |= {"packed": 0.5, "dense tf32 graph": 0.3}
    init = pipeline._GpuJob.__init__

    def pretend(self: Any, *args: Any) -> None:
        init(self, *args)
        self.cuda = True

    monkeypatch.setattr(pipeline._GpuJob, "__init__", pretend)
    monkeypatch.setattr(pipeline, "KERNELS_GPU", ("library", "dense"))
    monkeypatch.setattr(pipeline, "_fastest", lambda *_: torch.no_grad())
    made, report = run(model, x, precision="fp16")
    assert isinstance(made, PackedNet)
    assert isinstance(made.graph, pipeline.DenseForm)
    assert any(r.what == "packed" and "of dense tf32 graph" in r.reason for r in report.refusals)
    assert any("no time was left" in r.reason for r in report.refusals)
    made(x)
    with pytest.raises(ConfigError, match="reset"):
        made(x)


@torch.no_grad()
def test_a_dense_form_that_rounds_too_much_is_not_taken(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = chain()
    pretend_cuda(monkeypatch)
    times |= {"packed": 0.5, "dense fp16 graph": 0.2, "dense tf32 graph": 0.3}
    asked: list[torch.dtype] = []

    def compare(_: nn.Module, form: pipeline.DenseForm, __: Any) -> Parity:
        asked.append(form.dtype)
        wrong = form.dtype == torch.float16
        return Parity(spikes=1000, mismatches=int(wrong))

    monkeypatch.setattr(pipeline, "compare_dense", compare)
    made, report = run(model, x, precision="fp16")
    assert made.graph.dtype == torch.float32
    assert asked == [torch.float16, torch.float32]
    assert any(r.what == "dense fp16 graph" and "1 of 1000 spikes differ" in r.reason for r in report.refusals)
    assert report.parity["spikes"] == 1000
    asked.clear()
    times["dense"] = 0.1
    made, _ = run(model, x, precision="fp16")
    assert type(made) is type(model)
    assert not asked

    def fail(*_: Any) -> Parity:
        raise RuntimeError("no memory is left")

    del times["dense"]
    monkeypatch.setattr(pipeline, "compare_dense", fail)
    made, report = run(model, x, precision="fp16")
    assert isinstance(made.graph, torch.fx.GraphModule)
    assert sum("no memory is left" in r.reason for r in report.refusals) == 2


@torch.no_grad()
def test_outputs_that_packed_layers_keep_are_not_given_up_for_speed(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = chain()
    pretend_cuda(monkeypatch)
    times |= {"packed": 0.5, "dense fp16 graph": 0.2}
    typical = {"packed": 1e-4, "dense fp16 graph": 0.1}
    checked = pipeline._GpuJob.checked

    def with_error(self: Any, form: Any) -> Any:
        return dataclasses.replace(checked(self, form), typical=typical.get(form.name, 0.0))

    monkeypatch.setattr(pipeline._GpuJob, "checked", with_error)
    made, report = run(model, x, precision="fp16")
    assert isinstance(made.graph, torch.fx.GraphModule)
    assert any(r.what == "dense fp16 graph" and "those of packed do not" in r.reason for r in report.refusals)
    typical["packed"] = 0.05
    made, _ = run(model, x, precision="fp16")
    assert made.graph.dtype == torch.float16


def test_forms_that_are_graphs_are_told_apart_by_their_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    init = pipeline._GpuJob.__init__

    def pretend(self: Any, *args: Any) -> None:
        init(self, *args)
        self.cuda = True

    asked: list[set[str]] = []

    def measure(fns: Any, **_: Any) -> dict[str, Timing]:
        asked.append(set(fns))
        for fn in fns.values():
            fn()
        # Calls are slow and alike, as beside a busy host; on the device the packed form takes half the time.
        seconds = {"dense": 9.0, "packed": 2.1} if "dense" in fns else {"packed": 0.5}
        return {name: Timing.of([seconds.get(name, 1.0)] * 3) for name in fns}

    monkeypatch.setattr(pipeline, "measure", measure)
    monkeypatch.setattr(pipeline._GpuJob, "__init__", pretend)
    monkeypatch.setattr(pipeline, "KERNELS_GPU", ("library", "dense"))
    monkeypatch.setattr(pipeline, "_fastest", lambda *_: torch.no_grad())
    monkeypatch.setattr(PackedNet, "_can_capture", lambda self, args: self.capture_failure is None)
    fake_cuda_graph.install(monkeypatch)
    made, report = run(model, x, precision="fp16")
    graphs = {"packed", "dense fp16 graph", "dense tf32 graph"}
    assert asked[-2] <= graphs
    assert "packed" in asked[-2]
    assert len(asked[-2]) > 1
    assert asked[-1] == {"dense", "packed"}
    assert isinstance(made.graph, torch.fx.GraphModule)
    assert any("as a graph against 500.000 ms of packed" in r.reason for r in report.refusals)


def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pipeline take the CPU for a GPU whose only kernels are the library's."""
    init = pipeline._GpuJob.__init__

    def pretend(self: Any, *args: Any) -> None:
        init(self, *args)
        self.cuda = True

    monkeypatch.setattr(pipeline._GpuJob, "__init__", pretend)
    monkeypatch.setattr(pipeline, "KERNELS_GPU", ("library",))
    monkeypatch.setattr(pipeline, "_fastest", lambda *_: torch.no_grad())


@torch.no_grad()
def test_what_runs_between_packed_layers_may_be_compiled(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = chain()
    pretend_cuda(monkeypatch)
    compiled: list[nn.Module] = []

    class Compiled(pipeline.CompiledGraph):
        def __init__(self, graph: nn.Module) -> None:
            compiled.append(graph)
            super().__init__(graph, backend="eager")

    monkeypatch.setattr(pipeline, "CompiledGraph", Compiled)
    monkeypatch.setattr(pipeline._GpuJob, "rivals", lambda self: iter(()))
    times |= {"packed": 0.5, "packed compiled": 0.25}
    run(model, x)
    assert not compiled
    monkeypatch.setattr(pipeline, "_MUCH_GLUE", 1)
    settings = GpuSettings(target=load_target("h200"), precision="exact")
    effort = Effort(repeats=2, budget_s=0.05, model_budget_s=0.2)
    memory = Memory(None, settings.target)
    made, report = optimize_gpu(copy.deepcopy(model).eval(), x, settings, memory, effort, Report(model="m", target="h"))
    assert len(compiled) == 1
    assert isinstance(made, PackedNet)
    assert isinstance(made.graph, Compiled)
    assert any(r.what == "packed" and "of packed compiled" in r.reason for r in report.refusals)
    assert {row.kernel for row in report.layers} >= {"library"}
    torch.testing.assert_close(made(x), model(x), atol=1e-4, rtol=1e-3)


class _Own(LIFNode):
    """A neuron whose maths is not that of its class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = super().forward(x * x)
        return out


@torch.no_grad()
def test_dense_forms_carry_the_states_of_single_steps(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cuda(monkeypatch)
    times["dense tf32 graph"] = 0.5
    x = torch.randn(2, 3, 8, 8)
    online = pytest.importorskip("spikingjelly.activation_based.neuron.online_learning")
    for neuron in (LIFNode, online.OTTTLIFNode):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), neuron(), nn.Conv2d(8, 4, 3), neuron()).eval()
        made, report = run(model, x, precision="fp16")
        assert isinstance(made, PackedNet)
        assert isinstance(made.graph, pipeline.DenseForm)
        assert made.keep_state
        assert not any("compiled" in r.what for r in report.refusals)
        for _ in range(3):
            torch.testing.assert_close(made(x), model(x))
        for m in (*made.modules(), *model.modules()):
            if hasattr(m, "reset"):
                m.reset()
        torch.testing.assert_close(made(x), model(x))
    # Where nobody knows what a neuron rests at, it alone carries its state.
    made, _ = run(nn.Sequential(nn.Conv2d(3, 8, 3), _Own()), x, precision="fp16")
    assert isinstance(made, nn.Sequential)


def test_precisions() -> None:
    assert [check_precision(p) for p in ("fp16", "exact", "int8")] == ["fp16", "exact", "int8"]
    with pytest.raises(ConfigError, match="fp8"):
        check_precision("fp8")
    assert not on_cuda(nn.Linear(1, 1), None)
    assert not on_cuda(nn.ReLU(), torch.ones(1))


@torch.no_grad()
@pytest.mark.parametrize("precision", ["exact", "fp16"])
def test_the_block_rule_is_a_policy(times: dict[str, float], precision: str) -> None:
    model, x = chain()
    times["block"] = 2.0
    made, report = run(model, x, policy="block", precision=precision)
    rows = {row.name: row for row in report.layers}
    assert set(rows) == {"features.4"}
    assert rows["features.4"].kernel == "block"
    assert set(rows["features.4"].timings_s) == {"library", "block"}
    assert report.plan is not None
    assert report.plan.decisions["features.4"].schedule == (("block", 4),)
    why = {r.layer: r.reason for r in report.refusals if r.what == "block"}
    assert "4x4 map dense" in why["features.8"]
    assert "convolutions only" in why["head.1"]
    assert "does not come from spikes" in why["features.0"]
    assert report.speedup == 0.5
    assert isinstance(made, PackedNet)
    found = made(x)
    if precision == "exact":
        torch.testing.assert_close(found, model(x), atol=1e-4, rtol=1e-3)
    else:
        assert 0 < report.parity["layer_rel_err"] < 4e-3
    assert {type(m).__name__ for m in made.graph._twin[0].modules()} >= {"BlockConv2d"}


@torch.no_grad()
def test_the_block_rule_refuses_what_it_cannot_do(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    made, report = run(model, x[..., :4, :4].repeat(1, 1, 2, 2)[..., :6, :6], policy="block")
    assert type(made) is type(model)
    assert report.layers == ()
    assert any("6x6 map dense" in r.reason for r in report.refusals)

    def fail(*_: Any, **__: Any) -> None:
        raise UnsupportedError("no Triton here")

    monkeypatch.setattr(pipeline, "time_block_layers", fail)
    made, report = run(model, x, policy="block")
    assert type(made) is type(model)
    assert any(r.what == "block" and r.reason == "no Triton here" for r in report.refusals)


@torch.no_grad()
def test_the_block_rule_keeps_states_of_single_steps(times: dict[str, float]) -> None:
    x = torch.randn(2, 3, 12, 12)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), LIFNode(), nn.Conv2d(8, 8, 3), LIFNode(), nn.Flatten(), nn.Linear(512, 4))
    made, report = run(model.eval(), x, policy="block")
    assert [row.name for row in report.layers] == ["2"]
    assert any("keep their states" in note for note in report.fallbacks)
    for _ in range(3):
        torch.testing.assert_close(made(x), model(x))


class _Writes(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x.mul_(0.5))
        return out


@torch.no_grad()
@pytest.mark.parametrize("policy", ["measured", "block"])
def test_every_form_is_judged_on_the_same_sample(times: dict[str, float], policy: str) -> None:
    model, x = chain()
    times |= {"packed": 0.5, "block": 0.5}
    before = x.clone()
    made, report = run(_Writes(model).eval(), x, policy=policy)
    assert isinstance(made, PackedNet)
    assert torch.equal(x, before)
    assert report.parity["rel_err"] < 1e-3


@torch.no_grad()
def test_layers_whose_rounding_shows_get_another_kernel(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = chain()
    times["packed"] = 0.5
    plain, ran = settle_gpu.compare_lowered, []

    def tuned(lowered: Any, *_: Any, **__: Any) -> dict[str, Timed]:
        known = {"int8": 0.1, "gated": 0.2, "event": 0.3, "library": 0.4, "dense": 0.5}
        timed = {}
        for name in lowered.blocks:
            block = lowered.graph_module.get_submodule(name)
            if hasattr(block, "kernels"):
                block.kernel, timed[name] = "int8", Timed(kernels=known, crossover=0.1)
        return timed

    def compare(lowered: Any, *args: Any) -> Parity:
        kernels = {b.kernel for b in lowered.graph_module.modules() if hasattr(b, "kernels")}
        ran.append(kernels)
        return Parity(spikes=10, mismatches=10) if kernels != {"dense"} else plain(lowered, *args)

    monkeypatch.setattr(pipeline, "time_lowered", tuned)
    monkeypatch.setattr(settle_gpu, "compare_lowered", compare)
    made, report = run(model, x, precision="int8")
    assert ran == [{"int8"}, {"dense"}]
    assert isinstance(made, PackedNet)
    rows = [row for row in report.layers if row.timings_s]
    assert {row.kernel for row in rows} == {"dense"}
    assert all(row.crossover is None and row.kernel_s == 0.5 for row in rows)
    assert report.precision == "int8"
