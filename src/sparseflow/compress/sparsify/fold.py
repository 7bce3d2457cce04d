"""Fold an evaluated batch normalisation into the convolution or linear layer in front of it."""

import torch
from torch import Tensor, nn

from sparseflow.errors import UnsupportedError

__all__ = ["fold_bn", "folds"]


def folds(bn: nn.Module) -> str | None:
    """Return why a normalisation cannot be folded, or None if it can.

    >>> folds(nn.BatchNorm2d(4).eval())
    >>> folds(nn.BatchNorm2d(4))
    'it is in training mode: its statistics depend on the batch'
    """
    if not isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d):
        return f"{type(bn).__name__} is not a batch normalisation"
    if bn.running_mean is None or bn.running_var is None:
        return "it keeps no running statistics"
    if bn.training:
        return "it is in training mode: its statistics depend on the batch"
    return None


def fold_bn(weight: Tensor, bias: Tensor | None, bn: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one layer that does the work of layer and normalisation.

    With s[k] = γ[k] / √(σ²[k] + ε): w'[k] = s[k] · w[k] and
    b'[k] = β[k] + s[k] · (b[k] − μ[k]), computed in float64.

    Args:
        weight: `[C_out, ...]` weight of a convolution or a linear layer.
        bias: `[C_out]`, or None for zero.
        bn: batch normalisation over `C_out` channels, in eval mode.

    Returns:
        Folded weight and bias, in the dtype of `weight`; never views of the operands.

    Raises:
        UnsupportedError: the normalisation cannot be folded; says why.

    >>> bn = nn.BatchNorm2d(1, eps=0.0).eval()
    >>> bn.running_var.fill_(4.0), bn.running_mean.fill_(1.0)
    (tensor([4.]), tensor([1.]))
    >>> fold_bn(torch.ones(1, 1, 1, 1), None, bn)[1]
    tensor([-0.5000], grad_fn=<ToCopyBackward0>)
    """
    reason = folds(bn)
    if reason is not None:
        raise UnsupportedError(f"batch normalisation cannot be folded: {reason}")
    assert isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    if bn.num_features != weight.shape[0]:
        raise UnsupportedError(
            f"batch normalisation cannot be folded: it has {bn.num_features} channels, the layer {weight.shape[0]}"
        )
    scale = torch.rsqrt(bn.running_var.double() + bn.eps)
    shift = -bn.running_mean.double() if bias is None else bias.double() - bn.running_mean.double()
    if bn.weight is not None:
        scale = scale * bn.weight.double()
    folded_bias = shift * scale
    if bn.bias is not None:
        folded_bias = folded_bias + bn.bias.double()
    folded = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
    return folded.to(weight.dtype), folded_bias.to(weight.dtype)
