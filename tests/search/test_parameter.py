import json
import math
import random

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Categorical, Integer, LogFloat, Ordered, When

PARAMETERS = [
    Categorical(name="kernel", choices=("dense", "event", None)),
    Ordered(name="tile", choices=(1, 2, 4, 8)),
    Integer(name="unroll", low=-2, high=7, step=3),
    LogFloat(name="rate", low=1e-4, high=10.0),
]
IDS = [type(p).__name__ for p in PARAMETERS]


@pytest.mark.parametrize("p", PARAMETERS, ids=IDS)
def test_samples_neighbours_and_the_first_value_lie_in_the_domain(p):
    rng = random.Random(0)
    for value in [p.first(), *(p.sample(rng) for _ in range(50))]:
        assert p.holds(value)
        for near in p.neighbours(value):
            assert p.holds(near)
            assert near != value


@pytest.mark.parametrize("p", PARAMETERS, ids=IDS)
def test_foreign_values_are_refused(p):
    for value in ("other", 99, -5.5, True):
        assert not p.holds(value)
    assert p.domain


@pytest.mark.parametrize("p", PARAMETERS, ids=IDS)
def test_the_description_is_plain(p):
    body = json.loads(json.dumps(p.to_dict()))
    assert body["kind"] == type(p).__name__
    assert body["name"] == p.name


@pytest.mark.parametrize("p", PARAMETERS[:3], ids=IDS[:3])
def test_finite_parameters_list_what_they_sample(p):
    rng = random.Random(0)
    assert {p.sample(rng) for _ in range(200)} == set(p.values())


def test_steps():
    assert PARAMETERS[0].neighbours("event") == ["dense", None]
    assert PARAMETERS[1].neighbours(1) == [2]
    assert PARAMETERS[1].neighbours(4) == [2, 8]
    assert PARAMETERS[2].neighbours(1) == [-2, 4]
    assert PARAMETERS[2].neighbours(7) == [4]
    low, high = PARAMETERS[3].neighbours(1e-2)
    assert low * high == pytest.approx(1e-4)
    assert PARAMETERS[3].neighbours(10.0) == [pytest.approx(10 / 10**0.5)]
    assert PARAMETERS[3].values() is None


def test_logfloat_is_even_in_the_logarithm():
    rng = random.Random(0)
    p = LogFloat(name="x", low=1.0, high=1e6)
    drawn = [math.log10(p.sample(rng)) for _ in range(400)]
    assert sum(d < 3 for d in drawn) == pytest.approx(200, abs=40)


def test_conditions():
    when = When(name="kernel", values=("event",))
    assert when({"kernel": "event"})
    assert not when({"kernel": "dense"})
    assert not when({})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Categorical(name="x", choices=()),
        lambda: Ordered(name="x", choices=(1, 1)),
        lambda: Integer(name="x", low=2, high=1),
        lambda: Integer(name="x", low=0, high=1, step=0),
        lambda: LogFloat(name="x", low=0.0, high=1.0),
        lambda: LogFloat(name="x", low=1.0, high=1.0),
        lambda: LogFloat(name="x", low=1.0, high=math.inf),
        lambda: LogFloat(name="x", low=math.nan, high=1.0),
    ],
)
def test_empty_domains_are_refused(make):
    with pytest.raises(ConfigError, match="parameter 'x'"):
        make()
