"""An integer network as data: values, and the steps that make one from others; as plan files hold it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sparseflow.errors import ConfigError, DataError

__all__ = ["OPS", "VERSION", "Program", "Step", "Value"]

VERSION = 1
"""Version of the plan format; a reader refuses others."""

Kind = Literal["quantize", "layer", "max_pool", "sum", "concat", "mean", "average_pool", "dequantize", "real_mean"]

_CODED = ("low", "high", "table")
_WINDOW = ("kernel", "stride", "padding", "dilation")
OPS: dict[str, tuple[str, ...]] = {
    "quantize": ("ratios", *_CODED),
    "layer": (
        "weight", "bias", "multiplier", "integer_bias", "stride", "padding", "dilation", "groups", "clamp", *_CODED,
    ),
    "max_pool": _WINDOW,
    "sum": ("ratios", *_CODED),
    "concat": ("ratios", *_CODED),
    "mean": ("ratios", *_CODED),
    "average_pool": ("ratios", "include_padding", "divisor", *_WINDOW, *_CODED),
    "dequantize": ("ratios",),
    "real_mean": (),
}  # fmt: skip
"""The fields that each operation reads, beside `op`, `inputs` and `output`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one image has at one place of the network.

    Args:
        name: name of the point, or of the layer that makes it.
        shape: channels, height and width; 1 each where there are none.
        zero: the code of 0.
        real: float32 numbers instead of codes.

    Raises:
        ConfigError: a size is below 1, or the zero point is no code.
    """

    name: str
    shape: tuple[int, int, int]
    zero: int = 0
    real: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ConfigError(f"Value.shape of {self.name!r} is {self.shape}; expected three sizes above 0")
        if not 0 <= self.zero <= 255:
            raise ConfigError(f"Value.zero of {self.name!r} is {self.zero}; expected a code of 0 to 255")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation. What makes codes ends with code = table[clamp(rint(steps) + zero, low, high)].

    `steps` is what the README of this operator says for each `op`; halves are rounded to even, and all real
    arithmetic is in float32.

    Args:
        op: the operation; `OPS` names the fields that it reads.
        inputs: numbers of the values that it reads; none for "quantize", which reads the image.
        output: number of the value that it makes.
        ratios: a factor for each input: 1/scale of "quantize", scale of "dequantize".
        low: smallest code.
        high: largest code.
        table: uint8 `[256]`, what each code becomes, or None.
        weight: int8 `[C_out, C_in/groups, kh, kw]`.
        bias: float32 `[C_out]`, in units of the sums.
        multiplier: float32 `[C_out]`.
        integer_bias: the bias is added to the sums as whole numbers.
        groups: groups of channels.
        kernel: height and width of a pool's window.
        stride: rows and columns between windows.
        padding: rows and columns around, on both sides.
        dilation: rows and columns between taps.
        include_padding: an average counts the padding too.
        divisor: what an average divides by; 0 for the size of the window.
        clamp: ends of a ReLU behind a layer that makes real numbers are 0 and this; None for no ReLU.

    Raises:
        ConfigError: no such operation, or codes out of order.
    """

    op: str
    inputs: tuple[int, ...]
    output: int
    ratios: tuple[float, ...] = ()
    low: int = 0
    high: int = 0
    table: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    multiplier: Tensor | None = None
    integer_bias: bool = False
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    include_padding: bool = True
    divisor: int = 0
    clamp: float | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.op not in OPS:
            raise ConfigError(f"Step.op is {self.op!r}; expected one of {', '.join(OPS)}")
        if not 0 <= self.low <= self.high <= 255:
            raise ConfigError(f"Step has codes {self.low}..{self.high}; expected two codes of 0 to 255 in order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A network that computes real outputs from an image by whole numbers.

    Args:
        input: channels, height and width of the image.
        values: all values; steps name them by number.
        steps: the operations, in order.
        output: number of the value that is the output, real numbers.
        output_shape: shape of an image's output.
        metadata: what the owner wants to keep, text by name.
    """

    input: tuple[int, int, int]
    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    output: int
    output_shape: tuple[int, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> int:
        """Return the number of the value with this name.

        Raises:
            ConfigError: there is none.
        """
        for i, value in enumerate(self.values):
            if value.name == name:
                return i
        raise ConfigError(f"the program has no value {name!r}; it has {', '.join(v.name for v in self.values)}")

    @property
    def multiplications(self) -> int:
        """Products of a code and a weight for one image, zeros included."""
        total = 0
        for step in self.steps:
            if step.weight is not None:
                _, h, w = self.values[step.output].shape
                total += step.weight.numel() * h * w
        return total

    def to_bytes(self) -> bytes:
        """Return the content of a plan file: safetensors, with the steps as JSON in its metadata."""
        tensors: dict[str, Tensor] = {}
        steps = [_packed(i, step, tensors) for i, step in enumerate(self.steps)]
        values = [{"name": v.name, "shape": v.shape, "zero": v.zero, "real": v.real} for v in self.values]
        text = json.dumps(
            {"version": VERSION, "input": self.input, "output": self.output, "output_shape": self.output_shape,
             "values": values, "steps": steps}, separators=(",", ":"), allow_nan=False,
        )  # fmt: skip
        return _sorted(save(tensors, {**self.metadata, "int8_net": text}))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Program":
        """Return the program in the content of a plan file.

        Raises:
            DataError: it is no plan file, or of another version.
        """
        try:
            tensors = load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            metadata = dict(header.get("__metadata__", {}))
            plan = json.loads(metadata.pop("int8_net"))
            if plan["version"] != VERSION:
                raise DataError(f"the plan has version {plan['version']}; this sparseflow reads {VERSION}")
            values = tuple(Value(**{**v, "shape": tuple(v["shape"])}) for v in plan["values"])
            steps = tuple(_unpacked(s, tensors) for s in plan["steps"])
        except (SafetensorError, KeyError, TypeError, ValueError, UnicodeDecodeError) as e:
            raise e if isinstance(e, DataError) else DataError(f"no plan of an integer network: {e!r}") from e
        return cls(
            input=tuple(plan["input"]), values=values, steps=steps, output=plan["output"],
            output_shape=tuple(plan["output_shape"]), metadata=metadata,
        )  # fmt: skip


def _sorted(data: bytes) -> bytes:
    """Return a safetensors file with its header in order, so that the same program gives the same bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def _packed(number: int, step: Step, tensors: dict[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {"op": step.op, "inputs": step.inputs, "output": step.output}
    for name in OPS[step.op]:
        given = getattr(step, name)
        if isinstance(given, Tensor):
            tensors[f"{number}.{name}"] = given.detach().cpu().contiguous()
            given = f"{number}.{name}"
        elif name == "clamp" and given is not None:
            given = {"high": None if given == float("inf") else _single(given)}
        elif name == "ratios":
            given = [_single(r) for r in given]
        found[name] = given
    return found


def _single(x: float) -> float:
    """Return the float32 nearest to a number, as a double that prints without loss."""
    return float(torch.tensor(x, dtype=torch.float32))


def _unpacked(packed: dict[str, Any], tensors: Mapping[str, Tensor]) -> Step:
    known = {f.name for f in fields(Step)}
    found: dict[str, Any] = {}
    for name, given in packed.items():
        if name not in known:
            raise DataError(f"a step of the plan has the unknown field {name!r}")
        if isinstance(given, str) and name != "op":
            given = tensors[given]
        elif name == "clamp" and given is not None:
            given = float("inf") if given["high"] is None else given["high"]
        found[name] = tuple(given) if isinstance(given, list) else given
    return Step(**found)
