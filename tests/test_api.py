"""The one-line door."""

import torch

import sparseflow
from sparseflow.api import optimize
from sparseflow.compress import Effort
from sparseflow.hardware import load_target
from sparseflow.ir import Report
from tests.spiking_nets import chain

QUICK = Effort(repeats=2, budget_s=0.05, model_budget_s=0.2)


def test_one_line() -> None:
    model, x = chain()
    fast = sparseflow.optimize(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert not fast.training


def test_report_and_target() -> None:
    model, x = chain()
    host = load_target("cpu", describe=False)
    made, report = optimize(model, x, target=host, report=True, effort=QUICK)
    assert isinstance(report, Report)
    assert report.target == "cpu"
    assert report.dense_s is not None
    assert report.dense_s > 0
    assert report.to_dict()["layers"]
    assert torch.is_tensor(made(x))


def test_a_store_by_path(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, x = chain()
    optimize(model, x, target=load_target("cpu", describe=False), store=tmp_path / "records.sqlite", effort=QUICK)
    assert (tmp_path / "records.sqlite").exists()


def test_a_gpu_target_leaves_the_model_dense() -> None:
    model, x = chain()
    made, report = optimize(model, x, target="h200", report=True, effort=QUICK)
    assert type(made) is type(model)
    assert any("CPUs" in r.reason for r in report.refusals)
