import numpy as np
import pytest
from scipy import sparse

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.ops.formats import Format, Level, Reorder, bcsr, csr, dcsr, dia, ell, pack, reference, sell, unpack
from sparseflow.ops.formats.pack import canonical_csr, leaves, refill
from tests.ops.formats.matrices import FORMATS, MATRICES, matrix


def same(a, b) -> None:
    b = canonical_csr(b)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    assert np.array_equal(a.indptr, b.indptr)
    assert np.array_equal(a.indices, b.indices)
    assert a.data.tobytes() == b.data.tobytes()


def agree(a, fmt: Format) -> None:
    got, want = pack(a, fmt, most_fill=1e9), reference.pack(a, fmt)
    for level, plain in zip(got.levels, want.levels, strict=True):
        assert (level.nodes, level.size) == (plain.nodes, plain.size)
        for name in ("pos", "crd"):
            x, y = getattr(level, name), getattr(plain, name)
            assert (x is None) == (y is None)
            assert x is None or (x.dtype == y.dtype and np.array_equal(x, y))
    assert got.values.tobytes() == want.values.tobytes()
    assert np.array_equal(got.slots, want.slots)
    same(unpack(got), a)


def holds(a, fmt: Format) -> None:
    packed = pack(a, fmt, most_fill=1e9)
    walked = {slot: (i, k) for i, k, slot in reference.entries(packed)}
    dense = np.zeros(packed.shape)
    for slot, (i, k) in walked.items():
        dense[i, k] += packed.values[slot]
    assert np.array_equal(dense, a.toarray())
    rows, columns = leaves(packed)
    assert {n: (int(i), int(k)) for n, (i, k) in enumerate(zip(rows, columns, strict=True)) if i >= 0} == walked


@pytest.mark.parametrize("f", FORMATS)
def test_packs_as_the_reference_and_comes_back_exactly(f: str) -> None:
    for a in MATRICES.values():
        agree(a, FORMATS[f])


@pytest.mark.parametrize("f", FORMATS)
def test_what_is_stored_is_the_matrix(f: str) -> None:
    for a in MATRICES.values():
        holds(a, FORMATS[f])


def test_random_values_survive_not_only_finite_ones() -> None:
    a = matrix(5, 5)
    a.data[:3] = [np.nan, np.inf, -np.inf]
    for fmt in FORMATS.values():
        same(unpack(pack(a, fmt, most_fill=1e9)), a)


def test_csr_is_what_scipy_holds() -> None:
    a = MATRICES["random"]
    level = pack(a, csr()).levels[1]
    assert np.array_equal(level.pos, a.indptr)
    assert np.array_equal(level.crd, a.indices)


def test_bcsr_is_that_of_scipy() -> None:
    a = matrix(12, 12)
    want = sparse.bsr_array(a, blocksize=(2, 3))
    want.sort_indices()
    got = pack(a, bcsr(2, 3))
    assert np.array_equal(got.levels[1].pos, want.indptr)
    assert np.array_equal(got.levels[1].crd, want.indices)
    assert np.array_equal(got.values.reshape(-1, 2, 3), want.data)


def test_dia_holds_the_diagonals_that_scipy_does() -> None:
    a = MATRICES["banded"]
    assert np.array_equal(pack(a, dia()).levels[0].crd, sparse.dia_array(a).offsets)


def test_slices_are_as_wide_as_their_longest_row() -> None:
    a = MATRICES["one dense row"]
    widths = np.diff(pack(a, sell(2), most_fill=1e9).levels[1].pos)
    lengths = np.append(np.diff(a.indptr), 0).reshape(-1, 2)
    assert np.array_equal(widths, lengths.max(1))
    assert pack(a, sell(2, 0)).storage.slots < pack(a, ell()).storage.slots


def test_rows_are_sorted_within_windows_only() -> None:
    a = matrix(12, 9)
    order = pack(a, sell(2, 4)).row_order
    lengths = np.diff(a.indptr)[order]
    assert np.array_equal(np.sort(order.reshape(-1, 4), axis=1), np.arange(12).reshape(-1, 4))
    assert (np.diff(lengths.reshape(-1, 4), axis=1) <= 0).all()


def test_rcm_narrows_the_band_and_comes_back() -> None:
    shuffle = np.random.default_rng(1).permutation(30)
    band = sparse.csr_array(sparse.diags_array([1.0, 2, 3], offsets=[-1, 0, 1], shape=(30, 30)))
    a = sparse.csr_array(band[shuffle][:, shuffle])
    rcm = Reorder(rule="rcm")
    levels = (Level(axis="d", kind="compressed"), Level(axis="i"))
    packed = pack(a, Format(levels=levels, rows=rcm, columns=rcm))
    assert list(packed.levels[0].crd) == [-1, 0, 1]
    same(unpack(packed), a)
    with pytest.raises(UnsupportedError, match="square"):
        pack(matrix(3, 4), Format(levels=csr().levels, rows=rcm))


def test_too_much_padding_is_refused_before_it_is_made() -> None:
    places = np.arange(40) * 1000
    spread = sparse.csr_array((np.ones(40), (places, places[::-1])), shape=(2**16, 2**16))
    with pytest.raises(UnsupportedError, match="nodes for 40"):
        pack(spread, dia())
    same(unpack(pack(spread, dcsr())), spread)


def test_coordinates_that_do_not_fit_are_refused() -> None:
    a = sparse.csr_array(([1.0, 2.0], ([0, 0], [65535, 65536])), shape=(1, 70000))
    with pytest.raises(UnsupportedError, match="16 bits"):
        pack(a, csr(bits=16))
    with pytest.raises(UnsupportedError, match="16 bits"):
        pack(sparse.csr_array(([1.0], ([0], [65536])), shape=(1, 70000)), csr(bits=16, delta=True))
    same(unpack(pack(a, csr(bits=16, delta=True))), a)


def test_malformed_matrices_are_refused() -> None:
    with pytest.raises(DataError, match="sum_duplicates"):
        pack(sparse.csr_array(([1.0, 2.0], [1, 1], [0, 2]), shape=(1, 2)), csr())
    with pytest.raises(DataError, match="int64"):
        pack(sparse.csr_array(np.eye(2, dtype=np.int64)), csr())
    with pytest.raises(DataError, match="ndarray"):
        pack(np.eye(2), csr())
    with pytest.raises(UnsupportedError, match="several coordinates"):
        pack(matrix(2, 2), Format(levels=(Level(axis="i"), Level(axis="k", kind="singleton"))))


def test_unsorted_columns_are_sorted_and_the_matrix_left_alone() -> None:
    a = sparse.csr_array(([1.0, 2.0], [1, 0], [0, 2]), shape=(1, 2))
    same(unpack(pack(a, csr())), sparse.csr_array([[2.0, 1.0]]))
    assert list(a.indices) == [1, 0]


def test_the_same_pattern_takes_other_values() -> None:
    a = matrix(9, 8)
    packed = pack(a, sell(4, 0))
    b = a.copy()
    b.data = -a.data
    same(unpack(refill(packed, b.data)), b)
    with pytest.raises(DataError, match="entries"):
        refill(packed, b.data[1:])
