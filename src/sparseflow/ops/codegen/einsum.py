"""The three products of a sparse matrix, and what they are in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError

__all__ = ["PRODUCTS", "Einsum", "check_operands", "error_bound", "product"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Einsum:
    """A product over the axes i and k of the sparse matrix A and j of dense operands.

    Args:
        name: "spmv", "spmm" or "sddmm".
        text: the product in indices.
        dense: whether it has the axis j.
        sampled: whether the result has A's pattern, so that j is summed over; else k is.
    """

    name: str
    text: str
    dense: bool
    sampled: bool = False


PRODUCTS = {
    "spmv": Einsum(name="spmv", text="y[i] = sum_k A[i,k] * x[k]", dense=False),
    "spmm": Einsum(name="spmm", text="Y[i,j] = sum_k A[i,k] * X[k,j]", dense=True),
    "sddmm": Einsum(name="sddmm", text="Y[i,k] = A[i,k] * sum_j B[i,j] * C[j,k]", dense=True, sampled=True),
}


def check_operands(op: str, shape: tuple[int, int], operands: tuple[Floats, ...]) -> int:
    """Return the size of j, 1 for "spmv".

    Args:
        op: a name of `PRODUCTS`.
        shape: of A.
        operands: x `[K]`, X `[K, J]`, or B `[I, J]` and C `[J, K]`.

    Raises:
        ConfigError: no such product, or operands of other shapes.
    """
    if op not in PRODUCTS:
        raise ConfigError(f"no product {op!r}; there are {', '.join(PRODUCTS)}")
    (rows, columns), shapes = shape, [tuple(x.shape) for x in operands]
    if op == "spmv" and shapes == [(columns,)]:
        return 1
    if op == "spmm" and len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][0] == columns:
        return int(shapes[0][1])
    if op == "sddmm" and len(shapes) == 2 and len(shapes[0]) == 2 and shapes[0][0] == rows:
        n = int(shapes[0][1])
        if shapes[1] == (n, columns):
            return n
    raise ConfigError(f"{op}: operands have shapes {shapes}; A is {rows} x {columns}, and {PRODUCTS[op].text}")


def product(op: str, a: Any, *operands: Floats) -> Floats:
    """Return a product in float64.

    Args:
        op: a name of `PRODUCTS`.
        a: scipy.sparse.csr_array with sorted columns.
        operands: see `check_operands`.

    Returns:
        `[I]`, `[I, J]`, or, for "sddmm", the value of each entry of `a`, `[nnz]`.

    Raises:
        ConfigError: no such product, or operands of other shapes.

    >>> from scipy.sparse import csr_array
    >>> product("spmv", csr_array([[0.0, 2.0]]), np.ones(2))
    array([2.])
    """
    check_operands(op, a.shape, operands)
    wide = [np.asarray(x, np.float64) for x in operands]
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    data = a.data.astype(np.float64)
    if op == "sddmm":
        sampled: Floats = data * np.einsum("nj,jn->n", wide[0][rows], wide[1][:, a.indices])
        return sampled
    result = np.zeros((a.shape[0], *wide[0].shape[1:]))
    np.add.at(result, rows, data.reshape(-1, *[1] * (wide[0].ndim - 1)) * wide[0][a.indices])
    return result


def error_bound(op: str, a: Any, *operands: Floats) -> Floats:
    """Return how far a result may be off: 8 · eps · √n · the same product of absolute values.

    eps is that of `a`'s type; n is the number of terms of each sum, at least 1.
    """
    n = check_operands(op, a.shape, operands) if op == "sddmm" else a.shape[1]
    sizes = product(op, abs(a), *(np.abs(x) for x in operands))
    bound: Floats = 8 * float(np.finfo(a.dtype).eps) * float(np.sqrt(max(n, 1))) * sizes
    return bound
