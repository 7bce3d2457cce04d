"""The pipeline returns the fastest verified form, and says what it did not take."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import sparseflow.compress.sparsify.optimize as pipeline
from sparseflow.compress import Effort, optimize_spiking
from sparseflow.compress.sparsify.parity import Parity
from sparseflow.cost import Timing
from sparseflow.errors import ConfigError
from sparseflow.hardware import load_target
from sparseflow.ir import Report
from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.nn.sparse_linear import SparseLinear
from sparseflow.records import Store
from tests.spiking_nets import Residual, alive, chain

QUICK = Effort(repeats=2, budget_s=0.05, model_budget_s=0.2)


def _run(model: nn.Module, sample: Any, **settings: Any) -> tuple[nn.Module, Report]:
    target = load_target(settings.pop("target", "cpu"), describe=False)
    return optimize_spiking(model, sample, target=target, effort=QUICK, **settings)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that whole models and kernels are made to take, by name; 1 if not named."""
    given: dict[str, float] = {}

    def measure(fns: Any, **_: Any) -> dict[str, Timing]:
        for fn in fns.values():
            fn()
        return {name: Timing.of([given.get(name, 1.0)] * 3) for name in fns}

    monkeypatch.setattr(pipeline, "measure", measure)
    monkeypatch.setattr("sparseflow.compress.sparsify.tune.measure", measure)
    return given


@torch.no_grad()
def test_takes_the_fastest_form(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 0.5, "amx": 2.0, "fused": 0.5, "drop-in": 0.25}
    made, report = _run(model, x)
    assert isinstance(made.get_submodule("features.4"), SparseConv2d)
    assert report.speedup == 4.0
    times |= {"fused": 0.2}
    made, report = _run(model, x)
    assert isinstance(made, FusedNet)
    assert report.speedup == 5.0
    assert report.captured_by == "fx"
    assert report.parity["mismatches"] == 0
    rows = {row.name: row for row in report.layers}
    assert rows["features.4"].kernel == "event"
    assert rows["features.4"].source == "features.3"
    assert rows["features.4"].timings_s["event"] == 0.5
    assert rows["features.0"].kernel == "dense"
    assert rows["features.3"].kernel == "native"
    assert all(row.predicted_s is None or row.predicted_s > 0 for row in report.layers)
    assert rows["features.4"].predicted_s
    assert report.plan is not None
    assert report.plan.decisions["features.4"].fuse == "network"
    torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_never_slower(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 0.5, "fused": 0.99, "drop-in": 1.5}
    made, report = _run(model, x)
    assert type(made) is type(model)
    assert not any(isinstance(m, SparseConv2d | SparseLinear) for m in made.modules())
    assert report.speedup == 1.0
    assert {row.kernel for row in report.layers} == {"dense"}
    assert report.plan is not None
    assert not report.plan.decisions
    assert any(r.layer == "" and "not 2% faster" in r.reason for r in report.refusals)


def test_no_kernel_pays(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 1.0, "amx": 1.0}
    made, report = _run(model, x, fuse=False)
    assert type(made) is type(model)
    assert any(r.layer == "features.4" and "us dense" in r.reason for r in report.refusals)


def test_a_form_that_differs_is_not_returned(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    times |= {"event": 0.5, "fused": 0.1, "drop-in": 0.5}
    monkeypatch.setattr(pipeline, "compare_blocks", lambda *_: Parity(spikes=10, mismatches=3))
    made, report = _run(model, x)
    assert not isinstance(made, FusedNet)
    assert any(r.what == "fused" and "3 of 10 spikes differ" in r.reason for r in report.refusals)


def test_a_form_that_breaks_is_not_returned(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of luck")

    model, x = chain()
    times |= {"event": 1.0}
    monkeypatch.setattr(pipeline, "fused_graph", fail)
    _, report = _run(model, x)
    assert any(r.what == "fuse" and "out of luck" in r.reason for r in report.refusals)


def test_block_policy(times: dict[str, float]) -> None:
    model, x = chain()
    made, report = _run(model, x, policy="block")
    conv = made.get_submodule("features.4")
    assert isinstance(conv, SparseConv2d)
    assert conv.block_size == 4
    assert not isinstance(made.get_submodule("features.8"), SparseConv2d)
    reasons = {r.layer: r.reason for r in report.refusals if r.what == "block"}
    assert "4x4 map" in reasons["features.8"]
    assert "convolutions only" in reasons["head.1"]
    assert report.plan is not None
    assert report.plan.decisions["features.4"].schedule == (("block", 4),)


def test_policy_always_takes_a_slower_form(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 2.0, "amx": 2.5, "fused": 3.0, "drop-in": 2.0}
    made, _ = _run(model, x, policy="always")
    assert isinstance(made.get_submodule("features.4"), SparseConv2d)


def test_without_a_sample() -> None:
    model, x = chain()
    made, report = _run(model, None)
    conv = made.get_submodule("features.4")
    assert isinstance(conv, SparseConv2d)
    assert conv.kernel == "auto"
    assert not conv.choices
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)
    assert conv.choices
    assert "no sample" in report.fallbacks[0]
    assert {row.name for row in report.layers} == {"features.4", "features.8", "head.1", "head.3"}


def test_sew_network_and_a_store(times: dict[str, float]) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    times |= {"event": 0.5, "fused": 0.4, "drop-in": 0.6}
    store = Store("sqlite://")
    made, _ = _run(model, x, store=store)
    assert len(store) > 10
    kept = len(store)
    times |= {"event": 9.0}
    again, _ = _run(model, x, store=store)
    assert len(store) == kept
    with torch.no_grad():
        want = made(x)
        reset_net(made)
        torch.testing.assert_close(again(x), want)


def test_threads_are_put_back() -> None:
    model, x = chain()
    before = torch.get_num_threads()
    _run(model, x, threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "settings", [{"margin": 1.5}, {"margin": float("nan")}, {"threads": 0}, {"policy": "fast"}], ids=str
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    model, x = chain()
    with pytest.raises(ConfigError):
        _run(model, x, **settings)


@torch.no_grad()
def test_the_result_compiles_to_one_graph(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 0.5, "amx": 3.0, "fused": 0.1}
    made, _ = _run(model, x)
    assert isinstance(made, FusedNet)
    want = made(x), made(x)
    reset_net(made)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for expected in want:
        torch.testing.assert_close(compiled(x), expected)


def test_state_dict_moves_between_the_forms(times: dict[str, float]) -> None:
    model, x = chain()
    times |= {"event": 0.5, "fused": 0.1}
    made, _ = _run(model, x)
    assert made.state_dict().keys() == model.state_dict().keys()
    other, _ = chain()
    made.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(made(x), copy.deepcopy(other)(x), rtol=1e-4, atol=1e-4)
