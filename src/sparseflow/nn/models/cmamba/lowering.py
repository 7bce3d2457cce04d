"""From float weights and a QSpec to integers, once: weights, biases, factors, shifts and tables by name."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir.qspec import QSpec, QTensor
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.primitives import sincos
from sparseflow.ops.fixed_point import RSQRT, Factor, Ints, clamp, factor, integers

__all__ = ["BLOCK", "Arrays", "layers_of", "lower", "parts_of", "shifts_of", "table_inputs"]

Arrays = dict[str, NDArray[np.integer]]
Reals = NDArray[np.float64]

BLOCK = "encoder.layers.{}."
_MIXER_PARTS = {"in_proj": ("x", "z"), "x_proj": ("delta", "b", "c", "d")}
_INT32 = 2**31 - 1


def lower(args: ModelArgs, weights: Mapping[str, NDArray[np.floating]], spec: QSpec) -> Arrays:
    """Return every integer that the arithmetic of `ops/fixed_point` reads, in the type that it is stored in.

    A layer at `path` has `path.weight`, `path.bias`, `path.multiplier`, `path.shift` and `path.limit`, the largest
    code of its result; tables are `path.table` or named as in the specification.

    Args:
        args: sizes of an "official" network.
        weights: its parameters by name.
        spec: of the same network.

    Raises:
        UnsupportedError: the "seed" variant, whose decays are not shared by the channels.
        ConfigError: the specification lacks a tensor, ties scales wrongly, or lets a sum pass 32 bits; names it.
    """
    if args.variant != "official":
        raise UnsupportedError(
            f"the variant {args.variant!r} has decays for each channel, so no tables that all channels share; "
            "train the official one for integers"
        )
    return _Lowering(args, {k: np.asarray(v, np.float64) for k, v in weights.items()}, spec).run()


def layers_of(args: ModelArgs) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return, for each layer with weights, the tensor that it reads and those that it makes, side by side."""
    embedded = "patch_embedding.value_embedding"
    found: dict[str, tuple[str, tuple[str, ...]]] = {embedded: ("standardize", (embedded,))}
    for i in range(args.n_layer):
        b = BLOCK.format(i)
        found[f"{b}mixer.in_proj"] = (f"{b}norm", (f"{b}mixer.in_proj.x", f"{b}mixer.in_proj.z"))
        parts = tuple(f"{b}mixer.x_proj.{n}" for n in ("delta", "b", "c", "d"))
        found[f"{b}mixer.x_proj"] = (f"{b}mixer.act", parts)
        found[f"{b}mixer.dt_proj"] = (f"{b}mixer.x_proj.delta", (f"{b}mixer.dt_proj",))
        found[f"{b}mixer.out_proj"] = (f"{b}mixer.scan", (f"{b}mixer.out_proj",))
        for fc, add in (("fc_sc", "add_scale"), ("fc_sf", "add_shift")):
            found[f"{b}GDDMLP.{fc}.0"] = (f"{b}GDDMLP.pool.mean", (f"{b}GDDMLP.{fc}.0",))
            found[f"{b}GDDMLP.{fc}.2"] = (f"{b}GDDMLP.{fc}.1", (f"{b}GDDMLP.{add}",))
    found["head.linear"] = ("encoder.act", ("head.linear",))
    return found


def parts_of(args: ModelArgs, name: str) -> tuple[tuple[str, int], ...]:
    """Return the parts of the results of a mixer's "in_proj" or "x_proj", with their widths, in order."""
    widths = {"x": args.d_inner, "z": args.d_inner, "delta": args.rank, "d": args.d_inner}
    return tuple((part, widths.get(part, args.d_state)) for part in _MIXER_PARTS[name])


def shifts_of(spec: QSpec, block: str) -> tuple[int, int]:
    """Return t and j of a block's scan, which tie the scales of Δ, x, B, w and h.

    Raises:
        ConfigError: the scales are not tied by powers of two from 2^0 to 2^8.
    """
    mixer = f"{block}mixer."
    steps = {n: spec[mixer + n].step for n in ("scan.delta", "act", "scan.w", "x_proj.b", "scan.h")}
    found = []
    for name, ratio in (
        ("scan.w", steps["scan.w"] / (steps["scan.delta"] * steps["act"])),
        ("scan.h", 2.0**15 * steps["scan.w"] * steps["x_proj.b"] / steps["scan.h"]),
    ):
        shift = round(np.log2(ratio))
        if not 0 <= shift <= 8 or abs(ratio / 2.0**shift - 1) > 1e-9:
            raise ConfigError(f"the scale of {mixer}{name} is {ratio:.6g} times its product's; expected 2^0 to 2^8")
        found.append(int(shift))
    return found[0], found[1]


