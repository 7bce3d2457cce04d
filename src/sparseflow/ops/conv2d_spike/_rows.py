"""Packed weights, and which kernel each is for."""

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.conv2d_spike import amx, cpp

__all__ = ["kernel_of", "pack_weight"]


def pack_weight(weight: Tensor, groups: int = 1, *, kernel: str = "auto") -> Tensor:
    """Pack a weight once, for many calls.

    Args:
        weight: `[Cout, Cin/groups, kh, kw]`; a copy is taken, without gradient.
        groups: groups of the convolution.
        kernel: "event", "amx", "dense" (the plain weight), or "auto": "event" where it runs, else "dense".

    Returns:
        An opaque tensor that `kernel_of` can tell: float32 1-D for "event", int8 for "amx", the
        weight for "dense".

    Raises:
        UnsupportedError: the named kernel rejects this weight; says why.
        ConfigError: `weight` is not 4-D, or `groups` does not divide Cout.

    >>> pack_weight(torch.ones(2, 1, 3, 3), kernel="dense").shape
    torch.Size([2, 1, 3, 3])
    """
    if weight.ndim != 4 or groups < 1 or weight.shape[0] % groups:
        raise ConfigError(f"pack_weight: weight {tuple(weight.shape)}, groups {groups}; expected [Cout, Cin/g, kh, kw]")
    weight = weight.detach()
    if kernel == "auto":
        kernel = "event" if cpp.refusal(weight) is None and bool(torch.isfinite(weight).all()) else "dense"
    if kernel == "event":
        return cpp.pack(weight, groups)
    if kernel == "amx":
        return amx.pack(weight, groups)
    if kernel == "dense":
        return weight.clone()
    raise UnsupportedError(f"pack_weight: no kernel {kernel!r}; it has dense, event, amx and auto")


def kernel_of(rows: Tensor) -> str:
    """Return the kernel that a packed weight is for.

    >>> kernel_of(torch.ones(2, 1, 3, 3))
    'dense'
    """
    if rows.ndim == 4:
        return "dense"
    return "amx" if rows.dtype == torch.int8 else "event"
