import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.cli.triseg_judge import told_line
from sparseflow.nn import models
from sparseflow.recipes.triseg import accuracy, dump, evaluate
from sparseflow.recipes.triseg import bench as triseg_bench
from sparseflow.recipes.triseg import export as exporting
from sparseflow.recipes.triseg import zoo as networks


def call(*arguments):
    return CliRunner().invoke(app, ["triseg", *map(str, arguments)])


def test_eval_measures_a_result_or_a_network_without_change(monkeypatch):
    seen = []
    told = {
        "model": "lenet5", "acc_baseline": 92.5, "acc_modified": 91.0, "acc_drop": 1.5, "images": 10, "split": "test",
        "agreement": 97.0, "report": "eval_report.json",
    }  # fmt: skip
    monkeypatch.setattr(evaluate, "evaluate", lambda config: seen.append(config) or told)
    result = call("eval", "--model", "lenet5", "--config-path", "r.json", "--reward", "--report", "e.json")
    assert result.exit_code == 0, result.output
    assert "INT8 92.50 %, three values 91.00 %, drop 1.50, on 10 test images" in result.stdout
    wanted = evaluate.EvalConfig(model="lenet5", config_path="r.json", attention=True, report="e.json")
    assert seen == [wanted]
    plain = {"model": "lenet5", "network": "int8", "accuracy": 90.0, "images": 5, "split": "test"}
    monkeypatch.setattr(dump, "baseline", lambda config, floating: seen.append((config, floating)) or plain)
    assert "lenet5 (int8): 90.00 % on 5 test images" in call("eval", "--int8").stdout
    config, floating = seen[1]
    assert (config.split, config.batches, floating) == ("test", None, False)
    assert json.loads(call("eval", "--float", "--split", "val", "--json").stdout) == plain
    assert (seen[2][0].split, seen[2][1]) == ("val", True)
    assert call("eval", "--float", "--int8").exit_code == 2


def test_bench_is_ok_only_if_every_check_holds(monkeypatch):
    seen = []
    check = {"show": "3", "name": "candidates a second", "value": 15.0, "unit": "/s", "target": ">= 12", "ok": True}
    for ok, status in ((True, 0), (False, 1)):
        body = {"checks": [{**check, "ok": ok}], "ok": ok}
        monkeypatch.setattr(
            triseg_bench, "bench", lambda config, progress, body=body: seen.append((config, progress)) or body
        )
        line = "--suite rate --method default --method random --threads 2 --checkpoints c --out b.json"
        result = call("bench", *line.split(" "))
        assert result.exit_code == status, result.output
        assert "15 /s" in result.stdout
        assert json.loads(call("bench", "--json").stdout) == body
    wanted = triseg_bench.TriSegBenchConfig(
        model="alexnet", suites=("rate",), methods=("default", "random"), threads=2, out="c", report="b.json"
    )
    assert seen[0] == (wanted, True)
    assert seen[1] == (triseg_bench.TriSegBenchConfig(), False)


def test_zoo_takes_all_networks_and_ones_own(monkeypatch):
    seen = []
    row = {
        "name": "lenet5", "sites": ["conv1"], "acc_teacher": 60.0, "drop": 0.5, "bits": 2.25, "avoided": 0.9,
    }  # fmt: skip
    body = {"rows": [row, {"name": "mine", "error": "DataError: no file"}], "checks": [], "ok": False}
    monkeypatch.setattr(networks, "zoo", lambda config, progress: seen.append((config, progress)) or body)
    result = call("zoo", "all", "mine.py:build", "--minutes", "0.5", "--jobs", "2", "--graph", "--out", "z.json")
    assert result.exit_code == 1
    assert "INT8 60.00 %, drop  0.50, 2.25 bits, 90.0 % of multiplies saved" in result.stdout
    assert "DataError: no file" in result.stdout
    assert json.loads(call("zoo", "lenet5", "lenet5", "--json").stdout) == body
    call("zoo")
    whole = tuple(models.names("convnets"))
    assert [config.networks for config, _ in seen] == [(*whole, "mine.py:build"), ("lenet5",), whole]
    config, progress = seen[0]
    assert (config.minutes, config.jobs, config.graph, config.report, progress) == (0.5, 2, True, "z.json", True)


def test_accuracy_shows_rows_and_checks(monkeypatch):
    seen = []
    row = {"result": "a.json", "kind": "frozen", "accuracy": 91.0, "drop": 1.5, "bits": 2.1, "avoided": 0.95}
    check = {"show": "1", "name": "mean drop", "value": 1.5, "unit": "points", "target": "<= 2", "ok": True}
    body = {"rows": [row], "checks": [check], "ok": True}
    monkeypatch.setattr(accuracy, "accuracy_bench", lambda config: seen.append(config) or body)
    result = call("accuracy", "a.json", "b.json", "--tuned", "t.json", "--checkpoints", "c", "--out", "r.json")
    assert result.exit_code == 0, result.output
    assert "91.00 %, drop  1.50, 2.10 bits, 95.0 % of multiplies saved" in result.stdout
    assert "1 of 1 checks hold" in result.stdout
    wanted = accuracy.AccuracyConfig(results=("a.json", "b.json"), tuned=("t.json",), checkpoints="c", report="r.json")
    assert seen == [wanted]
    body["ok"] = False
    assert call("accuracy", "a.json", "--json").exit_code == 1


def test_export_tells_files_and_checks(monkeypatch):
    seen = []
    checks = {"engine": {"images": 10, "unequal": 0}, "c": "no C compiler"}
    told = {"model": "alexnet", "files": {"a.plan.safetensors": 7, "c/net.c": 5}, "checks": checks}
    monkeypatch.setattr(exporting, "export", lambda config: seen.append(config) or told)
    result = call("export", "--model", "alexnet", "--config-path", "r.json", "--format", "c", "--images", "10")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "a.plan.safetensors", "c/net.c", "engine equals Python on 10 of 10 images", "c: no C compiler",
    ]  # fmt: skip
    assert seen == [exporting.ExportConfig(model="alexnet", config_path="r.json", formats=("c",), images=10)]
    assert json.loads(call("export", "--plain", "--json").stdout) == told
    assert seen[1] == exporting.ExportConfig(model="vgg16", plain=True)


def test_a_record_is_told_as_json_or_as_a_line_with_its_files(capsys):
    told_line({"file": "a", "result": "b", "x": 1}, False, "done", "result", "none")
    assert capsys.readouterr().out == "done\nfile    a\nresult  b\n"
    told_line({"x": "é"}, True, "done")
    assert json.loads(capsys.readouterr().out) == {"x": "é"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "--model", "nin"], "nin_qat_preconvert.safetensors"),
        (["eval", "--split", "dev"], "dev"),
        (["bench", "--suite", "all"], "suites are"),
        (["bench", "--method", "magic"], "magic"),
        (["accuracy", "r.json", "--split", "train"], "train"),
        (["export", "--model", "nin"], "nin_qat_preconvert.safetensors"),
        (["export", "--format", "fpga"], "fpga"),
        (["export", "--plain", "--config-path", "r.json"], "plain"),
    ],
)
def test_bad_input_is_named_in_one_line(arguments, message, tmp_path):
    result = call(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
