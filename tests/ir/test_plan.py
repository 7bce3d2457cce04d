import json

import pytest

from sparseflow.errors import DataError, PlanError
from sparseflow.ir import INT8, Decision, Layer, Plan, Workload

WORKLOAD = Workload(name="net", layers=(Layer(name="c1", op="conv2d", operands=()),))


def plan(**decisions: Decision) -> Plan:
    return Plan(workload_hash=WORKLOAD.hash, decisions=decisions)


def test_set_fields_are_those_that_hold_something() -> None:
    assert Decision().set_fields == frozenset()
    assert Decision(kernel="event", schedule=(("block", 8),)).set_fields == {"kernel", "schedule"}


def test_the_key_tells_decisions_apart() -> None:
    assert Decision(kernel="event").key == Decision(kernel="event").key
    assert Decision(kernel="event").key != Decision(kernel="dense").key


def test_json_round_trip() -> None:
    full = Decision(
        kernel="event",
        schedule=(("block", 8), ("tile", (4, 2))),
        precision=INT8,
        approx=(("segments", 3),),
        keep=(("tokens", 0.5),),
        place="core0",
        fuse="c1",
    )
    one = plan(c1=full, c2=Decision())
    assert Plan.from_json(one.to_json()) == one


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "workload_hash": "a"}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="plan"):
        Plan.from_json(text)


def test_an_unknown_field_is_refused() -> None:
    body = json.loads(plan(c1=Decision(kernel="event")).to_json())
    body["decisions"]["c1"]["colour"] = "red"
    with pytest.raises(DataError, match="colour"):
        Plan.from_json(json.dumps(body))


def test_a_plan_that_fits_passes() -> None:
    plan(c1=Decision(kernel="event")).check(WORKLOAD, frozenset({"kernel"}))


def test_a_plan_for_another_workload_is_refused() -> None:
    with pytest.raises(PlanError, match="plan is for workload"):
        Plan(workload_hash="0" * 16).check(WORKLOAD, frozenset())


def test_a_plan_for_a_missing_layer_is_refused() -> None:
    with pytest.raises(PlanError, match="names layer 'c9'"):
        plan(c9=Decision()).check(WORKLOAD, frozenset())


def test_a_field_that_nobody_reads_is_refused() -> None:
    with pytest.raises(PlanError, match=r"sets \['place'\] on layer 'c1'"):
        plan(c1=Decision(kernel="event", place="core0")).check(WORKLOAD, frozenset({"kernel"}))
