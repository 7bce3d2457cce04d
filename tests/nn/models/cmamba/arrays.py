"""Another number system, to show that the forward is shared: NumPy's float64 arrays, a primitive each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf
from torch import nn

from sparseflow.nn.models.cmamba.primitives import Float

Array = np.ndarray


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def number(parameter: Any) -> Array:
    return parameter.detach().double().numpy()


class Leaf(nn.Module):
    """A primitive that holds the parameters of a float one and computes with arrays."""

    def __init__(self, compute: Callable[..., Any], like: nn.Module | None = None) -> None:
        super().__init__()
        self.compute = compute
        for name, parameter in [] if like is None else like.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, *args: Any) -> Any:
        return self.compute(self, *args)


def standardize(_: Leaf, x: Array) -> tuple[Array, Array, Array]:
    mean, std = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - mean) / std, mean, std


def linear(leaf: Leaf, x: Array) -> Array:
    bias = dict(leaf.named_parameters()).get("bias")
    return x @ number(leaf.weight).T + (0 if bias is None else number(bias))


def conv(leaf: Leaf, x: Array) -> Array:
    taps = number(leaf.weight)[:, 0]
    past = np.pad(x, ((0, 0), (taps.shape[1] - 1, 0), (0, 0)))
    return sum(taps[:, j] * past[:, j : j + x.shape[1]] for j in range(taps.shape[1])) + number(leaf.bias)


def scan(_: Leaf, x: Array, dt: Array, a_log: Any, b: Array, c: Array, d: Any, z: Array) -> Array:
    step, rate = np.logaddexp(dt, 0), -np.exp(number(a_log))
    d = d if isinstance(d, np.ndarray) else np.broadcast_to(number(d), x.shape)
    h, out = np.zeros((*x[:, 0].shape, b.shape[-1])), np.empty_like(x)
    for k in range(x.shape[1]):
        h = np.exp(step[:, k, :, None] * rate) * h + (step[:, k] * x[:, k])[..., None] * b[:, k, None]
        out[:, k] = (h * c[:, k, None]).sum(-1) + d[:, k] * x[:, k]
    return out * z * sigmoid(z)


class Arrays:
    """A number system of `sparseflow.nn.models.cmamba.primitives.Primitives`."""

    def __init__(self) -> None:
        self.float = Float()

    def standardize(self) -> nn.Module:
        return Leaf(standardize)

    def restore(self) -> nn.Module:
        return Leaf(lambda _, y, mean, std: y * std + mean)

    def patches(self, size: int, stride: int, padding: int) -> nn.Module:
        def cut(_: Leaf, x: Array) -> Array:
            x = np.concatenate([x] + [x[..., -1:]] * padding, -1)
            return np.lib.stride_tricks.sliding_window_view(x, size, -1)[..., ::stride, :]

        return Leaf(cut)

    def position(self, length: int, width: int) -> nn.Module:
        pe = self.float.position(length, width).pe.double().numpy()
        return Leaf(lambda _, x: x + pe)

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        return Leaf(linear, self.float.linear(inputs, outputs, bias=bias))

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        def norm(leaf: Leaf, x: Array) -> Array:
            return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps) * number(leaf.weight)

        return Leaf(norm, self.float.rms_norm(width, eps))

    def silu(self) -> nn.Module:
        return Leaf(lambda _, x: x * sigmoid(x))

    def gelu(self) -> nn.Module:
        return Leaf(lambda _, x: x * (1 + erf(x / np.sqrt(2))) / 2)

    def conv(self, width: int, taps: int, *, bias: bool) -> nn.Module:
        return Leaf(conv, self.float.conv(width, taps, bias=bias))

    def scan(self) -> nn.Module:
        return Leaf(scan)

    def pool(self) -> nn.Module:
        return Leaf(lambda _, x: np.stack((x.mean(-1), x.max(-1))))

    def add_pools(self) -> nn.Module:
        return Leaf(lambda _, x: x[0] + x[1])

    def gate(self) -> nn.Module:
        return Leaf(lambda _, y, scale, shift: y * sigmoid(scale) + sigmoid(shift))

    def residual(self) -> nn.Module:
        return Leaf(lambda _, x, y: x + y)

    def dropout(self, share: float) -> nn.Module:
        return Leaf(lambda _, x: x)
