"""The Triton convolution of codes against the reference; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.conv2d_codes import conv2d_codes, triton
from tests.ops.conv2d_codes.conv_cases import CASES, Case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case) -> None:
    codes, weight, bias, multiplier = case.operands(3)
    want = conv2d_codes(codes, weight, bias, multiplier, kernel="dense", **case.geometry)
    last = torch.channels_last
    out = torch.full_like(want, 77).to(DEVICE)
    geometry = case.geometry | {"bounds": case.bounds or (0, 0, 0)}
    triton.convolve(
        codes.to(DEVICE).contiguous(memory_format=last), weight.to(DEVICE).contiguous(memory_format=last),
        bias.to(DEVICE), multiplier.to(DEVICE), out, tile=(32, 32, 32), warps=4, stages=2, **geometry,
    )  # fmt: skip
    assert torch.equal(out.cpu(), want)


def test_the_rounding_constant_rounds_halves_to_even() -> None:
    x = torch.arange(-4000, 4000).float() / 8
    assert torch.equal((x + triton.ROUNDING) - triton.ROUNDING, x.round())


@pytest.mark.gpu
@pytest.mark.parametrize("channels", [3, 64, 192])
def test_cuda_codes_are_those_of_the_cpu(channels: int) -> None:
    case = Case(5, channels, (9, 8), 130)
    codes, weight, bias, multiplier = case.operands(4)
    want = conv2d_codes(codes, weight, bias, multiplier, **case.geometry)
    got = conv2d_codes(*(t.cuda() for t in (codes, weight, bias, multiplier)), **case.geometry)
    assert torch.equal(got.cpu(), want)
