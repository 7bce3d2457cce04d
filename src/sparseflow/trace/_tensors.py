"""What a recorder asks of tensors: where they are in a value, what they hold, whether they share memory."""

from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["describe", "dtype_name", "shares_memory", "tensors_in"]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of nested tuples, lists, mappings and dataclass-like states, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from tensors_in(inner)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from tensors_in(getattr(value, name, None))


def dtype_name(tensor: torch.Tensor) -> str:
    """Return the type of a tensor, as "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors lie in one storage."""
    dense = not (one.is_sparse or other.is_sparse)
    return dense and one.untyped_storage()._cdata == other.untyped_storage()._cdata


def describe(tensor: torch.Tensor) -> tuple[int, str]:
    """Return the non-zero elements and whether all are bits, or counts, or anything."""
    if tensor.is_complex() or tensor.is_sparse or tensor.is_quantized or tensor.numel() == 0:
        return 0, "any"
    if tensor.dtype is torch.bool:
        return int(tensor.count_nonzero()), "spikes"
    nonzero = int(tensor.count_nonzero())
    if not _whole(_head(tensor)):
        return nonzero, "any"
    if int((tensor == 1).sum()) == nonzero:
        return nonzero, "spikes"
    return nonzero, "counts" if _whole(tensor) else "any"


def _head(tensor: torch.Tensor) -> torch.Tensor:
    """Return one row, which mostly tells that a tensor holds no counts."""
    while tensor.ndim > 1:
        tensor = tensor[0]
    return tensor


def _whole(tensor: torch.Tensor) -> bool:
    """Tell whether all elements are non-negative integers."""
    if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
        return False
    return bool((tensor >= 0).all())
