"""The fake-quantised number system: the integer arithmetic on codes in floating point, with gradients for training.

Codes flow between the primitives, whole numbers in floats. In float64 and eval mode every value is the one of the
integer number system; in training, in float32, the gradients pass through each rounding, scales learn as in LSQ, and
the scan runs in real numbers: its own roundings, of 15 and 16 bits, are left out.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir.qspec import QSpec, QTensor
from sparseflow.nn.lsq import round_through, scale_gradient
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.lowering import layers_of, parts_of, shifts_of
from sparseflow.nn.models.cmamba.primitives import Float, Patches, Position, RMSNorm, Standardize
from sparseflow.ops import fixed_point as fp
from sparseflow.ops.selective_scan import selective_scan

__all__ = ["FakeQuant", "Scales", "bind_scales"]

Record = Callable[[str, Tensor], None]

_SMALLEST = 1e-3
_FIXED = (
    "input", "head.linear", "restore", "scan.delta", "scan.w", "scan.h", "scan.y", "scan.decay", "gate.scale", ".bias",
)  # fmt: skip
_STREAM = "patch_embedding.position_embedding"


class Scales(nn.Module):
    """The scales of a specification; those that can be chosen have a parameter, their share of the first one.

    The parameters start at 1, so that one learning rate suits scales of all sizes.

    Args:
        spec: of the network.
        args: its sizes.
        dtype: of the parameters.
    """

    def __init__(self, spec: QSpec, args: ModelArgs, dtype: torch.dtype) -> None:
        super().__init__()
        self.spec, self.args = spec, args
        stream = spec[_STREAM].scale
        self.learnt = nn.ParameterDict()
        self.first: dict[str, Tensor] = {}
        self.fixed: dict[str, float] = {}
        for name, tensor in spec.tensors.items():
            # What shares the residual path's scale keeps it: adding needs no multiplier.
            if tensor.scale == stream or name.endswith(_FIXED):
                self.fixed[name] = tensor.scales[0]
            else:
                self.first[name] = torch.tensor(tensor.scale, dtype=dtype)
                self.learnt[name.replace(".", "|")] = nn.Parameter(torch.ones_like(self.first[name]))

    def step(self, name: str, numbers: int = 0) -> Tensor:
        """Return a scale; its gradient gets the share 1/√(n · q_max) if told of how many numbers it is one."""
        if name in self.fixed:
            return torch.tensor(self.fixed[name], dtype=self.dtype)
        share: Tensor = self.learnt[name.replace(".", "|")].abs().clamp(min=_SMALLEST)
        scale = self.first[name] * share
        return scale_gradient(scale, 1.0 / math.sqrt(numbers * self.limit(name))) if numbers else scale

    @torch.no_grad()
    def chosen(self) -> dict[str, QTensor]:
        """Return how each tensor with a learnt scale is stored now."""
        found = {}
        for name in self.first:
            scale = self.step(name).double().tolist()
            found[name] = replace(self.spec[name], scale=tuple(scale) if isinstance(scale, list) else scale)
        return found

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        found: torch.dtype = next(self.parameters()).dtype
        return found

    @property
    def stream(self) -> float:
        """Scale of the residual path."""
        return self.fixed[_STREAM]

    def limit(self, name: str) -> int:
        """Return the largest code of a tensor."""
        return self.spec[name].limit

    def offset(self, name: str) -> float:
        """Return the real value of a tensor's code 0."""
        return self.spec[name].offset

    def real(self, name: str, codes: Tensor) -> Tensor:
        """Return what codes stand for."""
        return codes * self.step(name, codes.shape[-1]) + self.offset(name)

    def codes(self, name: str, real: Tensor) -> Tensor:
        """Return the codes of real numbers."""
        scale = self.step(name, real.shape[-1] or 1)
        return _clamp(round_through((real - self.offset(name)) / scale), self.limit(name))


def bind_scales(model: nn.Module, spec: QSpec, record: Record | None = None) -> Scales:
    """Give a network of `FakeQuant` its scales, as its module `scales`.

    Args:
        model: a CMamba with `quant_mode="fakeq"`, in the type in which it is to compute.
        spec: of the same sizes.
        record: called with the name and the codes of each tensor, in order.

    Raises:
        ConfigError: the specification is of another network.
    """
    args: Any = model.args
    own = {k: v for k, v in args.to_dict().items() if k in ("d_model", "n_layer", "d_state", "forecast_len", "variant")}
    if any(spec.model.get(k, v) != v for k, v in own.items()):
        raise ConfigError(f"the QSpec was made for a network of other sizes than {own}")
    scales = Scales(spec, args, next(model.parameters()).dtype)
    model.scales = scales
    for name, module in model.named_modules():
        if isinstance(module, Leaf):
            module.path, module.record = name, record
            # In a tuple, so that torch does not take it for a child of every leaf.
            module.shared = (scales,)
    return scales


