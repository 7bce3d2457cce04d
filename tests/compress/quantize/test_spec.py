"""Codes and their numbers, against scalar arithmetic."""

import dataclasses
import math

import pytest
import torch

from sparseflow.compress.quantize.spec import QuantConfig, QuantSpec, dequantize, quantize
from sparseflow.errors import ConfigError


def _scalar(x: float, spec: QuantSpec) -> int:
    steps = round(float(torch.tensor(x) * torch.tensor(1.0 / spec.scale)))
    return min(max(steps + spec.zero_point, spec.qmin), spec.qmax)


@pytest.mark.parametrize(("scale", "zero_point"), [(0.5, 0), (0.03, 40), (1e-6, 127), (3e5, 1)])
def test_codes_are_those_of_scalar_arithmetic(scale: float, zero_point: int) -> None:
    spec = QuantSpec(scale=scale, zero_point=zero_point)
    x = torch.cat([torch.randn(200) * 80 * scale, torch.tensor([0.0, 0.5, 1.5, 2.5, -0.5, 1e9, -1e9]) * scale])
    codes = quantize(x, spec)
    assert codes.tolist() == [_scalar(float(v), spec) for v in x]
    assert quantize(dequantize(codes, spec), spec).equal(codes)
    assert dequantize(torch.tensor([zero_point]), spec).item() == 0.0


def test_halves_go_to_even() -> None:
    assert quantize(torch.tensor([0.5, 1.5, 2.5, 3.5]), QuantSpec(scale=1.0)).tolist() == [0, 2, 2, 4]


def test_empty_and_infinite() -> None:
    spec = QuantSpec(scale=1.0, zero_point=5)
    assert quantize(torch.zeros(0, 3), spec).shape == (0, 3)
    assert quantize(torch.tensor([math.inf, -math.inf]), spec).tolist() == [127, 0]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (2.0, 5.0), (-4.0, -2.0), (0.0, 0.0), (-1e-9, 1e30)])
def test_a_range_holds_zero_exactly(low: float, high: float) -> None:
    spec = QuantSpec.from_range(low, high)
    assert spec.qmin <= spec.zero_point <= spec.qmax
    slack = spec.scale * 0.5 + 1e-12
    assert spec.low <= min(low, 0.0) + slack
    assert spec.high >= max(high, 0.0) - slack


def test_names_the_field_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match="scale is 0"):
        QuantSpec(scale=0.0)
    with pytest.raises(ConfigError, match="scale is nan"):
        QuantSpec(scale=math.nan)
    with pytest.raises(ConfigError, match="zero_point is 128"):
        QuantSpec(scale=1.0, zero_point=128)
    with pytest.raises(ConfigError, match=r"codes 3\.\.3"):
        QuantSpec(scale=1.0, qmin=3, qmax=3, zero_point=3)
    with pytest.raises(ConfigError, match=r"range 2\.0\.\.1\.0"):
        QuantSpec.from_range(2.0, 1.0)
    with pytest.raises(ConfigError, match="weight_max is 128"):
        QuantConfig(weight_max=128)
    with pytest.raises(ConfigError, match="averaging is 0"):
        QuantConfig(averaging=0.0)


def test_reach_and_precision() -> None:
    assert QuantSpec(scale=1.0, zero_point=100).reach == 100
    assert QuantSpec(scale=1.0).reach == 127
    found = QuantSpec(scale=0.25, qmin=-128, zero_point=0).precision
    assert (found.name, found.scale, found.rounding) == ("int8", 0.25, "nearest_even")
    assert dataclasses.replace(QuantConfig(), averaging=1.0).averaging == 1.0
