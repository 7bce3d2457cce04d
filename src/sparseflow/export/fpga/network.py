"""The layers of a packed forecaster as the hardware runs them, with the golden vectors that go through each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparseflow.errors import DataError
from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.header import sizes
from sparseflow.export.fpga.pack import Pack
from sparseflow.ops.fixed_point import Factor, Ints, ScanTables

__all__ = ["Layer", "Scan", "layers", "scans"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A linear layer with its vectors.

    Args:
        name: of the layer.
        matrix: its integers.
        inputs: int8 `[calls, N]`, of all golden windows in order.
        outputs: `[calls, M]`.
    """

    name: str
    matrix: Matrix
    inputs: Ints
    outputs: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """A scan with its vectors.

    Args:
        name: of the scan.
        tables: its tables and constants.
        operands: x, p, B, C, D and z, `[series, K, ...]`.
        outputs: codes and y before the gate, `[series · K, 2, E]`.
    """

    name: str
    tables: ScanTables
    operands: tuple[Ints, ...]
    outputs: Ints


class _Reader:
    """Takes arrays and golden vectors of a pack by name."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.sizes = pack, sizes(pack.spec, pack.arrays)

    def array(self, name: str) -> Ints:
        if name not in self.pack.arrays:
            raise DataError(f"the pack lacks the array {name!r}; export the network again")
        return self.pack.arrays[name].astype(np.int64)

    def golden(self, name: str) -> Ints:
        if name not in self.pack.golden:
            raise DataError(f"the pack lacks the golden vector {name!r}; export the network again")
        return self.pack.golden[name].astype(np.int64)

    def number(self, name: str) -> int:
        return int(self.array(name).reshape(()))

    def factor(self, path: str) -> tuple[Factor, int]:
        by = Factor(multiplier=self.array(f"{path}.multiplier"), shift=self.array(f"{path}.shift"))
        return by, self.number(f"{path}.limit").bit_length() + 1

    def layer(self, name: str, inputs: Ints) -> Layer:
        by, bits = self.factor(name)
        matrix = Matrix(weight=self.array(f"{name}.weight"), bias=self.array(f"{name}.bias"), factor=by, bits=bits)
        return self.made(name, matrix, inputs, self.golden(name))

    def made(self, name: str, matrix: Matrix, inputs: Ints, outputs: Ints) -> Layer:
        m, n = matrix.weight.shape
        return Layer(name=name, matrix=matrix, inputs=inputs.reshape(-1, n), outputs=outputs.reshape(-1, m))

    def mixer(self, block: str) -> Iterator[Layer]:
        mixer, r = f"{block}mixer.", self.sizes["R"]
        yield self.layer(f"{mixer}in_proj", self.golden(f"{block}norm"))
        yield self.layer(f"{mixer}x_proj", self.golden(f"{mixer}act"))
        yield self.layer(f"{mixer}dt_proj", self.golden(f"{mixer}x_proj")[..., :r])
        yield self.layer(f"{mixer}out_proj", self.golden(f"{mixer}scan"))

    def gdd(self, path: str, fc: str, add: str) -> Iterator[Layer]:
        """Yield the two layers over the series; both pools in one vector for the second."""
        v, h, k = self.sizes["V"], self.sizes["H"], self.sizes["K"]
        if h == 0:
            return
        first, bits = self.factor(f"{path}{fc}.0")
        pools = self.golden(f"{path}pool").reshape(2, -1, v, k).swapaxes(2, 3)
        weight, zeros = self.array(f"{path}{fc}.0.weight"), np.zeros(h, np.int64)
        hidden = self.golden(f"{path}{fc}.0").reshape(2, -1, h)
        for q, name in enumerate(("mean", "max")):
            factor = Factor(multiplier=first.multiplier[q], shift=first.shift[q])
            matrix = Matrix(weight=weight, bias=zeros, factor=factor, bits=bits)
            yield self.made(f"{path}{fc}.0 ({name})", matrix, pools[q], hidden[q])
        both = np.concatenate(list(self.golden(f"{path}{fc}.1").reshape(2, -1, h)), -1)
        weight = np.concatenate([self.array(f"{path}{fc}.2.weight")] * 2, 1)
        by, bits = self.factor(f"{path}{add}")
        matrix = Matrix(weight=weight, bias=self.array(f"{path}{add}.bias"), factor=by, bits=bits)
        yield self.made(f"{path}{add}", matrix, both, self.golden(f"{path}{add}"))


def layers(pack: Pack) -> Iterator[Layer]:
    """Yield the linear layers of a forecaster in the order in which they run.

    Raises:
        DataError: the pack lacks an array or a golden vector; names it.
    """
    reader = _Reader(pack)
    n = reader.sizes
    codes = reader.golden("standardize")
    codes = np.concatenate([codes, *[codes[..., -1:]] * n["S"]], -1)
    patches = np.lib.stride_tricks.sliding_window_view(codes, n["P"], -1)[..., :: n["S"], :]
    yield reader.layer("patch_embedding.value_embedding", patches)
    for i in range(n["BLOCKS"]):
        block = f"encoder.layers.{i}."
        yield from reader.mixer(block)
        for fc, add in (("fc_sc", "add_scale"), ("fc_sf", "add_shift")):
            yield from reader.gdd(f"{block}GDDMLP.", fc, add)
    yield reader.layer("head.linear", reader.golden("encoder.act").swapaxes(-1, -2))


def scans(pack: Pack) -> Iterator[Scan]:
    """Yield the scans of a forecaster in the order in which they run.

    Raises:
        DataError: the pack lacks an array or a golden vector; names it.
    """
    reader = _Reader(pack)
    n = reader.sizes
    for i in range(n["BLOCKS"]):
        mixer = f"encoder.layers.{i}.mixer."
        by, bits = reader.factor(f"{mixer}scan")
        tables = ScanTables(
            delta=reader.array(f"{mixer}scan.delta"), decay=reader.array(f"{mixer}scan.decay"),
            silu=reader.array(f"{mixer}scan.silu"), t=reader.number(f"{mixer}scan.t"),
            j=reader.number(f"{mixer}scan.j"), state=reader.array(f"{mixer}scan.state"),
            skip=reader.array(f"{mixer}scan.skip"), shift=reader.array(f"{mixer}scan.y.shift"), out=by, bits=bits,
        )  # fmt: skip
        cuts = np.cumsum([n["R"], n["N"], n["N"]])
        _, b, c, d = np.split(reader.golden(f"{mixer}x_proj"), cuts, -1)
        z = reader.golden(f"{mixer}in_proj")[..., n["E"] :]
        out = np.stack([reader.golden(f"{mixer}scan"), reader.golden(f"{mixer}scan.y")], 2)
        operands = (reader.golden(f"{mixer}act"), reader.golden(f"{mixer}dt_proj"), b, c, d, z)
        yield Scan(name=f"{mixer}scan", tables=tables, operands=operands, outputs=out.reshape(-1, 2, n["E"]))
