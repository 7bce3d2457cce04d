"""What a training run starts from: norms that let signals and gradients through, or another run's weights."""

import os
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import read_checkpoint
from sparseflow.nn.models.spiking import SpikingResNet

__all__ = ["load_weights", "threshold_start", "unfold_norms"]

INNER_SHIFT = 0.7
MERGED_SCALE = 0.3
MERGED_SHIFT = 1.0


@torch.no_grad()
def threshold_start(model: nn.Module) -> None:
    """Set the norms of a spiking ResNet so that its blocks start by passing their input on, in place.

    Where a block adds in front of its neuron, the branch starts small (scale 0.3) on a shift of 1,
    the threshold: with tau 2, hard reset and T = 4 a neuron with the current s + 1 fires exactly
    where the shortcut's spike s is 1, since without a spike the potential stays at 1 - 2^-t. Depth
    then costs neither signal nor gradient. Inside a block scale 1 on a shift of 0.7 keeps
    the currents around the threshold.

    Args:
        model: a `SpikingResNet` that adds in front of its neurons.

    Raises:
        ConfigError: another network, for which this start is not made.

    Source: ours; tdBN (Zheng et al., AAAI 2021) scales to the threshold with the same aim.
    """
    if not isinstance(model, SpikingResNet) or any(getattr(m, "sew", False) for m in model.modules()):
        raise ConfigError("start is 'threshold', which is made for spiking_resnet18 and spiking_resnet50; use 'plain'")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.fill_(INNER_SHIFT)
    for block in model.modules():
        for name in ("bn3", "bn2"):
            merged = getattr(block, name, None)
            if isinstance(merged, nn.BatchNorm2d):
                merged.weight.fill_(MERGED_SCALE)
                merged.bias.fill_(MERGED_SHIFT if block.downsample is None else 0.0)
                break


def load_weights(model: nn.Module, name: str, path: str | os.PathLike[str]) -> None:
    """Load the weights of a checkpoint into a network, in place.

    Args:
        model: the network.
        name: name of its builder.
        path: a `.safetensors` file of `save_checkpoint`, or a shipped name.

    Raises:
        ConfigError: the checkpoint is of another model.
        DataError: no such checkpoint, a damaged one, or one of other shapes.
    """
    found = read_checkpoint(path)
    if found.model != name:
        raise ConfigError(f"init_from is a checkpoint of {found.model!r}; the run trains {name!r}")
    found.load_into(model)


@torch.no_grad()
def unfold_norms(model: nn.Module, images: Tensor) -> None:
    """Give norms whose scale was folded into the layer in front of them scale and statistics again, in place.

    A finished checkpoint holds norms that only add (see `make_exact`). In training they would
    divide by the batch's deviation, which the folded weights do not expect. With μ and σ² the
    mean and variance of a norm's input over `images`, scale becomes √(σ² + ε) and shift
    b + μ: the network in eval mode stays what it is, and in training it starts there.

    Args:
        model: a network; it is left in eval mode and reset.
        images: `[N, C, H, W]` images as in training.
    """
    sums: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def note(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        x = x.flatten(0, 1) if x.ndim == 5 else x
        sums[norm] = (x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False))

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and _folded(m)]
    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    reset_net(model.eval())
    try:
        if norms:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    for norm, (mean, variance) in sums.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
        norm.bias.add_((gain * (mean - norm.running_mean)).float())
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _folded(norm: nn.BatchNorm2d) -> bool:
    mean = norm.running_mean
    return mean is not None and not bool(mean.any()) and bool((norm.weight == norm.weight[0]).all())
