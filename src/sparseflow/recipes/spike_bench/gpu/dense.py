"""Dense forms of blocks and networks as a fast rival would write them: batch norm folded, neurons without state."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.errors import ConfigError
from sparseflow.nn.neurons import SpikingNode
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import charge, discharge

__all__ = ["DenseBlock", "EagerBlock", "PlainNeuron", "enliven", "neuron_params", "plain_network", "spikingjelly_block"]


class PlainNeuron(nn.Module):
    """A neuron over all steps in plain torch that starts at rest and keeps nothing; a compiler can fuse it.

    Args:
        params: constants.
    """

    def __init__(self, params: LIFParams) -> None:
        super().__init__()
        self.params = params

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of currents `[T, N, ...]`, integrated in float32 at least, in the dtype of `x`."""
        wide = torch.promote_types(x.dtype, torch.float32)
        v = torch.full_like(x[0], self.params.v_rest, dtype=wide)
        spikes = []
        for t in range(x.shape[0]):
            h = charge(v, x[t].to(wide), self.params)
            s = (h >= self.params.v_threshold).to(wide)
            v = discharge(h, s, self.params)
            spikes.append(s.to(x.dtype))
        return torch.cat(spikes).view(x.shape)


class DenseBlock(nn.Module):
    """Convolution with folded batch norm and a neuron: `[T*N, C, H, W]` floats in, float spikes out.

    Args:
        conv: the convolution, its batch norm folded.
        params: constants of the neuron.
        steps: T.
    """

    def __init__(self, conv: nn.Conv2d, params: LIFParams, steps: int) -> None:
        super().__init__()
        self.conv = conv
        self.neuron = PlainNeuron(params)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes."""
        y = self.conv(x)
        spikes: Tensor = self.neuron(y.view(self.steps, y.shape[0] // self.steps, *y.shape[1:]))
        return spikes.flatten(0, 1)


class EagerBlock(nn.Module):
    """The same block as a user writes it, batch norm and neuron each by itself.

    Args:
        conv: the convolution.
        bn: its batch norm.
        params: constants of the neuron.
        steps: T.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d, params: LIFParams, steps: int) -> None:
        super().__init__()
        self.conv, self.bn = conv, bn
        self.neuron = PlainNeuron(params)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes."""
        y = self.bn(self.conv(x))
        spikes: Tensor = self.neuron(y.view(self.steps, y.shape[0] // self.steps, *y.shape[1:]))
        return spikes.flatten(0, 1)


def spikingjelly_block(conv: nn.Conv2d, bn: nn.BatchNorm2d, params: LIFParams) -> nn.Module:
    """Return the block of SpikingJelly's own layers over `[T, N, C, H, W]`, with its fastest neuron."""
    from spikingjelly.activation_based import layer, neuron

    shape: dict[str, Any] = {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "bias": conv.bias is not None,
        "step_mode": "m",
    }
    their_conv = layer.Conv2d(conv.in_channels, conv.out_channels, **shape)
    their_conv.load_state_dict(conv.state_dict())
    their_bn = layer.BatchNorm2d(bn.num_features, eps=bn.eps, step_mode="m")
    their_bn.load_state_dict(bn.state_dict())
    given: dict[str, Any] = {"v_threshold": params.v_threshold, "v_reset": params.v_reset, "step_mode": "m"}
    if params.kind == "if":
        node = neuron.IFNode(**given)
    else:
        node = neuron.LIFNode(tau=params.tau, decay_input=params.decay_input, **given)
    return nn.Sequential(their_conv, their_bn, node).eval()


def neuron_params(node: nn.Module) -> LIFParams:
    """Return the constants of a neuron of `sparseflow.nn`.

    Raises:
        ConfigError: another kind of neuron.
    """
    kind = type(node).__name__
    some = cast(Any, node)
    reset = {"v_threshold": some.v_threshold, "v_reset": some.v_reset}
    if kind == "IFNode":
        return LIFParams(kind="if", **reset)
    if kind == "LIFNode":
        return LIFParams(tau=float(some.tau), decay_input=some.decay_input, **reset)
    if kind == "ParametricLIFNode":
        return LIFParams(tau=float(1 / some.w.sigmoid()), decay_input=some.decay_input, **reset)
    raise ConfigError(f"{kind} has no plain form")


def plain_network(model: nn.Module) -> nn.Module:
    """Return a copy of a network of the zoo with batch norms folded and neurons without state.

    A batch norm `bnX` beside a convolution `convX`, and the one behind the
    convolution of a `Sequential`, are folded.
    """
    net = copy.deepcopy(model).eval()
    for parent in list(net.modules()):
        children = dict(parent.named_children())
        names = list(children)
        for i, (name, child) in enumerate(children.items()):
            if isinstance(child, SpikingNode):
                setattr(parent, name, PlainNeuron(neuron_params(child)))
            if not isinstance(child, nn.BatchNorm2d):
                continue
            before = names[i - 1] if isinstance(parent, nn.Sequential) and i else name.replace("bn", "conv")
            conv = children.get(before)
            if isinstance(conv, nn.Conv2d) and before != name:
                weight, bias = fold_bn(conv.weight, conv.bias, child)
                conv.weight = nn.Parameter(weight.detach())
                conv.bias = nn.Parameter(bias.detach())
                setattr(parent, name, nn.Identity())
    return net


def enliven(model: nn.Module, x: Tensor, density: float = 0.1) -> dict[str, float]:
    """Set batch norms of a network with random weights so that every neuron layer fires at one density.

    Each batch norm gets the statistics of its input; then the shift of the
    last one in front of a neuron is searched by bisection.

    Args:
        model: network of the zoo, in eval mode; changed in place and left reset.
        x: images that set the statistics.
        density: wanted fraction of spikes.

    Returns:
        The density that each neuron reached on `x`, by dotted name.
    """
    last: list[nn.BatchNorm2d] = []
    reached: dict[str, float] = {}
    handles = []

    def settle(bn: nn.BatchNorm2d, args: tuple[Tensor, ...]) -> None:
        y = args[0].flatten(0, -4) if args[0].dim() > 4 else args[0]
        assert bn.running_mean is not None
        assert bn.running_var is not None
        bn.running_mean.copy_(y.mean((0, 2, 3)))
        bn.running_var.copy_(y.var((0, 2, 3)).clamp_min(1e-6))
        last.append(bn)

    def aim(name: str, node: SpikingNode, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        plain = PlainNeuron(neuron_params(node))
        y = args[0]
        if not last:
            return None
        low, high = -8.0, 8.0
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (low, middle) if float(plain(y + middle).mean()) > density else (middle, high)
        last[-1].bias.data += high
        reached[name] = float(plain(y + high).mean())
        last.clear()
        return (y + high,)

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(settle))
        elif isinstance(module, SpikingNode):
            handles.append(module.register_forward_pre_hook(lambda m, args, name=name: aim(name, m, args)))
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        for module in model.modules():
            if isinstance(module, SpikingNode):
                module.reset()
    return reached
