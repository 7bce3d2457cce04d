from dataclasses import replace

import numpy as np
import pytest

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops.codegen import Schedule, error_bound, line_of, parse, product, refusal, run
from sparseflow.ops.formats import Format, Level, csr, pack
from tests.ops.formats.matrices import matrix

SPMM = (
    "2 i 2 i0 256 i1 16 k 2 k0 4096 k1 16 1 A 4 i0 i1 k0 k1 A 4 i0 1 i1 1 k0 1 k1 1 1 j 2 j0 2 j1 64 "
    "6 j0 i0 i1 k0 k1 j1 j0 j1 None 0 128 512 445.855559"
)
SPMV = "2 i 2 i0 512 i1 8 k 2 k0 4096 k1 1 1 A 4 i0 k0 i1 k1 A 4 i0 0 k0 1 i1 0 k1 0 0 4 i0 k0 i1 k1 i0 None i1 8 4 32"
SDDMM = (
    "2 i 2 i0 256 i1 16 j 2 j0 4096 j1 16 1 A 4 i0 i1 j0 j1 A 4 i0 1 i1 1 j0 1 j1 1 1 k 2 k0 2 k1 64 "
    "6 i0 i1 j0 j1 k0 k1 i0 k1 None 0 104 32 1.5"
)


@pytest.mark.parametrize(("op", "text"), [("spmm", SPMM), ("spmv", SPMV), ("sddmm", SDDMM)])
def test_lines_are_read_and_written(op: str, text: str) -> None:
    line = parse(text, op)
    assert str(line) == text
    assert parse(str(line), op) == line
    assert refusal(op, line.format, line.schedule) is None


def test_every_primitive_has_its_place() -> None:
    line = parse(SPMM, "spmm")
    assert (line.format.rows_inner, line.format.columns_inner, line.schedule.inner) == (16, 16, 64)
    assert line.format.axes == ("i0", "i1", "k0", "k1")
    assert {level.kind for level in line.format.levels} == {"compressed"}
    assert line.schedule.order == ("j0", "i0", "i1", "k0", "k1", "j1")
    assert (line.schedule.parallel, line.schedule.vector, line.schedule.unroll) == ("j0", "j1", None)
    assert (line.schedule.threads, line.schedule.chunk, line.outer) == (128, 512, (256, 4096, 2))
    assert line.latency_ms == 445.855559
    assert (parse(SPMV, "spmv").schedule.unroll, parse(SPMV, "spmv").schedule.factor) == ("i1", 8)
    assert parse(SPMV, "spmv").latency_ms is None
    assert parse(SDDMM, "sddmm").schedule.order == ("i0", "i1", "k0", "k1", "j0", "j1")


@pytest.mark.parametrize(("op", "text"), [("spmm", SPMM), ("spmv", SPMV), ("sddmm", SDDMM)])
def test_lines_compute_the_product_on_real_sizes(op: str, text: str) -> None:
    a, line, rng = matrix(21, 37, dtype="float32"), parse(text, op), np.random.default_rng(2)
    shapes = {"spmv": [(37,)], "spmm": [(37, 5)], "sddmm": [(21, 5), (5, 37)]}[op]
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    got = run(op, pack(a, line.format, most_fill=1e9), line.schedule, *given)
    assert (np.abs(got - product(op, a, *given)) <= error_bound(op, a, *given)).all()


def test_nominal_sizes_are_powers_of_two_below_the_real_ones() -> None:
    line = parse(SPMM, "spmm")
    again = line_of("spmm", line.format, line.schedule, (5000, 100_000), 128)
    assert str(replace(again, latency_ms=445.855559)) == SPMM
    assert line_of("spmm", line.format, line.schedule, (5, 5), 5).outer == (1, 1, 1)


def test_what_has_no_words_is_refused() -> None:
    line = parse(SPMM, "spmm")
    narrow = tuple(Level(axis=n.axis, kind="compressed", bits=16) for n in line.format.levels)
    for fmt, schedule, what in (
        (csr(), Schedule(order=("i", "k", "j")), "levels other"),
        (line.format, replace(line.schedule, panel=64), "panels"),
        (line.format, replace(line.schedule, partition="static"), "partition"),
        (replace(line.format, rows_inner=3), line.schedule, "powers of two"),
        (Format(levels=narrow), line.schedule, "narrow"),
    ):
        with pytest.raises(UnsupportedError, match=what):
            line_of("spmm", fmt, schedule, (100, 100), 128)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda w: w[:-4], "ends after"),
        (lambda w: [*w, "7"], "follow the latency"),
        (lambda w: ["3", *w[1:]], "word 1 is '3'"),
        (lambda w: [*w[:4], "many", *w[5:]], "word 5 is 'many'"),
        (lambda w: [*w[:-1], "fast"], "fast"),
        (lambda w: ["9" if n == 23 else word for n, word in enumerate(w)], "word 24 is 9"),
        (lambda w: ["0" if n == 6 else word for n, word in enumerate(w)], "rows_inner"),
    ],
)
def test_other_texts_are_refused_by_word(change, why: str) -> None:
    with pytest.raises(DataError, match=why):
        parse(" ".join(change(SPMM.split())), "spmm")


def test_the_operator_must_fit() -> None:
    with pytest.raises(DataError, match="word"):
        parse(SPMM, "spmv")
    with pytest.raises(ConfigError, match="no product"):
        parse(SPMM, "mttkrp")
