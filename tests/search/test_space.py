import json
import random

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Categorical, Constraint, Integer, LogFloat, Ordered, Space, When, canonical

EVENT = When(name="kernel", values=("event",))
SPACE = Space(
    parameters=(
        Categorical(name="kernel", choices=("dense", "event")),
        Ordered(name="tile", choices=(4, 8, 16), when=EVENT),
        Integer(name="unroll", low=1, high=4, when=EVENT),
    ),
    constraints=(Constraint(holds=lambda p: p.get("tile", 0) * p.get("unroll", 0) <= 32, reason="tile exceeds cache"),),
)


def test_enumeration_holds_every_valid_member_once():
    members = list(SPACE.enumerate())
    brute = [{"kernel": "dense"}]
    brute += [{"kernel": "event", "tile": t, "unroll": u} for t in (4, 8, 16) for u in (1, 2, 3, 4) if t * u <= 32]
    assert members == brute
    assert len({canonical(m) for m in members}) == len(members)
    assert all(SPACE.reasons(m) == [] for m in members)


def test_samples_are_valid_and_reach_everything():
    rng = random.Random(0)
    drawn = {canonical(SPACE.sample(rng)) for _ in range(500)}
    assert drawn == {canonical(m) for m in SPACE.enumerate()}


def test_the_same_seed_draws_the_same():
    assert [SPACE.sample(random.Random(3)) for _ in range(5)] == [SPACE.sample(random.Random(3)) for _ in range(5)]


def test_neighbours_are_valid_new_and_connect_the_space():
    reached, waiting = set(), [{"kernel": "dense"}]
    while waiting:
        here = waiting.pop()
        for near in SPACE.neighbours(here):
            assert SPACE.reasons(near) == []
            assert near != here
            if canonical(near) not in reached:
                reached.add(canonical(near))
                waiting.append(near)
    assert reached == {canonical(m) for m in SPACE.enumerate()}


def test_a_change_brings_and_removes_conditional_parameters():
    assert {"kernel": "event", "tile": 4, "unroll": 1} in list(SPACE.neighbours({"kernel": "dense"}))
    assert {"kernel": "dense"} in list(SPACE.neighbours({"kernel": "event", "tile": 8, "unroll": 2}))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "parameter 'kernel' is missing"),
        ({"kernel": "magic"}, "parameter 'kernel' is 'magic'; expected one of 'dense', 'event'"),
        ({"kernel": "dense", "colour": 1}, "unknown parameter 'colour'; there are ['kernel', 'tile', 'unroll']"),
        ({"kernel": "dense", "tile": 8}, "parameter 'tile' has no meaning here; leave it out"),
        ({"kernel": "event", "tile": 8}, "parameter 'unroll' is missing"),
        ({"kernel": "event", "tile": 8, "unroll": 9}, "parameter 'unroll' is 9; expected a whole number 1 to 4"),
        ({"kernel": "event", "tile": 16, "unroll": 4}, "tile exceeds cache"),
    ],
)
def test_every_fault_has_its_reason(params, reason):
    assert reason in SPACE.reasons(params)
    with pytest.raises(ConfigError, match="is not in the space"):
        SPACE.check(params)


def test_neighbours_of_invalid_parameters_are_refused():
    with pytest.raises(ConfigError, match="is not in the space"):
        list(SPACE.neighbours({"kernel": "magic"}))


def test_a_needle_in_a_finite_haystack_is_found():
    space = Space(
        parameters=(Integer(name="a", low=0, high=99), Integer(name="b", low=0, high=99)),
        constraints=(Constraint(holds=lambda p: p["a"] == 17 and p["b"] == 4, reason="needle"),),
    )
    assert space.sample(random.Random(0)) == {"a": 17, "b": 4}


def test_a_space_without_members_says_why():
    never = Constraint(holds=lambda p: False, reason="nothing ever fits")
    for p in (Integer(name="x", low=0, high=3), LogFloat(name="x", low=0.1, high=1.0)):
        with pytest.raises(ConfigError, match="nothing ever fits"):
            Space(parameters=(p,), constraints=(never,)).sample(random.Random(0))


def test_a_continuous_space_cannot_be_enumerated():
    space = Space(parameters=(LogFloat(name="rate", low=0.1, high=1.0),))
    assert not space.is_finite
    assert not space.is_listable
    with pytest.raises(ConfigError, match="'rate' is continuous"):
        list(space.enumerate())


def test_a_huge_finite_space_is_not_listed():
    space = Space(parameters=tuple(Integer(name=n, low=0, high=999) for n in "abc"))
    assert space.is_finite
    assert not space.is_listable
    assert space.reasons(space.sample(random.Random(0))) == []


def test_names_and_conditions_are_checked():
    with pytest.raises(ConfigError, match="'x' twice"):
        Space(parameters=(Integer(name="x", low=0, high=1),) * 2)
    with pytest.raises(ConfigError, match="does not stand before"):
        Space(parameters=(Integer(name="x", low=0, high=1, when=EVENT),))


def test_the_empty_space_has_one_member():
    assert list(Space(parameters=()).enumerate()) == [{}]


def test_the_description_is_canonical():
    body = json.loads(SPACE.to_json())
    assert [p["name"] for p in body["parameters"]] == ["kernel", "tile", "unroll"]
    assert body["parameters"][1]["when"] == {"name": "kernel", "values": ["event"]}
    assert body["constraints"] == ["tile exceeds cache"]
    assert SPACE.to_json() == SPACE.to_json()


def test_canonical_tells_kinds_apart_but_not_orders():
    assert canonical({"a": 1, "b": None}) == canonical({"b": None, "a": 1})
    assert len({canonical({"a": v}) for v in (1, 1.0, True, "1", None)}) == 5
