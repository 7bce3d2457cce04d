"""Quantise a forecaster after training: scales from what its tensors hold, as one QSpec."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparseflow.compress.quantize.ranges import STREAM, Range, observe
from sparseflow.errors import ConfigError
from sparseflow.ir.qspec import QSpec, QTensor
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.nn.models.cmamba.fake import Scales
from sparseflow.nn.models.cmamba.lowering import BLOCK, layers_of, shifts_of

__all__ = ["ForecastBits", "best_scale", "calibrate_forecaster", "complete", "learned_spec", "weight_scales"]

Reals = NDArray[np.float64]

_LEAST = 1e-7
_BIAS = 2.0**28
# Read by nothing but a table, so they may have an offset.
_TABLE_INPUTS = ("mixer.in_proj.x", "mixer.in_proj.z", "mixer.dt_proj", "GDDMLP.add_scale", "GDDMLP.add_shift")
_SYMMETRIC = (
    "norm", "mixer.act", "mixer.x_proj.delta", "mixer.x_proj.b", "mixer.x_proj.c", "mixer.x_proj.d", "mixer.scan.z",
    "mixer.scan", "GDDMLP.pool.mean", "GDDMLP.pool.max", "GDDMLP.fc_sc.0", "GDDMLP.fc_sc.1", "GDDMLP.fc_sf.0",
    "GDDMLP.fc_sf.1",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBits:
    """How many bits, and how scales are chosen.

    Args:
        weights: bits of weights, 2 to 8.
        activations: bits of activations, 3 to 8; the residual path, the state and y keep 16.
        rule: "largest" covers every value seen; "least_error" takes the scale with the least mean squared error,
            which may clip.
        headroom: room of the residual path over what was seen.

    Raises:
        ConfigError: a value is out of range.
    """

    weights: int = 8
    activations: int = 8
    rule: str = "largest"
    headroom: float = 2.0

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, least in (("weights", 2), ("activations", 3)):
            if not least <= getattr(self, name) <= 8:
                raise ConfigError(f"ForecastBits.{name} is {getattr(self, name)}; expected {least} to 8")
        if self.rule not in ("largest", "least_error"):
            raise ConfigError(f"ForecastBits.rule is {self.rule!r}; expected 'largest' or 'least_error'")
        if not 1 <= self.headroom <= 64:
            raise ConfigError(f"ForecastBits.headroom is {self.headroom}; expected 1 to 64")


def calibrate_forecaster(model: CMamba, batches: Iterable[Tensor], bits: ForecastBits | None = None) -> QSpec:
    """Return the specification of a trained network's integer form.

    Args:
        model: a float network of the "official" variant.
        batches: readings `[B, V, L]` to see the ranges on, as windows of the training part.
        bits: how many, and the rule; 8 bits that cover all if None.

    Raises:
        ConfigError: no batch, or another variant.
        DataError: a value is not finite.
    """
    bits = bits or ForecastBits()
    found = observe(model, batches)
    args, top = model.args, 2 ** (bits.activations - 1) - 1
    tensors: dict[str, QTensor] = {}

    def symmetric(name: str, width: int = bits.activations) -> None:
        seen = found.get(name, Range())
        limit = 2 ** (width - 1) - 1
        scale = seen.largest / limit
        if bits.rule == "least_error" and width <= 8:
            scale = best_scale(seen.values(), limit, scale)
        tensors[name] = QTensor(bits=width, scale=max(scale, _LEAST))

    def ranged(name: str) -> None:
        seen = found.get(name, Range())
        low, high = (seen.low, seen.high) if seen.samples else (0.0, 0.0)
        middle, scale = (low + high) / 2, (high - low) / (2 * top)
        if bits.rule == "least_error":
            scale = best_scale(seen.values() - middle, top, scale)
        tensors[name] = QTensor(bits=bits.activations, scale=max(scale, _LEAST), offset=middle)

    symmetric("standardize")
    for i in range(args.n_layer):
        for name in _SYMMETRIC:
            symmetric(BLOCK.format(i) + name)
        for name in _TABLE_INPUTS:
            ranged(BLOCK.format(i) + name)
        symmetric(BLOCK.format(i) + "mixer.scan.y", 16)
    ranged("encoder.act.in")
    symmetric("encoder.act")
    stream = max(found[STREAM].largest * bits.headroom / (2**15 - 1), _LEAST)
    states = {i: found[f"{BLOCK.format(i)}mixer.scan.h"].largest for i in range(args.n_layer)}
    pushed = {i: found[f"{BLOCK.format(i)}mixer.scan.w"].largest for i in range(args.n_layer)}
    tensors |= _scans(args, tensors, states, pushed)
    weights = {k: v.detach().double().cpu().numpy() for k, v in model.named_parameters()}
    tensors |= weight_scales(args, tensors, weights, bits, stream)
    return complete(args, tensors, stream, note={"bits": asdict(bits)})


def learned_spec(model: CMamba) -> QSpec:
    """Return the specification with the scales that a training on codes has found.

    Args:
        model: a network with `quant_mode="fakeq"` and scales.

    Raises:
        ConfigError: a network without scales.
    """
    scales = getattr(model, "scales", None)
    if not isinstance(scales, Scales):
        raise ConfigError("the network has no scales; train one of quant_mode 'fakeq' after bind_scales")
    args, before = model.args, scales.spec
    tensors = {**before.tensors, **scales.chosen()}
    for i in range(args.n_layer):
        mixer = f"{BLOCK.format(i)}mixer."
        t, j = shifts_of(before, BLOCK.format(i))
        p, x, b = (tensors[mixer + n] for n in ("dt_proj", "act", "x_proj.b"))
        tensors |= _tied(mixer, p, x.step, b.step, t, j)
    return complete(args, tensors, scales.stream, note={**before.note, "learned": True})


def best_scale(values: Reals, limit: int, largest: float) -> float:
    """Return the scale of symmetric codes with the least mean squared error, of 80 up to the one that covers all.

    Args:
        values: samples.
        limit: largest code.
        largest: the scale that covers all.

    >>> best_scale(np.array([1.0] * 999 + [9.0]), 7, 9 / 7) < 9 / 7
    True
    """
    if not values.size or largest <= 0:
        return largest
    best, least = largest, math.inf
    for scale in largest * np.linspace(1.0, 0.21, 80):
        codes = np.clip(np.rint(values / scale), -limit, limit)
        error = float(np.square(codes * scale - values).mean())
        if error < least:
            best, least = float(scale), error
    return best


def _scans(
    args: ModelArgs, tensors: Mapping[str, QTensor], states: Mapping[int, float], pushed: Mapping[int, float]
) -> dict[str, QTensor]:
    """Return Δ, w and h of each scan, and B where it had to be widened."""
    found: dict[str, QTensor] = {}
    for i in range(args.n_layer):
        mixer = f"{BLOCK.format(i)}mixer."
        p, x, b = (tensors[mixer + n] for n in ("dt_proj", "act", "x_proj.b"))
        delta = _largest_step(p) / (2**16 - 1)
        t = min(max(math.ceil(math.log2(max(pushed[i], _LEAST) / ((2**15 - 1) * delta * x.step))), 0), 8)
        w = delta * x.step * 2.0**t
        need = max(states[i], _LEAST) / (2**15 - 1)
        if need > w * b.step * 2.0**15:
            b = QTensor(bits=b.bits, scale=need / (w * 2.0**15))
            found[f"{mixer}x_proj.b"] = b
        j = min(math.floor(15 - math.log2(need / (w * b.step)) + 1e-9), 8)
        found |= _tied(mixer, p, x.step, b.step, t, j)
    return found


def _tied(mixer: str, p: QTensor, x: float, b: float, t: int, j: int) -> dict[str, QTensor]:
    """Return Δ, w and h of a scan, whose scales follow from p, x, B and the two shifts."""
    delta = _largest_step(p) / (2**16 - 1)
    w = delta * x * 2.0**t
    return {
        f"{mixer}scan.delta": QTensor(bits=16, scale=delta, signed=False),
        f"{mixer}scan.w": QTensor(bits=16, scale=w),
        f"{mixer}scan.h": QTensor(bits=16, scale=w * b * 2.0 ** (15 - j)),
    }


def _largest_step(p: QTensor) -> float:
    return float(np.logaddexp(0, p.limit * p.step + p.offset))


def weight_scales(
    args: ModelArgs, tensors: Mapping[str, QTensor], weights: Mapping[str, Reals], bits: ForecastBits, stream: float
) -> dict[str, QTensor]:
    """Return the scales of weights, one an output, wide enough for the bias to fit 32 bits.

    Args:
        args: sizes.
        tensors: of the activations.
        weights: parameters by name.
        bits: how many, and the rule.
        stream: scale of the residual path.
    """
    del stream
    found = {}
    limit = 2 ** (bits.weights - 1) - 1
    for path, (source, results) in layers_of(args).items():
        columns = weights[f"{path}.weight"]
        scales = np.abs(columns).max(1, initial=0.0) / limit
        if bits.rule == "least_error" or bits.weights < 8:
            scales = np.array([best_scale(c, limit, s) for c, s in zip(columns, scales, strict=True)])
        offset = np.abs(np.asarray([tensors[r].offset if r in tensors else 0.0 for r in results])).max()
        bias = np.abs(weights.get(f"{path}.bias", np.zeros(len(columns)))) + offset
        scales = np.maximum(scales, np.maximum(bias / (tensors[source].step * _BIAS), _LEAST**2))
        found[f"{path}.weight"] = QTensor(bits=bits.weights, scale=tuple(scales.tolist()))
    return found


def complete(
    args: ModelArgs, tensors: Mapping[str, QTensor], stream: float, note: Mapping[str, object] | None = None
) -> QSpec:
    """Return the whole specification: what was chosen, and every tensor that follows from it.

    Args:
        args: sizes.
        tensors: activations, the scans' Δ, w and h, and weights.
        stream: scale of the residual path.
        note: how the scales were found.
    """
    found = dict(tensors)
    found["input"] = QTensor(bits=25, scale=2.0**-16)
    found["head.linear"] = QTensor(bits=27, scale=2.0**-20)
    found["restore"] = QTensor(bits=32, scale=2.0**-16)
    residual = QTensor(bits=16, scale=stream)
    for name in ("patch_embedding.value_embedding", "patch_embedding.position_embedding"):
        found[name] = residual
    for i in range(args.n_layer):
        b = BLOCK.format(i)
        for name in ("mixer.out_proj", "GDDMLP.gate", "residual"):
            found[b + name] = residual
        found[f"{b}mixer.scan.decay"] = QTensor(bits=15, scale=2.0**-15, signed=False)
        found[f"{b}GDDMLP.gate.scale"] = QTensor(bits=15, scale=2.0**-15, signed=False)
    for path, (source, _) in layers_of(args).items():
        if not path.endswith((".0", ".2")):
            scales = (found[source].step * s for s in found[f"{path}.weight"].scales)
            found[f"{path}.bias"] = QTensor(bits=32, scale=tuple(scales))
    return QSpec(model=args.to_dict(), tensors={k: found[k] for k in sorted(found)}, note=note or {})
