import numpy as np

from sparseflow.ops.formats import bcsr, csr, pack, sell
from sparseflow.ops.formats.packed import extents, resolve
from tests.ops.formats.matrices import MATRICES, matrix


def test_csr_costs_what_csr_costs() -> None:
    a = matrix(20, 30, dtype="float32")
    storage = pack(a, csr()).storage
    assert storage.bytes == storage.csr_bytes == 8 * a.nnz + 4 * 21
    assert storage.against_csr == storage.fill == 1.0
    assert pack(a, csr(bits=16)).storage.bytes == 6 * a.nnz + 4 * 21


def test_padding_is_counted() -> None:
    a = MATRICES["full"]
    storage = pack(a, bcsr(3, 3)).storage
    assert (storage.nnz, storage.slots) == (20, 2 * 2 * 9)
    assert storage.fill == 20 / 36
    assert pack(MATRICES["all zero"], csr()).storage.fill == 1.0


def test_orders_are_counted() -> None:
    a = matrix(16, 16)
    plain, ordered = pack(a, sell(1)).storage, pack(a, sell(1, 0)).storage
    assert ordered.index_bytes == plain.index_bytes + 4 * 16


def test_extents_are_those_of_the_matrix_not_nominal_ones() -> None:
    assert extents(bcsr(4, 8), (10, 20), 3) == {"i": 10, "i0": 3, "i1": 4, "k": 20, "k0": 3, "k1": 8, "p": 3}


def test_rows_and_columns_follow() -> None:
    assert resolve(bcsr(4, 8), {"i0": 1, "i1": 2, "k0": 1, "k1": 1}) == (6, 9)
    assert resolve(csr(), {"d": -1, "k": 3}) == (4, 3)
    assert resolve(csr(), {"d": -1, "i": 3}) == (3, 2)


def test_empty_levels_have_no_coordinates() -> None:
    packed = pack(MATRICES["all zero"], csr(delta=True))
    assert packed.coordinates(1).shape == (0,)
    assert np.array_equal(packed.coordinates(0), np.zeros(0))
