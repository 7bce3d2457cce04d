"""The slow way through a program, against sums by hand and against torch's own pools."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import DataError
from sparseflow.ops.int8_net import Program, Step, Value, reference
from tests.ops.int8_net.test_program import small


def one(step: Step, shape, out, *, zero=0, real=False) -> Program:
    values = (
        Value(name="x", shape=shape, zero=zero),
        Value(name="y", shape=out, real=real),
        Value(name="logits", shape=out, real=True),
    )
    steps = [Step(op="quantize", inputs=(), output=0, ratios=(1.0,), low=0, high=255), step]
    steps += [] if real else [Step(op="dequantize", inputs=(1,), output=2, ratios=(1.0,))]
    return Program(
        input=shape, values=values, steps=tuple(steps), output=1 if real else 2,
        output_shape=out if out[1:] != (1, 1) else out[:1],
    )  # fmt: skip


def test_a_layer_by_hand():
    program, x = small(), torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    q = (x / torch.tensor(0.03)).round().add(60).clamp(0, 127)
    found = reference.values(program, x)
    assert torch.equal(found[0], torch.round(x * (1 / 0.03)).add(60).clamp(0, 127).double())
    assert float((found[0] - q).abs().max()) <= 1
    centred, weight = (found[0] - 60).long(), program.steps[1].weight.long()
    for m, y, col in ((0, 0, 0), (1, 4, 3), (0, 2, 1)):
        total = 0
        for c in range(3):
            for ky in range(3):
                for kx in range(3):
                    iy, ix = y + ky - 1, col + kx - 1
                    if 0 <= iy < 5 and 0 <= ix < 4:
                        total += int(weight[m, c, ky, kx]) * int(centred[0, c, iy, ix])
        steps = (torch.tensor(float(total)) + program.steps[1].bias[m]) * program.steps[1].multiplier[m]
        assert int(found[1][0, m, y, col]) == min(max(round(float(steps)), 0), 40)
    assert reference.run(program, x).shape == (2, 7)
    assert bool((reference.run(program, x) >= 0).all())


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("shape", [(7, 9), (8, 8), (5, 6)])
def test_pools_are_those_of_torch(shape, include):
    h, w = shape
    x = torch.randint(0, 256, (2, 3, h, w), generator=torch.Generator().manual_seed(2)).float()
    for kernel, stride, pad, ceil in (
        (3, 2, 1, False),
        (3, 2, 0, True),
        (2, 2, 1, True),
        (3, 2, 1, True),
        (2, 1, 0, False),
    ):
        want = F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil)
        window = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (pad, pad)}
        step = Step(op="max_pool", inputs=(0,), output=1, **window)
        assert torch.equal(reference.run(one(step, (3, h, w), tuple(want.shape[1:])), x), want)
        average = F.avg_pool2d(x, kernel, stride, pad, ceil_mode=ceil, count_include_pad=include)
        step = Step(
            op="average_pool", inputs=(0,), output=1, ratios=(0.37,), include_padding=include, high=255, **window
        )  # fmt: skip
        got = reference.run(one(step, (3, h, w), tuple(average.shape[1:])), x)
        assert torch.equal(got, torch.round(average * 0.37)), (kernel, stride, pad, ceil)
    step = Step(
        op="average_pool", inputs=(0,), output=1, ratios=(1.0,), divisor=7, high=255, kernel=(2, 2), stride=(2, 2)
    )
    want = F.avg_pool2d(x, 2, divisor_override=7)
    assert torch.equal(reference.run(one(step, (3, h, w), tuple(want.shape[1:])), x), want.round().clamp(max=255))


def test_sums_means_and_joins():
    x = torch.randint(0, 200, (3, 4, 2, 2), generator=torch.Generator().manual_seed(3)).float()
    mean = Step(op="mean", inputs=(0,), output=1, ratios=(0.3,), high=255)
    assert torch.equal(
        reference.run(one(mean, (4, 2, 2), (4, 1, 1)), x), torch.round(x.sum((2, 3)) * 0.3).clamp(max=255)
    )
    total = Step(op="sum", inputs=(0, 0), output=1, ratios=(0.5, 0.25), high=255)
    assert torch.equal(reference.run(one(total, (4, 2, 2), (4, 2, 2)), x), torch.round(x * 0.5 + x * 0.25))
    joined = Step(op="concat", inputs=(0, 0), output=1, ratios=(1.0, 0.5), high=255)
    got = reference.run(one(joined, (4, 2, 2), (8, 2, 2)), x)
    assert torch.equal(got, torch.cat([x, torch.round(x * 0.5)], 1))


def test_nan_is_refused():
    x = torch.zeros(1, 3, 5, 4)
    x[0, 1, 2, 3] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        reference.run(small(), x)
