"""Windows against a loop over every place that one covers."""

import itertools

import pytest
import torch

from sparseflow.export._windows import counted, pads
from sparseflow.ops.int8_net import Program, Step, Value


def pooled(size, kernel, stride, padding, dilation, *, ceil, include):
    """Return a program of one pool of `size`, whose last windows may end beyond the padding where `ceil`."""
    wide = [(kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    shape = [(size[i] + 2 * padding[i] - wide[i] + (stride[i] - 1 if ceil else 0)) // stride[i] + 1 for i in range(2)]
    step = Step(
        op="average_pool", inputs=(0,), output=1, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
        include_padding=include,
    )  # fmt: skip
    values = (Value(name="x", shape=(1, *size)), Value(name="y", shape=(1, *shape)))
    return Program(input=(1, *size), values=values, steps=(step,), output=1, output_shape=(1, *shape)), step


CASES = [
    ((8, 6), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((7, 5), (3, 2), (2, 2), (1, 0), (1, 1)),
    ((9, 7), (3, 3), (3, 2), (1, 1), (1, 1)),
    ((9, 8), (2, 3), (3, 1), (0, 1), (2, 1)),
    ((3, 3), (3, 3), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), CASES)
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("include", [False, True])
def test_every_place_is_counted(size, kernel, stride, padding, dilation, ceil, include):
    program, step = pooled(size, kernel, stride, padding, dilation, ceil=ceil, include=include)
    _, rows, columns = program.values[1].shape
    want = torch.zeros(rows, columns)
    furthest = [0, 0]
    for y, x, i, j in itertools.product(range(rows), range(columns), range(kernel[0]), range(kernel[1])):
        place = (y * stride[0] + i * dilation[0] - padding[0], x * stride[1] + j * dilation[1] - padding[1])
        beyond = padding if include else (0, 0)
        want[y, x] += all(-beyond[k] <= place[k] < size[k] + beyond[k] for k in range(2))
        furthest = [max(furthest[k], place[k] - size[k] + 1) for k in range(2)]
    assert torch.equal(counted(program, step), want)
    assert pads(program, step) == (*padding, *furthest)