def _clamp(codes: Tensor, limit: int) -> Tensor:
    return codes.clamp(-limit, limit)


class _Instead(torch.autograd.Function):
    """The second value, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, like: Tensor, value: Tensor) -> Tensor:
        del ctx, like
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grads[0], None


def _instead(like: Tensor, value: Tensor) -> Tensor:
    found: Tensor = _Instead.apply(like, value)  # type: ignore[no-untyped-call]
    return found


def _snap(real: Tensor) -> Tensor:
    """Return real factors as their 31-bit multipliers and shifts give them; in float32 they are that already."""
    if real.dtype != torch.float64:
        return real
    return _instead(real, torch.as_tensor(fp.factor(real.detach().numpy()).real()))


def _ints(codes: Tensor) -> fp.Ints:
    return fp.integers(codes.detach().double().numpy())


class Leaf(nn.Module):
    """A primitive on codes; `bind_scales` gives it its name, the scales and who watches."""

    shared: tuple[Scales, ...] = ()
    path: str = ""
    record: Record | None = None

    @property
    def scales(self) -> Scales:
        """The network's scales.

        Raises:
            ConfigError: it has none yet.
        """
        if not self.shared:
            raise ConfigError("this network computes on codes but has no scales; call bind_scales with a QSpec")
        return self.shared[0]

    def made(self, codes: Tensor, name: str = "") -> Tensor:
        """Show codes to who watches, and return them."""
        if self.record is not None:
            self.record(self.path + name, codes.detach())
        return codes


class FakeStandardize(Leaf):
    """Instance norm to codes; the readings get no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.real = Standardize()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes, and μ and σ as integers with 16 and 21 fraction bits."""
        like = self.scales.codes(self.path, self.real(x)[0].to(self.scales.dtype))
        readings = fp.clamp(fp.integers(x.detach().double().numpy() * 2.0**16), 2**24 - 1)
        by = round(2.0**21 / float(self.scales.step(self.path).detach()))
        bits = self.scales.limit(self.path).bit_length() + 1
        codes, mean, std = (torch.from_numpy(v) for v in fp.standardize(readings, by, bits))
        return self.made(_instead(like, codes.to(like.dtype))), mean, std


class FakeRestore(Leaf):
    """Undo the instance norm: the forecast in real numbers, rounded to 16 fraction bits."""

    def forward(self, t: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return the forecast."""
        like = t * (std.to(t.dtype) * 2.0**-41) + mean.to(t.dtype) * 2.0**-16
        # float32 has no 2^26 − 1, where the head saturates.
        exact = fp.clamp(_ints(t), self.scales.limit("head.linear"))
        codes = torch.from_numpy(fp.restore(exact, mean.numpy(), std.numpy()))
        self.made(codes)
        return _instead(like, codes.to(t.dtype) * 2.0**-16)


class FakePosition(Leaf):
    """Add the positions' codes."""

    pe: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", Position(length, width).pe, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens with their positions."""
        limit = self.scales.limit(self.path)
        pe = _clamp((self.pe.double() / self.scales.stream).round(), limit).to(x.dtype)
        return self.made(_clamp(x + pe, limit))


class FakeLinear(Leaf):
    """Σ w·x + b on codes, requantised where the network does.

    Args:
        inputs: columns.
        outputs: rows.
        bias: with a bias.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        like = Float().linear(inputs, outputs, bias=bias)
        self.weight: nn.Parameter = like.get_parameter("weight")
        self.bias: nn.Parameter | None = like.get_parameter("bias") if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return codes, or sums."""
        scales, weight = self.scales, f"{self.path}.weight"
        by_row = scales.step(weight, self.weight.shape[1] or 1)
        codes = _clamp(round_through(self.weight / by_row[:, None]), scales.limit(weight))
        if self.path.endswith(("fc_sc.2", "fc_sf.2")):
            return self.made(F.linear(x, codes))
        source, results = layers_of(scales.args)[self.path]
        if source.endswith("pool.mean"):
            steps = _pool_steps(scales, source.removesuffix(".mean"), x.ndim) * by_row
            sums = F.linear(x, codes)
        else:
            steps = scales.step(source, x.shape[-1]) * by_row
            offset = self.spread(results, scales.offset)
            bias = torch.zeros_like(steps) if self.bias is None else self.bias
            sums = F.linear(x, codes, round_through((bias - offset) / steps))
        out = self.spread(results, lambda name: scales.step(name, self.weight.shape[0]))
        return self.made(_clamp(round_through(sums * _snap(steps / out)), scales.limit(results[0])))

    def spread(self, results: tuple[str, ...], what: Callable[[str], Tensor | float]) -> Tensor:
        """Return a number of each result for each row."""
        rows = self.weight.shape[0]
        last = self.path.rsplit(".", 1)[-1]
        widths = [w for _, w in parts_of(self.scales.args, last)] if len(results) > 1 else [rows]
        values = [
            torch.as_tensor(what(r), dtype=self.weight.dtype).expand(w) for r, w in zip(results, widths, strict=True)
        ]
        return torch.cat(values)


