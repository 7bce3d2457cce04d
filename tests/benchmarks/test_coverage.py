import json
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly")

from benchmarks import coverage
from benchmarks.spikingjelly_models import Builder
from sparseflow.errors import CaptureError, MeasurementError

TINY = Builder(
    name="MNISTNet", module="parametric_lif_net", arguments={"channels": 8, "spiking_neuron": "PLIF"},
    sample_shape=(2, 1, 1, 28, 28),
)  # fmt: skip


def test_a_network_is_optimised_compared_and_timed():
    row = coverage.try_builder(TINY, repeats=2)
    assert row["outcome"] in ("optimized", "kept dense")
    assert row["ratio"] > 0
    assert row["layers"] >= row["replaced"] >= 0


def test_a_refusal_carries_its_reason(monkeypatch):
    def refuse(*_, **__):
        raise CaptureError("no edges")

    monkeypatch.setattr(coverage.sparseflow, "optimize", refuse)
    row = coverage.try_builder(TINY, repeats=2)
    assert row["outcome"] == "refused"
    assert "no edges" in row["reason"]


def test_a_wrong_result_fails(monkeypatch):
    class Wrong(nn.Module):
        def forward(self, x):
            return torch.zeros(1)

    monkeypatch.setattr(coverage.sparseflow, "optimize", lambda *_, **__: (Wrong(), coverage_report()))
    row = coverage.try_builder(TINY, repeats=2)
    assert row["outcome"] == "failed"
    assert "wrong result" in row["reason"]


def coverage_report():
    from sparseflow.ir import Report

    return Report(model="m", target="cpu")


def test_a_compiled_rival_stands_beside(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda net: net)
    row = coverage.try_builder(TINY, repeats=2, compile_s=60.0)
    assert row["over_compiled"] > 0
    assert "not_compiled" not in row


def test_a_compiler_that_fails_is_named(monkeypatch):
    def fail(_):
        raise ValueError("no such backend")

    monkeypatch.setattr(torch, "compile", fail)
    row = coverage.try_builder(TINY, repeats=2, compile_s=60.0)
    assert row["not_compiled"] == "ValueError: no such backend"
    assert row["ratio"] > 0
    assert "over_compiled" not in row


def test_too_few_builders_do_not_hold(monkeypatch, capsys, tmp_path):
    rows = {"name": "x", "outcome": "optimized", "ratio": 2.0}
    monkeypatch.setattr(coverage, "BUILDERS", (TINY,))
    monkeypatch.setattr(coverage, "try_builder", lambda *_, **__: rows)
    out = tmp_path / "coverage.json"
    assert coverage.main(["--json", "--out", str(out)]) == 1
    body = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out)["checks"] == body["checks"]
    assert [c["ok"] for c in body["checks"]] == [False, True, False, True]


def test_a_trial_pauses_when_all_is_built():
    trial = coverage.trial_of(TINY, 2, "cpu", compile=False, precision="fp16", lock=None, compile_s=0.0)
    assert next(trial) is None
    with pytest.raises(StopIteration) as done:
        next(trial)
    assert done.value.value["ratio"] > 0


def test_processes_build_first_and_measure_in_turn(monkeypatch, tmp_path):
    events = []

    def trial(builder, *_, lock, **__):
        events.append(f"build {builder.name}")
        if builder.name == "broken":
            raise RuntimeError("no memory")
        if builder.name == "late":
            raise MeasurementError("given up after 1 s")
        yield
        events.append(f"measure {builder.name}")
        return {"name": builder.name, "outcome": "optimized", "ratio": 2.0}

    monkeypatch.setattr(coverage, "trial_of", trial)
    builders = [replace(TINY, name=name) for name in ("a", "broken", "late", "b")]
    turns = json.dumps([str(tmp_path), 1, time.time() + 60])
    chosen = Namespace(turns=turns, repeats=2, device="cpu", no_compile=True, precision="fp16")
    rows = list(coverage._rows_in_turns(builders, chosen))
    assert events == ["build a", "build broken", "build late", "build b", "measure b", "measure a"]
    assert [(row["name"], row["outcome"]) for row in rows] == [
        ("broken", "failed"), ("b", "optimized"), ("a", "optimized"),
    ]  # fmt: skip
