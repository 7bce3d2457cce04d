import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.cli.model import _show_report
from sparseflow.ir import LayerReport, Report

NET = """
from sparseflow.nn.models import SpikingVGG

def build():
    return SpikingVGG((8, "P", 16), image_size=16, hidden=16, steps=2)

def nothing():
    return 3
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "mynet.py"
    path.write_text(NET)
    return f"{path}:build"


def _run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_trace_prints_a_table(net):
    result = _run("trace", net, "--shape", "1,3,16,16")
    assert result.exit_code == 0, result.output
    assert "features.conv2" in result.stdout
    assert "spikes" in result.stdout


def test_trace_prints_json(net):
    result = _run("trace", net, "--shape", "1,3,16,16", "--json")
    body = json.loads(result.stdout)
    assert body["schema"] == 1
    assert any(layer["op"] == "conv2d" for layer in body["layers"])


def test_trace_takes_a_network_of_the_zoo():
    assert "features.conv2" in _run("trace", "csnn").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "spiking_vgg99"], "no model 'spiking_vgg99'; did you mean"),
        (["trace", "nowhere:build", "--shape", "1,3"], "No module named 'nowhere'"),
        (["trace", "NET"], "add --shape"),
        (["trace", "NET", "--shape", "1,3"], "shape"),
        (["optimize", "csnn", "--html", "/proc/nowhere"], "cannot write to run folder"),
        (["optimize", "csnn", "--policy", "best"], "policy"),
        (["trace", "missing.safetensors"], "no checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, net):
    result = _run(*(net if a == "NET" else a for a in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("shape", ["a", "1,,3", ""])
def test_a_shape_that_is_none_is_a_usage_error(shape):
    result = _run("trace", "csnn", "--shape", shape)
    assert result.exit_code == 2
    assert "1,3,32,32" in result.stderr


def test_optimize_prints_the_report_and_writes_the_page(net, tmp_path):
    result = _run("optimize", net, "--shape", "2,3,16,16", "--threads", "1", "--html", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "features.conv2" in result.stdout
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


def test_optimize_prints_json(net):
    result = _run("optimize", net, "--shape", "2,3,16,16", "--threads", "1", "--json")
    assert {x["name"] for x in json.loads(result.stdout)["layers"]} >= {"features.conv2"}


def test_a_gate_is_named_with_its_crossover(capsys):
    row = LayerReport(name="c", op="conv2d", kernel="gated", kernel_s=1e-5, dense_s=2e-5, crossover=0.031)
    _show_report(Report(model="m", target="h200", layers=(row,)), "a test")
    shown = " ".join(capsys.readouterr().out.replace("\u202f", " ").split())
    assert "gated (up to 3.10 % of spikes)" in shown


def test_a_layer_that_was_faster_alone_says_why_it_is_taken(capsys):
    packed = {"original": 1e-5, "dense": 9e-5, "event": 2e-5}
    rows = [
        LayerReport(name="packed", op="linear", kernel="event", kernel_s=2e-5, dense_s=1e-5, timings_s=packed),
        LayerReport(name="faster", op="linear", kernel="event", kernel_s=2e-5, dense_s=3e-5, timings_s=packed),
        LayerReport(
            name="asked for", op="linear", kernel="event", kernel_s=2e-5, dense_s=1e-5, timings_s={"event": 2e-5}
        ),
    ]
    _show_report(Report(model="m", target="cpu", layers=tuple(rows)), "a test")
    said = [line for line in capsys.readouterr().out.splitlines() if "alone" in line]
    assert said == [
        "packed: faster alone as it came; here its spikes come packed, and this is the fastest form for those"
    ]
