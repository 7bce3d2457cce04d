"""The Triton kernels of rounding and segments against the formula; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.round_segment import reference, triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CODES = ([7, 14, 21, 28, 35], [0, 1, 1, 2, 2], [1, 2, 19, 20, 127], [3, 9, 30, 50, 60])


def values(shape, dtype, seed, scale):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 60).round() * 0.5
    return (x * scale).to(dtype)


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_marks_and_gradients_are_those_of_the_formula(mode, dtype):
    for i, shape in enumerate([(1,), (0,), (2049,), (3, 5, 7, 2), (20_000,)]):
        whole = torch.tensor(CODES[i % len(CODES)])
        scale = torch.tensor(0.5 if i % 2 else 0.0371)
        x = values(shape, dtype, i, scale)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        g = torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(dtype)
        want, marks = reference.forward(x, whole, scale, mode, 127)
        grad, sums = reference.backward(g, marks, whole, scale, mode, 127, 2)
        there = [t.to(DEVICE) for t in (x, whole, scale, g)]
        got, kept = triton.forward(*there[:3], mode, 127)
        if dtype == torch.bfloat16 and DEVICE == "cpu":
            # The interpreter has no bfloat16 of its own and cuts values off where a GPU rounds them.
            torch.testing.assert_close(got, want, rtol=2**-7, atol=0)
        else:
            assert torch.equal(got.cpu(), want)
        assert torch.equal(kept.cpu(), marks)
        assert got.is_contiguous(memory_format=torch.channels_last) or x.ndim != 4
        passed, found = triton.backward(there[3], kept, *there[1:3], mode, 127, 2)
        assert torch.equal(passed.cpu(), grad)
        size = float(g.float().abs().sum() * scale) + 1e-30
        torch.testing.assert_close(found.sum(0).cpu() / size, sums / size, rtol=0, atol=1e-6)
        slopes = triton.slopes(found, there[1], 2)
        expected = reference.slopes(sums, whole, 2)
        torch.testing.assert_close(slopes.cpu() / (127 * size), expected / (127 * size), rtol=0, atol=1e-6)


def test_sums_of_many_programs_are_added():
    sums = torch.randn(2500, 4, generator=torch.Generator().manual_seed(0))
    whole = torch.tensor(CODES[0])
    want = reference.slopes(sums.double().sum(0), whole, 2)
    torch.testing.assert_close(
        triton.slopes(sums.to(DEVICE), whole.to(DEVICE), 2).cpu().double(), want, rtol=1e-4, atol=1e-3
    )


def test_what_is_not_finite_or_far_away_is_clamped():
    whole, scale = torch.tensor(CODES[0], device=DEVICE), torch.tensor(0.1, device=DEVICE)
    x = torch.tensor([-torch.inf, -1e30, -0.04, 0.05, 12.74, 12.76, 1e30, torch.inf], device=DEVICE)
    got, kept = triton.forward(x, whole, scale, "pass", 127)
    assert kept.tolist() == [254, 254, 0, 0, 127, 255, 255, 255]
    want, marks = reference.forward(x.cpu(), whole.cpu(), scale.cpu(), "pass", 127)
    assert torch.equal(got.cpu(), want)
    assert torch.equal(kept.cpu(), marks)
