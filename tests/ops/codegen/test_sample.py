import numpy as np
import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.ops.codegen import PRODUCTS, Facts, refusal, sample
from sparseflow.ops.formats import bcsr, csr, dia, ell, pack
from sparseflow.ops.formats.pack import MOST_FILL
from tests.ops.formats.matrices import MATRICES, matrix

SPARSE = matrix(300, 200, share=0.02)


@pytest.mark.parametrize("op", PRODUCTS)
def test_draws_are_valid_and_can_be_packed(op: str) -> None:
    rng, facts = np.random.default_rng(0), Facts.of(SPARSE)
    packed = 0
    for _ in range(300):
        fmt, schedule = sample(op, facts, rng)
        assert refusal(op, fmt, schedule) is None, (fmt, schedule)
        try:
            packed += pack(SPARSE, fmt).values.size >= SPARSE.nnz
        except UnsupportedError:
            continue
    assert packed >= 0.95 * 300


def test_draws_differ_and_repeat_by_seed() -> None:
    draws = [[sample("spmm", Facts.of(SPARSE), np.random.default_rng(s)) for s in range(200)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len({fmt.key + schedule.key for fmt, schedule in draws[0]}) > 190
    kinds = {level.kind for fmt, _ in draws[0] for level in fmt.levels}
    assert kinds == {"dense", "compressed", "nonunique", "singleton", "singleton_nonunique", "sliced"}
    assert {schedule.partition for _, schedule in draws[0]} == {"static", "dynamic", "nnz"}


def test_facts_are_those_of_the_matrix() -> None:
    a = MATRICES["one dense row"]
    assert Facts.of(a) == Facts(rows=7, columns=9, nnz=11, longest=9, diagonals=9)
    assert Facts.of(MATRICES["no rows"]) == Facts(rows=0, columns=4, nnz=0, longest=0, diagonals=0)


def test_what_fits_can_be_packed() -> None:
    facts = Facts.of(SPARSE)
    for fmt in (csr(), bcsr(2, 2), ell(), dia(), bcsr(64, 64)):
        if facts.fits(fmt):
            assert pack(SPARSE, fmt).storage.slots <= MOST_FILL * SPARSE.nnz + sum(SPARSE.shape) + 128
    assert facts.fits(csr())
    assert not facts.fits(bcsr(64, 64))
