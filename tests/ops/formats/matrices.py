"""Small matrices on which formats are tried, and formats of every sort."""

from typing import Any

import numpy as np
from scipy import sparse

from sparseflow.ops.formats import Format, Level, Reorder, bcsr, coo, csc, csr, dcsr, dia, ell, sell


def matrix(rows: int, columns: int, share: float = 0.3, seed: int = 0, dtype: str = "float64") -> Any:
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((rows, columns)) < share, rng.standard_normal((rows, columns)), 0)
    return sparse.csr_array(dense.astype(dtype))


def one_dense_row() -> Any:
    dense = np.zeros((7, 9))
    dense[3] = np.arange(1, 10)
    dense[0, 0] = dense[6, 8] = -1
    return sparse.csr_array(dense)


def explicit_zeros() -> Any:
    return sparse.csr_array(([0.0, 2.0, -0.0], [3, 0, 2], [0, 1, 1, 3]), shape=(3, 5))


MATRICES = {
    "random": matrix(11, 13),
    "float32": matrix(6, 6, dtype="float32"),
    "empty rows": sparse.csr_array(np.diag([1.0, 0, 0, 2, 0, 3])),
    "one dense row": one_dense_row(),
    "1 x n": matrix(1, 17),
    "n x 1": matrix(17, 1),
    "all zero": sparse.csr_array((5, 4), dtype=np.float64),
    "no rows": sparse.csr_array((0, 4), dtype=np.float64),
    "full": matrix(4, 5, share=1.1),
    "banded": sparse.csr_array(sparse.diags_array([1.0, 2, 3], offsets=[-1, 0, 2], shape=(9, 9))),
    "explicit zeros": explicit_zeros(),
}


def split(kinds: str, order: tuple[str, ...] = ("i0", "k0", "i1", "k1")) -> Format:
    names = {"d": "dense", "s": "compressed", "u": "nonunique", "q": "singleton", "c": "singleton_nonunique"}
    levels = tuple(Level(axis=axis, kind=names[k]) for axis, k in zip(order, kinds, strict=True))
    return Format(levels=levels, rows_inner=2, columns_inner=3)


FORMATS = {
    "csr": csr(), "csr16": csr(bits=16), "csr delta": csr(bits=16, delta=True), "csc": csc(), "dcsr": dcsr(),
    "coo": coo(), "bcsr": bcsr(2, 3), "bcsr 3x3": bcsr(3, 3), "ell": ell(), "sell": sell(4),
    "sell sorted": sell(4, 8, bits=16),
    "sell all": sell(3, 0), "dia": dia(),
    "dense": Format(levels=(Level(axis="i"), Level(axis="k"))),
    "skyline": Format(levels=(Level(axis="i"), Level(axis="k", kind="sliced"))),
    "jagged": Format(levels=(Level(axis="p"), Level(axis="i"), Level(axis="k", kind="singleton"))),
    "relative": Format(levels=(Level(axis="i"), Level(axis="d", kind="compressed", bits=16, delta=True))),
    "relative ell": Format(levels=(Level(axis="i"), Level(axis="p"), Level(axis="d", kind="singleton", bits=16))),
    "columns of diagonals": Format(levels=(Level(axis="d", kind="compressed"), Level(axis="k", kind="compressed"))),
    "longest columns": Format(levels=csc().levels, columns=Reorder(rule="length"), rows=Reorder(rule="length")),
    "blocks apart": split("ssss"), "split dcsr": split("ssss", ("i0", "i1", "k0", "k1")), "split coo": split("uccq"),
    "late coo": split("ducq"), "lists": split("dsus"), "lists of lists": split("usss"),
}  # fmt: skip
