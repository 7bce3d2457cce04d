"""The integer number system: every primitive in NumPy int64, and each value's codes by the name of its place."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.ops import fixed_point as fp
from sparseflow.ops.fixed_point import Factor, Ints, ScanTables

__all__ = ["Integers", "Leaf", "bind"]

Record = Callable[[str, Ints], None]


def bind(model: nn.Module, arrays: Mapping[str, NDArray[np.integer]], record: Record | None = None) -> None:
    """Give a network of `Integers` its numbers.

    Args:
        model: a CMamba with `quant_mode="int8"`.
        arrays: from `lowering.lower`, or out of a pack.
        record: called with the name and the codes of each tensor, in order.

    Raises:
        DataError: an array is missing; names it.
    """
    wide = {name: np.asarray(array).astype(np.int64) for name, array in arrays.items()}
    for name, module in model.named_modules():
        if isinstance(module, Leaf):
            module.path, module.arrays, module.record = name, wide, record


class Leaf(nn.Module):
    """A primitive over integers; `bind` gives it its name, its numbers and who watches.

    Attributes:
        path: dotted name in the network.
        arrays: the numbers of the whole network, in int64.
        record: called with name and codes of what it makes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path = ""
        self.arrays: Mapping[str, Ints] = {}
        self.record: Record | None = None

    def take(self, name: str, path: str | None = None) -> Ints:
        """Return one of the leaf's arrays, or of the place `path`.

        Raises:
            DataError: the numbers lack it.
        """
        key = f"{self.path if path is None else path}.{name}"
        if key not in self.arrays:
            raise DataError(f"the integers of the network lack {key!r}; lower its weights anew")
        return self.arrays[key]

    def factor(self, path: str | None = None) -> tuple[Factor, int]:
        """Return the factor of the leaf's requantisation, and the bits of its results."""
        by = Factor(multiplier=self.take("multiplier", path), shift=self.take("shift", path))
        return by, int(self.take("limit", path)).bit_length() + 1

    def made(self, codes: Ints, name: str = "") -> Ints:
        """Show codes to who watches, and return them."""
        if self.record is not None:
            self.record(self.path + name, codes)
        return codes


class Standardize(Leaf):
    """Instance norm; takes float readings `[B, V, L]` or their integers with 16 fraction bits."""

    def forward(self, x: Any) -> tuple[Ints, Ints, Ints]:
        """Return codes, μ and σ."""
        if isinstance(x, torch.Tensor):
            x = x.detach().double().numpy()
        x = np.asarray(x)
        readings = fp.clamp(fp.integers(x * 2.0**16), 2**24 - 1) if x.dtype.kind == "f" else x.astype(np.int64)
        if self.record is not None:
            self.record("input", readings)
        bits = int(self.take("limit")).bit_length() + 1
        codes, mean, std = fp.standardize(readings, int(self.take("multiplier")), bits)
        self.made(mean, ".mean")
        self.made(std, ".std")
        return self.made(codes), mean, std


class Restore(Leaf):
    """Undo the instance norm, with 16 fraction bits."""

    def forward(self, t: Ints, mean: Ints, std: Ints) -> Ints:
        """Return the forecast."""
        return self.made(fp.restore(t, mean, std))


class Patches(Leaf):
    """Cut series into overlapping patches."""

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Ints) -> Ints:
        """Return `[..., K, P]`."""
        x = np.concatenate([x] + [x[..., -1:]] * self.padding, -1)
        return np.lib.stride_tricks.sliding_window_view(x, self.size, -1)[..., :: self.stride, :]


class Position(Leaf):
    """Add the positions' codes."""

    def forward(self, x: Ints) -> Ints:
        """Return the tokens with their positions."""
        return self.made(fp.sat(x + self.take("pe"), 16))


class Linear(Leaf):
    """Σ w·x + b, requantised if it has a factor, else the sums.

    The parameters are names only, for code that initialises layers; they hold no memory.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, device="meta"), requires_grad=False)
        if bias:
            self.bias = nn.Parameter(torch.empty(outputs, device="meta"), requires_grad=False)

    def forward(self, x: Ints) -> Ints:
        """Return codes, or sums."""
        sums = fp.linear(x, self.take("weight"), self.arrays.get(f"{self.path}.bias"))
        if f"{self.path}.multiplier" not in self.arrays:
            return self.made(sums)
        by, bits = self.factor()
        if by.multiplier.ndim == 2:
            shape = (len(by.multiplier), *[1] * (sums.ndim - 2), -1)
            by = Factor(multiplier=by.multiplier.reshape(shape), shift=by.shift.reshape(shape))
        return self.made(fp.requant(sums, by, bits))


class RMSNorm(Leaf):
    """RMSNorm of the residual path."""

    def forward(self, x: Ints) -> Ints:
        """Return int8 codes."""
        by, bits = self.factor()
        return self.made(fp.rms_norm(x, int(self.take("eps")), by, bits))


class Table(Leaf):
    """A function of one code; requantises first where the network gives it a factor for that."""

    def forward(self, x: Ints) -> Ints:
        """Return the function's codes."""
        before = f"{self.path}.in"
        if f"{before}.multiplier" in self.arrays:
            by, bits = self.factor(before)
            x = self.made(fp.requant(x + self.take("bias", before), by, bits), ".in")
        return self.made(fp.lookup(self.take("table"), x))


