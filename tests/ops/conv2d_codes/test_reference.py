"""The convolution of codes in float64 against sums of int64, and what the operator refuses."""

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import conv2d_codes as op
from sparseflow.ops.conv2d_codes import conv2d_codes
from tests.ops.conv2d_codes.conv_cases import CASES, Case, whole_numbers


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_whole_numbers(case: Case) -> None:
    codes, weight, bias, multiplier = case.operands()
    got = conv2d_codes(codes, weight, bias, multiplier, **case.geometry)
    want = whole_numbers(case, codes, weight, bias, multiplier) if case.images else got
    assert torch.equal(got, want)
    assert got.dtype == (torch.float32 if case.bounds is None else torch.uint8)
    assert got.permute(0, 2, 3, 1).is_contiguous()


def test_halves_round_to_even() -> None:
    codes = torch.tensor([1, 2, 3, 5], dtype=torch.uint8).view(4, 1, 1, 1)
    one = torch.ones(1)
    got = conv2d_codes(codes, torch.ones(1, 1, 1, 1, dtype=torch.int8), 0 * one, 0.5 * one)
    assert got.flatten().tolist() == [0, 1, 2, 2]


def test_opcheck() -> None:
    codes, weight, bias, multiplier = CASES[0].operands()
    call = (codes, weight, bias, multiplier, [1, 1], [1, 1], [1, 1], [0, 127, 0], "dense")
    torch.library.opcheck(op._conv2d_codes, call)


def test_refusals_say_why() -> None:
    codes, weight, bias, multiplier = CASES[0].operands()
    with pytest.raises(ConfigError, match="expected uint8"):
        conv2d_codes(codes.float(), weight, bias, multiplier)
    with pytest.raises(ConfigError, match="do not fit weights"):
        conv2d_codes(codes[:, :5], weight, bias, multiplier)
    with pytest.raises(ConfigError, match="expected one of auto"):
        conv2d_codes(codes, weight, bias, multiplier, kernel="fast")
    with pytest.raises(ConfigError, match="does not fit"):
        conv2d_codes(codes[:, :, :2], weight, bias, multiplier)
    with pytest.raises(UnsupportedError, match="takes CUDA tensors"):
        conv2d_codes(codes, weight, bias, multiplier, kernel="triton")
