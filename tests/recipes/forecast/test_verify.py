"""A pack checked from all sides, with tools and without."""

import json
import shutil

import numpy as np
import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.export.fpga.corrupt import CORRUPTIONS, spoil
from sparseflow.nn.models.cmamba.int_engine import IntEngine, isas
from sparseflow.recipes.forecast.verify import VerifyConfig, verify
from tests.export.fpga.marks import needs_verilator
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_bundle(folder, *small())
    return folder


@needs_verilator
def test_a_whole_pack_has_no_mismatch(pack):
    body = verify(VerifyConfig(pack=str(pack), vectors=300, corruptions=True))
    assert body["ok"]
    rows = {row["name"]: row for row in body["rows"]}
    assert len(rows) == 11 + max(3 * len(isas()), 1)
    assert {f"C++ engine, {isa}, whole network" for isa in isas()} <= set(rows)
    assert all(row["mismatches"] == 0 and row["of"] > 0 for row in rows.values())
    assert all(count > 0 for counts in body["edges"].values() for count in counts.values())
    checks = {check["name"]: check for check in body["checks"]}
    assert checks["products a cycle, of 64"]["value"] == 64
    assert checks["cycles of a 256x256 step"]["value"] <= 1_040
    assert checks[f"of {len(CORRUPTIONS)} spoilt packs refused by name"]["value"] == len(CORRUPTIONS)
    estimate = body["estimate"]
    cycles = rows["Verilog, linear layers"]["cycles"] + rows["Verilog, scans"]["cycles"]
    assert estimate["latency_s"] == pytest.approx(cycles / 2 / 300e6)
    assert estimate["energy_j"] == pytest.approx(estimate["latency_s"] * 1.442)


def test_without_tools_the_rows_say_what_brings_them(pack, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    body = verify(VerifyConfig(pack=str(pack), vectors=10))
    notes = {row["name"]: row["note"] for row in body["rows"]}
    assert "install g++" in notes["HLS C++, whole network"]
    assert "apt-get install verilator" in notes["Verilog, linear layers"]
    assert body["estimate"] is None
    assert not body["ok"]


def test_golden_vectors_of_another_network_are_seen(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    spec, arrays, golden = small()
    changed = {**golden, "restore": golden["restore"] + (np.arange(golden["restore"].size) == 3).reshape(
        golden["restore"].shape)}  # fmt: skip
    write_bundle(tmp_path, spec, arrays, changed)
    body = verify(VerifyConfig(pack=str(tmp_path), vectors=0))
    assert next(row for row in body["rows"] if row["name"].startswith("IntRef"))["mismatches"] == 1


def test_damage_is_refused(pack, tmp_path):
    shutil.copytree(pack, tmp_path / "p")
    named = spoil(tmp_path / "p", "weights with a bit flipped")
    with pytest.raises(DataError, match=named):
        verify(VerifyConfig(pack=str(tmp_path / "p")))
    with pytest.raises(ConfigError, match="0 or more"):
        VerifyConfig(pack="x", vectors=-1)


def test_an_engine_that_differs_is_seen(pack, monkeypatch):
    if not isas():
        pytest.skip("no compiled kernels")
    whole = IntEngine.codes
    monkeypatch.setattr(IntEngine, "codes", lambda self, x: whole(self, x) + (self.isa == isas()[-1]))
    monkeypatch.setenv("PATH", "")
    rows = {row["name"]: row for row in verify(VerifyConfig(pack=str(pack), vectors=0))["rows"]}
    wrong = rows[f"C++ engine, {isas()[-1]}, whole network"]
    assert wrong["mismatches"] == wrong["of"] > 0
    assert rows["C++ engine, scalar, whole network"]["mismatches"] == 0


def test_a_reader_is_run_and_looked_at(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    fine, wrong = tmp_path / "fine.py", tmp_path / "wrong.py"
    fine.write_text("import sys\nfrom numpy import array\nassert sys.argv[1:] and array\n")
    wrong.write_text("import torch.nn, sparseflow\n" + "\n" * 200 + "raise SystemExit(1)\n")
    for reader, want in ((fine, [0, 3, 0]), (wrong, [1, 202, 2])):
        checks = verify(VerifyConfig(pack=str(pack), vectors=0, reader=str(reader)))["checks"]
        found = [check for check in checks if check["show"] == "4"]
        assert [check["value"] for check in found] == want
        assert [check["ok"] for check in found] == [reader == fine] * 3
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(VerifyConfig(pack=str(pack), vectors=0, reader=str(tmp_path / "none.py")))


def test_the_record_is_written_with_the_machine(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    body = verify(VerifyConfig(pack=str(pack), vectors=0, faults=True, out=str(tmp_path / "deep" / "r.json")))
    assert json.loads((tmp_path / "deep" / "r.json").read_text()) == json.loads(json.dumps(body))
    assert body["environment"]["Processor"]
    assert body["faults"] == {}
    assert not next(check for check in body["checks"] if check["show"] == "5")["ok"]
