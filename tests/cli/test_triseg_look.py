import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.compress.approximate import TmaxRule
from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg import analyze, dump
from sparseflow.recipes.triseg import report as pages
from tests.triseg_teachers import save_teacher


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder)
    return folder


def call(*arguments):
    return CliRunner().invoke(app, ["triseg", *map(str, arguments)])


def stop(seen, what):
    """Note what a recipe is called with, and end there."""
    seen.append(what)
    raise ConfigError("stopped here")


def small(out):
    return ("--model", "lenet5", "--out", out, "--batch-size", "50")


@pytest.mark.parametrize("kind", sorted(analyze.ANALYSES))
def test_an_analysis_prints_a_table_and_writes_both_files(out, kind):
    result = call(kind, *small(out), "--batches", "1")
    assert result.exit_code == 0, result.output
    assert "conv2" in result.stdout
    body = json.loads((out / f"lenet5_{kind}.json").read_text())
    assert body["images"] == 50
    assert (out / f"lenet5_{kind}.csv").read_text().count("\n") == 5
    assert json.loads(call(kind, *small(out), "--batches", "1", "--json").stdout) == body


def test_flags_of_the_earlier_project_are_passed_on(monkeypatch, out):
    seen = []
    monkeypatch.setattr(analyze, "analyze", lambda kind, config: stop(seen, (kind, config)))
    call(
        "coverage", "--model", "alexnet", "--coverage-ignore-zeros", "--tmax-mode", "fixed", "--tmax-fixed", "20",
        "--tmax-percentile", "80", "--tmax-offset", "5", "--config-path", "r.json", "--data", "d",
    )  # fmt: skip
    ((kind, config),) = seen
    assert kind == "coverage"
    assert config == analyze.AnalyzeConfig(
        model="alexnet", ignore_zeros=True, config_path="r.json", data="d", batches=20,
        tmax=TmaxRule(mode="fixed", fixed=20, percentile=80.0, offset=5),
    )  # fmt: skip


def test_sensitivity_looks_at_all_val_images_unless_told(monkeypatch):
    seen = []
    monkeypatch.setattr(analyze, "analyze", lambda kind, config: stop(seen, config))
    call("sensitivity")
    assert (seen[0].split, seen[0].batches, seen[0].model) == ("val", None, "vgg16")


def test_dump_names_its_file(out, tmp_path):
    told = json.loads(call("dump", tmp_path / "a.safetensors", *small(out), "--json").output)
    assert told == {"file": str(tmp_path / "a.safetensors")}
    result = call("dump", tmp_path / "a.pt", *small(out))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "a.pt")
    assert (tmp_path / "a.pt").is_file()


def test_edit_tells_both_accuracies(out, monkeypatch):
    result = call("edit", *small(out), "--layer", "conv2", "--channels", "16")
    assert result.exit_code == 0, result.output
    assert "16 channels of conv2 at 0" in result.stdout
    body = json.loads(call("edit", *small(out), "--buckets", "--json").stdout)
    assert body["edit"] == "buckets"
    seen = []
    monkeypatch.setattr(dump, "edit", lambda config: stop(seen, config))
    call("edit", "--float", "--split", "calib")
    assert seen[0].floating
    assert (seen[0].look.split, seen[0].look.batches) == ("calib", None)


def test_report_says_the_headline_and_where_the_page_is(monkeypatch):
    seen = []
    machine = {"name": "int8", "energy_j": 1e-5, "multiplies": 1e6, "level_multiplies": 0}
    body = {"headline": "2.16 bits an activation", "files": ["p.html", "p.json"], "cost": {"machines": [machine]}}
    monkeypatch.setattr(pages, "report", lambda config: seen.append(config) or body)
    result = call("report", "r.json", "--search", "a.json", "--search", "b.json", "--split", "test", "--sensitivity")
    assert result.exit_code == 0, result.output
    assert seen == [
        pages.ReportConfig(config_path="r.json", searches=("a.json", "b.json"), split="test", sensitivity=True)
    ]
    assert result.stdout.startswith("2.16 bits an activation\n")
    assert "10 µJ an image" in result.stdout
    assert "p.html" in result.stdout
    assert json.loads(call("report", "r.json", "--json").stdout) == body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["variance", "--model", "vgg19"], "vgg19_qat_preconvert.safetensors"),
        (["coverage", "--model", "alexnit"], "alexnit"),
        (["percentiles", "--split", "dev"], "dev"),
        (["variance", "--device", "tpu"], "tpu"),
        (["edit", "--layer", "conv9"], "conv9"),
        (["edit", "--buckets", "--float"], "buckets"),
        (["sensitivity", "--config-path", "/no/r.json"], "/no/r.json"),
        (["variance", "--data", "/no/cifar"], "/no/cifar"),
        (["dump", "acts.npz"], "acts.npz"),
        (["report", "/no/r.json"], "/no/r.json"),
    ],
)
def test_bad_input_is_named_in_one_line(out, arguments, message):
    model = () if "--model" in arguments else ("--model", "lenet5")
    result = call(*arguments, *model, "--out", out)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
