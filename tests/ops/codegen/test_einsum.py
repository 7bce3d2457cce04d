import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.ops.codegen import PRODUCTS, error_bound, product
from sparseflow.ops.codegen.einsum import check_operands
from tests.ops.formats.matrices import MATRICES


@pytest.mark.parametrize("name", MATRICES)
def test_products_are_those_of_dense_matrices(name: str) -> None:
    a, rng = MATRICES[name], np.random.default_rng(0)
    dense = a.toarray().astype(np.float64)
    x, big = rng.standard_normal(a.shape[1]), rng.standard_normal((a.shape[1], 3))
    left = rng.standard_normal((a.shape[0], 3))
    assert np.allclose(product("spmv", a, x), dense @ x, rtol=1e-13, atol=1e-13)
    assert np.allclose(product("spmm", a, big), dense @ big, rtol=1e-13, atol=1e-13)
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    want = (dense * (left @ big.T))[rows, a.indices]
    assert np.allclose(product("sddmm", a, left, big.T), want, rtol=1e-13, atol=1e-13)


def test_bounds_grow_with_the_terms_and_the_type() -> None:
    a, b = MATRICES["random"], MATRICES["random"].astype(np.float32)
    x = -np.ones(13)
    bound = error_bound("spmv", a, x)
    assert np.allclose(bound, 8 * 2.0**-52 * np.sqrt(13) * abs(a).sum(axis=1))
    assert (error_bound("spmv", b, x) > 1e8 * bound).all()
    left, right = np.ones((11, 4)), np.ones((4, 13))
    assert np.allclose(error_bound("sddmm", a, left, right), 8 * 2.0**-52 * 2 * 4 * abs(a.data))


def test_operands_of_other_shapes_are_refused() -> None:
    assert check_operands("sddmm", (2, 3), (np.ones((2, 5)), np.ones((5, 3)))) == 5
    bad = {"spmv": (np.ones(2),), "spmm": (np.ones((2, 3)),), "sddmm": (np.ones((2, 5)), np.ones((4, 3)))}
    for op in PRODUCTS:
        for operands in (bad[op], ()):
            with pytest.raises(ConfigError, match="2 x 3"):
                check_operands(op, (2, 3), operands)
    with pytest.raises(ConfigError, match="no product"):
        product("mttkrp", MATRICES["random"])
