import gzip
from pathlib import Path

import numpy as np
import pytest
from scipy import io, sparse

from sparseflow.data.matrix_files import read_matrix
from sparseflow.errors import DataError

HEAD = "%%MatrixMarket matrix coordinate real general\n"
DENSE = np.array([[0, 2.5, 0], [0, 0, 0], [-1, 0, 4]], np.float32)


def text(path: Path, body: str) -> Path:
    path.write_text(body)
    return path


def npz(path: Path, shape=(3, 3), rl=(1, 0, 2), dd=(1, -1, 2)) -> Path:
    np.savez(path, shape=np.array(shape), rl=np.array(rl, np.int32), dd=np.array(dd, np.int32))
    return path


def csr(path: Path, numbers) -> Path:
    np.array(numbers, "<i4").tofile(path)
    return path


def test_matrix_market(tmp_path: Path) -> None:
    path = tmp_path / "a.mtx"
    io.mmwrite(path, sparse.csr_array(DENSE))
    a = read_matrix(path)
    assert a.dtype == np.float32
    assert np.array_equal(a.toarray(), DENSE)
    (tmp_path / "b.mtx.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_matrix(tmp_path / "b.mtx.gz").toarray(), DENSE)


def test_symmetric_ones_are_made_whole_and_doubles_added(tmp_path: Path) -> None:
    head = "%%MatrixMarket matrix coordinate integer symmetric\n% a remark\n2 2 3\n"
    assert read_matrix(text(tmp_path / "a.mtx", head + "1 1 5\n2 1 7\n2 1 1\n")).toarray().tolist() == [[5, 8], [8, 0]]


def test_patterns_get_values_by_seed(tmp_path: Path) -> None:
    mtx = text(tmp_path / "a.mtx", "%%MatrixMarket matrix coordinate pattern general\n3 3 3\n1 2\n3 1\n3 3\n")
    files = [mtx, npz(tmp_path / "a.npz"), csr(tmp_path / "a.csr", [3, 3, 3, 0, 1, 1, 3, 1, 0, 2])]
    first, *others = [read_matrix(path, seed=3) for path in files]
    assert np.array_equal(first.toarray() != 0, DENSE != 0)
    assert all(np.array_equal(first.toarray(), a.toarray()) for a in others)
    assert not np.array_equal(first.data, read_matrix(mtx, seed=4).data)


def test_what_scipy_saved(tmp_path: Path) -> None:
    sparse.save_npz(tmp_path / "a.npz", sparse.coo_array(DENSE))
    assert np.array_equal(read_matrix(tmp_path / "a.npz").toarray(), DENSE)


def test_no_entries(tmp_path: Path) -> None:
    assert read_matrix(csr(tmp_path / "a.csr", [2, 3, 0, 0, 0, 0])).shape == (2, 3)
    assert read_matrix(text(tmp_path / "a.mtx", HEAD + "2 3 0\n")).nnz == 0


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (HEAD + "3 3 2\n1 2 2.5\n4 1 1\n", "Line 4"),
        (HEAD + "3 3 2\n1 2 2.5\n3 x 1\n", "Line 4"),
        (HEAD + "3 3 2\n1 2 2.5\n0 1 1\n", "Line 4"),
        (HEAD + "3 3 2\n1 2\n3 1 1\n", "Line 3"),
        (HEAD + "3 3\n1 2 1\n", "Line 2"),
        ("3 3 1\n1 2 1\n", "Line 1"),
    ],
)
def test_malformed_texts_are_refused_by_line(tmp_path: Path, body: str, line: str) -> None:
    with pytest.raises(DataError, match=line):
        read_matrix(text(tmp_path / "a.mtx", body))


@pytest.mark.parametrize(
    "body",
    [
        "",
        HEAD + "3 3 3\n1 2 2.5\n",
        "%%MatrixMarket matrix array real general\n1 1\n3\n",
        "%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 3 4\n",
        HEAD + "1 1 1\n1 1 nan\n",
        HEAD + "1 1 1\n1 1 1e39\n",
    ],
)
def test_other_texts_are_refused(tmp_path: Path, body: str) -> None:
    with pytest.raises(DataError, match=r"a\.mtx"):
        read_matrix(text(tmp_path / "a.mtx", body))


@pytest.mark.parametrize(
    "numbers",
    [
        [3, 3],
        [3, 3, -1],
        [3, 3, 3, 0, 1, 1, 3, 1, 0],
        [3, 3, 3, 0, 1, 1, 2, 1, 0, 2],
        [3, 3, 3, 0, 2, 1, 3, 1, 0, 2],
        [3, 3, 3, 0, 1, 1, 3, 1, 0, 3],
        [3, 3, 3, 0, 1, 1, 3, 1, -1, 2],
        [3, 3, 3, 0, 1, 1, 3, 1, 2, 2],
    ],
)
def test_malformed_csr_files_are_refused(tmp_path: Path, numbers: list[int]) -> None:
    with pytest.raises(DataError, match=r"a\.csr"):
        read_matrix(csr(tmp_path / "a.csr", numbers))


def test_malformed_npz_files_are_refused(tmp_path: Path) -> None:
    for bad in ({"shape": (4, 3)}, {"rl": (1, 0, 3)}, {"dd": (1, -1, 9)}, {"dd": (1, -1, 0)}, {"rl": (-1, 2, 2)}):
        with pytest.raises(DataError, match=r"a\.npz"):
            read_matrix(npz(tmp_path / "a.npz", **bad))
    with pytest.raises(DataError, match="shape, rl and dd"):
        read_matrix(text(tmp_path / "b.npz", "no zip"))
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="shape, rl and dd"):
        read_matrix(tmp_path / "c.npz")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csr").write_bytes(b"12345")
    with pytest.raises(DataError, match="5 bytes"):
        read_matrix(tmp_path / "a.csr")
    with pytest.raises(DataError, match="no file"):
        read_matrix(tmp_path / "b.mtx")
    with pytest.raises(DataError, match="ends in none"):
        read_matrix(text(tmp_path / "b.txt", ""))
