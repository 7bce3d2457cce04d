import math
from dataclasses import dataclass

import pytest

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.search import Categorical, Encoding, Integer, LogFloat, Ordered, Parameter, Space, When
from sparseflow.search.encoding import index_of
from tests.search_problems import ordered_codes

MIXED = Space(
    parameters=(
        Categorical(name="kernel", choices=("dense", "event", None)),
        Ordered(name="tile", choices=(1, 2, True), when=When(name="kernel", values=("event",))),
        Integer(name="unroll", low=-3, high=9, step=4),
    )
)


@pytest.mark.parametrize("space", [MIXED, ordered_codes(["a"], tmax=15)], ids=["mixed", "codes"])
@pytest.mark.parametrize("relative", [False, True])
def test_every_member_comes_back(space, relative):
    encoding = Encoding(space, relative=relative)
    for params in space.enumerate():
        back = encoding.decode(encoding.encode(params))
        assert [(n, type(v), v) for n, v in back.items()] == [(n, type(v), v) for n, v in params.items()]


def test_values_share_their_axis_evenly():
    encoding = Encoding(Space(parameters=(Integer(name="a", low=1, high=4),)))
    drawn = [encoding.decode([i / 1000])["a"] for i in range(1000)]
    assert [drawn.count(v) for v in (1, 2, 3, 4)] == [250] * 4


def test_beyond_an_end_the_end_counts():
    encoding = Encoding(Space(parameters=(Integer(name="a", low=1, high=4), LogFloat(name="r", low=0.1, high=10.0))))
    assert encoding.decode([-7.0, -1.0]) == {"a": 1, "r": 0.1}
    assert encoding.decode([1.0, 2.0]) == {"a": 4, "r": 10.0}


def test_a_logarithmic_axis():
    encoding = Encoding(Space(parameters=(LogFloat(name="r", low=0.01, high=100.0),)))
    assert encoding.sizes == (0,)
    assert encoding.decode([0.5])["r"] == pytest.approx(1.0)
    assert encoding.encode({"r": 10.0}) == pytest.approx([0.75])


@pytest.mark.parametrize("relative", [False, True])
def test_points_of_the_cube_are_legal_codes(relative):
    space = ordered_codes(["a", "b"])
    encoding = Encoding(space, relative=relative)
    for i in range(300):
        point = [math.fmod(abs(math.sin(i * 37.7 + j)) * 7, 1.0) for j in range(8)]
        assert space.reasons(encoding.decode(point)) == []


def test_the_rest_stays_where_it_was():
    space = ordered_codes(["a"])
    encoding = Encoding(space)
    point = encoding.encode({"a.t1": 4, "a.t2": 20, "a.v1": 10, "a.v2": 30})
    point[0] = encoding.encode({"a.t1": 9, "a.t2": 20, "a.v1": 10, "a.v2": 30})[0]
    assert encoding.decode(point) == {"a.t1": 9, "a.t2": 20, "a.v1": 10, "a.v2": 30}


def test_in_a_relative_encoding_those_after_move_along():
    encoding = Encoding(ordered_codes(["a"]), relative=True)
    assert encoding.decode([0.0, 0.0, 0.0, 0.0]) == {"a.t1": 2, "a.t2": 6, "a.v1": 3, "a.v2": 7}
    assert encoding.decode([1.0, 0.0, 0.0, 0.0]) == {"a.t1": 10, "a.t2": 14, "a.v1": 11, "a.v2": 15}
    assert encoding.decode([1.0, 1.0, 1.0, 1.0]) == {"a.t1": 10, "a.t2": 31, "a.v1": 30, "a.v2": 35}


def test_what_has_no_axis_is_refused():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Parameter):
        domain = "odd"

        def values(self):
            return None

        def sample(self, rng):
            return 0.0

        def neighbours(self, value):
            return []

        def holds(self, value):
            return True

        def first(self):
            return 0.0

    with pytest.raises(UnsupportedError, match="'x' is a Odd; no axis"):
        Encoding(Space(parameters=(Odd(name="x"),)))
    with pytest.raises(ConfigError, match="is not in the space"):
        Encoding(MIXED).encode({"kernel": "dense"})
    with pytest.raises(ValueError, match="7 is not among"):
        index_of((1, 2), 7)
