import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.ops.formats import Format, Level, csr, dia, reference
from tests.ops.formats.matrices import matrix


def test_children_add_distances_up() -> None:
    a = matrix(1, 20)
    packed = reference.pack(a, csr(delta=True))
    assert [c for c, _ in reference.children(packed, 1, 0)] == list(a.indices)


def test_leaves_outside_the_matrix_are_left_out() -> None:
    packed = reference.pack(matrix(3, 3), dia())
    assert reference.inside(packed, {"d": 2, "i": 2}) is None
    assert reference.inside(packed, {"d": 2, "i": 0}) == (0, 2)


def test_refuses_what_the_check_refuses() -> None:
    with pytest.raises(UnsupportedError, match="row and column"):
        reference.pack(matrix(2, 2), Format(levels=(Level(axis="i"),)))
