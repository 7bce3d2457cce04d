"""The commands that make packs and check them."""

import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.recipes.forecast import train_forecaster
from sparseflow.recipes.forecast.quantize import QuantizeConfig, quantize
from tests.export.fpga.marks import needs_verilator
from tests.export.fpga.networks import small
from tests.forecast_runs import small_config


def run(*args):
    return CliRunner().invoke(app, ["forecast", *map(str, args)])


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    trained = train_forecaster(small_config(folder), progress=False)["file"]
    config = QuantizeConfig(checkpoint=trained, out=str(folder / "q"), windows=40, limit=8)
    return quantize(config, progress=False)["files"][0]


def test_export(quantised, tmp_path):
    done = run("export", "--checkpoint", quantised, "--target", "zcu102", "--out", tmp_path, "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["bytes"] > 0
    assert (tmp_path / "specs.md").is_file()
    lines = run("export", "--checkpoint", quantised, "--out", tmp_path)
    assert lines.output.startswith("QSpec ")


def test_another_target_is_refused(quantised, tmp_path):
    done = run("export", "--checkpoint", quantised, "--target", "abacus", "--out", tmp_path)
    assert done.exit_code != 0
    assert "unknown target 'abacus'" in done.output


@needs_verilator
def test_verify_prints_a_table(tmp_path):
    write_bundle(tmp_path, *small())
    done = run("verify", tmp_path, "--vectors", "600", "--check")
    assert done.exit_code == 0, done.output
    assert "IntRef, every tensor" in done.output
    assert "0 mismatches of" in done.output
    assert "estimate for zcu102" in done.output


def test_cells_stand_beside_what_the_target_has(monkeypatch):
    cells = {
        "tool": "yosys, an open-tool estimate", "target": "zcu102", "has": {"lut": 1000.0},
        "sf_scan": {"lut": 12}, "total": {"lut": 50},
    }  # fmt: skip
    row = {"name": "hashes", "mismatches": 0, "of": 1, "cycles": None, "note": ""}
    body = {"rows": [row], "estimate": None, "cells": cells, "checks": [], "ok": True}
    monkeypatch.setattr("sparseflow.recipes.forecast.verify.verify", lambda *_, **__: body)
    lines = run("verify", "pack").output
    assert "cells, sf_scan: lut 12" in lines
    assert "cells, zcu102: lut 50 of 1,000 (5.0%)" in lines
    body["cells"] = {"note": "yosys is not installed"}
    assert "cells: yosys is not installed" in run("verify", "pack").output
