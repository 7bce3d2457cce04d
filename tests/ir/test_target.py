from typing import Any

import pytest

from sparseflow.errors import ConfigError
from sparseflow.ir import Target


def target(**change: Any) -> Target:
    given = {
        "name": "desk",
        "kind": "cpu",
        "peak_flops_per_s": {"float32": 1e11},
        "bw_bytes_per_s": 2e10,
        "memory_bytes": 8e9,
        "cores": 2,
    }
    return Target(**{**given, **change})


def test_peak_by_precision() -> None:
    assert target().peak("float32") == 1e11


def test_a_missing_rate_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="'desk' lists no rate for 'int8'; it has float32"):
        target().peak("int8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "abacus"}, "kind 'abacus'; expected cpu, gpu or fpga"),
        ({"bw_bytes_per_s": 0.0}, "bw_bytes_per_s is 0.0"),
        ({"memory_bytes": -1.0}, "memory_bytes is -1.0"),
        ({"peak_flops_per_s": {"float32": float("nan")}}, "float32 is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        target(**change)


def test_the_key_tells_machines_apart_but_not_measurements() -> None:
    assert target().key.startswith("desk-")
    assert target().key == target(peak_flops_per_s={"float32": 2e11}, bw_bytes_per_s=1e10, memory_bytes=9e9).key
    others = [
        target(),
        target(name="lap"),
        target(kind="gpu"),
        target(cores=4),
        target(features=("avx2",)),
        target(sources={"name": "another processor"}),
    ]
    assert len({t.key for t in others}) == len(others)
    assert target(features=("b", "a")).key == target(features=("a", "b")).key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cores": 0}, "cores is 0"),
        ({"bw_bytes_per_s": float("inf")}, "bw_bytes_per_s is inf"),
        ({"measured": {"float32": 0.0}}, "measured float32 is 0.0"),
        ({"launch_s": -1.0}, "launch_s is -1.0"),
        ({"launch_s": float("nan")}, "launch_s is nan"),
    ],
)
def test_rates_and_counts_are_positive_and_finite(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        target(**change)
