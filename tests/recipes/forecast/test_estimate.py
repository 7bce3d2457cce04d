"""What the hardware takes."""

import pytest

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.export.fpga.network import layers
from sparseflow.export.fpga.pack import read_pack
from sparseflow.export.fpga.synthesis import Cells
from sparseflow.recipes.forecast import estimate
from sparseflow.recipes.forecast.estimate import latency, resources, steady_state
from tests.export.fpga.marks import needs_verilator
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_bundle(folder, *small())
    return read_pack(folder)


def test_latency_follows_from_cycles():
    found = latency("zcu102", 200.0, 100.0)
    assert found["latency_s"] == pytest.approx(300 / 300e6)
    assert found["energy_j"] == pytest.approx(found["latency_s"] * 1.442)
    assert latency("zcu102", 400.0, 200.0)["latency_s"] == pytest.approx(2 * found["latency_s"])
    assert latency("cpu", 1.0, 1.0) is None
    with pytest.raises(ConfigError):
        latency("abacus", 1.0, 1.0)


def test_cells_are_held_to_the_target(pack, monkeypatch):
    asked = {}

    def counted(top, parameters):
        asked[top] = parameters
        return Cells(lut=10, ff=20, dsp=2000, bram36=1.5)

    monkeypatch.setattr(estimate, "cells", counted)
    body, checks = resources(list(layers(pack)), pack, "zcu102")
    assert body["total"] == {"lut": 20, "ff": 40, "dsp": 4000, "bram36": 3.0}
    assert body["has"] == {"lut": 274_080, "ff": 548_160, "dsp": 2_520, "bram36": 912}
    assert [check.ok for check in checks] == [True, True, False, True]
    assert asked["sf_scan"] == {"STATES": 4, "CHANNELS": 32, "SETS": 2}
    matrices = [layer.matrix.weight.shape for layer in layers(pack)]
    assert asked["sf_matvec"]["W_DEPTH"] == sum(-(-m // 8) * -(-n // 8) for m, n in matrices)


def test_without_yosys_there_is_a_note(pack, monkeypatch):
    monkeypatch.setenv("PATH", "")
    body, checks = resources(list(layers(pack)), pack, "zcu102")
    assert "apt-get install yosys" in body["note"]
    assert checks == []


def test_without_verilator_there_is_no_cycle(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert steady_state() == []


@needs_verilator
def test_the_array_is_busy_in_every_cycle():
    found = {check.name: check.value for check in steady_state()}
    assert found == {
        "products a cycle, of 64": 64.0, "cycles of a 256x256 step": 1038, "mismatches of that step": 0,
    }  # fmt: skip
