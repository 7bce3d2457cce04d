"""Layers on codes: equal to sums of Python integers, to float64, and to fbgemm."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.fake_quant import FakeQuantize
from sparseflow.compress.quantize.integer_ops import (
    IntegerCat,
    IntegerInput,
    IntegerLayer,
    IntegerMean,
    IntegerOutput,
    IntegerSum,
    bounds,
    largest_sums,
    same_batch,
)
from sparseflow.compress.quantize.qat import QuantLayer
from sparseflow.compress.quantize.spec import QuantConfig, QuantSpec, dequantize, quantize
from sparseflow.errors import ConfigError, UnsupportedError

FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines


def _output(low: float, high: float) -> FakeQuantize:
    made = FakeQuantize(QuantConfig(), "out")
    made(torch.tensor([low, high]))
    return made.eval()


def _codes(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(0, 128, shape, generator=torch.Generator().manual_seed(seed)).float()


def _float32(value: float) -> float:
    return float(torch.tensor(value))


@pytest.mark.parametrize("bias", ["float32", "int32"])
@pytest.mark.parametrize("zero_point", [0, 61])
def test_linear_equals_python_integers(bias: str, zero_point: int) -> None:
    trained = QuantLayer(nn.Linear(7, 5), cap=math.inf, output=_output(0.0, 2.0))
    source = QuantSpec(scale=_float32(0.02), zero_point=zero_point)
    layer = IntegerLayer(trained, source, bias=bias)
    codes = _codes((6, 7))
    got = layer(codes)
    for row, out in zip(codes.tolist(), got.tolist(), strict=True):
        for m, code in enumerate(out):
            total = sum(int(w) * (int(q) - zero_point) for w, q in zip(layer.weight[m].tolist(), row, strict=True))
            shifted = _float32(total + float(layer.bias[m]))
            steps = _float32(shifted * float(layer.multiplier[m]))
            assert code == min(max(round(steps), 0), 127)
    if bias == "int32":
        assert layer.bias.equal(layer.bias.round())


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (2, 6, 9, 7)),
        ({"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 3}, (1, 6, 8, 8)),
        ({"kernel_size": (1, 3), "padding": "same"}, (2, 6, 5, 5)),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, (2, 6, 5, 5)),
        ({"kernel_size": 5, "padding": 2, "bias": False}, (0, 6, 5, 5)),
    ],
    ids=["stride", "dilated groups", "same", "reflect", "empty"],
)
@pytest.mark.parametrize("zero_point", [0, 50])
def test_convolution_equals_the_rounded_real_one(settings: dict, shape: tuple[int, ...], zero_point: int) -> None:
    torch.manual_seed(1)
    bn = nn.BatchNorm2d(9).eval()
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 1e-20, 3.0, -1e-30, 0.5, 1.0, -1.0]))
        bn.bias.normal_()
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.5, 2.0)
    trained = QuantLayer(nn.Conv2d(6, 9, **settings), bn=bn, output=_output(-3.0, 3.0)).eval()
    source = QuantSpec(scale=0.013, zero_point=zero_point)
    layer, codes = IntegerLayer(trained, source), _codes(shape)
    spec = trained.output.spec()
    want = quantize(trained(dequantize(codes, source)), spec)
    got = layer(codes)
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1 if got.numel() else True
    assert (got != want).sum() <= 1e-3 * got.numel()
    layer.sums_dtype = torch.float64
    assert layer(codes).equal(got)


def test_one_dimension_and_real_output() -> None:
    trained = QuantLayer(nn.Conv1d(4, 3, 3, padding=1), cap=2.0)
    source = QuantSpec(scale=0.01)
    layer, codes = IntegerLayer(trained, source), _codes((2, 4, 11))
    assert layer.target is None
    torch.testing.assert_close(layer(codes), trained(dequantize(codes, source)), rtol=1e-4, atol=1e-4)


def test_a_batch_norm_factor_near_zero_keeps_the_shift() -> None:
    bn = nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([0.0, 1e-9, -1e-9, 1e-38]))
        bn.bias.copy_(torch.tensor([1.0, 0.7, -0.5, 0.3]))
    for bias in ("float32", "int32"):
        trained = QuantLayer(nn.Conv2d(2, 4, 1, bias=False), bn=bn, output=_output(-1.0, 1.0)).eval()
        layer = IntegerLayer(trained, QuantSpec(scale=0.1), bias=bias)
        found = dequantize(layer(_codes((3, 2, 2, 2))), trained.output.spec())
        want = bn.bias.detach().view(1, -1, 1, 1).expand_as(found)
        torch.testing.assert_close(found, want, rtol=0.0, atol=float(trained.output.scale))
        assert torch.isfinite(layer.bias).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_sums_beyond_the_bound_are_split(groups: int) -> None:
    conv = nn.Conv2d(2400, 4, 1, groups=groups, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.weight[0] = -1.0
    trained = QuantLayer(conv, output=_output(0.0, 3e9))
    layer = IntegerLayer(trained, QuantSpec(scale=1.0))
    terms = 2400 // groups
    assert len(layer.parts) == math.ceil(127 * 127 * terms / 2**24)
    codes = torch.full((1, 2400, 2, 2), 127.0)
    codes[:, 5] = 126.0
    sums = layer.sums(codes).to(torch.int64)
    whole = terms * 127 * 127
    assert sums[0, :, 0, 0].tolist() == [-whole + 127] + [
        whole - (127 if groups == 1 or m < 2 else 0) for m in (1, 2, 3)
    ]
    layer.sums_dtype = torch.float64
    assert layer.sums(codes).to(torch.int64).equal(sums)


def test_split_linear_and_int32_bias() -> None:
    linear = nn.Linear(3000, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.rand(3, 3000) + 0.5)
    trained = QuantLayer(linear, output=_output(0.0, 4e5))
    codes = _codes((5, 3000))
    for bias in ("float32", "int32"):
        layer = IntegerLayer(trained, QuantSpec(scale=1.0), bias=bias)
        assert len(layer.parts) > 1
        got = layer(codes)
        layer.sums_dtype = torch.float64
        assert layer(codes).equal(got)


def test_the_bound_holds_for_every_subset() -> None:
    weight = torch.tensor([[3.0, -2.0, 1.0], [-4.0, -1.0, 0.0]])
    best = [0.0, 0.0]
    for a in (-5, 0, 9):
        for b in (-5, 0, 9):
            for c in (-5, 0, 9):
                sums = weight @ torch.tensor([float(a), float(b), float(c)])
                best = [max(x, abs(float(s))) for x, s in zip(best, sums, strict=True)]
    assert largest_sums(weight, -5, 9).tolist() == best


def test_refusals() -> None:
    trained = QuantLayer(nn.Linear(2, 2), output=_output(0.0, 1.0))
    with pytest.raises(ConfigError, match="bias is 'int8'"):
        IntegerLayer(trained, QuantSpec(scale=1.0), bias="int8")
    wide = nn.Conv2d(1, 1, 33, bias=False)
    nn.init.ones_(wide.weight)
    with pytest.raises(UnsupportedError, match=r"layer 'wide'.*2\^24"):
        IntegerLayer(QuantLayer(wide, path="wide"), QuantSpec(scale=1.0))
    with pytest.raises(UnsupportedError, match="along the batch"):
        IntegerCat([QuantSpec(scale=1.0)], QuantSpec(scale=1.0), dim=0)


def test_largest_code_widens_the_bound() -> None:
    linear = nn.Linear(1000, 1, bias=False)
    nn.init.ones_(linear.weight)
    trained = QuantLayer(linear, output=_output(0.0, 1.0))
    assert len(IntegerLayer(trained, QuantSpec(scale=1.0)).parts) == 1
    assert len(IntegerLayer(trained, QuantSpec(scale=1.0), largest_code=255).parts) == 2


def test_input_and_output() -> None:
    spec, x = QuantSpec(scale=0.1, zero_point=30), torch.randn(3, 4)
    assert IntegerInput(spec)(x).equal(quantize(x, spec))
    assert IntegerOutput(spec)(IntegerInput(spec)(x)).equal(dequantize(quantize(x, spec), spec))


@pytest.mark.parametrize("cap", [None, math.inf, 1.5])
def test_sum_and_cat_equal_the_rounded_real_ones(cap: float | None) -> None:
    specs = [QuantSpec(scale=0.011, zero_point=0), QuantSpec(scale=0.02, zero_point=64)]
    target = QuantSpec(scale=0.017, zero_point=0 if cap else 40)
    codes = [_codes((4, 3, 5, 5)), _codes((4, 3, 5, 5), 1)]
    reals = [dequantize(c, s) for c, s in zip(codes, specs, strict=True)]
    for got, real in (
        (IntegerSum(specs, target, cap)(*codes), reals[0] + reals[1]),
        (IntegerCat(specs, target, cap, dim=1)(*codes), torch.cat(reals, 1)),
    ):
        real = real if cap is None else real.clamp(0.0, cap)
        want = quantize(real, target)
        assert (got - want).abs().max() <= 1
        assert (got != want).float().mean() < 2e-3


def test_candidates_meet_what_was_computed_once() -> None:
    once, many = _codes((2, 3)), _codes((6, 3), 1)
    first, second = same_batch([once, many])
    assert first.equal(torch.cat([once] * 3))
    assert second is many
    spec = QuantSpec(scale=1.0)
    got = IntegerSum([spec, spec], QuantSpec(scale=2.0))(once, many)
    assert got.equal(IntegerSum([spec, spec], QuantSpec(scale=2.0))(first, many))
    assert len(same_batch([once[:0], once])[0]) == 0


def test_means() -> None:
    source, target = QuantSpec(scale=0.02, zero_point=10), QuantSpec(scale=0.01, zero_point=20)
    codes = _codes((3, 4, 6, 6))
    real = dequantize(codes, source)
    whole = IntegerMean(source, target, axes=(2, 3), keepdim=False)(codes)
    assert whole.shape == (3, 4)
    want = quantize(real.mean((2, 3)), target)
    assert (whole - want).abs().max() <= 1
    pool = IntegerMean(source, target, pool=nn.AvgPool2d(3, 2, 1))(codes)
    assert (pool - quantize(F.avg_pool2d(real, 3, 2, 1), target)).abs().max() <= 1
    function = IntegerMean(source, target, pool=F.avg_pool2d, settings=((3, 2), {"padding": 1}))(codes)
    assert function.equal(pool)


def test_bounds_of_nothing() -> None:
    assert bounds(None, math.inf) == (0, 0)
    assert bounds(QuantSpec(scale=1.0), 1e9) == (0, 127)


@pytest.mark.skipif(not FBGEMM, reason="needs torch built with fbgemm")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("zero_point", [0, 64])
@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(3, 16, 5), (64, 32, 3), (16, 16, 1)])
def test_convolution_equals_fbgemm(inputs: int, outputs: int, kernel: int, zero_point: int) -> None:
    trained = QuantLayer(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), cap=math.inf, output=_output(0.0, 2.5)
    )
    layer = IntegerLayer(trained, QuantSpec(scale=_float32(0.03), zero_point=zero_point))
    codes = _codes((4, inputs, 12, 12))
    got = layer(codes)
    want = _fbgemm(trained, codes, layer, zero_point)
    assert (got != want).float().mean() <= 1e-3
    assert (got - want).abs().max() <= 1
    assert len(got.unique()) > 5


@pytest.mark.skipif(not FBGEMM, reason="needs torch built with fbgemm")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_linear_equals_fbgemm() -> None:
    trained = QuantLayer(nn.Linear(500, 200), cap=math.inf, output=_output(0.0, 2.5))
    layer = IntegerLayer(trained, QuantSpec(scale=_float32(0.03)))
    codes = _codes((64, 500))
    got, want = layer(codes), _fbgemm(trained, codes, layer, 0)
    assert (got != want).float().mean() <= 1e-3
    assert (got - want).abs().max() <= 1


def _fbgemm(trained: QuantLayer, codes: Tensor, layer: IntegerLayer, zero_point: int) -> Tensor:
    """Return the codes of torch's own quantised layer, which clamps at 255, clamped at 127."""
    target = trained.output.spec()
    scales, zeros = trained.weight.scale.double(), torch.zeros(len(layer.weight), dtype=torch.long)
    raw = (layer.weight * trained.weight.scale.view(-1, *[1] * (layer.weight.dim() - 1))).contiguous()
    weight = torch.quantize_per_channel(raw, scales, zeros, 0, torch.qint8)
    assert weight.int_repr().float().equal(layer.weight)
    x = torch._make_per_tensor_quantized_tensor(codes.to(torch.uint8), layer.source.scale, zero_point)
    bias = trained.layer.bias.detach()
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        if isinstance(trained.layer, nn.Linear):
            packed = torch.ops.quantized.linear_prepack(weight, bias)
            made = torch.ops.quantized.linear_relu(x, packed, target.scale, target.zero_point)
        else:
            c = trained.layer
            packed = torch.ops.quantized.conv2d_prepack(weight, bias, c.stride, c.padding, c.dilation, c.groups)
            made = torch.ops.quantized.conv2d_relu(x, packed, target.scale, target.zero_point)
    finally:
        torch.backends.quantized.engine = engine
    return made.int_repr().float().clamp(max=127)
