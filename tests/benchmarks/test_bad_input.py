import json
import signal

import torch
from torch import nn

import sparseflow
from benchmarks import bad_input
from benchmarks.bad_input import Net, Witness
from sparseflow.errors import DataError
from sparseflow.ir import Report

IN_PROCESS = ("no spikes", "wrong shape", "nan weights", "used twice", "scripted")


def test_every_case_in_this_process_is_clear(capsys):
    chosen = [part for name in IN_PROCESS for part in ("--only", name)]
    assert bad_input.main(["--json", *chosen]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert len(checks) == len(IN_PROCESS)
    assert all(c["show"] == "6" and c["ok"] and c["target"] == "== 0" for c in checks)


def test_the_command_has_every_kind_of_bad_input():
    assert {*IN_PROCESS, "interrupted call", "unwritable folder", "interrupted demo"} == set(bad_input.CASES)


def test_a_witness_sees_a_weight_a_module_a_mode_and_a_hook():
    model = Net().eval()
    witness = Witness(model)
    assert witness.changes() == []
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] += 1
    model.last = nn.Identity()
    model.b.train()
    model.a.register_forward_hook(lambda *_: None)
    changed = {change.removesuffix(" changed") for change in witness.changes()}
    assert {"state conv.weight", "module last", "module b", "module a"} <= changed


def test_silence_and_foreign_errors_are_faults(monkeypatch):
    model, x = Net().eval(), torch.rand(1, 3, 8, 8)
    monkeypatch.setattr(sparseflow, "optimize", lambda *_, **__: (model, Report(model="m", target="cpu")))
    assert bad_input.refuses(model, x) == ["nothing was raised"]
    assert "no refusal" in bad_input.reports(model, x, "conv", "several")[0]

    def fail(*_, **__):
        raise KeyError("k")

    monkeypatch.setattr(sparseflow, "optimize", fail)
    assert "not ours" in bad_input.refuses(model, x)[0]

    def vague(*_, **__):
        model.train()
        raise DataError("something is off")

    monkeypatch.setattr(sparseflow, "optimize", vague)
    faults = bad_input.refuses(model, x, "conv.weight")
    assert "lacks 'conv.weight'" in faults[0]
    assert "module conv changed" in faults


def test_a_fault_fails_the_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bad_input, "CASES", {"broken": lambda: 1 / 0, "half": lambda: ["a layer was replaced"]})
    out = tmp_path / "bad.json"
    assert bad_input.main(["--out", str(out)]) == 1
    body = json.loads(out.read_text())
    assert [c["value"] for c in body["checks"]] == [1, 1]
    assert body["faults"]["broken"] == ["ZeroDivisionError: division by zero"]
    assert capsys.readouterr().out == ""


def test_an_ignored_interrupt_is_heard_again():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert bad_input.main(["--only", "interrupted call"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
