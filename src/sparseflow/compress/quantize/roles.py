"""What each node of a traced graph does to the integer codes that it reads."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import fx, nn
from torch.nn.modules import batchnorm, dropout, padding, pooling

from sparseflow.trace import reads_no_values

__all__ = ["Role", "operation", "role", "writes_in_place"]

Role = Literal["relu", "activation", "layer", "carry", "join", "mean", "norm", "shape", "other"]

_LAYERS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
_CARRY = (
    nn.Flatten, nn.Unflatten, nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold,
    dropout._DropoutNd, pooling._MaxPoolNd, pooling._AdaptiveMaxPoolNd, padding._ReflectionPadNd,
    padding._ReplicationPadNd,
)  # fmt: skip
_MEAN = (pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd)
_FORWARDS = (nn.ReLU.forward, nn.Hardtanh.forward, nn.Threshold.forward)
_ACTIVATION_HOME = "torch.nn.modules.activation"

_LAYER_NAMES = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"}
)
_CARRY_NAMES = frozenset(
    {
        "flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "contiguous", "permute", "transpose",
        "swapaxes", "movedim", "squeeze", "unsqueeze", "expand", "expand_as", "repeat", "clone", "detach", "chunk",
        "split", "unbind", "getitem", "select", "narrow", "amax", "max_pool1d", "max_pool2d", "max_pool3d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "dropout", "dropout1d", "dropout2d",
        "dropout3d", "feature_dropout", "alpha_dropout", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
        "native_channel_shuffle", "unfold",
    }
)  # fmt: skip
_MEAN_NAMES = frozenset(
    {
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "mean",
    }
)  # fmt: skip
_JOIN_NAMES = frozenset({"cat", "concat", "concatenate", "stack", "hstack", "vstack"})
_ACTIVATION_NAMES = frozenset(
    {
        "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "tanh", "sigmoid",
        "hardsigmoid", "softplus", "softsign", "logsigmoid", "hardtanh", "threshold", "glu", "clamp", "clip",
        "clamp_min",
    }
)  # fmt: skip


def operation(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return a module's class, or the name of a function or method without underscores around.

    >>> traced = fx.symbolic_trace(nn.Sequential(nn.ReLU()))
    >>> [operation(node, dict(traced.named_modules())) for node in traced.graph.nodes]
    ['placeholder', 'ReLU', 'output']
    """
    if node.op == "call_module":
        return type(modules[str(node.target)]).__name__
    if node.op not in ("call_function", "call_method"):
        return node.op
    return _bare(node).strip("_")


def _bare(node: fx.Node) -> str:
    target: Any = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def role(node: fx.Node, modules: Mapping[str, nn.Module]) -> Role:
    """Return what a node does to the codes of its input.

    * "relu": makes values from an exact 0 upwards: ReLU, ReLU6, clamps and thresholds with the floor 0.
    * "activation": another non-linear function.
    * "layer": a convolution or linear layer.
    * "carry": gives on the same values, moved, dropped or padded with 0: max-pools, reshapes, dropout that is off.
    * "join": the same of several inputs: concatenation.
    * "mean": gives on averages of the values.
    * "norm": batch norm.
    * "shape": asks for sizes or types only.
    * "other": anything else, as sums and products.

    Args:
        node: of a graph that was traced in eval mode.
        modules: the graph's modules by dotted path.

    >>> traced = fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU6(), nn.MaxPool2d(2)))
    >>> [role(node, dict(traced.named_modules())) for node in traced.graph.nodes]
    ['other', 'layer', 'relu', 'carry', 'other']
    """
    if node.op == "call_module":
        return _of_module(modules[str(node.target)])
    if node.op not in ("call_function", "call_method"):
        return "other"
    return "shape" if reads_no_values(node) else _of_function(operation(node, modules), node)


def _of_module(module: nn.Module) -> Role:
    kind = type(module)
    if isinstance(module, nn.ReLU | nn.Hardtanh | nn.Threshold) and kind.forward not in _FORWARDS:
        return "activation"
    if isinstance(module, nn.ReLU):
        return "relu"
    if isinstance(module, nn.Hardtanh):
        return "relu" if module.min_val == 0 else "activation"
    if isinstance(module, nn.Threshold):
        return "relu" if module.threshold >= 0 and module.value == 0 else "activation"
    if isinstance(module, _LAYERS):
        return "layer"
    if isinstance(module, batchnorm._BatchNorm):
        return "norm"
    if isinstance(module, _CARRY):
        return "carry"
    if isinstance(module, padding._ConstantPadNd):
        return "carry" if module.value == 0 else "other"
    if isinstance(module, nn.Upsample):
        return "carry" if module.mode.startswith("nearest") else "mean"
    if isinstance(module, _MEAN):
        return "mean"
    if kind.__module__ == _ACTIVATION_HOME and not isinstance(module, nn.MultiheadAttention):
        return "activation"
    return "other"


def _of_function(name: str, node: fx.Node) -> Role:
    if name in ("relu", "relu6"):
        return "relu"
    if name in _ACTIVATION_NAMES:
        return "relu" if _floor_is_zero(name, node) else "activation"
    if name in _LAYER_NAMES:
        return "layer"
    if name in _CARRY_NAMES:
        return "carry"
    if name in _JOIN_NAMES:
        return "join"
    if name in _MEAN_NAMES:
        return "mean"
    if name == "batch_norm":
        return "norm"
    if name == "pad":
        constant = _given(node, 2, "mode", "constant") == "constant"
        return "other" if constant and _given(node, 3, "value", 0.0) not in (None, 0, 0.0) else "carry"
    if name == "interpolate":
        return "carry" if str(_given(node, 3, "mode", "nearest")).startswith("nearest") else "mean"
    return "other"


def _given(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _floor_is_zero(name: str, node: fx.Node) -> bool:
    floor: Any
    if name in ("clamp", "clip", "clamp_min"):
        floor = _given(node, 1, "min")
    elif name == "hardtanh":
        floor = _given(node, 1, "min_val", -1.0)
    elif name == "threshold":
        edge = _given(node, 1, "threshold")
        floor = _given(node, 2, "value") if isinstance(edge, int | float) and edge >= 0 else None
    else:
        return False
    return isinstance(floor, int | float) and floor == 0


def writes_in_place(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Tell whether a node writes its result over its input."""
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = _bare(node)
    if name in ("relu", "relu6"):
        return bool(_given(node, 1, "inplace", False))
    return bool(node.kwargs.get("inplace")) or name.endswith("_")
