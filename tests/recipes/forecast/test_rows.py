"""Rows of the table of a pack."""

import numpy as np
import pytest

from sparseflow.errors import DataError
from sparseflow.export.fpga import Pauses
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.export.fpga.network import layers
from sparseflow.export.fpga.pack import Pack, read_pack
from sparseflow.nn.models.cmamba.int_engine import isas
from sparseflow.recipes.forecast import rows
from sparseflow.recipes.forecast.rows import draw, engine_rows, hls_rows, reference_row, verilog_rows
from tests.export.fpga.marks import needs_verilator
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pack")
    write_bundle(place, *small())
    return str(place)


def test_what_is_drawn_meets_every_edge_and_is_named_by_its_count(folder):
    drawn = draw(600)
    assert len(drawn.vectors) == len(drawn.outputs) == 600
    assert sum(len(one.outputs) for one in drawn.scans) >= 600
    assert all(count > 0 for found in drawn.edges.values() for count in found.values())
    names = [row.name for row in hls_rows(folder, read_pack(folder), drawn)]
    assert names == ["HLS C++, whole network", "HLS C++, 600 vectors of linear layers", "HLS C++, 600 steps of scans"]


def test_a_wrong_number_is_counted(folder, monkeypatch):
    pack = read_pack(folder)
    assert reference_row(pack).mismatches == 0
    monkeypatch.setattr(rows, "predict", lambda *_: pack.golden["restore"].astype(np.int64) + 1)
    row = hls_rows(folder, pack, None)[0]
    assert row.mismatches == row.of == pack.golden["restore"].size
    fewer = Pack(spec=pack.spec, arrays=pack.arrays, golden={"input": pack.golden["input"]}, files={})
    with pytest.raises(DataError, match="other tensors"):
        reference_row(fewer)


def test_without_the_compiled_engine_its_row_says_why(folder, monkeypatch):
    monkeypatch.setattr(rows, "ABSENT", "no compiler was there")
    assert [(row.mismatches, row.note) for row in engine_rows(read_pack(folder), None)] == [
        (None, "no compiler was there")
    ]


@pytest.mark.skipif(not isas(), reason="no compiled kernels")
def test_the_engines_kernels_run_by_themselves(folder, monkeypatch):
    pack, drawn = read_pack(folder), draw(60)
    found = engine_rows(pack, drawn)
    assert len(found) == 3 * len(isas())
    assert all(row.mismatches == 0 and row.of > 0 for row in found)
    whole = rows.scan_codes
    monkeypatch.setattr(rows, "scan_codes", lambda *args, isa: whole(*args, isa=isa) + (isa == "scalar"))
    wrong = {row.name: row.mismatches for row in engine_rows(pack, drawn)}
    assert [name for name, count in wrong.items() if count] == ["C++ engine, scalar, 60 steps of scans"]


@needs_verilator
def test_pauses_cost_cycles_and_change_nothing(folder):
    pack = read_pack(folder)
    found = verilog_rows(list(layers(pack)), pack, draw(40), Pauses(inputs=40, outputs=40))
    assert [row.mismatches for row in found] == [0] * 6
    assert found[2].cycles > found[0].cycles
    assert found[3].cycles > found[1].cycles
