"""The formula of rounding and segments against numbers by hand."""

import pytest
import torch

from sparseflow.compress.approximate.finetune import segment_codes
from sparseflow.compress.quantize.fake_quant import codes_of
from sparseflow.errors import ConfigError
from sparseflow.ops.round_segment import round_segment
from sparseflow.ops.round_segment.reference import BELOW, BEYOND, backward, forward
from sparseflow.ops.triseg import tables

WHOLE, SCALE = torch.tensor([7, 14, 21, 28, 35]), torch.tensor(0.5)


@pytest.mark.parametrize("clip", [False, True])
def test_values_are_those_of_the_table_at_every_code(clip):
    table = tables(WHOLE, "clip" if clip else "pass").view(-1)[:128].float()
    got, marks = forward(torch.arange(128) * SCALE, WHOLE, SCALE, clip, 127)
    assert torch.equal(got, table * SCALE)
    assert marks.tolist() == list(range(128))


def test_halves_round_to_even_and_what_lies_outside_is_marked():
    x = torch.tensor([-0.3, -0.25, 0.25, 3.75, 4.25, 63.7, 64.0])
    got, marks = forward(x, WHOLE, SCALE, False, 127)
    assert marks.tolist() == [BELOW, 0, 0, 8, 8, 127, BEYOND]
    assert got.tolist() == [0.0, 0.0, 0.0, 7.0, 7.0, 63.5, 63.5]


@pytest.mark.parametrize(("clip", "beyond"), [(False, 2 + 4), (True, 2 + 4 + 8 + 16)])
def test_sums_and_what_passes_by_hand(clip, beyond):
    marks = torch.tensor([8, 22, 35, 36, BEYOND, BELOW, 5], dtype=torch.uint8)
    g = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    passed, sums = backward(g, marks, WHOLE, SCALE, clip, 127, 2)
    assert passed.tolist() == [1, 2, 4, 0 if clip else 8, 0, 0, 64]
    assert sums.tolist() == [0.5 * v for v in (1, 1, 2, beyond)]


def steps(x, real, whole, scale, mode, window):
    q = codes_of(x, scale, torch.zeros(()), 0, 127)
    return segment_codes(q, real, whole, mode=mode, window=window) * scale


@pytest.mark.parametrize("mode", ["pass", "clip"])
@pytest.mark.parametrize("window", [1, 3])
def test_values_and_gradients_are_those_of_three_steps(mode, window):
    generator = torch.Generator().manual_seed(window)
    scale, whole = torch.tensor(0.25), torch.tensor([5, 9, 14, 22, 40])
    x = torch.randn(4, 6, 5, 5, generator=generator) * 10
    g = torch.randn(x.shape, generator=generator)
    found = []
    for f in (lambda *a: round_segment(*a, mode=mode, window=window), lambda *a: steps(*a, mode, window)):
        y, real = x.clone().requires_grad_(), whole[:4].float().requires_grad_()
        out = f(y, real, whole, scale)
        out.backward(g)
        found.append((out.detach(), y.grad, real.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-4, atol=1e-3)


def test_codes_that_stay_get_no_gradient():
    x = torch.randn(10, requires_grad=True)
    real = torch.tensor([5.0, 9.0, 14.0, 22.0])
    round_segment(x, real, torch.tensor([5, 9, 14, 22, 40]), torch.tensor(0.1)).sum().backward()
    assert real.grad is None
    assert x.grad is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"mode": "saturate"}, "mode is 'saturate'"),
        ({"kernel": "cpp"}, "kernel is 'cpp'"),
        ({"window": 0}, "window is 0"),
        ({"qmax": 254}, "qmax 254"),
    ],
)
def test_what_cannot_be_is_refused(settings, why):
    with pytest.raises(ConfigError, match=why):
        round_segment(torch.ones(2), torch.ones(4), torch.tensor([5, 9, 14, 22, 40]), torch.tensor(0.1), **settings)