def _pool_steps(scales: Scales, pool: str, ndim: int) -> Tensor:
    steps = [scales.step(f"{pool}.{kind}", scales.args.num_channels) for kind in ("mean", "max")]
    return torch.stack(steps).reshape(2, *[1] * (ndim - 1))


class FakeRMSNorm(Leaf):
    """RMSNorm of the residual path's codes.

    Args:
        width: D.
        eps: ε.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight: nn.Parameter = RMSNorm(width, eps).weight
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return codes."""
        scales, width = self.scales, self.weight.numel()
        eps = max(1.0, float(np.rint(width * self.eps / scales.stream**2)))
        like = x * (x.square().sum(-1, keepdim=True) + eps).rsqrt() * 2.0**24
        if x.dtype == torch.float64:
            codes = _ints(x)
            y, e = fp.rsqrt((codes * codes).sum(-1, keepdims=True) + int(eps))
            like = _instead(like, torch.from_numpy(fp.rne(codes * y, 6 + e)).to(x.dtype))
        by = _snap(math.sqrt(width) * self.weight / scales.step(self.path, width) * 2.0**-24)
        return self.made(_clamp(round_through(like * by), scales.limit(self.path)))


class FakeTable(Leaf):
    """A function of one code.

    Args:
        function: of real numbers.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's codes."""
        scales, before = self.scales, f"{self.path}.in"
        if before in scales.spec.tensors:
            bias = round(-scales.offset(before) / scales.stream)
            by = _snap(scales.stream / scales.step(before, x.shape[-1]))
            x = self.made(_clamp(round_through((x + bias) * by), scales.limit(before)), ".in")
        elif self.path.endswith("mixer.act"):
            before = self.path.removesuffix("act") + "in_proj.x"
        else:
            before = self.path.removesuffix("1") + "0"
        return self.made(scales.codes(self.path, self.function(scales.real(before, x))))


class FakeScan(Leaf):
    """The selective scan."""

    def forward(self, x: Tensor, dt: Tensor, a_log: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor) -> Tensor:
        """Return codes `[B, K, E]`."""
        scales, mixer = self.scales, self.path.removesuffix("scan")
        step = scales.real(f"{mixer}dt_proj", dt)
        g = self.made(scales.codes(f"{self.path}.z", F.silu(scales.real(f"{mixer}in_proj.z", z))), ".z")
        y_step = scales.step(f"{self.path}.y", x.shape[-1])
        if self.training:
            names = {"act": x, "x_proj.b": b, "x_proj.c": c, "x_proj.d": d}
            u, v, w, r = (scales.real(mixer + name, codes) for name, codes in names.items())
            y = selective_scan(u, step, a_log, v, w, r) / y_step
        else:
            y = self.walk(x, step, a_log, b, c, d, y_step)
        by = _snap(y_step * scales.step(f"{self.path}.z") / scales.step(self.path, x.shape[-1]))
        return self.made(_clamp(round_through(y * g * by), scales.limit(self.path)))

    def walk(self, x: Tensor, step: Tensor, a_log: Tensor, b: Tensor, c: Tensor, d: Tensor, y_step: Tensor) -> Tensor:
        """Return y by the integer recurrence."""
        scales, mixer = self.scales, self.path.removesuffix("scan")
        t, j = shifts_of(scales.spec, mixer.removesuffix("mixer."))
        p = f"{mixer}dt_proj"
        softplus = torch.logaddexp(step, torch.zeros_like(step))
        most = scales.limit(p) * scales.step(p) + scales.offset(p)
        unit = torch.logaddexp(most, torch.zeros_like(most)) / (2**16 - 1)
        delta = self.made(round_through(softplus / unit).clamp(max=2**16 - 1), ".delta")
        w = self.made(_clamp(round_through(delta * x * 2.0**-t), 2**15 - 1), ".w")
        rate = a_log[0].exp()
        h = x.new_zeros(x.shape[0], x.shape[2], b.shape[-1])
        states = []
        for k in range(x.shape[1]):
            decay = round_through((-softplus[:, k, :, None] * rate).exp() * 2.0**15).clamp(max=2**15 - 1)
            pushed = w[:, k, :, None] * b[:, k, None, :] * 2.0**j
            h = _clamp(round_through((decay * h + pushed) * 2.0**-15), 2**15 - 1)
            states.append(h)
        seen = self.made(torch.stack(states, 1), ".h")
        state = unit * scales.step(f"{mixer}act") * 2.0**t * scales.step(f"{mixer}x_proj.b") * 2.0 ** (15 - j)
        read = state * scales.step(f"{mixer}x_proj.c") / y_step
        skip = scales.step(f"{mixer}x_proj.d") * scales.step(f"{mixer}act") / y_step
        if x.dtype == torch.float64:
            shift = int(fp.factor(max(float(read.detach()), float(skip.detach()))).shift)
            read, skip = (round_through(v * 2.0**shift) * 2.0**-shift for v in (read, skip))
        sums = (seen * c[:, :, None, :]).sum(-1) * read + d * x * skip
        return self.made(_clamp(round_through(sums), 2**15 - 1), ".y")


