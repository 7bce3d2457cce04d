from dataclasses import replace

import numpy as np
import pytest

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.ops.codegen import PRODUCTS, Facts, Schedule, error_bound, interpreter, product, run, sample
from sparseflow.ops.formats import coo, csc, csr, pack, sell
from tests.ops.formats.matrices import FORMATS, MATRICES, matrix

N = 5


def operands(op: str, a, n: int = N, seed: int = 1):
    rng = np.random.default_rng(seed)
    shapes = {"spmv": [(a.shape[1],)], "spmm": [(a.shape[1], n)], "sddmm": [(a.shape[0], n), (n, a.shape[1])]}
    return [rng.standard_normal(shape).astype(a.dtype) for shape in shapes[op]]


def agrees(op: str, a, packed, schedule: Schedule, seed: int = 0) -> None:
    given = operands(op, a)
    got = run(op, packed, schedule, *given, seed=seed)
    assert got.dtype == a.dtype
    error = np.abs(got - product(op, a, *given))
    assert (error <= error_bound(op, a, *given)).all(), (packed.format, schedule)


@pytest.mark.parametrize("op", PRODUCTS)
@pytest.mark.parametrize("name", MATRICES)
def test_sampled_schedules_compute_the_product(op: str, name: str) -> None:
    a = MATRICES[name]
    rng = np.random.default_rng(len(name))
    for draw in range(12):
        fmt, schedule = sample(op, Facts.of(a), rng, threads=3)
        agrees(op, a, pack(a, fmt), schedule, seed=draw)


@pytest.mark.parametrize("op", PRODUCTS)
def test_every_format_computes_the_product(op: str) -> None:
    a = matrix(7, 8)
    for fmt in FORMATS.values():
        order = fmt.axes + (("j",) if PRODUCTS[op].dense else ())
        agrees(op, a, pack(a, fmt, most_fill=1e9), Schedule(order=order))


@pytest.mark.parametrize("partition", ["static", "dynamic", "nnz"])
def test_threads_share_all_iterations(partition: str) -> None:
    for name in ("random", "one dense row", "all zero", "1 x n"):
        for threads in (1, 2, 7):
            schedule = Schedule(order=("i", "k"), parallel="i", partition=partition, threads=threads, chunk=2)
            agrees("spmv", MATRICES[name], pack(MATRICES[name], csr()), schedule)


def test_shares_of_entries_are_even() -> None:
    a = MATRICES["one dense row"]
    schedule = Schedule(order=("i", "k"), parallel="i", partition="nnz", threads=2)
    nest = interpreter._Nest("spmv", pack(a, csr()), schedule, (np.ones(9),), 1, 0)
    first, second = nest.shares("i", nest.iterations("i", 0))
    assert [c for c, _ in first] == [0, 1, 2]
    assert [c for c, _ in second] == [3, 4, 5, 6]


def test_panels_parts_and_remainders_cover_j() -> None:
    a = matrix(4, 6)
    for inner, panel in ((2, 0), (2, 4), (4, 4), (8, 8), (1, 3)):
        schedule = Schedule(order=("j0", "i", "k", "j1"), inner=inner, panel=panel, vector="j1", tile=2)
        agrees("spmm", a, pack(a, csr()), schedule)


def test_no_columns_give_an_empty_result() -> None:
    a = matrix(4, 6)
    schedule = Schedule(order=("i", "k", "j"), parallel="i")
    assert run("spmm", pack(a, csr()), schedule, np.ones((6, 0))).shape == (4, 0)
    got = run("sddmm", pack(a, csr()), schedule, np.ones((4, 0)), np.ones((0, 6)))
    assert np.array_equal(got, np.zeros(a.nnz))


def test_a_race_is_caught_where_the_check_would_let_it_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "refusal", lambda *_: None)
    a = MATRICES["full"]
    for fmt in (csc(), coo()):
        schedule = Schedule(order=(*fmt.axes,), parallel=fmt.axes[0], threads=2, chunk=1)
        with pytest.raises(MeasurementError, match="two threads"):
            run("spmv", pack(a, fmt), schedule, np.ones(5))


def test_a_schedule_that_does_not_fit_is_refused() -> None:
    a = matrix(4, 6)
    good = Schedule(order=("i", "k"))
    with pytest.raises(UnsupportedError, match="do not follow levels"):
        run("spmv", pack(a, sell(2)), good, np.ones(6))
    with pytest.raises(UnsupportedError, match="same result"):
        run("spmv", pack(a, csr()), replace(good, parallel="k"), np.ones(6))
    with pytest.raises(ConfigError, match="4 x 6"):
        run("spmv", pack(a, csr()), good, np.ones(5))
