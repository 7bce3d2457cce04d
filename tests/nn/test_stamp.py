"""A stamp changes with the tensor, and only then."""

import torch
from torch import nn

from sparseflow.nn._stamp import stamp


def test_changes_with_the_tensor() -> None:
    weight = nn.Parameter(torch.zeros(3))
    first = stamp(weight, None)
    assert stamp(weight, None) == first
    with torch.no_grad():
        weight.add_(1)
    second = stamp(weight, None)
    weight.data = torch.ones(3)
    assert len({first, second, stamp(weight, None)}) == 3


def test_takes_tensors_without_versions() -> None:
    with torch.inference_mode():
        x = torch.zeros(2)
    assert stamp(x) == stamp(x)
