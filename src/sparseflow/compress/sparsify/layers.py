"""Which layers can be replaced at all, and what stands in their place."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from sparseflow.errors import UnsupportedError
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.nn.sparse_linear import SparseLinear

__all__ = ["is_pointwise", "refuse_layer", "sparse_layer"]

_HOME = ("torch.", "sparseflow.", "spikingjelly.")


def is_pointwise(module: nn.Module) -> bool:
    """Tell whether a layer is a convolution of one token at a time, `[..., C, L]` to `[..., K, L]`: a linear layer.

    >>> is_pointwise(nn.Conv1d(2, 3, 1)), is_pointwise(nn.Conv1d(2, 3, 3))
    (True, False)
    """
    if not isinstance(module, nn.Conv1d) or not type(module).__module__.startswith(_HOME):
        return False
    window = (module.kernel_size, module.stride, module.dilation, module.groups)
    plain = window == ((1,), (1,), (1,), 1) and module.padding in ((0,), "same", "valid")
    listens = module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module)
    return bool(
        plain and not listens and not any(True for _ in module.children()) and module.weight.dtype == torch.float32
    )


def refuse_layer(module: nn.Module) -> str | None:
    """Return why a layer cannot be replaced, or None if it can.

    >>> refuse_layer(nn.Conv2d(1, 1, 3))
    >>> refuse_layer(nn.Conv3d(1, 1, 3))
    'Conv3d has no sparse kernel; Conv2d and Linear have'
    """
    if isinstance(module, nn.Conv2d):
        base: type[nn.Module] = nn.Conv2d
        own = {"forward", "_conv_forward"}
    elif isinstance(module, nn.Linear):
        base = nn.Linear
        own = {"forward"}
    else:
        return f"{type(module).__name__} has no sparse kernel; Conv2d and Linear have"
    if isinstance(module, SparseConv2d | SparseLinear):
        return "it is a sparse layer already"
    for cls in type(module).__mro__[: type(module).__mro__.index(base)]:
        known = cls.__name__ == base.__name__ and cls.__module__.startswith(_HOME)
        if not known and own & vars(cls).keys():
            return f"{cls.__name__} computes its own forward; only torch's is known to be that convolution or product"
    if parametrize.is_parametrized(module) or any(True for _ in module.children()):
        return "its weight is computed from others"
    if module._forward_hooks or module._forward_pre_hooks:
        return "hooks listen to it; remove them first"
    if module.weight.dtype != torch.float32:
        return f"its weight is {module.weight.dtype}; the sparse kernels take float32"
    return None


def sparse_layer(module: nn.Module, kernel: str, block_size: int | None = None) -> nn.Module:
    """Return the sparse twin of a layer, with the same parameters.

    Raises:
        UnsupportedError: there is none; says why.
    """
    reason = refuse_layer(module)
    if reason is not None:
        raise UnsupportedError(reason)
    if isinstance(module, nn.Conv2d):
        return SparseConv2d.from_dense(module, block_size, kernel=kernel)
    assert isinstance(module, nn.Linear)
    return SparseLinear.from_dense(module, kernel=kernel)
