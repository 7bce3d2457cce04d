"""Find the layers of a traced graph with the normalisation and the ReLU behind them, which fuse into one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.quantize.roles import operation, role
from sparseflow.errors import UnsupportedError

__all__ = ["Chain", "Shapes", "find_chains", "fold_scale", "relu_cap"]

Shapes = Mapping[fx.Node, tuple[int, ...] | None]
"""Shape of what each node made on the sample; None where that is no float tensor."""

_FORWARDS = {nn.Conv1d: nn.Conv1d.forward, nn.Conv2d: nn.Conv2d.forward, nn.Linear: nn.Linear.forward}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A layer and what fuses with it; nothing else reads the values in between.

    Args:
        layer: a convolution or linear layer.
        bn: the batch normalisation behind it, or None.
        relu: the ReLU-like node behind both, or None.
    """

    layer: fx.Node
    bn: fx.Node | None = None
    relu: fx.Node | None = None

    @property
    def head(self) -> fx.Node:
        """The last node, whose value the chain makes."""
        return self.relu or self.bn or self.layer

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """All nodes, in order of execution."""
        return tuple(n for n in (self.layer, self.bn, self.relu) if n is not None)

    @property
    def source(self) -> fx.Node:
        """The node that the layer reads."""
        source = self.layer.args[0]
        assert isinstance(source, fx.Node)
        return source


def relu_cap(node: fx.Node, modules: Mapping[str, nn.Module]) -> float | None:
    """Return the upper end of a ReLU-like node: infinity for ReLU, 6 for ReLU6; None if the node is none.

    Raises:
        UnsupportedError: it also drops values above 0, as a threshold does.

    >>> traced = fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.ReLU6(), nn.Tanh()))
    >>> [relu_cap(node, dict(traced.named_modules())) for node in traced.graph.nodes][1:4]
    [inf, 6.0, None]
    """
    if role(node, modules) != "relu":
        return None
    name = operation(node, modules)
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Hardtanh):
            return float(module.max_val)
        if isinstance(module, nn.Threshold) and module.threshold != 0:
            raise UnsupportedError(f"{node.name}: a threshold at {module.threshold} is no ReLU; put nn.ReLU there")
        return math.inf
    if name == "threshold":
        edge = node.args[1] if len(node.args) > 1 else node.kwargs.get("threshold")
        if edge != 0:
            raise UnsupportedError(f"{node.name}: a threshold at {edge} is no ReLU; put a ReLU there")
        return math.inf
    if name in ("relu", "clamp_min"):
        return math.inf
    if name == "relu6":
        return 6.0
    default = 1.0 if name == "hardtanh" else None
    top = node.args[2] if len(node.args) > 2 else node.kwargs.get("max_val" if name == "hardtanh" else "max", default)
    if top is not None and not isinstance(top, int | float):
        raise UnsupportedError(f"{node.name}: {name} has the computed upper end {top}; give a number")
    return math.inf if top is None else float(top)


def find_chains(traced: fx.GraphModule, shapes: Shapes) -> list[Chain]:
    """Return every layer that can run on codes, in order of execution, with what fuses with it.

    A layer whose forward is its own, or that hooks listen to, is left out. A normalisation or ReLU joins only if it
    alone reads the value in front of it. The normalisation stays a module
    of its own, so that it can be trained and frozen.

    Args:
        traced: from `sparseflow.trace.capture`.
        shapes: shape of the value of each node.
    """
    modules = dict(traced.named_modules(remove_duplicate=False))
    found = []
    for node in traced.graph.nodes:
        if not _is_layer(node, modules):
            continue
        bn = _follower(node)
        if bn is None or not _normalises(bn, node, modules, shapes):
            bn = None
        relu = _follower(bn or node)
        if relu is None or relu_cap(relu, modules) is None:
            relu = None
        found.append(Chain(layer=node, bn=bn, relu=relu))
    return found


def _follower(node: fx.Node) -> fx.Node | None:
    """Return the only reader of a node, if it reads nothing else."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].all_input_nodes != [node] or readers[0].args[:1] != (node,):
        return None
    return readers[0]


def _is_layer(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
        return False
    module = modules[str(node.target)]
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    return any(isinstance(module, kind) and type(module).forward is fwd for kind, fwd in _FORWARDS.items())


def _normalises(bn: fx.Node, layer: fx.Node, modules: Mapping[str, nn.Module], shapes: Shapes) -> bool:
    """Tell whether a node scales each output channel of a layer by a constant once it is in eval mode."""
    module = modules.get(str(bn.target)) if bn.op == "call_module" else None
    if not isinstance(module, _NORMS) or module.running_mean is None or module.running_var is None:
        return False
    rank, source = len(shapes[layer] or ()), modules[str(layer.target)]
    if isinstance(source, nn.Linear):
        return rank == 2
    # Without a batch, `[C, H, W]` has its channels where a normalisation looks for rows.
    assert isinstance(source, nn.Conv1d | nn.Conv2d)
    return rank == len(source.kernel_size) + 2


def fold_scale(bn: nn.Module | None, bias: Tensor | None, channels: int) -> tuple[Tensor, Tensor]:
    """Return factor and shift of each channel behind a layer without its bias: y[c] = factor[c] · acc[c] + shift[c].

    factor = γ / √(σ² + ε) and shift = β + factor · (bias − μ); 1 and the bias without normalisation. The factor may
    be negative or 0.

    Args:
        bn: `nn.BatchNorm1d` or `nn.BatchNorm2d` with running statistics, or None.
        bias: `[C]` bias of the layer, or None.
        channels: C.

    Returns:
        Two float64 tensors `[C]`.
    """
    shift = torch.zeros(channels, dtype=torch.float64) if bias is None else bias.detach().double()
    if bn is None:
        return torch.ones_like(shift), shift
    assert isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    factor = torch.rsqrt(bn.running_var.double() + bn.eps)
    shift = shift.to(factor.device) - bn.running_mean.double()
    if bn.weight is not None:
        factor = factor * bn.weight.detach().double()
    shift = shift * factor
    return factor, shift if bn.bias is None else shift + bn.bias.detach().double()
