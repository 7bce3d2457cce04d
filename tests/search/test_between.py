import json
import random

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Between, Bound, Categorical, Integer, Space, When
from tests.search_problems import ordered_codes

SPACE = ordered_codes(["conv1"], tmax=15)


def legal(t1, t2, v1, v2, tmax):
    return 2 <= t1 <= min(10, tmax - 8) and t1 + 4 <= t2 <= tmax - 4 and t1 < v1 < t2 < v2 <= tmax


def brute_force(tmax):
    codes = range(tmax + 1)
    return {(a, b, c, d) for a in codes for b in codes for c in codes for d in codes if legal(a, b, c, d, tmax)}


def test_enumeration_is_what_the_masks_allow():
    members = [tuple(p[f"conv1.{n}"] for n in ("t1", "t2", "v1", "v2")) for p in SPACE.enumerate()]
    assert len(members) == len(set(members))
    assert set(members) == brute_force(15)


def test_a_layer_has_as_many_choices_as_counted_by_hand():
    assert sum(1 for _ in ordered_codes(["conv1"], tmax=35).enumerate()) == 31_629


def test_samples_are_legal_without_rejection():
    rng = random.Random(0)
    space = ordered_codes([f"conv{i}" for i in range(13)])
    assert all(space.reasons(space.sample(rng)) == [] for _ in range(200))


def test_neighbours_push_what_stands_in_their_way():
    here = {"conv1.t1": 2, "conv1.t2": 6, "conv1.v1": 5, "conv1.v2": 7}
    near = list(SPACE.neighbours(here))
    assert {"conv1.t1": 3, "conv1.t2": 7, "conv1.v1": 5, "conv1.v2": 8} in near
    assert {**here, "conv1.v1": 4} in near
    assert all(SPACE.reasons(p) == [] and p != here for p in near)


def test_the_reason_names_the_range_that_is_left():
    wrong = {"conv1.t1": 3, "conv1.t2": 6, "conv1.v1": 4, "conv1.v2": 12}
    assert SPACE.reasons(wrong) == ["parameter 'conv1.t2' is 6; expected a whole number 7 to 11"]


def test_fitting_moves_numbers_to_the_end_of_their_range():
    assert SPACE.fitted({"conv1.t1": 99, "conv1.t2": 0, "conv1.v2": 9}) == {
        "conv1.t1": 7,
        "conv1.t2": 11,
        "conv1.v1": 8,
        "conv1.v2": 12,
    }


def test_where_nothing_is_left_the_lower_end_stays():
    space = Space(
        parameters=(
            Integer(name="a", low=0, high=9),
            Between(name="b", low=2, high=5, above=Bound(name="a", offset=1), below=Bound(name="a", offset=-1)),
        )
    )
    of_a = {a: [p["b"] for p in space.enumerate() if p["a"] == a] for a in range(10)}
    assert of_a == {a: [min(max(2, a + 1), 5)] for a in range(10)}


def test_a_bound_without_meaning_binds_nothing():
    when = When(name="kernel", values=("event",))
    space = Space(
        parameters=(
            Categorical(name="kernel", choices=("dense", "event")),
            Integer(name="a", low=0, high=3, when=when),
            Between(name="b", low=0, high=3, above=Bound(name="a")),
        )
    )
    assert [p["b"] for p in space.enumerate() if p["kernel"] == "dense"] == [0, 1, 2, 3]


def test_the_description_names_the_bounds():
    body = json.loads(SPACE.to_json())["parameters"][2]
    assert body["kind"] == "Between"
    assert body["above"] == {"name": "conv1.t1", "offset": 1}
    assert body["below"] == {"name": "conv1.t2", "offset": -1}


def test_bounds_and_steps_are_checked():
    with pytest.raises(ConfigError, match="depends on 't1', which does not stand before"):
        Space(parameters=(Between(name="t2", low=0, high=9, above=Bound(name="t1")),))
    with pytest.raises(ConfigError, match="step 2; between other parameters it must be 1"):
        Between(name="t2", low=0, high=9, step=2)
    with pytest.raises(ConfigError, match="it is empty"):
        Between(name="t2", low=9, high=0)
