"""The formula of rounding and segments against numbers by hand."""

import pytest
import torch

from sparseflow.compress.approximate.codes import sample_codes
from sparseflow.compress.quantize.fake_quant import codes_of
from sparseflow.errors import ConfigError
from sparseflow.ops.round_segment import round_segment
from sparseflow.ops.round_segment.reference import BELOW, BEYOND, backward, forward
from sparseflow.ops.triseg import tables

MODES = ("pass", "clip", "saturate")
ONE = torch.tensor(1.0)
WHOLE, SCALE = torch.tensor([7, 14, 21, 28, 35]), torch.tensor(0.5)


@pytest.mark.parametrize("mode", MODES)
def test_values_are_those_of_the_table_at_every_code(mode):
    table = tables(WHOLE, mode).view(-1)[:128].float()
    got, marks = forward(torch.arange(128) * SCALE, WHOLE, SCALE, mode, 127)
    assert torch.equal(got, table * SCALE)
    assert marks.tolist() == list(range(128))


def test_halves_round_to_even_and_what_lies_outside_is_marked():
    x = torch.tensor([-0.3, -0.25, 0.25, 3.75, 4.25, 63.7, 64.0])
    got, marks = forward(x, WHOLE, SCALE, "pass", 127)
    assert marks.tolist() == [BELOW, 0, 0, 8, 8, 127, BEYOND]
    assert got.tolist() == [0.0, 0.0, 0.0, 7.0, 7.0, 63.5, 63.5]


@pytest.mark.parametrize(("mode", "beyond"), [("pass", 2 + 4), ("clip", 2 + 4 + 8 + 16), ("saturate", 2 + 4)])
def test_sums_and_what_passes_by_hand(mode, beyond):
    marks = torch.tensor([8, 22, 35, 36, BEYOND, BELOW, 5], dtype=torch.uint8)
    g = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    passed, sums = backward(g, marks, WHOLE, SCALE, mode, 127, 2)
    assert passed.tolist() == [1, 2, 4, 8 if mode == "pass" else 0, 0, 0, 64]
    assert sums.tolist() == [0.5 * v for v in (1, 1, 2, beyond)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_rounds_as_quantisers_do_and_passes_the_same_gradient(mode, dtype):
    scale, whole = torch.tensor(0.25), torch.tensor([5, 9, 14, 22, 40])
    x = (torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(1)) * 20).to(dtype)
    y, z = x.clone().requires_grad_(), x.float().requires_grad_()
    out = round_segment(y, whole[:4].float(), whole, scale, mode=mode)
    codes = codes_of(z, scale, torch.zeros(()), 0, 127)
    assert torch.equal(out.float(), tables(whole, mode).view(-1)[codes.long()].float() * scale)
    out.float().sum().backward()
    (codes.sum() * scale).backward()
    through = z.grad if mode == "pass" else torch.where(codes <= 40, z.grad, 0.0)
    assert torch.equal(y.grad.float(), through)


def linear_loss(q, g, codes, mode):
    """Σ g·f(q) in float64, by the table."""
    return float((g * tables(codes, mode)[q].double()).sum())


def gradients(q, g, codes, mode, window):
    x = q.double().requires_grad_()
    real = codes[:4].double().requires_grad_()
    (round_segment(x, real, codes, ONE, mode=mode, window=window) * g).sum().backward()
    return x.grad, real.grad


@pytest.mark.parametrize("mode", MODES)
def test_the_function_is_that_of_the_tables(mode):
    q = torch.arange(254)
    for codes in sample_codes([15, 35, 127, 255], 25, seed=0).flatten(0, 1):
        got = round_segment(q.float(), codes[:4].float(), codes, ONE, mode=mode, qmax=253)
        assert torch.equal(got, tables(codes, mode)[q].float())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [1, 2, 3])
def test_gradients_of_values_and_thresholds_are_differences_of_a_linear_loss(mode, window):
    generator = torch.Generator().manual_seed(window)
    q = torch.randint(0, 128, (4000,), generator=generator)
    g = torch.randn(4000, generator=generator, dtype=torch.float64)
    codes = torch.tensor([9, 16, 24, 31, 50])
    _, real = gradients(q, g, codes, mode, window)
    for column, step in ((0, window), (1, 1), (2, window), (3, 1)):
        up, down = codes.clone(), codes.clone()
        up[column] += step
        down[column] -= step
        slope = (linear_loss(q, g, up, mode) - linear_loss(q, g, down, mode)) / (2 * step)
        torch.testing.assert_close(float(real[column]), slope, rtol=1e-5, atol=1e-4)


def test_the_window_ends_at_zero_and_at_tmax():
    q = torch.arange(0, 128).repeat(3)
    g = torch.randn(len(q), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes = torch.tensor([1, 2, 19, 20, 20])
    _, real = gradients(q, g, codes, "pass", 4)
    up, down = codes.clone(), codes.clone()
    up[0], down[0] = 5, 0
    slope = (linear_loss(q, g, torch.tensor([5, 2, 19, 20, 20]), "pass") - linear_loss(q, g, down, "pass")) / 5
    torch.testing.assert_close(float(real[0]), slope, rtol=1e-5, atol=1e-4)
    moved = (
        linear_loss(q, g, torch.tensor([1, 2, 20, 20, 20]), "pass")
        - linear_loss(q, g, torch.tensor([1, 2, 15, 20, 20]), "pass")
    ) / 5
    torch.testing.assert_close(float(real[2]), moved, rtol=1e-5, atol=1e-4)


def test_the_gradient_of_the_input_passes_but_where_the_function_is_flat_for_good():
    q = torch.tensor([0, 5, 20, 50, 51, 127])
    g = torch.arange(1.0, 7.0, dtype=torch.float64)
    codes = torch.tensor([9, 16, 24, 31, 50])
    assert torch.equal(gradients(q, g, codes, "pass", 1)[0], g)
    for mode in ("clip", "saturate"):
        assert gradients(q, g, codes, mode, 1)[0].tolist() == [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]
    empty, real = gradients(q[:0], g[:0], codes, "pass", 1)
    assert empty.numel() == 0
    assert real.tolist() == [0.0] * 4


def test_codes_that_stay_get_no_gradient():
    x = torch.randn(10, requires_grad=True)
    real = torch.tensor([5.0, 9.0, 14.0, 22.0])
    round_segment(x, real, torch.tensor([5, 9, 14, 22, 40]), torch.tensor(0.1)).sum().backward()
    assert real.grad is None
    assert x.grad is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"mode": "wrap"}, "mode is 'wrap'; expected one of pass, clip, saturate"),
        ({"kernel": "cpp"}, "kernel is 'cpp'"),
        ({"window": 0}, "window is 0"),
        ({"qmax": 254}, "qmax 254"),
    ],
)
def test_what_cannot_be_is_refused(settings, why):
    with pytest.raises(ConfigError, match=why):
        round_segment(torch.ones(2), torch.ones(4), torch.tensor([5, 9, 14, 22, 40]), torch.tensor(0.1), **settings)
