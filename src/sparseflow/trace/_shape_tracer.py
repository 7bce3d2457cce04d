"""Symbolic trace along a sample: branches on shapes are resolved, and hold for inputs of those shapes."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from sparseflow.errors import CaptureError
from sparseflow.trace._leaf_tracer import NO_TENSOR_ATTRIBUTES, NO_TENSOR_METHODS, LeafTracer, as_module

__all__ = ["ShapeTracer", "shape_trace"]

_NO_TENSOR_FUNCTIONS = (torch.is_tensor, torch.is_floating_point, torch.is_complex, torch.numel)


class _Known(fx.Proxy):
    """A proxy beside the value that it stands for on the sample."""

    value: Any = None

    def __getattr__(self, name: str) -> Any:
        """Return what the value's shape or type says as it is; other attributes are traced."""
        if isinstance(self.value, torch.Tensor) and name in NO_TENSOR_ATTRIBUTES:
            return getattr(self.value, name)
        if callable(getattr(type(self.value), name, None)):
            return super().__getattr__(name)
        # Also the fields of named tuples, as `values` of a maximum.
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the first axis of a tensor, or over several results."""
        return iter([operator.getitem(self, i) for i in range(len(self))])

    def __len__(self) -> int:
        """Return the length of the first axis, or the number of results."""
        return len(self.value)


class ShapeTracer(LeafTracer):
    """Traces through user code, running every node on a sample so that sizes are plain numbers.

    Args:
        inputs: tensors of the sample by name of the forward's argument.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self._inputs = inputs
        self._computes = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy that knows its value."""
        return _Known(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a module, or run it where a leaf's value is computed."""
        return forward(*args, **kwargs) if self._computes else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Return a parameter's proxy, or the parameter where a leaf's value is computed."""
        return attr_val if self._computes else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *more: Any, **settings: Any
    ) -> Any:
        """Add a node and compute its value; a size or a type is returned as it is, without a node.

        Raises:
            CaptureError: Python asks for values of tensors.
        """
        proxy: Any = super().create_proxy(kind, target, args, kwargs, *more, **settings)
        if kind == "placeholder":
            proxy.value = self._inputs.get(str(target))
            return proxy
        if kind == "output":
            return proxy
        value = self._value(kind, target, _known(args), _known(kwargs))
        if _holds_tensor(value):
            proxy.value = value
            return proxy
        if not _of_shape(kind, target, args):
            name = getattr(target, "__name__", target)
            raise CaptureError(f"{name!r} reads values of tensors, which differ from batch to batch")
        self.graph.erase_node(proxy.node)
        return value

    def _value(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._computes = True
        try:
            if kind == "get_attr":
                return _attribute(self.root, str(target))
            if kind == "call_module":
                module: Any = self.root.get_submodule(str(target))
                return module(*args, **kwargs)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs)
        finally:
            self._computes = False


def shape_trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    """Trace a model along a sample; the graph is that of inputs of the sample's shapes, and shares the modules.

    Sizes are numbers in it, and branches on them are taken as the sample takes them.
    The model runs once, so its states change.

    Args:
        model: in eval mode, from fresh state.
        args: positional arguments of the forward; it may write into them.
        kwargs: keyword arguments.

    Raises:
        CaptureError: the model's Python reads values of tensors, or an argument is no tensor.
    """
    try:
        names = list(type(model).forward.__code__.co_varnames[1 : type(model).forward.__code__.co_argcount])
        inputs = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or not all(isinstance(v, torch.Tensor) for v in inputs.values()):
            raise CaptureError("an argument is no tensor")
        with torch.no_grad():
            return as_module(model, ShapeTracer(inputs).trace(model))
    except CaptureError as e:
        raise CaptureError(f"trace of {type(model).__name__} along the sample failed: {e}") from e
    except Exception as e:
        raise CaptureError(f"trace of {type(model).__name__} along the sample failed: {type(e).__name__}: {e}") from e


def _known(value: Any) -> Any:
    """Return arguments with the values that their proxies stand for."""
    if isinstance(value, _Known):
        return value.value
    if isinstance(value, fx.Proxy):
        raise CaptureError("a value is not known on the sample")
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(_known(value.start), _known(value.stop), _known(value.step))
    if type(value) in (tuple, list):
        return type(value)(_known(v) for v in value)
    return value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(v) for v in value)
    return isinstance(value, torch.Tensor)


def _of_shape(kind: str, target: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether a result that is no tensor follows from shapes and types alone."""
    if kind == "call_method":
        return target in NO_TENSOR_METHODS
    return kind == "call_function" and (target in _NO_TENSOR_FUNCTIONS or target is getattr)


def _attribute(root: nn.Module, path: str) -> Any:
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name)
    return found
