"""Flop formulas of every operator that a trace may meet, keyed by operator stem.

The shapes come by operand role: "input", "weight", "bias", "output", and "other",
"key", "value" for second inputs. A multiply-add counts as 2. The formulas are
plain arithmetic, so that floats serve search and tensors carry gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparseflow.errors import ConfigError, UnsupportedError

__all__ = ["flops", "has_flops", "known_ops"]

Shapes = Mapping[str, tuple[int, ...]]
Attrs = Mapping[str, Any]


def _product(values: Sequence[Any]) -> Any:
    total: Any = 1.0
    for value in values:
        total = total * value
    return total


def _need(op: str, shapes: Shapes, role: str) -> tuple[int, ...]:
    try:
        return shapes[role]
    except KeyError:
        raise ConfigError(f"flops of {op!r} need the shape of its {role!r}; got {sorted(shapes)}") from None


def _bias(shapes: Shapes, output: Sequence[Any]) -> Any:
    return _product(output) if "bias" in shapes else 0.0


def _conv(shapes: Shapes, attrs: Attrs) -> Any:
    output, weight = _need("conv", shapes, "output"), _need("conv", shapes, "weight")
    return 2.0 * _product(output) * _product(weight[1:]) + _bias(shapes, output)


def _conv_transpose(shapes: Shapes, attrs: Attrs) -> Any:
    given, weight = _need("conv_transpose", shapes, "input"), _need("conv_transpose", shapes, "weight")
    return 2.0 * _product(given) * _product(weight[1:]) + _bias(shapes, _need("conv_transpose", shapes, "output"))


def _linear(shapes: Shapes, attrs: Attrs) -> Any:
    output, weight = _need("linear", shapes, "output"), _need("linear", shapes, "weight")
    return 2.0 * _product(output) * weight[-1] + _bias(shapes, output)


def _matmul(shapes: Shapes, attrs: Attrs) -> Any:
    return 2.0 * _product(_need("matmul", shapes, "output")) * _need("matmul", shapes, "input")[-1]


def _attention(shapes: Shapes, attrs: Attrs) -> Any:
    query = _need("attention", shapes, "input")
    key, value = shapes.get("key", query), shapes.get("value", shapes.get("key", query))
    scores = _product(query[:-1]) * key[-2]
    return 2.0 * scores * (query[-1] + value[-1]) + _SOFTMAX * scores


def _window(shapes: Shapes, attrs: Attrs) -> Any:
    kernel = attrs.get("kernel_size", 1)
    output = _need("pool", shapes, "output")
    if isinstance(kernel, (tuple, list)):
        return _product(output) * _product(kernel)
    return _product(output) * kernel ** (len(output) - 2)


def _per_input(count: float) -> Callable[[Shapes, Attrs], Any]:
    return lambda shapes, attrs: count * _product(_need("this operator", shapes, "input"))


def _per_output(count: float) -> Callable[[Shapes, Attrs], Any]:
    return lambda shapes, attrs: count * _product(_need("this operator", shapes, "output"))


def _window_entropy(shapes: Shapes, attrs: Attrs) -> Any:
    given, output = _need("window_entropy", shapes, "input"), _need("window_entropy", shapes, "output")
    return (_NORM + _SOFTMAX) * _product(given) + 4.0 * _product(output) * given[-1]


def _scan(shapes: Shapes, attrs: Attrs) -> Any:
    output, rate = _need("selective_scan", shapes, "output"), _need("selective_scan", shapes, "weight")
    # A state: decay rate (1), its exponential (1), recurrence and input (3), output (2). A channel: softplus (4),
    # step times input (1), direct term (2), gate (5).
    return _product(output) * (7.0 * rate[-1] + 12.0)


# Maximum, subtract, exponential, sum, divide.
_SOFTMAX = 5.0
# Mean (1), centred square and sum (3), normalise (2), scale and shift (2).
_NORM = 8.0
# Integrate (3: subtract, scale, add), compare (1), reset (2).
_LIF = 6.0
# Add, compare, reset.
_IF = 3.0

_TABLE: dict[str, Callable[[Shapes, Attrs], Any]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "conv2d_spike", "conv2d_block"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transpose),
    **dict.fromkeys(("linear", "linear_spike"), _linear),
    "spike_layer": lambda shapes, attrs: _conv(shapes, attrs) + _LIF * _product(_need("spike_layer", shapes, "output")),
    **dict.fromkeys(("matmul", "bmm", "mm", "spike_matmul"), _matmul),
    "attention": _attention,
    # In inference the statistics fold into one scale and one shift.
    "batch_norm": _per_output(2.0),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm"), _per_output(_NORM)),
    **dict.fromkeys(("max_pool", "avg_pool", "max_pool2d", "avg_pool2d", "max_pool1d", "avg_pool1d"), _window),
    **dict.fromkeys(("adaptive_pool", "adaptive_avg_pool2d", "adaptive_max_pool2d"), _per_input(1.0)),
    **dict.fromkeys(("mean", "sum", "max", "min", "var"), _per_input(1.0)),
    **dict.fromkeys(("add", "sub", "mul", "div", "relu", "compare", "clamp", "neg", "abs"), _per_output(1.0)),
    # x + y·z.
    "addcmul": _per_output(2.0),
    **dict.fromkeys(("sigmoid", "tanh", "exp", "log", "sqrt", "silu", "gelu", "hardswish"), _per_output(4.0)),
    "softmax": _per_output(_SOFTMAX),
    "lif": _per_output(_LIF),
    "fire": _per_output(_LIF),
    "plif": _per_output(_LIF),
    "if": _per_output(_IF),
    # Compare with t1, t2 and tmax.
    "triseg": _per_output(3.0),
    "selective_scan": _scan,
    "window_entropy": _window_entropy,
    **dict.fromkeys(
        (
            "input", "output", "identity", "dropout", "flatten", "reshape", "view", "permute", "transpose",
            "contiguous", "repeat", "expand", "cat", "stack", "split", "chunk", "slice", "select", "squeeze",
            "unsqueeze", "pad", "copy", "embedding", "gather", "token_gather",
        ),
        lambda shapes, attrs: 0.0,
    ),
}  # fmt: skip


def known_ops() -> frozenset[str]:
    """Return the operator stems that have a formula."""
    return frozenset(_TABLE)


def has_flops(op: str) -> bool:
    """Tell whether `flops` knows this operator stem.

    >>> has_flops("conv2d"), has_flops("teleport")
    (True, False)
    """
    return op in _TABLE


def flops(op: str, shapes: Shapes, attrs: Attrs | None = None) -> float:
    """Return the floating-point operations of one dense call.

    Args:
        op: operator stem, as "conv2d".
        shapes: shape by operand role; "bias" present means that one is added.
            Convolutions and linear layers need "weight" and "output", matrix
            products "input" and "output", attention "input" (`[..., L, E]`)
            and, unless equal, "key" and "value"; the rest "input" or "output".
        attrs: operator attributes; pools read "kernel_size".

    Returns:
        Operations, a multiply-add counted as 2; data movement counts 0.

    Raises:
        UnsupportedError: the stem has no formula.
        ConfigError: a shape that the formula needs is missing.

    Source: ours.

    >>> flops("conv2d", {"input": (1, 3, 8, 8), "weight": (4, 3, 3, 3), "output": (1, 4, 8, 8)})
    13824.0
    >>> flops("linear", {"weight": (10, 20), "bias": (10,), "output": (2, 10)})
    820.0
    """
    try:
        formula = _TABLE[op]
    except KeyError:
        raise UnsupportedError(f"operator {op!r} has no flop formula; add one to sparseflow.ops._formulas") from None
    return formula(shapes, attrs or {})  # type: ignore[no-any-return]
