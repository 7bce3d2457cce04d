"""Flop formulas against hand counts."""

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import flops, has_flops, known_ops


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "expected"),
    [
        ("conv2d", {"weight": (4, 3, 3, 3), "output": (1, 4, 8, 8)}, {}, 2 * 27 * 4 * 64),
        ("conv2d", {"weight": (4, 1, 3, 3), "output": (1, 4, 8, 8)}, {"groups": 4}, 2 * 9 * 4 * 64),
        ("conv2d", {"weight": (4, 3, 1, 1), "output": (1, 4, 8, 8), "bias": (4,)}, {}, 2 * 3 * 4 * 64 + 256),
        ("linear", {"weight": (10, 20), "output": (2, 10)}, {}, 800),
        ("matmul", {"input": (2, 3, 4), "other": (2, 4, 5), "output": (2, 3, 5)}, {}, 2 * 30 * 4),
        ("attention", {"input": (2, 3, 4)}, {}, 2 * 2 * 9 * 8 + 5 * 18),
        ("max_pool2d", {"input": (1, 2, 8, 8), "output": (1, 2, 4, 4)}, {"kernel_size": 2}, 128),
        ("avg_pool2d", {"output": (1, 2, 4, 4)}, {"kernel_size": (2, 3)}, 192),
        ("batch_norm", {"output": (1, 2, 4, 4)}, {}, 64),
        ("lif", {"output": (4, 2)}, {}, 48),
        ("add", {"output": (4, 2)}, {}, 8),
        ("addcmul", {"output": (4, 2)}, {}, 16),
        ("flatten", {}, {}, 0),
        ("conv_transpose2d", {"input": (1, 2, 4, 4), "weight": (2, 3, 2, 2), "output": (1, 3, 8, 8)}, {}, 768),
    ],
)
def test_counts(op, shapes, attrs, expected):
    assert flops(op, shapes, attrs) == expected


def test_tensors_carry_gradients():
    width = torch.tensor(8.0, requires_grad=True)
    flops("conv2d", {"weight": (4, width, 3, 3), "output": (1, 4, 8, 8)}).backward()
    assert width.grad.item() == 2 * 9 * 4 * 64


def test_unknown_operator_is_refused():
    assert not has_flops("teleport")
    assert "conv2d" in known_ops()
    with pytest.raises(UnsupportedError, match="teleport"):
        flops("teleport", {})


def test_missing_shape_is_named():
    with pytest.raises(ConfigError, match="'weight'"):
        flops("conv2d", {"output": (1, 4, 8, 8)})
