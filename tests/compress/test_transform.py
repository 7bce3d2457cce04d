"""Sparsify keeps the promises of a Transform."""

import copy

import pytest
import torch

from sparseflow.compress import Sparsify, Transform
from sparseflow.errors import PlanError
from sparseflow.ir import FLOAT16, Decision, Plan
from sparseflow.trace import trace
from tests.spiking_nets import chain


def test_is_a_transform() -> None:
    assert isinstance(Sparsify(torch.zeros(1)), Transform)
    assert not isinstance(object(), Transform)


def test_leaves_the_model_alone_and_reports() -> None:
    model, x = chain()
    before = copy.deepcopy(model.state_dict())
    names = [(n, type(m)) for n, m in model.named_modules()]
    plan = Plan(workload_hash=trace(model, x).hash, decisions={"features.4": Decision(kernel="event")})
    made, report = Sparsify(x).apply(model, plan)
    assert made is not model
    assert [(n, type(m)) for n, m in model.named_modules()] == names
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert report.plan is plan
    assert [(row.name, row.kernel) for row in report.layers] == [("features.4", "event")]


def test_rejects_what_it_does_not_read() -> None:
    model, x = chain()
    hashed = trace(model, x).hash
    with pytest.raises(PlanError, match="precision"):
        Sparsify(x).apply(model, Plan(workload_hash=hashed, decisions={"features.4": Decision(precision=FLOAT16)}))
    with pytest.raises(PlanError, match="nowhere"):
        Sparsify(x).apply(model, Plan(workload_hash=hashed, decisions={"nowhere": Decision(kernel="event")}))
    with pytest.raises(PlanError, match="plan is for workload"):
        Sparsify(x).apply(model, Plan(workload_hash="0" * 16))
