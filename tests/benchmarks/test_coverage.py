import json
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly")

from benchmarks import coverage
from benchmarks.coverage_turns import Turns
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


def test_a_trial_is_built_then_measured_as_often_as_it_is_asked():
    trial = coverage.trial_of(TINY, 2, "cpu", compile=False, precision="fp16", compile_s=0.0, ahead=True)
    assert next(trial) == {}
    first, again = next(trial), next(trial)
    assert first["ratio"] > 0
    assert first.keys() == again.keys()
    assert first["optimize_s"] == again["optimize_s"]


def trials(monkeypatch, events):
    """Trials that note what they do; `events` may be a list or anything with an append."""

    def trial(builder, *_, **__):
        events.append(f"build {builder.name}")
        if builder.name == "broken":
            raise RuntimeError("no memory")
        if builder.name == "late":
            raise MeasurementError("given up after 1 s")
        yield {}
        while True:
            events.append(f"measure {builder.name}")
            yield {"name": builder.name, "outcome": "optimized", "ratio": 2.0}

    monkeypatch.setattr(coverage, "trial_of", trial)


def given(tmp_path, processes=1, seconds=1000.0):
    turns = json.dumps([str(tmp_path), processes, time.time() + seconds])
    return Namespace(turns=turns, repeats=2, device="cpu", no_compile=True, precision="fp16")


def test_processes_build_first_and_measure_in_turn(monkeypatch, tmp_path):
    events: list[str] = []
    trials(monkeypatch, events)
    builders = [replace(TINY, name=name) for name in ("a", "broken", "late", "b")]
    rows = list(coverage._rows_in_turns(builders, given(tmp_path)))
    assert events == ["build a", "build broken", "build late", "build b", "measure a", "measure b"]
    assert [(row["name"], row["outcome"], row.get("beside")) for row in rows] == [
        ("broken", "failed", None), ("a", "optimized", 0), ("b", "optimized", 0),
    ]  # fmt: skip
    assert Turns(tmp_path, builders, 1, 0.0).reasons() == {"broken": "failed", "late": "not built: given up after 1 s"}


def test_what_is_measured_beside_a_builder_is_measured_again_when_all_is_quiet(monkeypatch, tmp_path):
    events: list[str] = []
    trials(monkeypatch, events)
    builders = [replace(TINY, name=name) for name in ("slow", "a")]
    other = Turns(tmp_path, builders, 4, time.time() + 1000)
    assert other.claim() == 0
    rows = coverage._rows_in_turns(builders, given(tmp_path, processes=4))
    first = next(rows)
    assert (first["name"], first["beside"]) == ("a", 1)
    other.out(0, "gone")
    assert [(row["name"], row["beside"]) for row in rows] == [("a", 0)]
    assert events == ["build a", "measure a", "measure a"]


def test_without_time_nothing_is_begun(monkeypatch, tmp_path):
    events: list[str] = []
    trials(monkeypatch, events)
    assert list(coverage._rows_in_turns([TINY], given(tmp_path, seconds=0.0))) == []
    assert list(coverage._rows_in_turns([replace(TINY, name="a")], given(tmp_path, seconds=2.0))) == []
    assert events == []


WORKER = """
import json, os, sys
from benchmarks import coverage
def trial(builder, *_, **__):
    marks = os.environ["MARKS"]
    if builder.name == "MNISTNet" and not os.path.exists(marks):
        open(marks, "w").close()
        print("RuntimeError: CUDA out of memory", file=sys.stderr, flush=True)
        os._exit(3)
    if builder.name == "CIFAR10Net":
        os._exit(4)
    yield {}
    while True:
        yield {"name": builder.name, "outcome": "optimized", "ratio": 2.0}
coverage.trial_of = trial
coverage.main(sys.argv[1:])
"""


def test_a_process_that_dies_leaves_its_builder_to_another_and_a_reason_at_last(monkeypatch, tmp_path, capfd):
    real = coverage.subprocess.Popen

    def start(command, **more):
        return real([command[0], "-c", WORKER, *command[3:]], **more)

    monkeypatch.setattr(coverage.subprocess, "Popen", start)
    monkeypatch.setenv("MARKS", str(tmp_path / "died"))
    builders = [b for b in coverage.BUILDERS if b.name in ("MNISTNet", "CIFAR10Net", "DVSGestureNet")]
    chosen = Namespace(budget=400.0, device="cpu", precision="fp16", repeats=2, no_compile=True)
    rows, without = coverage._side_by_side(builders, chosen, 4)
    assert {row["name"] for row in rows} | set(without) == {b.name for b in builders}
    assert set(without) >= {"CIFAR10Net"}
    assert "its process ended, status 4" in without["CIFAR10Net"]
    assert "CUDA out of memory" in capfd.readouterr().err
