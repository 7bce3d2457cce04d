from itertools import permutations, product

import numpy as np
import pytest

from sparseflow.ops.formats import Format, Level, pack, refusal, unpack
from sparseflow.ops.formats.check import known
from sparseflow.ops.formats.format import KINDS
from tests.ops.formats.matrices import FORMATS, MATRICES


def fmt(*levels: str, r: int = 1, c: int = 1, **options) -> Format:
    made = (Level(axis=a, kind=k, **options) for a, k in (level.split(":") for level in levels))
    return Format(levels=tuple(made), rows_inner=r, columns_inner=c)


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("repeat", fmt("i:dense", "i:dense", "k:dense")),
        ("split", fmt("i:dense", "i0:dense", "i1:dense", "k:dense")),
        ("split", fmt("i0:dense", "k:dense", r=2)),
        ("split", fmt("i1:dense", "i0:dense", "k:dense", r=2)),
        ("split", fmt("i:dense", "k:dense", r=2)),
        ("unresolved", fmt("i:dense")),
        ("unresolved", fmt("i:dense", "p:dense")),
        ("redundant", fmt("i:dense", "k:compressed", "d:compressed")),
        ("redundant", fmt("i:dense", "k:compressed", "p:dense")),
        ("diagonal", fmt("d:dense", "i:dense")),
        ("rank", fmt("i:dense", "p:compressed", "k:singleton")),
        ("after nonunique", fmt("i:nonunique", "k:dense")),
        ("after nonunique", fmt("k0:nonunique", "i:singleton_nonunique", "k1:dense", c=2)),
        ("singleton", fmt("i:singleton", "k:compressed")),
        ("unique", fmt("i:nonunique", "k:singleton_nonunique")),
        ("unique", fmt("i0:nonunique", "i1:singleton", "k:singleton", r=2)),
        ("delta", fmt("i:dense", "k:dense", delta=True)),
        ("bits", fmt("i:dense", "k:dense", bits=16)),
    ],
)
def test_refuses_by_a_rule_with_a_reason(rule: str, bad: Format) -> None:
    found = refusal(bad)
    assert found is not None
    assert found.rule == rule
    assert len(found.reason) > 10


def test_no_levels_resolve_nothing() -> None:
    assert refusal(Format(levels=())).rule == "unresolved"


@pytest.mark.parametrize("name", FORMATS)
def test_takes_formats_that_work(name: str) -> None:
    assert refusal(FORMATS[name]) is None


def test_everything_that_passes_can_be_packed() -> None:
    axes = [("i", "k"), ("i", "p", "k"), ("d", "i"), ("i", "d"), ("p", "d", "i"), ("i0", "i1", "k"), ("k0", "i", "k1")]
    a, passed = MATRICES["random"], 0
    for chosen in axes:
        for order, kinds in product(permutations(chosen), product(KINDS, repeat=len(chosen))):
            levels = tuple(Level(axis=x, kind=k) for x, k in zip(order, kinds, strict=True))
            made = Format(levels=levels, rows_inner=2 if "i0" in order else 1, columns_inner=4 if "k0" in order else 1)
            if refusal(made) is None:
                passed += 1
                assert np.array_equal(unpack(pack(a, made, most_fill=1e9)).toarray(), a.toarray()), made
    assert passed > 100


def test_what_follows_from_what() -> None:
    assert known(["i", "k0"]) == {"i", "i0", "i1", "k0"}
    assert {"i", "d"} <= known(["k", "d"])
