from dataclasses import FrozenInstanceError, fields

import pytest

from sparseflow.ir import Cost


def test_unknown_is_none_and_never_zero() -> None:
    cost = Cost(latency_s=1e-3, source="measured")
    assert [f.name for f in fields(cost) if getattr(cost, f.name) is None] == [
        "energy_j",
        "peak_bytes",
        "area_mm2",
        "stdev",
    ]


def test_a_cost_does_not_change() -> None:
    cost = Cost(latency_s=1.0)
    with pytest.raises(FrozenInstanceError):
        cost.latency_s = 2.0  # type: ignore[misc]
