import math

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.lsq import LsqQuantizer, lsq, round_through, scale_gradient


def gradients(x: list[float], s: float, qmin: int, qmax: int, share: float | None = 1.0) -> tuple[list[float], float]:
    values = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    lsq(values, scale, qmin, qmax, share=share).sum().backward()
    assert values.grad is not None
    assert scale.grad is not None
    return values.grad.tolist(), float(scale.grad)


@pytest.mark.parametrize(
    ("x", "by_x", "by_s"),
    [
        (0.3, 1.0, 1 - 0.6),
        (-0.3, 1.0, -1 + 0.6),
        (0.5, 1.0, 0.0),
        (1.4, 1.0, 3 - 2.8),
        (1.51, 0.0, 3.0),
        (99.0, 0.0, 3.0),
        (-1.51, 0.0, -3.0),
        (-99.0, 0.0, -3.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_gradients_are_those_of_the_paper(x: float, by_x: float, by_s: float) -> None:
    """∂/∂s = round(x/s) − x/s inside, q outside; ∂/∂x = 1 inside, 0 outside."""
    got_x, got_s = gradients([x], 0.5, -3, 3)
    assert got_x == [by_x]
    assert got_s == pytest.approx(by_s)


def test_the_scale_gets_a_share_of_its_gradient() -> None:
    x = torch.linspace(-1, 2, 60).tolist()
    whole, part = gradients(x, 0.1, -7, 7)[1], gradients(x, 0.1, -7, 7, None)[1]
    assert part == pytest.approx(whole / math.sqrt(60 * 7))


def test_each_channel_has_its_scale() -> None:
    x = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    s = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    lsq(x, s, -7, 7).square().sum().backward()
    assert s.grad is not None
    for c in range(3):
        one = s.detach()[c].clone().requires_grad_()
        lsq(x.detach()[c], one, -7, 7, share=1 / math.sqrt(10 * 7)).square().sum().backward()
        assert one.grad is not None
        assert float(s.grad[c].sum()) == pytest.approx(float(one.grad.sum()))


def test_a_scale_learns_the_one_of_least_error() -> None:
    """Minimising the error moves the scale to where a search finds the least."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quantizer = LsqQuantizer(bits=3).double()
    quantizer(x)
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.01)
    for _ in range(400):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    tried = torch.linspace(0.2, 1.2, 201, dtype=torch.float64)
    errors = torch.stack([(lsq(x, s, -3, 3) - x).square().mean() for s in tried])
    assert quantizer.scale.item() == pytest.approx(tried[errors.argmin()].item(), abs=0.03)


@pytest.mark.parametrize(("bits", "signed", "ends"), [(8, True, (-127, 127)), (4, True, (-7, 7)), (4, False, (0, 15))])
def test_the_first_batch_sets_the_scale(bits: int, signed: bool, ends: tuple[int, int]) -> None:
    quantizer = LsqQuantizer(bits=bits, signed=signed)
    x = torch.tensor([1.0, 2.0, 3.0])
    quantizer(x)
    assert (quantizer.qmin, quantizer.qmax) == ends
    assert float(quantizer.scale) == pytest.approx(2 * 2.0 / math.sqrt(ends[1]))
    before = float(quantizer.scale)
    quantizer(100 * x)
    assert float(quantizer.scale) == before


def test_codes_times_scales_are_the_values() -> None:
    quantizer = LsqQuantizer(bits=4, channels=3)
    w = torch.randn(3, 4)
    w[1] = 0.0
    values = quantizer(w)
    assert torch.equal(values, quantizer.codes(w) * quantizer.scale.abs().view(3, 1))
    assert (values[1] == 0).all()
    assert float(quantizer.scale[1]) == 1.0


def test_a_scale_through_zero_stays_positive() -> None:
    quantizer = LsqQuantizer(bits=4)
    quantizer(torch.ones(3))
    with torch.no_grad():
        quantizer.scale.fill_(-0.5)
    assert torch.equal(quantizer(torch.tensor([1.0])), torch.tensor([1.0]))
    with torch.no_grad():
        quantizer.scale.zero_()
    assert torch.isfinite(quantizer(torch.tensor([1.0]))).all()


def test_wrong_use_is_refused() -> None:
    for bits in (1, 17):
        with pytest.raises(ConfigError):
            LsqQuantizer(bits=bits)
    with pytest.raises(DataError):
        LsqQuantizer(bits=4)(torch.tensor([float("nan")]))


def test_rounding_and_gradients_pass_through() -> None:
    x = torch.tensor([0.5, 1.5, -0.7], requires_grad=True)
    y = round_through(x)
    assert y.tolist() == [0.0, 2.0, -1.0]
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0, 3.0]
    s = torch.tensor(2.0, requires_grad=True)
    y = scale_gradient(s, 0.25)
    assert float(y) == 2.0
    y.square().backward()
    assert float(s.grad) == 1.0  # type: ignore[arg-type]
