"""Operator stems and attributes of torch's modules and functions."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules import batchnorm, conv, dropout, instancenorm, pooling

from sparseflow.trace.registry import neuron_op

__all__ = ["function_attrs", "function_stem", "module_attrs", "module_stem"]

_MODULES: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv1d, "conv1d"), (nn.Conv2d, "conv2d"), (nn.Conv3d, "conv3d"),
    (nn.ConvTranspose1d, "conv_transpose1d"), (nn.ConvTranspose2d, "conv_transpose2d"),
    (nn.ConvTranspose3d, "conv_transpose3d"), (nn.Linear, "linear"),
    (instancenorm._InstanceNorm, "instance_norm"), (batchnorm._BatchNorm, "batch_norm"),
    (nn.LayerNorm, "layer_norm"), (nn.GroupNorm, "group_norm"), (nn.RMSNorm, "rms_norm"),
    (nn.MaxPool1d, "max_pool1d"), (nn.MaxPool2d, "max_pool2d"), (nn.MaxPool3d, "max_pool"),
    (nn.AvgPool1d, "avg_pool1d"), (nn.AvgPool2d, "avg_pool2d"), (nn.AvgPool3d, "avg_pool"),
    (nn.AdaptiveAvgPool2d, "adaptive_avg_pool2d"), (nn.AdaptiveMaxPool2d, "adaptive_max_pool2d"),
    (pooling._AdaptiveAvgPoolNd, "adaptive_avg_pool2d"), (pooling._AdaptiveMaxPoolNd, "adaptive_max_pool2d"),
    (dropout._DropoutNd, "dropout"), (nn.Flatten, "flatten"), (nn.Unflatten, "reshape"), (nn.Identity, "identity"),
    (nn.ReLU, "relu"), (nn.ReLU6, "clamp"), (nn.Hardtanh, "clamp"), (nn.Sigmoid, "sigmoid"), (nn.Tanh, "tanh"),
    (nn.SiLU, "silu"), (nn.GELU, "gelu"), (nn.Hardswish, "hardswish"), (nn.Softmax, "softmax"),
    (nn.Embedding, "embedding"), (nn.ZeroPad2d, "pad"), (nn.Upsample, "upsample"),
    (nn.MultiheadAttention, "multihead_attention"),
)  # fmt: skip

_FUNCTIONS = {
    "iadd": "add", "radd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "rmul": "mul", "multiply": "mul",
    "truediv": "div", "itruediv": "div", "divide": "div", "true_divide": "div", "rdiv": "div", "rtruediv": "div",
    "rmatmul": "matmul", "bmm": "matmul", "mm": "matmul", "baddbmm": "matmul", "mv": "matmul", "dot": "matmul",
    "scaled_dot_product_attention": "attention", "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d", "max_pool3d": "max_pool", "avg_pool3d": "avg_pool",
    "adaptive_avg_pool1d": "adaptive_avg_pool2d", "adaptive_avg_pool3d": "adaptive_avg_pool2d",
    "adaptive_max_pool1d": "adaptive_max_pool2d", "adaptive_max_pool3d": "adaptive_max_pool2d",
    "getitem": "select", "narrow": "slice", "index_select": "select", "unbind": "split", "tensor_split": "split",
    "view_as": "view", "reshape_as": "reshape", "unflatten": "reshape", "movedim": "permute", "swapaxes": "transpose",
    "swapdims": "transpose", "moveaxis": "permute", "T": "transpose", "mT": "transpose", "t": "transpose",
    "concat": "cat", "concatenate": "cat", "hstack": "cat", "vstack": "cat", "dstack": "cat",
    "repeat_interleave": "repeat", "tile": "repeat", "expand_as": "expand", "broadcast_to": "expand",
    "clone": "copy", "detach": "copy", "data": "copy", "requires_grad": "copy", "alias": "copy",
    "to": "cast", "type": "cast", "type_as": "cast", "float": "cast", "half": "cast", "double": "cast",
    "bfloat16": "cast", "bool": "cast", "int": "cast", "long": "cast", "cpu": "cast", "cuda": "cast",
    "feature_dropout": "dropout", "alpha_dropout": "dropout", "dropout1d": "dropout", "dropout2d": "dropout",
    "dropout3d": "dropout", "relu6": "clamp", "hardtanh": "clamp", "clip": "clamp", "clamp_min": "clamp",
    "clamp_max": "clamp", "amax": "max", "amin": "min", "fmax": "maximum", "fmin": "minimum",
    "and": "logical_and", "bitwise_and": "logical_and", "iand": "logical_and", "rand": "logical_and",
    "or": "logical_or", "bitwise_or": "logical_or", "ior": "logical_or", "ror": "logical_or",
    "eq": "compare", "ne": "compare", "lt": "compare", "le": "compare", "gt": "compare", "ge": "compare",
    "greater": "compare", "less": "compare", "interpolate": "upsample", "absolute": "abs", "negative": "neg",
    "multi_head_attention_forward": "multihead_attention", "setitem": "write", "copy_": "write",
    "unsafe_chunk": "chunk", "unsafe_split": "split",
}  # fmt: skip


def module_stem(module: nn.Module) -> str:
    """Return the operator stem of a leaf module; a module of unknown kind has its class name.

    >>> module_stem(nn.Conv2d(1, 1, 1)), module_stem(nn.BatchNorm1d(3))
    ('conv2d', 'batch_norm')
    """
    spiking = neuron_op(module)
    if spiking is not None:
        return spiking
    for cls, stem in _MODULES:
        if isinstance(module, cls):
            return stem
    return type(module).__name__.lower()


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v) for v in value)
    return value if isinstance(value, (int, float, bool, str, type(None))) else str(value)


def module_attrs(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that its operator's cost depends on.

    >>> module_attrs(nn.MaxPool2d(2))
    {'dilation': 1, 'kernel_size': (2, 2), 'padding': 0, 'stride': 2}
    """
    if isinstance(module, conv._ConvNd):
        names: tuple[str, ...] = ("stride", "padding", "dilation", "groups", "kernel_size")
    elif isinstance(module, (pooling._MaxPoolNd, pooling._AvgPoolNd)):
        names = ("kernel_size", "stride", "padding", "dilation")
    elif isinstance(module, nn.MultiheadAttention):
        names = ("num_heads", "embed_dim")
    elif neuron_op(module) is not None:
        names = ("step_mode",)
    else:
        names = ()
    found = {name: _plain(getattr(module, name)) for name in sorted(names) if hasattr(module, name)}
    return _spread(found, type(module).__mro__)