def table_inputs(tensor: QTensor) -> Reals:
    """Return what the 256 entries of a table over a tensor stand for, code −128 first."""
    return np.arange(-128, 128, dtype=np.float64) * tensor.step + tensor.offset


def _sigmoid(v: Reals) -> Reals:
    return np.exp(-np.logaddexp(0, -v))


def _silu(v: Reals) -> Reals:
    return v * _sigmoid(v)


def _gelu(v: Reals) -> Reals:
    found: Reals = v * (1 + np.asarray([math.erf(u / math.sqrt(2)) for u in v])) / 2
    return found


class _Lowering:
    def __init__(self, args: ModelArgs, weights: Mapping[str, Reals], spec: QSpec) -> None:
        self.args, self.weights, self.spec = args, weights, spec
        self.out: Arrays = {}
        self.stream = spec["patch_embedding.position_embedding"].step
        self.stream_limit = spec["patch_embedding.position_embedding"].limit

    def run(self) -> Arrays:
        args, spec = self.args, self.spec
        self.put("standardize.multiplier", integers(2.0**21 / spec["standardize"].step), np.int32)
        self.put("standardize.limit", integers(spec["standardize"].limit), np.int32)
        embedded = "patch_embedding.value_embedding"
        self.linear(embedded, spec["standardize"], [spec[embedded]] * args.d_model)
        pe = sincos(args.num_patches, args.d_model).double().numpy()
        self.put(
            "patch_embedding.position_embedding.pe", clamp(integers(pe / self.stream), self.stream_limit), np.int16
        )
        self.put("rsqrt.table", RSQRT, np.uint16)
        for i in range(args.n_layer):
            self.mixer(BLOCK.format(i))
            self.gdd_mlp(BLOCK.format(i) + "GDDMLP.")
        before, after = spec["encoder.act.in"], spec["encoder.act"]
        self.factor("encoder.act.in", factor(self.stream / before.step), before)
        self.put("encoder.act.in.bias", integers(-before.offset / self.stream), np.int32)
        self.table("encoder.act.table", _silu(table_inputs(before)), after)
        self.linear("head.linear", after, [spec["head.linear"]] * args.forecast_len)
        return self.out

    def put(self, name: str, values: Ints, dtype: type) -> None:
        info = np.iinfo(dtype)
        if values.size and not info.min <= int(values.min()) <= int(values.max()) <= info.max:
            raise ConfigError(
                f"{name} holds {int(values.min())}…{int(values.max())}, beyond {np.dtype(dtype)}; the scales around it "
                "do not fit each other"
            )
        self.out[name] = values.astype(dtype)

    def factor(self, path: str, by: Factor, result: QTensor) -> None:
        self.put(f"{path}.multiplier", by.multiplier, np.int32)
        self.put(f"{path}.shift", by.shift, np.uint8)
        self.put(f"{path}.limit", integers(result.limit), np.int32)

    def table(self, name: str, values: Reals, result: QTensor) -> None:
        self.put(name, clamp(integers(values / result.step), result.limit), np.int16 if result.bits > 8 else np.int8)

    def weight(self, path: str, inputs: QTensor, offset: Reals | float, steps: Reals, sums: int = 1) -> Ints:
        """Put weights; return the bias, in which the offset of the result hides. `steps` are those of the sums."""
        columns = self.weights[f"{path}.weight"]
        tensor = self.spec[f"{path}.weight"]
        scales = np.asarray(tensor.scales)[:, None]
        if len(scales) != len(columns):
            raise ConfigError(f"{path}.weight has {len(columns)} outputs and {len(scales)} scales")
        codes = clamp(integers(columns / scales), tensor.limit)
        bias = integers((self.weights.get(f"{path}.bias", 0.0) - offset) / steps)
        reach = np.abs(codes).sum(1) * inputs.limit * sums + np.abs(bias)
        if reach.size and int(reach.max()) > _INT32:
            raise ConfigError(f"sums of {path} may reach {int(reach.max())}, beyond 32 bits; widen its weights' scales")
        self.put(f"{path}.weight", codes, np.int8)
        return bias

    def linear(self, path: str, inputs: QTensor, results: list[QTensor]) -> None:
        steps = inputs.step * np.asarray(self.spec[f"{path}.weight"].scales)
        offsets, scales = (np.asarray([getattr(r, name) for r in results]) for name in ("offset", "step"))
        self.put(f"{path}.bias", self.weight(path, inputs, offsets, steps), np.int32)
        self.factor(path, factor(steps / scales), results[0])

    def mixer(self, block: str) -> None:
        args, spec, path = self.args, self.spec, f"{block}mixer."
        norm = spec[f"{block}norm"]
        share = args.d_model * args.eps / self.stream**2
        self.put(f"{block}norm.eps", np.maximum(integers(share), 1), np.int64)
        by = np.sqrt(args.d_model) * self.weights[f"{block}norm.weight"] / norm.step * 2.0**-24
        self.factor(f"{block}norm", factor(by), norm)
        for name, inputs in (("in_proj", norm), ("x_proj", spec[f"{path}act"])):
            results = [spec[f"{path}{name}.{part}"] for part, width in parts_of(args, name) for _ in range(width)]
            self.linear(path + name, inputs, results)
        self.table(f"{path}act.table", _silu(table_inputs(spec[f"{path}in_proj.x"])), spec[f"{path}act"])
        self.linear(f"{path}dt_proj", spec[f"{path}x_proj.delta"], [spec[f"{path}dt_proj"]] * args.d_inner)
        self.scan(block)
        self.linear(f"{path}out_proj", spec[f"{path}scan"], [spec[f"{path}out_proj"]] * args.d_model)

    def scan(self, block: str) -> None:
        spec, path = self.spec, f"{block}mixer.scan."
        t, j = shifts_of(spec, block)
        delta = np.logaddexp(0, table_inputs(spec[f"{block}mixer.dt_proj"]))
        self.put(f"{path}delta", np.minimum(integers(delta / spec[f"{path}delta"].step), 2**16 - 1), np.uint16)
        rate = np.exp(self.weights[f"{block}mixer.A_log"][0])
        decay = np.exp(-delta * rate[:, None])
        self.put(f"{path}decay", np.minimum(integers(decay * 2.0**15), 2**15 - 1), np.int16)
        self.table(f"{path}silu", _silu(table_inputs(spec[f"{block}mixer.in_proj.z"])), spec[f"{path}z"])
        self.put(f"{path}t", integers(t), np.uint8)
        self.put(f"{path}j", integers(j), np.uint8)
        y, out = spec[f"{path}y"], spec[path[:-1]]
        read = spec[f"{path}h"].step * spec[f"{block}mixer.x_proj.c"].step / y.step
        skip = spec[f"{block}mixer.x_proj.d"].step * spec[f"{block}mixer.act"].step / y.step
        top = factor(max(read, skip))
        self.put(f"{path}state", integers(np.ldexp(read, int(top.shift))), np.int32)
        self.put(f"{path}skip", integers(np.ldexp(skip, int(top.shift))), np.int32)
        self.put(f"{path}y.shift", top.shift, np.uint8)
        self.factor(path[:-1], factor(y.step * spec[f"{path}z"].step / out.step), out)

    def gdd_mlp(self, path: str) -> None:
        spec, args = self.spec, self.args
        pools = [spec[f"{path}pool.mean"], spec[f"{path}pool.max"]]
        steps = np.asarray([p.step for p in pools])
        self.factor(f"{path}pool", factor(self.stream / np.asarray([args.d_model, 1]) / steps), pools[0])
        for fc, add in (("fc_sc", "add_scale"), ("fc_sf", "add_shift")):
            first, hidden, summed = (spec[f"{path}{n}"] for n in (f"{fc}.0", f"{fc}.1", add))
            into, out = (np.asarray(spec[f"{path}{fc}.{n}.weight"].scales) for n in (0, 2))
            self.weight(f"{path}{fc}.0", pools[0], 0.0, steps[:, None].max() * into)
            self.factor(f"{path}{fc}.0", factor(steps[:, None] * into / first.step), first)
            self.table(f"{path}{fc}.1.table", _gelu(table_inputs(first)), hidden)
            out = hidden.step * out
            self.put(f"{path}{add}.bias", self.weight(f"{path}{fc}.2", hidden, summed.offset, out, 2), np.int32)
            self.factor(f"{path}{add}", factor(out / summed.step), summed)
        gates = [_sigmoid(table_inputs(spec[f"{path}{add}"])) for add in ("add_scale", "add_shift")]
        self.put(f"{path}gate.scale", np.minimum(integers(gates[0] * 2.0**15), 2**15 - 1), np.int16)
        self.put(f"{path}gate.shift", clamp(integers(gates[1] / self.stream), self.stream_limit), np.int16)
