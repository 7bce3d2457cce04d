from dataclasses import replace

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.codegen import Schedule, refusal
from sparseflow.ops.codegen.schedule import parallel_axes, streams, vector_axis
from sparseflow.ops.formats import Format, Level, bcsr, coo, csc, csr, dia, ell, sell

ROWS = Schedule(order=("i", "k", "j"), parallel="i", vector="j", threads=2, partition="nnz")


def test_the_usual_ones_are_taken() -> None:
    assert refusal("spmm", csr(), ROWS) is None
    assert refusal("spmm", csr(), replace(ROWS, tile=4, prefetch=8, stream=True, panel=64)) is None
    assert refusal("spmv", sell(8), Schedule(order=("i0", "p", "i1", "k"), parallel="i0", vector="i1")) is None
    assert refusal("spmv", dia(), Schedule(order=("d", "i"), parallel="i", vector=None)) is None
    assert refusal("sddmm", coo(), Schedule(order=("i", "k", "j0", "j1"), inner=8, parallel="i", vector="j1")) is None
    assert refusal("spmm", bcsr(4, 4), Schedule(order=("i0", "k0", "i1", "k1", "j"), unroll="k1", factor=4)) is None


@pytest.mark.parametrize(
    ("rule", "op", "fmt", "s"),
    [
        ("unresolved", "spmv", Format(levels=(Level(axis="i"),)), Schedule(order=("i",))),
        ("repeat", "spmm", csr(), Schedule(order=("i", "k", "j", "j"))),
        ("concordant", "spmm", csr(), Schedule(order=("k", "i", "j"))),
        ("concordant", "spmm", csr(), Schedule(order=("i", "j"))),
        ("dense", "spmm", csr(), Schedule(order=("i", "k"))),
        ("dense", "spmm", csr(), Schedule(order=("i", "j1", "k", "j0"))),
        ("dense", "spmv", csr(), Schedule(order=("i", "k", "j"))),
        ("dense", "spmm", csr(), Schedule(order=("i", "k", "j"), inner=2)),
        ("loops", "spmm", csr(), replace(ROWS, unroll="j")),
        ("loops", "spmm", csr(), replace(ROWS, unroll="d")),
        ("race", "spmm", csc(), Schedule(order=("k", "i", "j"), parallel="k")),
        ("race", "spmm", coo(), Schedule(order=("i", "k", "j"), parallel="i")),
        ("race", "spmv", dia(), Schedule(order=("d", "i"), parallel="d")),
        ("race", "spmv", ell(), Schedule(order=("i", "p", "k"), parallel="p")),
        ("race", "sddmm", csr(), Schedule(order=("i", "k", "j"), parallel="j")),
        ("nnz", "spmm", csr(), replace(ROWS, parallel=None)),
        ("nnz", "spmm", csr(), replace(ROWS, order=("j", "i", "k"), vector=None)),
        ("vector", "spmm", csr(), replace(ROWS, vector="k")),
        ("vector", "spmv", coo(), Schedule(order=("i", "k"), vector="i")),
        ("unroll", "spmm", csr(), replace(ROWS, unroll="k")),
        ("unroll", "spmm", csr(), replace(ROWS, factor=2)),
        ("tile", "sddmm", csr(), replace(ROWS, tile=2)),
        ("tile", "spmm", csr(), replace(ROWS, vector=None, tile=2)),
        ("prefetch", "spmv", Format(levels=(Level(axis="i"), Level(axis="k"))), Schedule(order=("i", "k"), prefetch=8)),
        ("panel", "spmv", csr(), Schedule(order=("i", "k"), panel=4)),
        ("panel", "spmm", csr(), Schedule(order=("i", "k", "j0", "j1"), inner=8, panel=4)),
        ("stream", "spmm", csc(), Schedule(order=("k", "i", "j"), stream=True)),
    ],
)
def test_refuses_by_a_rule_with_a_reason(rule: str, op: str, fmt: Format, s: Schedule) -> None:
    found = refusal(op, fmt, s)
    assert found is not None
    assert found.rule == rule
    assert len(found.reason) > 10


def test_survives_json() -> None:
    assert Schedule.from_json(ROWS.to_json()) == ROWS
    assert Schedule.from_json(ROWS.to_json()).key == ROWS.key != replace(ROWS, chunk=1).key
    for text in ("{", "3", "{}", '{"order": ["i"], "speed": 3}'):
        with pytest.raises(DataError, match="to_json"):
            Schedule.from_json(text)


def test_fields_are_checked() -> None:
    for bad in ({"chunk": 0}, {"factor": True}, {"panel": -1}, {"partition": "guided"}, {"stream": 1}):
        with pytest.raises(ConfigError, match="Schedule"):
            Schedule(order=("i", "k"), **bad)
    with pytest.raises(ConfigError, match="no product"):
        refusal("mttkrp", csr(), ROWS)


def test_what_may_be_parallel_lanes_and_streams() -> None:
    assert parallel_axes("spmv", bcsr(2, 2)) == {"i0", "i1"}
    assert parallel_axes("sddmm", coo()) == {"i", "k"}
    assert vector_axis(sell(8), ("i0", "p", "i1", "k")) == "i1"
    assert vector_axis(coo(), ("i", "k")) is None
    assert streams("spmm", sell(8))
    assert not streams("spmm", coo())