class Scan(Leaf):
    """The selective scan; what it is given as A is in its tables."""

    def forward(self, x: Ints, dt: Ints, a_log: Any, b: Ints, c: Ints, d: Ints, z: Ints) -> Ints:
        """Return int8 codes `[B, K, E]`."""
        del a_log
        by, bits = self.factor()
        tables = ScanTables(
            delta=self.take("delta"),
            decay=self.take("decay"),
            silu=self.take("silu"),
            t=int(self.take("t")),
            j=int(self.take("j")),
            state=self.take("state"),
            skip=self.take("skip"),
            shift=self.take("y.shift"),
            out=by,
            bits=bits,
        )
        codes, between = fp.scan(x, dt, b, c, d, z, tables)
        for name, values in between.items():
            self.made(values, f".{name}")
        return self.made(codes)


class Pool(Leaf):
    """Mean and maximum over the width."""

    def forward(self, y: Ints) -> Ints:
        """Return both as int8, the mean first."""
        by, bits = self.factor()
        sums = np.stack((y.sum(-1), y.max(-1)))
        shape = (2, *[1] * (y.ndim - 1))
        by = Factor(multiplier=by.multiplier.reshape(shape), shift=by.shift.reshape(shape))
        return self.made(fp.requant(sums, by, bits))


class AddPools(Leaf):
    """What became of mean and maximum, summed and requantised."""

    def forward(self, sums: Ints) -> Ints:
        """Return int8 codes in front of a sigmoid."""
        by, bits = self.factor()
        return self.made(fp.requant(sums[0] + sums[1] + self.take("bias"), by, bits))


class Gate(Leaf):
    """y·σ(scale) + σ(shift) on the scale of the residual path."""

    def forward(self, y: Ints, scale: Ints, shift: Ints) -> Ints:
        """Return int16 codes."""
        gates = fp.lookup(self.take("scale"), scale), fp.lookup(self.take("shift"), shift)
        return self.made(fp.gate(y, *gates))


class Residual(Leaf):
    """x + y, saturated to int16."""

    def forward(self, x: Ints, y: Ints) -> Ints:
        """Return the sum."""
        return self.made(fp.sat(x + y, 16))


class Integers:
    """The number system of `ops/fixed_point`: a primitive each, in NumPy int64. `bind` gives them their numbers."""

    def standardize(self) -> nn.Module:
        """Return `Standardize`."""
        return Standardize()

    def restore(self) -> nn.Module:
        """Return `Restore`."""
        return Restore()

    def patches(self, size: int, stride: int, padding: int) -> nn.Module:
        """Return `Patches`."""
        return Patches(size, stride, padding)

    def position(self, length: int, width: int) -> nn.Module:
        """Return `Position`; its table comes with the numbers."""
        del length, width
        return Position()

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """Return `Linear`."""
        return Linear(inputs, outputs, bias)

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        """Return `RMSNorm`; weights and ε come with the numbers."""
        del width, eps
        return RMSNorm()

    def silu(self) -> nn.Module:
        """Return `Table`."""
        return Table()

    def gelu(self) -> nn.Module:
        """Return `Table`."""
        return Table()

    def conv(self, width: int, taps: int, *, bias: bool) -> nn.Module:
        """Refuse: the "seed" variant has no integer form.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("the seed variant has no integer form; train the official one")

    def scan(self) -> nn.Module:
        """Return `Scan`."""
        return Scan()

    def pool(self) -> nn.Module:
        """Return `Pool`."""
        return Pool()

    def add_pools(self) -> nn.Module:
        """Return `AddPools`."""
        return AddPools()

    def gate(self) -> nn.Module:
        """Return `Gate`."""
        return Gate()

    def residual(self) -> nn.Module:
        """Return `Residual`."""
        return Residual()

    def dropout(self, share: float) -> nn.Module:
        """Return `torch.nn.Identity`: integers are not trained."""
        del share
        return nn.Identity()
