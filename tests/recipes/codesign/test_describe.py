import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.hardware.loss import HwWeights
from sparseflow.recipes.codesign.alternate import Alternation, start_design
from sparseflow.recipes.codesign.describe import describe, read_design, read_tables, tables_body


def test_a_design_and_its_tables_come_back(system, layers):
    tables = system.tables(layers)
    start = start_design(system, ("big_core", "small_core"), len(tables.segments))
    reference = system.judge(tables, start).figures
    search = Alternation(system, HwWeights(), reference, start, tables)
    body = describe(system, search)
    assert read_design(body) == start
    assert [d["type"] for d in body["dies"]] == ["big_core", "small_core"]
    assert sum(s["lat_ms"] for s in body["segments"]) == pytest.approx(sum(d["busy_ms"] for d in body["dies"]))
    again = read_tables(tables_body(tables))
    assert torch.equal(again.lat_ms, tables.lat_ms)
    assert system.judge(again, start).figures.edp == pytest.approx(reference.edp)


@pytest.mark.parametrize("read", [read_design, read_tables])
def test_what_is_none_is_refused(read):
    with pytest.raises(DataError):
        read({})
