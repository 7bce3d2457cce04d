"""Small tensors of numbers that are known ahead, made once on each device."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["constant"]


@cache
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return the tensor of nested tuples of numbers; not to be changed.

    A tensor made of numbers of the host makes the host wait for a GPU each time.

    >>> constant((1, 2), torch.device("cpu"))
    tensor([1, 2])
    """
    return torch.tensor(values, device=device, dtype=dtype)
