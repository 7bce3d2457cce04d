import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes import spike_bench, spike_train
from sparseflow.recipes.spike_bench import gpu


def _check(ok):
    return {"show": "2", "name": "real spikes", "value": 3.5 if ok else None, "unit": "x", "target": ">= 3", "ok": ok}


def test_bench_is_ok_only_if_every_check_holds(monkeypatch):
    for checks, status in (([_check(True)], 0), ([_check(True), _check(False)], 1), ([], 1)):
        monkeypatch.setattr(spike_bench, "bench", lambda config, checks=checks: {"checks": checks})
        assert CliRunner().invoke(app, ["spike", "bench"]).exit_code == status


def test_bench_prints_a_table_or_json(monkeypatch):
    monkeypatch.setattr(spike_bench, "bench", lambda config: {"checks": [_check(True), _check(False)]})
    output = CliRunner().invoke(app, ["spike", "bench"]).stdout
    assert "real spikes" in output
    assert "1 of 2 checks hold" in output
    assert json.loads(CliRunner().invoke(app, ["spike", "bench", "--json"]).stdout)["checks"][1]["ok"] is False


def test_bench_passes_its_options_on(monkeypatch):
    seen = []
    monkeypatch.setattr(spike_bench, "bench", lambda config: seen.append(config) or {"checks": [_check(True)]})
    options = ["--threads", "2", "--threads", "1", "--suite", "layers", "--repeats", "5", "--no-compile"]
    assert CliRunner().invoke(app, ["spike", "bench", *options]).exit_code == 0
    assert seen == [spike_bench.SpikeBenchConfig(threads=(2, 1), suites=("layers",), repeats=5, compile=False)]


def test_a_gpu_target_opens_the_gpu_bench(monkeypatch, tmp_path):
    seen = []
    body = {"checks": [_check(True)], "ok": True, "stages": {}}
    monkeypatch.setattr(gpu, "bench_gpu", lambda config, say: seen.append(config) or body)
    out = str(tmp_path / "r.json")
    options = [
        "--target",
        "h100",
        "--suite",
        "blocks",
        "--checkpoint",
        "a.safetensors",
        "--repeats",
        "120",
        "--out",
        out,
    ]
    result = CliRunner().invoke(app, ["spike", "bench", *options])
    assert result.exit_code == 0, result.output
    assert "1 of 1 checks hold" in result.stdout
    wanted = gpu.GpuBenchConfig(target="h100", only=("blocks",), checkpoints=("a.safetensors",), rounds=120, out=out)
    assert seen == [wanted]
    body["ok"] = False
    result = CliRunner().invoke(app, ["spike", "bench", "--target", "h200", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["checks"][0]["ok"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "h200", "--threads", "1"], "'h200' has no --threads"),
        (["--target", "h100", "--no-compile"], "'h100' has no --compile"),
        (["--quick"], "'cpu' has no --quick"),
        (["--budget", "60"], "'cpu' has no --budget"),
        (["--checkpoint", "a", "--checkpoint", "b"], "measures one network; 2 are given"),
        (["--suite", "blocks"], "expected some of layers, network, correct"),
    ],
)
def test_bench_refuses_what_means_nothing_to_its_target(options, said, monkeypatch):
    result = CliRunner().invoke(app, ["spike", "bench", *options])
    assert result.exit_code == 2
    assert said in result.stderr


def test_bench_on_a_cpu_takes_a_network_of_the_user(monkeypatch):
    seen = []
    monkeypatch.setattr(spike_bench, "bench", lambda config: seen.append(config) or {"checks": [_check(True)]})
    assert CliRunner().invoke(app, ["spike", "bench", "--checkpoint", "mine.safetensors"]).exit_code == 0
    assert seen == [spike_bench.SpikeBenchConfig(checkpoint="mine.safetensors")]


def test_bench_names_an_unknown_target():
    result = CliRunner().invoke(app, ["spike", "bench", "--target", "abacus"])
    assert result.exit_code == 2
    assert "abacus" in result.stderr


def test_train_lets_options_override_the_file(monkeypatch, tmp_path):
    seen = []
    record = {"model": "csnn", "test_accuracy": 0.9, "test_images": 10, "dataset": "fashion_mnist"}
    monkeypatch.setattr(spike_train, "train", lambda config: seen.append(config) or record)
    path = tmp_path / "train.yaml"
    path.write_text("model: csnn\nepochs: 5\nlr: 0.01\n")
    result = CliRunner().invoke(app, ["spike", "train", str(path), "--epochs", "2", "--data", "x", "--init-from", "a"])
    assert result.exit_code == 0, result.output
    assert "csnn: 90.00 % on 10 test images" in result.stdout
    assert seen == [spike_train.SpikeTrainConfig(model="csnn", epochs=2, lr=0.01, data_path="x", init_from="a")]
    assert json.loads(CliRunner().invoke(app, ["spike", "train", str(path), "--json"]).stdout) == record


@pytest.mark.parametrize(
    ("options", "epochs", "minutes"),
    [([], 5, 3.0), (["--minutes", "0.5"], 5, 0.5), (["--epochs", "2"], 2, None)],
)
def test_train_counts_minutes_or_passes(monkeypatch, tmp_path, options, epochs, minutes):
    seen = []
    record = {"model": "csnn", "test_accuracy": 0.9, "test_images": 10, "dataset": "fashion_mnist"}
    monkeypatch.setattr(spike_train, "train", lambda config: seen.append(config) or record)
    path = tmp_path / "train.yaml"
    path.write_text("model: csnn\nepochs: 5\nminutes: 3.0\n")
    result = CliRunner().invoke(app, ["spike", "train", str(path), *options])
    assert result.exit_code == 0, result.output
    assert seen == [spike_train.SpikeTrainConfig(model="csnn", epochs=epochs, minutes=minutes)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vgg99"], "vgg99"),
        (["missing.yaml"], "missing.yaml"),
        ([], "data_path"),
        (["--data", "/no"], "/no"),
    ],
)
def test_train_names_what_is_wrong(arguments, message, tmp_path):
    result = CliRunner().invoke(app, ["spike", "train", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert message in result.stderr