class FakePool(Leaf):
    """Mean and maximum over the width."""

    def forward(self, y: Tensor) -> Tensor:
        """Return both as codes, the mean first."""
        sums = torch.stack((y.sum(-1), y.amax(-1)))
        real = torch.tensor([self.scales.stream / y.shape[-1], self.scales.stream], dtype=y.dtype)
        by = _snap(real.reshape(2, *[1] * (y.ndim - 1)) / _pool_steps(self.scales, self.path, y.ndim))
        return self.made(_clamp(round_through(sums * by), self.scales.limit(f"{self.path}.mean")))


class FakeAddPools(Leaf):
    """What became of mean and maximum, summed and requantised."""

    def forward(self, sums: Tensor) -> Tensor:
        """Return codes in front of a sigmoid."""
        scales = self.scales
        mlp = self.path.replace("add_scale", "fc_sc").replace("add_shift", "fc_sf")
        steps = scales.step(f"{mlp}.1") * scales.step(f"{mlp}.2.weight")
        bias = round_through(-scales.offset(self.path) / steps)
        by = _snap(steps / scales.step(self.path, sums.shape[-1]))
        return self.made(_clamp(round_through((sums[0] + sums[1] + bias) * by), scales.limit(self.path)))


class FakeGate(Leaf):
    """y·σ(scale) + σ(shift) on the scale of the residual path."""

    def forward(self, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return codes."""
        scales, mlp = self.scales, self.path.removesuffix("gate")
        by = round_through(scales.real(f"{mlp}add_scale", scale).sigmoid() * 2.0**15).clamp(max=2**15 - 1)
        add = round_through(scales.real(f"{mlp}add_shift", shift).sigmoid() / scales.stream)
        limit = scales.limit(self.path)
        return self.made(_clamp(round_through(y * by * 2.0**-15) + _clamp(add, limit), limit))


class FakeResidual(Leaf):
    """x + y, saturated."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum."""
        return self.made(_clamp(x + y, self.scales.limit(self.path)))


class FakeQuant:
    """The number system of training for integers; `bind_scales` gives a network its scales."""

    def standardize(self) -> nn.Module:
        """Return `FakeStandardize`."""
        return FakeStandardize()

    def restore(self) -> nn.Module:
        """Return `FakeRestore`."""
        return FakeRestore()

    def patches(self, size: int, stride: int, padding: int) -> nn.Module:
        """Return `primitives.Patches`."""
        return Patches(size, stride, padding)

    def position(self, length: int, width: int) -> nn.Module:
        """Return `FakePosition`."""
        return FakePosition(length, width)

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """Return `FakeLinear`."""
        return FakeLinear(inputs, outputs, bias)

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        """Return `FakeRMSNorm`."""
        return FakeRMSNorm(width, eps)

    def silu(self) -> nn.Module:
        """Return `FakeTable`."""
        return FakeTable(F.silu)

    def gelu(self) -> nn.Module:
        """Return `FakeTable`."""
        return FakeTable(F.gelu)

    def conv(self, width: int, taps: int, *, bias: bool) -> nn.Module:
        """Refuse: the "seed" variant has no integer form.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("the seed variant has no integer form; train the official one")

    def scan(self) -> nn.Module:
        """Return `FakeScan`."""
        return FakeScan()

    def pool(self) -> nn.Module:
        """Return `FakePool`."""
        return FakePool()

    def add_pools(self) -> nn.Module:
        """Return `FakeAddPools`."""
        return FakeAddPools()

    def gate(self) -> nn.Module:
        """Return `FakeGate`."""
        return FakeGate()

    def residual(self) -> nn.Module:
        """Return `FakeResidual`."""
        return FakeResidual()

    def dropout(self, share: float) -> nn.Module:
        """Return `torch.nn.Dropout`."""
        return nn.Dropout(share)
