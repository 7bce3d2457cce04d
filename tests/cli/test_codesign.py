import json

import pytest
import yaml
from typer.testing import CliRunner

from sparseflow.cli import app


def call(*words, code=0):
    found = CliRunner().invoke(app, ["codesign", *map(str, words)])
    assert found.exit_code == code, found.output
    return found.output


@pytest.mark.parametrize("command", ["measure", "fit", "run", "experiments", "bench", "export", "report"])
def test_every_command_has_help_with_examples(command):
    text = call(command, "--help")
    assert f"sparseflow codesign {command}" in text
    assert "Examples" in text


def test_a_workload_gets_a_wafer_and_a_page(tmp_path):
    import torch

    from sparseflow.trace import trace

    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 9))
    file = tmp_path / "w.json"
    file.write_text(trace(net, torch.zeros(2, 64)).to_json())
    assert "2 loop nests" in call("export", file, tmp_path / "t.yaml")
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"steps_alpha": 2, "candidates": 3, "steps_layout": 2, "outer_epochs": 1}))
    out = call(
        "run", config, "--workload", file, "--proxy", "roofline", "--type", "big_core", "--slots", 4, "--out", tmp_path
    )
    assert "energy-delay product" in out
    folder = tmp_path / "version_c_full_seed0"
    assert (folder / "report.html").is_file()
    again = call("report", folder / "codesign.json", "--out", tmp_path / "page")
    assert (tmp_path / "page" / "report.html").is_file()
    assert "report.html" in again


def test_the_table_of_experiments_is_written(tmp_path):
    call("experiments", "--out", tmp_path / "E.md")
    assert "P3-1" in (tmp_path / "E.md").read_text(encoding="utf-8")
    assert {row["id"] for row in json.loads(call("experiments", "--json"))} >= {"P0-1", "SM-2"}


def test_wrong_input_is_one_line(tmp_path):
    assert "suites" in call("bench", "--suite", "maps", code=2)
    assert "none.json" in call("run", "--workload", tmp_path / "none.json", "--proxy", "roofline", code=2)
    assert "no experiment" in call("experiments", "--run", "P9", code=2)
