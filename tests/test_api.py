"""The one-line door."""

from typing import Any

import pytest
import torch

import sparseflow
from sparseflow.api import optimize
from sparseflow.compress import Effort
from sparseflow.errors import ConfigError
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


def test_nothing_is_measured_for_a_gpu_on_a_cpu() -> None:
    model, x = chain()
    with pytest.raises(ConfigError, match="lies on the CPU"):
        optimize(model, x, target="h200", effort=QUICK)


@pytest.mark.parametrize(
    ("given", "hint"), [("csnn", "build\\('csnn'\\)"), (None, "Module$"), (torch.ones(1), "Tensor")]
)
def test_what_is_no_model_is_refused(given: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        optimize(given, torch.ones(1))
    with pytest.raises(ConfigError, match="cannot optimize"):
        optimize(given)