def _spread(attrs: dict[str, Any], names: tuple[Any, ...]) -> dict[str, Any]:
    """Write a window given as one number once a dimension; a leading time step makes the rank a bad guide."""
    size = attrs.get("kernel_size")
    if isinstance(size, int):
        digits = (digit for name in names for digit in getattr(name, "__name__", name) if digit in "123")
        attrs["kernel_size"] = (size,) * int(next(digits, "2"))
    return attrs


def function_stem(func: Callable[..., Any]) -> str:
    """Return the operator stem of a torch function, method or property.

    >>> import torch
    >>> function_stem(torch.Tensor.__iadd__), function_stem(torch.bmm), function_stem(torch.Tensor.T.__get__)
    ('add', 'matmul', 'transpose')
    """
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "property")
    name = name.partition(".")[0]
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    bare = name.strip("_")
    return _FUNCTIONS.get(bare, bare)


_ARGUMENTS = {
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "max_pool": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool": ("input", "kernel_size", "stride", "padding"),
}


def function_attrs(stem: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a function call that its cost depends on.

    >>> function_attrs("max_pool2d", ("x", 2), {"stride": 1})
    {'kernel_size': (2, 2), 'stride': 1}
    """
    family = next((names for head, names in _ARGUMENTS.items() if stem.startswith(head)), None)
    if family is None:
        return {}
    given = {**dict(zip(family, args, strict=False)), **kwargs}
    wanted = ("kernel_size", "stride", "padding", "dilation", "groups")
    found = {name: _plain(given[name]) for name in sorted(wanted) if given.get(name) is not None}
    return _spread(found, (stem if stem[-2:-1].isdigit() else f"{stem}3d",))
