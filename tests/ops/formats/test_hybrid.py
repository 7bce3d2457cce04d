import numpy as np
import pytest
from scipy import sparse

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops.formats import Hybrid, Part, bcsr, coo, csr, dia, ell, pack_hybrid, split_entries, unpack_hybrid
from tests.ops.formats.matrices import MATRICES
from tests.ops.formats.test_pack import same

HYBRIDS = {
    "ell + coo": Hybrid(parts=(Part(format=ell(), take="first", most=2), Part(format=coo()))),
    "dia + csr": Hybrid(parts=(Part(format=dia(), take="diagonals", share=0.5), Part(format=csr()))),
    "bcsr + csr": Hybrid(parts=(Part(format=bcsr(2, 3), take="blocks", share=0.6), Part(format=csr()))),
    "all": Hybrid(
        parts=(
            Part(format=dia(), take="diagonals", share=1.0),
            Part(format=bcsr(2, 2), take="blocks"),
            Part(format=ell(), take="first", most=1),
            Part(format=csr()),
        )
    ),
    "one": Hybrid(parts=(Part(format=csr()),)),
}


@pytest.mark.parametrize("h", HYBRIDS)
@pytest.mark.parametrize("m", MATRICES)
def test_the_sum_is_the_matrix(m: str, h: str) -> None:
    packed = pack_hybrid(MATRICES[m], HYBRIDS[h], most_fill=1e9)
    assert sorted(np.concatenate(packed.entries)) == list(range(MATRICES[m].nnz))
    same(unpack_hybrid(packed), MATRICES[m])
    assert packed.bytes == sum(part.storage.bytes for part in packed.parts)


@pytest.mark.parametrize("h", HYBRIDS)
def test_survives_json(h: str) -> None:
    assert Hybrid.from_json(HYBRIDS[h].to_json()) == HYBRIDS[h]
    assert Hybrid.from_json(HYBRIDS[h].to_json()).key == HYBRIDS[h].key


def test_parts_take_what_they_say() -> None:
    a = sparse.csr_array(np.array([[1.0, 9, 0, 9], [0, 2, 0, 9], [9, 0, 3, 0], [0, 0, 0, 4]]))
    diagonal, rest = split_entries(a, HYBRIDS["dia + csr"])
    assert list(a.data[diagonal]) == [1, 9, 2, 9, 9, 3, 4]
    assert list(a.data[rest]) == [9]
    first, rest = split_entries(a, HYBRIDS["ell + coo"])
    assert list(a.data[first]) == [1, 9, 2, 9, 9, 3, 4]
    assert list(a.data[rest]) == [9]


def test_thresholds_are_shares_of_the_places() -> None:
    a = sparse.csr_array(np.array([[1.0, 1, 0, 0], [1, 0, 0, 1]]))
    for share, kept in ((0.75, 3), (0.76, 0), (0.25, 4)):
        hybrid = Hybrid(parts=(Part(format=bcsr(2, 2), take="blocks", share=share), Part(format=csr())))
        assert len(split_entries(a, hybrid)[0]) == kept


def test_refuses_sums_that_lose_or_hide_entries() -> None:
    for parts in ((), (Part(format=csr(), take="first"),), (Part(format=csr()), Part(format=csr()))):
        with pytest.raises(ConfigError, match="rest"):
            Hybrid(parts=parts)
    for bad in ({"take": "all"}, {"share": 0.0}, {"most": 0}):
        with pytest.raises(ConfigError, match="Part"):
            Part(format=csr(), **bad)
    with pytest.raises(DataError, match="to_json"):
        Hybrid.from_json('{"parts": [{"take": "rest"}]}')


def test_a_part_that_cannot_be_stored_says_why() -> None:
    wide = sparse.csr_array(([1.0], ([0], [70000])), shape=(1, 70001))
    with pytest.raises(UnsupportedError, match="16 bits"):
        pack_hybrid(wide, Hybrid(parts=(Part(format=csr(bits=16)),)))
