"""Fake quantisation: values and gradients against torch's own, ranges against plain arithmetic."""

import pytest
import torch
from torch import nn

from sparseflow.compress.quantize.fake_quant import FakeQuantize, WeightFakeQuantize, codes_of
from sparseflow.compress.quantize.spec import QuantConfig, dequantize, quantize
from sparseflow.errors import DataError


@pytest.mark.parametrize("zero_point", [0, 31, 127])
def test_equals_torch(zero_point: int) -> None:
    scale = 0.043
    x = (torch.randn(4, 5, 6) * 3).requires_grad_()
    y = x.detach().clone().requires_grad_()
    got = (codes_of(x, torch.tensor(scale), torch.tensor(float(zero_point)), 0, 127) - zero_point) * scale
    want = torch.fake_quantize_per_tensor_affine(y, scale, zero_point, 0, 127)
    torch.testing.assert_close(got, want)
    weight = torch.randn_like(got)
    (got * weight).sum().backward()
    (want * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad is not None
    assert (x.grad == 0).any()


def test_codes_are_those_of_the_specification() -> None:
    module = FakeQuantize(QuantConfig(), "here")
    x = torch.randn(100) * 2
    module(x)
    x = torch.randn(100) * 3
    spec = module.eval().spec()
    torch.testing.assert_close(module(x), dequantize(quantize(x, spec), spec))


def test_the_range_moves_by_its_share() -> None:
    module = FakeQuantize(QuantConfig(averaging=0.25))
    module(torch.tensor([-1.0, 4.0]))
    assert (float(module.low), float(module.high)) == (-1.0, 4.0)
    module(torch.tensor([1.0, 8.0]))
    assert (float(module.low), float(module.high)) == (-0.75, 5.0)
    module(torch.zeros(0))
    assert float(module.high) == 5.0
    assert float(module.scale) == pytest.approx(5.75 / 127)
    assert float(module.zero_point) == round(0.75 / (5.75 / 127))


def test_behind_a_relu_the_zero_point_is_zero() -> None:
    module = FakeQuantize(QuantConfig())
    module(torch.rand(50))
    assert module.spec().zero_point == 0


def test_eval_mode_and_frozen_observers_change_nothing() -> None:
    module = FakeQuantize(QuantConfig())
    module(torch.ones(3))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    module.eval()(torch.ones(3) * 100)
    module.train().observing = False
    module(torch.ones(3) * 100)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_state_comes_back() -> None:
    one, other = FakeQuantize(QuantConfig()), FakeQuantize(QuantConfig())
    one(torch.randn(40))
    other.load_state_dict(one.state_dict())
    assert other.spec() == one.spec()


def test_an_edit_sees_codes_and_decides_the_gradient() -> None:
    module = FakeQuantize(QuantConfig())
    module(torch.tensor([0.0, 127.0]))
    module.eval().edit = lambda codes: codes * 2
    x = torch.tensor([1.2, 3.0], requires_grad=True)
    y = module(x)
    assert y.tolist() == [2.0, 6.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]


def test_says_where_a_range_is_missing() -> None:
    with pytest.raises(DataError, match="conv1 has no range"):
        FakeQuantize(QuantConfig(), "conv1").spec()
    bad = FakeQuantize(QuantConfig(), "conv1")
    bad(torch.tensor([float("nan"), 1.0]))
    with pytest.raises(DataError, match="conv1 saw NaN"):
        bad.spec()
    assert "conv1" in repr(bad)


def test_weights_have_a_scale_a_channel() -> None:
    weight = torch.randn(5, 3, 2, 2) * torch.tensor([1.0, 1e-3, 50.0, 0.0, 1e-20]).view(-1, 1, 1, 1)
    module = WeightFakeQuantize(QuantConfig(), 5)
    got = module(weight)
    codes = module.codes(weight)
    assert codes[3].abs().max() == 0
    assert codes[[0, 1, 2, 4]].abs().amax((1, 2, 3)).tolist() == [127.0] * 4
    assert codes.equal(codes.round())
    scale = module.scale.view(-1, 1, 1, 1)
    assert ((got - weight).abs() <= scale * 0.5001).all()
    want = torch.fake_quantize_per_channel_affine(weight, module.scale, torch.zeros(5), 0, -127, 127)
    torch.testing.assert_close(got, want)


def test_frozen_scales_stay_and_clip() -> None:
    module = WeightFakeQuantize(QuantConfig(), 2)
    weight = torch.tensor([[1.0, 0.5], [2.0, 1.0]])
    module(weight)
    module.observing = False
    assert module(weight * 3)[0].tolist() == pytest.approx([1.0, 1.0])
    parameter = nn.Parameter(weight * torch.tensor([[3.0, 1.0]]))
    module(parameter).sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad[:, 0] == 0).all()


def test_off_means_unchanged() -> None:
    module, weights = FakeQuantize(QuantConfig()), WeightFakeQuantize(QuantConfig(), 3)
    module.enabled = weights.enabled = False
    x = torch.randn(3, 4)
    assert module(x) is x
    assert weights(x) is x


def test_a_replacement_does_all_of_it_while_ranges_are_still_watched():
    quantiser = FakeQuantize(QuantConfig())
    quantiser.edit = torch.zeros_like
    quantiser.replace = lambda x: x + 1
    assert quantiser(torch.tensor([0.0, 4.0])).tolist() == [1.0, 5.0]
    assert float(quantiser.high) == 4.0
    quantiser.enabled = False
    assert quantiser(torch.tensor([3.0])).tolist() == [3.0]


@pytest.mark.parametrize("observing", [True, False])
@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (6, 40), (2, 7, 5)])
def test_weights_are_on_the_grid_of_the_formula_bit_for_bit(observing, shape):
    module = WeightFakeQuantize(QuantConfig(), shape[0])
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[0] = 0.0
    if len(shape) == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    module.observe(weight * 0.8)
    module.observing = observing
    x, y = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    got = module(x)
    scale = module.scale.view(-1, *[1] * (len(shape) - 1))
    assert torch.equal(module.scale[1:], weight.flatten(1).abs().amax(1)[1:] / 127) or not observing
    want = codes_of(y, scale, torch.zeros_like(scale), -127, 127) * scale
    assert torch.equal(got, want)
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    got.backward(g)
    want.backward(g)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-6, atol=0)
    assert bool((x.grad == 0).any()) is not observing
